"""Kraken Futures, linear contracts. https://docs.kraken.com/api/docs/futures-api/charts/candles"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, ClassVar

import msgspec

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Blocked,
    Candles,
    Exchange,
    ExchangeError,
    Instrument,
    Limits,
    Listed,
    RateLimited,
    Rejected,
    Request,
    Unavailable,
    UnknownSymbol,
    decode,
    floats,
    integers,
    nameable,
    retry_after,
)
from dccd_core.models import SECOND, Channel, Symbol, Window, microseconds

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Row(msgspec.Struct, gc=False):
    """A candle: open time in milliseconds, decimals as text, volume in contracts."""

    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Page(msgspec.Struct):
    """Candles ascending; `more_candles` says that the range asked for holds more."""

    candles: list[Row]
    more_candles: bool


class Market(msgspec.Struct, rename="camel"):
    """One entry of the instrument list. Indices have neither a contract size nor dates."""

    symbol: str
    type: str
    tradeable: bool
    contract_size: float | None = None
    opening_date: Time | None = None
    last_trading_time: Time | None = None


class Markets(msgspec.Struct):
    """The instrument list."""

    instruments: list[Market]


class Error(msgspec.Struct):
    """The body of an error, also with HTTP 200: {"result": "error", "error": "notFound"}."""

    error: str


PAGE = msgspec.json.Decoder(Page, strict=False)
MARKETS = msgspec.json.Decoder(Markets)
ERROR = msgspec.json.Decoder(Error)
# PF_XBTUSD, FF_XBTUSD_260925: linear, quoted in USD.
NAME = re.compile(r"(?:PF|FF)_([A-Z0-9.]+)USD(?:_(\d{6}))?")
LINEAR = {"flexible_futures", "futures_vanilla"}
NO_MARKET = {"contractNotFound", "notFound"}
PASSING = {"unavailable", "Unavailable", "marketUnavailable", "Server Error", "unknownError"}


class KrakenFutures(Exchange):
    """Candles of the trade price, ascending; times asked in seconds, told in milliseconds.

    Not inverse contracts (PI_, FI_): their volume is in dollars, and how many coins that is no
    candle tells.
    """

    name = "kraken_futures"
    title = "Kraken Futures"
    docs = "https://docs.kraken.com/api/docs/futures-api/charts/candles"
    rest_url = "https://futures.kraken.com"
    # Public endpoints have no documented budget; ten a second is ours. 2,000 candles are what
    # ccxt asks for (its pull request 27662): an answer that was cut short is noticed.
    limits = Limits(weight=540, seconds=60, burst=60, page=2_000)
    # Not 1w: on which day it opens is not documented.
    spans: ClassVar[Mapping[int, str]] = {
        60: "1m", 300: "5m", 900: "15m", 1_800: "30m", 3_600: "1h", 14_400: "4h",
        43_200: "12h", 86_400: "1d",
    }  # fmt: skip
    # Whether it omits quiet intervals is not documented: a hole is asked for again.
    gapless = True
    # The WebSocket has no candles: live ones are made of trades.
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for: by its error, else by its HTTP status."""
        error = _error(answer.body)
        if answer.status == 200 and error is None:
            return
        text = repr(answer.body[:80]) if error is None else error
        if answer.status == 429 or error == "apiLimitExceeded":
            raise RateLimited(f"Kraken Futures: too many requests: {text}", retry_after(answer))
        if answer.status in (403, 451):
            raise Blocked(
                f"Kraken Futures refuses this address (HTTP {answer.status}): {text}. Set a proxy, "
                f"or another rest_url, under exchanges.kraken_futures"
            )
        kind: type[ExchangeError] = Rejected
        if error in NO_MARKET:
            kind = UnknownSymbol
        elif error in PASSING or answer.status >= 500:
            kind = Unavailable
        raise kind(f"Kraken Futures: HTTP {answer.status}: {text}")

    def instruments_requests(self) -> list[Request]:
        """All contracts, expired ones for a while among them."""
        return [Request("/derivatives/api/v3/instruments")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Linear contracts; `tradeable` is true of expired ones too, so their end is looked at."""
        markets = decode(MARKETS, answer.body).instruments
        return Listed(list(_instruments(markets, answer.time)))

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Candles of a window. Whether `to` is inclusive is not documented: a second before the
        window's end no candle opens."""
        bounds = {"from": window.start // SECOND, "to": window.end // SECOND - 1}
        return self._charts(instrument, span, bounds)

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The oldest page."""
        return self._charts(instrument, span, {"from": 0})

    def first_candle(self, answer: Answer, instrument: Instrument, span: int) -> int | None:
        """The first candle of the page, which has more behind it."""
        rows = decode(PAGE, answer.body).candles
        return rows[0].time * 1_000 if rows else None

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest candle."""
        return self._charts(instrument, span, {"count": 1})

    def _charts(self, instrument: Instrument, span: int, bounds: dict[str, int]) -> Request:
        path = f"/api/charts/v1/trade/{instrument.name}/{self.spans[span]}"
        return Request(path, {name: str(value) for name, value in bounds.items()})

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows as documented. BadAnswer for a page that was cut short: only of the newest candle,
        asked for alone, there may be more."""
        page = decode(PAGE, answer.body)
        rows = page.candles
        if page.more_candles and len(rows) != 1:
            raise BadAnswer(f"Kraken Futures: {len(rows)} candles, and more in the same range")
        return Candles(
            integers([row.time for row in rows], 1_000),
            floats([row.open for row in rows]),
            floats([row.high for row in rows]),
            floats([row.low for row in rows]),
            floats([row.close for row in rows]),
            floats([row.volume for row in rows]) * instrument.size,
        )


def _instruments(markets: Iterable[Market], now: int) -> Iterable[Instrument]:
    """Contracts by their names: XBT is BTC, the date is that of the expiry."""
    for market in markets:
        found = NAME.fullmatch(market.symbol.upper())
        if market.type not in LINEAR or not found or not nameable(found[1]):
            continue
        if market.contract_size is None:
            raise BadAnswer(f"Kraken Futures: {market.symbol} has no contract size")
        symbol = Symbol("BTC" if found[1] == "XBT" else found[1], "USD", found[2] or "PERP")
        yield Instrument(
            symbol,
            market.symbol,
            market.tradeable and not _is_over(market, now),
            None if market.opening_date is None else microseconds(market.opening_date),
            market.contract_size,
        )


def _is_over(market: Market, now: int) -> bool:
    end = market.last_trading_time
    return end is not None and microseconds(end) <= now


def _error(body: bytes) -> str | None:
    """What an error body says; None if the body is none."""
    try:
        return ERROR.decode(body).error
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
