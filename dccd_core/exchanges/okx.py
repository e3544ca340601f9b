"""OKX: spot, perpetual swaps and dated futures. https://www.okx.com/docs-v5/en/"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import msgspec
import numpy as np

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
from dccd_core.models import DAY, SECOND, Channel, Symbol, Window

# open time, open, high, low, close, volume (spot: base units, derivatives: contracts), volume in
# currency (spot: quote, derivatives: base), quote volume, confirm: all of them text
Row = tuple[int, float, float, float, float, float, float, float, Literal["0", "1"]]


class Reply(msgspec.Struct):
    """The envelope of every answer; errors come in it with HTTP 200 too."""

    code: str
    msg: str


class Page(msgspec.Struct):
    """Candles, newest first."""

    data: list[Row]


class Market(msgspec.Struct, rename="camel"):
    """One instrument; what does not apply to its kind is "". A market that is announced but not
    open yet has "" nearly everywhere."""

    inst_id: str
    base_ccy: str
    quote_ccy: str
    uly: str
    ct_type: str
    ct_val: str
    ct_mult: str
    state: str
    list_time: str


class Markets(msgspec.Struct):
    """The instrument list of one kind."""

    data: list[Market]


REPLY = msgspec.json.Decoder(Reply)
PAGE = msgspec.json.Decoder(Page, strict=False)
MARKETS = msgspec.json.Decoder(Markets)

LIMITED = "50011"
NO_SUCH_MARKET = "51001"
BUSY = frozenset({"50001", "50004", "50005", "50013", "50026"})
# When v3 (2019) and v5 (2021-01-29) were made, old markets got the day of the move as their list
# time, and candles from long before it: until then a list time says nothing.
MOVED = 1_612_137_600_000  # 2021-02-01 in milliseconds
# Finer and finer bars on the way to a first candle.
STEPS = {DAY: "1Dutc", 3_600: "1H", 60: "1m"}


class Okx(Exchange):
    """OKX v5: candles newest first, `before` and `after` both exclusive, in milliseconds."""

    name = "okx"
    title = "OKX"
    docs = "https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks-history"
    rest_url = "https://openapi.okx.com"
    # 20 requests in 2 seconds and address, for each path alone; a tenth of it is burst.
    limits = Limits(weight=18, seconds=2, burst=2, page=300)
    # From 6 hours on the plain names are bars of UTC+8. Not here: 1s, of which three months are
    # kept, and 2D, 3D, of which it is not documented on which day they open.
    spans: ClassVar[Mapping[int, str]] = {
        60: "1m", 180: "3m", 300: "5m", 900: "15m", 1_800: "30m", 3_600: "1H", 7_200: "2H",
        14_400: "4H", 21_600: "6Hutc", 43_200: "12Hutc", 86_400: "1Dutc", 604_800: "1Wutc",
    }  # fmt: skip
    gapless = True
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for: the code counts, whatever the HTTP status."""
        code, text = _said(answer)
        if answer.status == 200 and code == "0":
            return
        if code == LIMITED or (answer.status == 429 and code not in BUSY):
            raise RateLimited(f"OKX: too many requests: {text}", retry_after(answer))
        if answer.status in (403, 451):
            raise Blocked(
                f"OKX refuses this address (HTTP {answer.status}): {text}. Set a proxy, or the "
                f"rest_url of your region, under exchanges.okx"
            )
        if answer.status >= 500 or code in BUSY:
            raise Unavailable(f"OKX: HTTP {answer.status}: {text}")
        if code == NO_SUCH_MARKET:
            raise UnknownSymbol(f"OKX: {text}")
        if answer.status == 200 and not code:
            raise BadAnswer(f"OKX: not an answer of the API: {text}")
        raise Rejected(f"OKX: HTTP {answer.status}: {text}")

    def instruments_requests(self) -> list[Request]:
        """The lists of spot, perpetual and dated markets."""
        kinds = ("SPOT", "SWAP", "FUTURES")
        return [Request("/api/v5/public/instruments", {"instType": kind}) for kind in kinds]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """The markets of one kind, without those that are announced only: they have no fields."""
        found = (_instrument(market) for market in decode(MARKETS, answer.body).data)
        return Listed([instrument for instrument in found if instrument])

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Both bounds, since `before` alone would return the newest rows there are.

        A window may end between two bars. Of too small a `limit` the oldest row would fall out.
        """
        start, end = window.start // 1_000, window.end // 1_000
        bounds = {"before": str(max(0, start - 1)), "after": str(end)}
        count = -(-(end - start) // (span * 1_000))
        return self._history(instrument, self.spans[span], count, bounds)

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest 300 months, which is all of them."""
        return self._history(instrument, "1Mutc", self.limits.page, {})

    def first_candle(
        self, answer: Answer, instrument: Instrument, span: int
    ) -> int | Request | None:
        """From months to days, hours, minutes: always the oldest bars, up to the second of them.

        Which bars came is told by their distance. With less than three of them it is not looked
        any closer: each step is shorter than the one before, so that the search ends.
        """
        times = self.candles(answer, instrument, span).time // SECOND
        if not len(times):
            return None
        step = int(np.diff(times).min()) if len(times) > 2 else 0
        if step <= span:
            return int(times[0]) * SECOND
        bar = next((STEPS[bar] for bar in STEPS if span < bar < step), self.spans[span])
        return self._history(
            instrument, bar, self.limits.page, {"after": str((int(times[0]) + 2 * step) * 1_000)}
        )

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest two: the running candle, which is not read, and the one before it."""
        question = {"instId": instrument.name, "bar": self.spans[span], "limit": "2"}
        return Request("/api/v5/market/candles", question)

    def _history(
        self, instrument: Instrument, bar: str, limit: int, bounds: dict[str, str]
    ) -> Request:
        question = {"instId": instrument.name, "bar": bar, "limit": str(limit)}
        return Request("/api/v5/market/history-candles", question | bounds)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows that OKX calls complete, whatever the clock says; oldest first."""
        rows = [row for row in reversed(decode(PAGE, answer.body).data) if row[8] == "1"]
        columns = list(zip(*rows, strict=True)) or [()] * 9
        # For contracts OKX itself has the base units, whether linear or inverse.
        opened, base = integers(columns[0], 1_000), columns[6 if instrument.symbol.contract else 5]
        o, h, low, c, volume, quote = map(floats, (*columns[1:5], base, columns[7]))
        return Candles(opened, o, h, low, c, volume, quote)


def _said(answer: Answer) -> tuple[str, str]:
    """The code of an answer, "" if it has none, and its words."""
    try:
        reply = REPLY.decode(answer.body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return "", repr(answer.body[:80])
    return reply.code, f"{reply.code} {reply.msg}"


def _instrument(market: Market) -> Instrument | None:
    """A market under our name, None if it has none.

    A contract is called FAMILY-SWAP or FAMILY-YYMMDD. The family is the underlying, BTC-USD, or the
    underlying and the kind of its margin, BTC-USD_UM: the coin-margined one is BTC/USD:PERP, the
    one margined in dollars BTC/USD:PERP.UM, so that no two markets share a name.
    """
    if market.uly:
        family, _, tail = market.inst_id.rpartition("-")
        margin = family.removeprefix(market.uly).replace("_", ".")
        base, _, quote = market.uly.partition("-")
        contract = ("PERP" if tail == "SWAP" else tail) + margin
    else:
        base, quote, contract = market.base_ccy, market.quote_ccy, ""
    if not nameable(base, quote, *([contract] if contract else [])):
        return None
    symbol = Symbol(base, quote, contract)
    trading = market.state == "live"
    return Instrument(symbol, market.inst_id, trading, _listed(market), _size(market))


def _listed(market: Market) -> int | None:
    listed = int(_number(market.list_time, market)) if market.list_time else 0
    return listed * 1_000 if listed >= MOVED else None


def _size(market: Market) -> float:
    """Base units of a linear contract. An inverse one is so many dollars, in base units it is
    worth another amount at each price: it keeps 1, and its candles do not need it."""
    if market.ct_type != "linear":
        return 1.0
    return _number(market.ct_val, market) * _number(market.ct_mult, market)


def _number(text: str, market: Market) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadAnswer(
            f"OKX: {text!r} is not a number, in the entry of {market.inst_id}"
        ) from error
