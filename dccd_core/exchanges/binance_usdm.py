"""Binance USD-M futures. https://developers.binance.com/docs/derivatives/usds-margined-futures"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, ClassVar

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


class Contract(msgspec.Struct, rename="camel"):
    """One entry of exchangeInfo. Its onboardDate is no listing date: that of the first contracts
    is 2019-09-25, and they have candles since 2019-09-08."""

    symbol: str
    pair: str
    status: str
    base_asset: str
    quote_asset: str
    # milliseconds, up to the year 9999; of a perpetual it is far away
    delivery_date: Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]


class ExchangeInfo(msgspec.Struct):
    """The instrument list."""

    symbols: list[Contract]


KLINES = msgspec.json.Decoder(list[Kline], strict=False)
INFO = msgspec.json.Decoder(ExchangeInfo)
ERROR = msgspec.json.Decoder(Error)
# what a request for so many candles costs: below 100, below 500, up to 1,000, and beyond
WEIGHTS = ((100, 1), (500, 2), (1_001, 5), (1_501, 10))
# disconnected, time-out, overloaded, shutting down; they come with several HTTP statuses
BROKEN = ("-1001 ", "-1007 ", "-1008 ", "-1016 ")


class BinanceUsdm(Exchange):
    """Binance USD-M: candles ascending, both bounds inclusive on the open time, in milliseconds."""

    name = "binance_usdm"
    title = "Binance USD-M futures"
    docs = "https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info"
    rest_url = "https://fapi.binance.com"
    # 2,400 a minute and address, of which a tenth is kept as burst. 499 candles cost 2, 1,500 cost
    # 10: no other page gets more candles out of a minute.
    limits = Limits(weight=2_160, seconds=60, burst=240, page=499, page_weight=2)
    spans: ClassVar[Mapping[int, str]] = {
        60: "1m", 180: "3m", 300: "5m", 900: "15m", 1_800: "30m", 3_600: "1h", 7_200: "2h",
        14_400: "4h", 21_600: "6h", 28_800: "8h", 43_200: "12h", 86_400: "1d", 259_200: "3d",
        604_800: "1w",
    }  # fmt: skip
    gapless = True
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for. Errors carry {"code", "msg"} with HTTP 4XX and 5XX."""
        if answer.status == 200:
            return
        text = _error_text(answer.body)
        if answer.status == 418:
            raise Banned(f"Binance has banned this address: {text}", _ban(answer))
        if answer.status == 429:
            raise RateLimited(f"Binance USD-M: too many requests: {text}", retry_after(answer))
        if answer.status in (403, 451):
            raise Blocked(
                f"Binance USD-M refuses this address (HTTP {answer.status}): {text}. Set a proxy, "
                f"or another rest_url, under exchanges.binance_usdm"
            )
        if answer.status >= 500 or answer.status == 408 or text.startswith(BROKEN):
            raise Unavailable(f"Binance USD-M: HTTP {answer.status}: {text}")
        if text.startswith("-1121 "):
            raise UnknownSymbol(f"Binance USD-M: {text}")
        raise Rejected(f"Binance USD-M: HTTP {answer.status}: {text}")

    def used(self, answer: Answer) -> float | None:
        """The used part of 2,400 request weight in this minute."""
        value = answer.headers.get("x-mbx-used-weight-1m")
        known = value is not None and value.isascii() and value.isdigit()
        return int(value) / 2_400 if value is not None and known else None

    def instruments_requests(self) -> list[Request]:
        """All contracts that are not delivered, with their status."""
        return [Request("/fapi/v1/exchangeInfo")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Contracts whose codes our names can hold; a handful of non-ASCII ones cannot be named."""
        contracts = decode(INFO, answer.body).symbols
        return Listed([_instrument(c) for c in contracts if nameable(c.base_asset, c.quote_asset)])

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Candles from the window's start on. No endTime: a short page then proves an end."""
        count = -(-(window.end - window.start) // (span * SECOND))
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
        weight = next(weight for below, weight in WEIGHTS if limit < below)
        return Request("/fapi/v1/klines", question | bounds, weight)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows as documented; the running candle may be the last one."""
        rows = decode(KLINES, answer.body)
        times, o, h, low, c, volume, ends, quote, counts, taker, taker_quote = matrix(rows, 11)
        opened, closed = whole(times, 1_000), whole(ends, 1_000)
        if (closed - opened != span * SECOND - 1_000).any():
            raise BadAnswer(f"Binance USD-M: a candle that is not {span} s long")
        trades = whole(counts)
        return Candles(opened, o, h, low, c, volume, quote, trades, taker, taker_quote)


def _instrument(contract: Contract) -> Instrument:
    """A perpetual has its pair's name, BTCUSDT; a dated contract more, BTCUSDT_260925. The type
    does not tell: it is empty where trading has not begun or has ended."""
    delivery = datetime.fromtimestamp(contract.delivery_date / 1e3, UTC)
    kind = "PERP" if contract.symbol == contract.pair else f"{delivery:%y%m%d}"
    symbol = Symbol(contract.base_asset, contract.quote_asset, kind)
    return Instrument(symbol, contract.symbol, contract.status == "TRADING")


def _error_text(body: bytes) -> str:
    try:
        error = ERROR.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return repr(body[:80])
    return f"{error.code} {error.msg}"


def _ban(answer: Answer) -> float | None:
    """Retry-After, else the moment in the message: "IP banned until 1573543860000"."""
    until, wait = re.search(rb"banned until (\d{13})", answer.body), retry_after(answer)
    return wait if wait is not None or not until else int(until[1]) / 1e3 - answer.time / 1e6
