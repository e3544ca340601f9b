"""Binance spot. https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Banned,
    Blocked,
    Candles,
    Exchange,
    Instrument,
    Limits,
    Listed,
    RateLimited,
    Rejected,
    Request,
    Unavailable,
    UnknownSymbol,
    decode,
    matrix,
    nameable,
    retry_after,
    whole,
)
from dccd_core.models import SECOND, Channel, Symbol, Window

# open time, open, high, low, close, volume, close time, quote volume, trades, taker buy base,
# taker buy quote, unused: numbers come as text, times and counts as integers
Kline = tuple[
    int, float, float, float, float, float, int, float, int, float, float, str | int | float
]


class Error(msgspec.Struct):
    """The body of a refusal."""

    code: int
    msg: str


class Market(msgspec.Struct, rename="camel"):
    """One entry of exchangeInfo; a new status is nothing to fail about."""

    symbol: str
    status: str
    base_asset: str
    quote_asset: str


class ExchangeInfo(msgspec.Struct):
    """The instrument list."""

    symbols: list[Market]


KLINES = msgspec.json.Decoder(list[Kline], strict=False)
INFO = msgspec.json.Decoder(ExchangeInfo)
ERROR = msgspec.json.Decoder(Error)


class Binance(Exchange):
    """Binance spot: candles ascending, both bounds inclusive on the open time, in milliseconds."""

    name = "binance"
    title = "Binance spot"
    docs = "https://developers.binance.com/docs/binance-spot-api-docs/rest-api"
    rest_url = "https://data-api.binance.vision"
    # 6,000 a minute and address since 2023-08. A tenth is kept as burst, so that no minute of
    # any phase can see more than the limit.
    limits = Limits(weight=5_400, seconds=60, burst=600, page=1_000, page_weight=2)
    spans: ClassVar[Mapping[int, str]] = {
        1: "1s", 60: "1m", 180: "3m", 300: "5m", 900: "15m", 1_800: "30m", 3_600: "1h",
        7_200: "2h", 14_400: "4h", 21_600: "6h", 28_800: "8h", 43_200: "12h", 86_400: "1d",
        259_200: "3d", 604_800: "1w",
    }  # fmt: skip
    gapless = True
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for. Errors carry {"code", "msg"} with HTTP 4XX."""
        if answer.status == 200:
            return
        text = _error_text(answer.body)
        if answer.status == 418:
            raise Banned(f"Binance has banned this address: {text}", _ban(answer))
        if answer.status == 429:
            raise RateLimited(f"Binance: too many requests: {text}", retry_after(answer))
        if answer.status in (403, 451):
            raise Blocked(
                f"Binance refuses this address (HTTP {answer.status}): {text}. Set a proxy, or "
                f"another rest_url, under exchanges.binance"
            )
        if answer.status >= 500:
            raise Unavailable(f"Binance: HTTP {answer.status}: {text}")
        if text.startswith("-1121"):
            raise UnknownSymbol(f"Binance: {text}")
        raise Rejected(f"Binance: HTTP {answer.status}: {text}")

    def used(self, answer: Answer) -> float | None:
        """The used part of 6,000 request weight in this minute."""
        value = answer.headers.get("x-mbx-used-weight-1m")
        known = value is not None and value.isascii() and value.isdigit()
        return int(value) / 6_000 if value is not None and known else None

    def instruments_requests(self) -> list[Request]:
        """All symbols with their status; there is no listing date in it."""
        return [Request("/api/v3/exchangeInfo", {}, weight=20)]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Symbols whose codes our names can hold; a handful of non-ASCII ones cannot be named."""
        markets = decode(INFO, answer.body).symbols
        return Listed(
            [
                Instrument(Symbol(m.base_asset, m.quote_asset), m.symbol, m.status == "TRADING")
                for m in markets
                if nameable(m.base_asset, m.quote_asset)
            ]
        )

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Candles from the window's start on. No endTime: a short page then proves an end.

        With startTime alone the oldest `limit` rows from there on come back, so a page that is not
        full although newer candles exist contradicts itself, which a bounded page cannot show.
        """
        count = (window.end - window.start) // (span * SECOND)
        return self._klines(instrument, span, count, {"startTime": str(window.start // 1_000)})

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """startTime=0 with limit 1 returns the first candle there is."""
        return self._klines(instrument, span, 1, {"startTime": "0"})

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """Without bounds the newest rows come back."""
        return self._klines(instrument, span, 1, {})

    def _klines(
        self, instrument: Instrument, span: int, limit: int, bounds: dict[str, str]
    ) -> Request:
        question = {"symbol": instrument.name, "interval": self.spans[span], "limit": str(limit)}
        return Request("/api/v3/klines", question | bounds, self.limits.page_weight)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows as documented; the running candle may be the last one."""
        rows = decode(KLINES, answer.body)
        times, o, h, low, c, volume, ends, quote, counts, taker, taker_quote = matrix(rows, 11)
        opened, closed = whole(times, 1_000), whole(ends, 1_000)
        if (closed - opened != span * SECOND - 1_000).any():
            raise BadAnswer(f"Binance: a candle that is not {span} s long")
        trades = whole(counts)
        return Candles(opened, o, h, low, c, volume, quote, trades, taker, taker_quote)


def _error_text(body: bytes) -> str:
    try:
        error = ERROR.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return repr(body[:80])
    return f"{error.code} {error.msg}"


def _ban(answer: Answer) -> float | None:
    """Retry-After, else the moment in the message: "IP banned until 1573543860000"."""
    until: Any = re.search(rb"banned until (\d{13})", answer.body)
    wait = retry_after(answer)
    return wait if wait is not None or not until else int(until[1]) / 1e3 - answer.time / 1e6
