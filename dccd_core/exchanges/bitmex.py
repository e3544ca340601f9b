"""BitMEX: perpetuals, futures and spot, API v1. https://www.bitmex.com/api/explorer/"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
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
    floats,
    integers,
    nameable,
    retry_after,
)
from dccd_core.models import SECOND, Channel, Symbol, Window, microseconds, moment

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Bucket(msgspec.Struct, rename="camel", gc=False):
    """A candle; `timestamp` is its END. Prices are null before a market's first trade."""

    timestamp: Time
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    trades: int
    home_notional: float
    foreign_notional: float


class Market(msgspec.Struct, rename="camel"):
    """One entry of the instrument list, which holds indices and settled contracts too."""

    symbol: str
    typ: str
    state: str
    underlying: str
    quote_currency: str
    expiry: Time | None


BUCKETS = msgspec.json.Decoder(list[Bucket])
MARKETS = msgspec.json.Decoder(list[Market])
# {"error": {"message": …, "name": "HTTPError"}}
ERROR = msgspec.json.Decoder(dict[Literal["error"], dict[str, str]])
# CFI codes of /instrument. Not here: indices, options, prediction and rate markets.
PERPETUAL, DATED, SPOT = {"FFWCSX", "FFWCSF", "FFSCSX"}, {"FFCCSX", "FFMCSX"}, {"IFXXXP"}
MOST_MARKETS = 500
OPENING = 1_388_534_400 * SECOND  # 2014-01-01: BitMEX opened in November


class Bitmex(Exchange):
    """Candles ascending, times ISO 8601 and of the bucket's end."""

    name = "bitmex"
    title = "BitMEX"
    docs = "https://www.bitmex.com/app/restAPI"
    rest_url = "https://www.bitmex.com/api/v1"
    # Without a key 30 a minute: a bucket of 30 tokens that fills up by one in two seconds.
    limits = Limits(weight=27, seconds=60, burst=3, page=1_000)
    spans: ClassVar[Mapping[int, str]] = {60: "1m", 300: "5m", 3_600: "1h", 86_400: "1d"}
    gapless = True
    opens_at_last_close = True
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for; the HTTP status tells, the body says it in words."""
        if answer.status == 200:
            return
        text = _error_text(answer.body)
        if answer.status == 429:
            raise RateLimited(f"BitMEX: too many requests: {text}", retry_after(answer))
        if answer.status in (403, 451):
            raise Blocked(
                f"BitMEX refuses this address (HTTP {answer.status}): {text}. Set a proxy, or "
                f"another rest_url, under exchanges.bitmex"
            )
        if answer.status >= 500:
            raise Unavailable(f"BitMEX: HTTP {answer.status}: {text}")
        unknown = text.startswith("Unknown or expired symbol")
        raise (UnknownSymbol if unknown else Rejected)(f"BitMEX: HTTP {answer.status}: {text}")

    def used(self, answer: Answer) -> float | None:
        """The part of the bucket of tokens that is empty."""
        limit = _number(answer, "x-ratelimit-limit")
        remaining = _number(answer, "x-ratelimit-remaining")
        return None if not limit or remaining is None else 1 - min(remaining / limit, 1.0)

    def instruments_requests(self) -> list[Request]:
        """The first part of all markets there ever were."""
        return [_instruments_request(0)]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """The markets of a part; a full part has another behind it.

        `listing` is not used: XBTUSD was listed in 2016 by it and has candles of 2015. Volumes
        come in base units, so `size` does not matter.
        """
        markets = decode(MARKETS, answer.body)
        start = int(request.params["start"]) + len(markets)
        following = _instruments_request(start) if len(markets) == MOST_MARKETS else None
        return Listed(list(_instruments(markets)), following)

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """The buckets that end after the window's start and up to its end.

        Whether bounds are inclusive is not documented: at these moments no bucket ends.
        """
        count = (window.end - window.start) // (span * SECOND)
        bounds = {
            "startTime": _iso(window.start + span * SECOND - 1_000),
            "endTime": _iso(window.end + 1_000),
        }
        return self._buckets(instrument, span, count, bounds)

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The oldest buckets; without a startTime they would begin in 2017."""
        bounds = {"startTime": _iso(OPENING)}
        return self._buckets(instrument, span, self.limits.page, bounds)

    def first_candle(
        self, answer: Answer, instrument: Instrument, span: int
    ) -> int | Request | None:
        """The first bucket with prices; if there is none yet, the request for those behind."""
        candles = self.candles(answer, instrument, span)
        if len(candles):
            return int(candles.time[0])
        rows = decode(BUCKETS, answer.body)
        if not rows:
            return None
        bounds = {"startTime": _iso(microseconds(rows[-1].timestamp) + 1_000)}
        return self._buckets(instrument, span, self.limits.page, bounds)

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest closed bucket."""
        return self._buckets(instrument, span, 1, {"reverse": "true"})

    def _buckets(
        self, instrument: Instrument, span: int, count: int, bounds: dict[str, str]
    ) -> Request:
        question = {
            "binSize": self.spans[span],
            "partial": "false",
            "symbol": instrument.name,
            "count": str(count),
        }
        return Request("/trade/bucketed", question | bounds, self.limits.page_weight)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows as documented. The open is the close of the bucket before, not the first trade, and
        so may lie above the high or below the low."""
        rows = [row for row in decode(BUCKETS, answer.body) if not _unborn(row)]
        return Candles(
            integers([microseconds(row.timestamp) - span * SECOND for row in rows]),
            floats(_prices([row.open for row in rows])),
            floats(_prices([row.high for row in rows])),
            floats(_prices([row.low for row in rows])),
            floats(_prices([row.close for row in rows])),
            floats([row.home_notional for row in rows]),
            floats([row.foreign_notional for row in rows]),
            integers([row.trades for row in rows]),
        )


def _unborn(row: Bucket) -> bool:
    """Whether a bucket lies before the first trade: it has neither trades nor any price."""
    return row.trades == 0 and row.open is row.high is row.low is row.close is None


def _prices(column: list[float | None]) -> list[float]:
    prices = [price for price in column if price is not None]
    if len(prices) != len(column):
        raise BadAnswer("BitMEX: a candle that lacks a price")
    return prices


def _instruments_request(start: int) -> Request:
    params = {"count": str(MOST_MARKETS), "start": str(start), "reverse": "false"}
    return Request("/instrument", params)


def _instruments(markets: Iterable[Market]) -> Iterable[Instrument]:
    """Markets that can be traded, or could be, and named.

    Several contracts of a pair differ by the currency in which they settle: ETHUSD, ETHUSD_ETH.
    The pair's name belongs to the one without a suffix. (Spot is always named BASE_QUOTE.)
    """
    for market in markets:
        contract = _contract(market)
        base, quote = (
            "BTC" if code == "XBT" else code
            for code in (market.underlying.upper(), market.quote_currency.upper())
        )
        if contract is not None and nameable(base, quote):
            yield Instrument(Symbol(base, quote, contract), market.symbol, market.state == "Open")


def _contract(market: Market) -> str | None:
    """The third part of a symbol; None for what is no market of ours."""
    if market.typ in SPOT:
        return ""
    if "_" in market.symbol:
        return None
    if market.typ in PERPETUAL:
        return "PERP"
    if market.typ in DATED and market.expiry is not None:
        return f"{market.expiry:%y%m%d}"
    return None


def _error_text(body: bytes) -> str:
    try:
        return ERROR.decode(body)["error"]["message"]
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError):
        return repr(body[:80])


def _number(answer: Answer, header: str) -> int | None:
    """A header's number; None if it is absent or none."""
    value = answer.headers.get(header)
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _iso(time: int) -> str:
    return moment(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")
