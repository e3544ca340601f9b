"""OKX: spot, perpetual swaps and dated futures. https://www.okx.com/docs-v5/en/"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

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
    retry_after,
)
from dccd_core.exchanges.live import (
    BookChange,
    Frame,
    Inbox,
    Live,
    LiveCandle,
    LiveLimits,
    Session,
    Subscription,
)
from dccd_core.exchanges.trades import Book, Depth, Levels, Trade, TradesHistory, TradesPage
from dccd_core.models import DAY, SECOND, Channel, Symbol, Window, nameable

T = TypeVar("T")
# up to the year 9999, so that a date can be made of it
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
# "NaN" and "inf" are no prices
Positive = Annotated[float, msgspec.Meta(gt=0, lt=1e300)]
Volume = Annotated[float, msgspec.Meta(ge=0, lt=1e300)]

# open time, open, high, low, close, volume (spot: base units, derivatives: contracts), volume in
# currency (spot: quote, derivatives: base), quote volume, confirm: all of them text
Row = tuple[
    Milliseconds, Positive, Positive, Positive, Positive, Volume, Volume, Volume, Literal["0", "1"]
]


class Reply(msgspec.Struct):
    """The envelope of every answer; errors come in it with HTTP 200 too."""

    code: str
    msg: str


class Data(msgspec.Struct, Generic[T]):
    data: T


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


class PastTrade(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One trade; the side is the taker's, `sz` in base units or in contracts."""

    trade_id: int
    px: Positive
    sz: Positive
    side: Literal["buy", "sell"]
    ts: Milliseconds


# price, amount in base units or in contracts, "0", number of orders
Level = tuple[Positive, Volume, str, str]


class Sides(msgspec.Struct, rename="camel"):
    """A book by REST."""

    asks: list[Level]
    bids: list[Level]
    ts: Milliseconds


class Top(Sides, rename="camel"):
    seq_id: int


class Changes(Top, rename="camel"):
    """A book or its changes, and the number of the message before."""

    prev_seq_id: int


class Arg(msgspec.Struct, rename="camel", frozen=True):
    channel: str
    inst_id: str


class Push(msgspec.Struct):
    arg: Arg
    data: msgspec.Raw


class BookPush(msgspec.Struct):
    action: Literal["snapshot", "update"]
    data: tuple[Changes]


class Event(msgspec.Struct):
    """An answer to a request, or a notice; what does not apply is absent."""

    event: str
    id: str = ""
    code: str = ""
    msg: str = ""


@dataclass(frozen=True, slots=True)
class Walk(Request):
    """Trades from the id `first` on; `known` is one that there is, 0 if none is known. As long as
    the beginning is searched for: none is before `low`, the known one is at `high` (ms)."""

    first: int = 0
    known: int = 0
    low: int = 0
    high: int = 0


REPLY = msgspec.json.Decoder(Reply)
ROWS = msgspec.json.Decoder(Data[list[Row]], strict=False)
MARKETS = msgspec.json.Decoder(Data[list[Market]])
TRADES = msgspec.json.Decoder(Data[list[PastTrade]], strict=False)
BOOK = msgspec.json.Decoder(Data[tuple[Sides]], strict=False)
PUSH = msgspec.json.Decoder(Push)
TOP = msgspec.json.Decoder(Data[tuple[Top]], strict=False)
BOOK_PUSH = msgspec.json.Decoder(BookPush, strict=False)
EVENT = msgspec.json.Decoder(Event)

LIMITED = "50011"
NO_SUCH_MARKET = "51001"
BUSY = frozenset({"50001", "50004", "50005", "50013", "50026"})
# When v3 (2019) and v5 (2021-01-29) were made, old markets got the day of the move as their list
# time, and candles from long before it: until then a list time says nothing.
MOVED = 1_612_137_600_000  # 2021-02-01 in milliseconds
# Finer and finer bars on the way to a first candle.
STEPS = {DAY: "1Dutc", 3_600: "1H", 60: "1m"}
PAGE = 300
HISTORY_TRADES, TRADES_PAGE = "/api/v5/market/history-trades", 100
# Depth of each book channel that needs no login.
BOOKS = {1: "bbo-tbt", 5: "books5", 400: "books"}
UPGRADE = "64008"  # the connection ends in 60 seconds


class Okx(Exchange, TradesHistory, Depth, Live):
    """OKX v5: candles newest first, `before` and `after` both exclusive, in milliseconds."""

    name = "okx"
    title = "OKX"
    docs = "https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks-history"
    rest_url = "https://openapi.okx.com"
    # 20 requests in 2 seconds and address, for each path alone; a tenth of it is burst.
    limits = Limits(weight=18, seconds=2, burst=2, page=PAGE)
    # From 6 hours on the plain names are bars of UTC+8. Not here: 1s, of which three months are
    # kept, and 2D, 3D, of which it is not documented on which day they open.
    spans: ClassVar[Mapping[int, str]] = {
        60: "1m", 180: "3m", 300: "5m", 900: "15m", 1_800: "30m", 3_600: "1H", 7_200: "2H",
        14_400: "4H", 21_600: "6Hutc", 43_200: "12Hutc", 86_400: "1Dutc", 604_800: "1Wutc",
    }  # fmt: skip
    gapless = True
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    # Each market counts its trades one by one: so in all recorded traffic.
    contiguous = True
    reach = 89 * DAY  # three months
    trades_page = TRADES_PAGE
    trades_weight = 1.0
    depths = (1, 5, 50, 400)

    ws_url = "wss://ws.okx.com:8443"
    # https://www.okx.com/docs-v5/en/#overview-websocket-connect: a ping before 30 seconds of
    # silence. Within the hour 200 feeds, each asked for alone, may also end and come back.
    live_limits = LiveLimits(
        streams=200, messages=480, seconds=3_600, connects=3, connect_seconds=1, ping=20
    )
    live_spans, live_gapless = frozenset(spans), True

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
        return self._history(instrument, "1Mutc", PAGE, {})

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
        after = str((int(times[0]) + 2 * step) * 1_000)
        return self._history(instrument, bar, PAGE, {"after": after})

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
        rows = [row for row in reversed(decode(ROWS, answer.body).data) if row[8] == "1"]
        columns = list(zip(*rows, strict=True)) or [()] * 9
        # For contracts OKX itself has the base units, whether linear or inverse.
        opened, base = integers(columns[0], 1_000), columns[6 if instrument.symbol.contract else 5]
        o, h, low, c, volume, quote = map(floats, (*columns[1:5], base, columns[7]))
        return Candles(opened, o, h, low, c, volume, quote)

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """The last trades before a time: after them come those that are wanted."""
        return Request(HISTORY_TRADES, _by_time(instrument, time // 1_000))

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """A hundred ids are asked for by the id after them: what is not among them is not there.
        The newest are asked for at the end: that nothing came may also be a hole in the ids."""
        rows = sorted(decode(TRADES, answer.body).data, key=lambda row: row.trade_id)
        if request.params["type"] == "2":
            onward = _beginning(rows, instrument, request, answer.time // 1_000)
            return TradesPage([], onward, served=_oldest(rows, request, onward))
        end = int(request.params["after"]) if "after" in request.params else 0
        first, known = end - TRADES_PAGE, 0
        if isinstance(request, Walk):
            first, known = request.first, request.known
        new, onward = [row for row in rows if row.trade_id >= first], None
        following = new[-1].trade_id + 1 if new else first
        if not end and new and rows[0].trade_id > first:
            return TradesPage([], _walk(instrument, first, rows[-1].trade_id))  # there are more
        if end and (following == end or end <= known):
            onward = _walk(instrument, end, known)
        elif end:
            onward = Walk(HISTORY_TRADES, _by_id(instrument), first=following)
        return TradesPage(_trades(new, instrument, None), onward)

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """As deep as the stream."""
        return Request("/api/v5/market/books", {"instId": instrument.name, "sz": str(depth)})

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """Amounts in base units."""
        (sides,) = decode(BOOK, answer.body).data
        bids, asks = _levels(sides.bids, instrument), _levels(sides.asks, instrument)
        return Book(bids, asks, None, sides.ts * 1_000)

    def live_path(self, subscription: Subscription) -> str:
        """Candles and single trades are called business; neither needs a key."""
        return "/ws/v5/" + ("public" if subscription.channel is Channel.BOOK else "business")

    def session(self) -> Session:
        """A connection of either kind."""
        return OkxSession()


class OkxSession(Session):
    """Each channel of a market is asked for alone, so that a refusal is of that one only. Books
    have no checksum: the field is fixed to 0 and must not be used, the documentation says."""

    def __init__(self) -> None:
        self._feeds: dict[Arg, Subscription] = {}
        self._asked: dict[str, Arg] = {}  # by the number of the request
        self._requests = 0

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """One request a feed."""
        feeds = {_arg(one): one for one in subscriptions}
        self._feeds |= feeds
        return [self._request("subscribe", arg) for arg in feeds]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """One request a feed. What is under way when they are sent is not read any more."""
        args = [_arg(one) for one in subscriptions]
        self._feeds = {arg: one for arg, one in self._feeds.items() if arg not in args}
        return [self._request("unsubscribe", arg) for arg in args]

    def ping(self) -> bytes:
        """A text that is no JSON; so is the answer."""
        return b"ping"

    def read(self, frame: Frame, inbox: Inbox) -> None:
        """Data of a feed, an answer to a request, or a notice."""
        if frame.payload == b"pong":
            return None
        try:
            arg = PUSH.decode(frame.payload).arg
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            return self._hear(decode(EVENT, frame.payload), inbox)
        if arg in self._feeds:
            READERS[self._feeds[arg].channel](self._feeds[arg], frame, inbox)
        return None

    def _request(self, action: str, arg: Arg) -> bytes:
        self._requests += 1
        number = str(self._requests)
        self._asked[number] = arg
        return msgspec.json.encode({"id": number, "op": action, "args": [arg]})

    def _hear(self, event: Event, inbox: Inbox) -> None:
        text = f"OKX: {event.event} {event.code} {event.msg}".rstrip()
        arg = self._asked.get(event.id)
        if event.event in ("notice", "error"):
            if arg in self._feeds:
                inbox.refused.append((self._feeds.pop(arg), text))
            else:
                inbox.notices.append(text)
            if event.code == UPGRADE:
                inbox.reconnect = text
        elif arg is None or event.event not in ("subscribe", "unsubscribe"):
            raise BadAnswer(f"OKX: an answer to nothing: {event}")
        elif event.event == "subscribe" and arg in self._feeds:
            inbox.accepted.append(self._feeds[arg])


def _by_time(instrument: Instrument, before: int) -> dict[str, str]:
    return _by_id(instrument) | {"type": "2", "after": str(before)}


def _by_id(instrument: Instrument) -> dict[str, str]:
    return {"instId": instrument.name, "type": "1", "limit": str(TRADES_PAGE)}


def _walk(instrument: Instrument, first: int, known: int = 0) -> Walk:
    """The ids from `first` on: what OKX calls after is before, and the newest of it."""
    question = _by_id(instrument) | {"after": str(first + TRADES_PAGE)}
    return Walk(HISTORY_TRADES, question, first=first, known=known)


def _beginning(
    rows: list[PastTrade], instrument: Instrument, request: Request, now: int
) -> Request | None:
    """The request for the first of the trades that are wanted. Where nothing is before a time, the
    oldest is searched for, by halves, until those before a moment are few: then they are all."""
    bound = int(request.params["after"])
    older = [row for row in rows if row.ts < bound]
    if older and not isinstance(request, Walk):
        return _walk(instrument, older[-1].trade_id + 1)
    if 0 < len(older) < TRADES_PAGE:
        return _walk(instrument, older[0].trade_id)
    low, high, known = bound, now + 60_000, 0
    if isinstance(request, Walk):
        low, high, known = (request.low if older else bound), request.high, request.known
    if older:
        high, known = older[0].ts, older[0].trade_id
    if low >= high:
        return _walk(instrument, known) if known else None
    question = _by_time(instrument, (low + high + 1) // 2)
    return Walk(HISTORY_TRADES, question, known=known, low=low, high=high)


def _oldest(rows: list[PastTrade], request: Request, onward: Request | None) -> int | None:
    """When the oldest trade was made that is served, if this answer ends the search for it and it
    is not the market's first."""
    if not (isinstance(request, Walk) and isinstance(onward, Walk) and onward.first > 1):
        return None
    older = [row.ts for row in rows if row.ts < int(request.params["after"])]
    return min(older, default=request.high) * 1_000


def _trades(rows: list[PastTrade], market: Instrument, received: int | None) -> list[Trade]:
    amounts = _levels([(row.px, row.sz, "", "") for row in rows], market)
    return [
        Trade(row.ts * 1_000, received, str(row.trade_id), price, amount, row.side == "buy")
        for row, (price, amount) in zip(rows, amounts, strict=True)
    ]


def _levels(levels: list[Level], market: Instrument) -> Levels:
    """Prices and amounts in base units; 7 contracts of 0.01 are not 0.07000000000000001."""
    size = market.size
    if market.inverse:
        return [(price, contracts * size / price) for price, contracts, _, _ in levels]
    if size == 1:
        return [(price, amount) for price, amount, _, _ in levels]
    return [(price, round(contracts * size, 12)) for price, contracts, _, _ in levels]


def _arg(subscription: Subscription) -> Arg:
    name = subscription.instrument.name
    if subscription.channel is Channel.TRADES:
        return Arg("trades-all", name)  # "trades" has sums of them
    if subscription.channel is Channel.OHLC:
        return Arg(f"candle{Okx.spans[subscription.span]}", name)
    wanted = subscription.depth or 400
    return Arg(next((BOOKS[depth] for depth in BOOKS if depth >= wanted), "books"), name)


def _read_trades(subscription: Subscription, frame: Frame, inbox: Inbox) -> None:
    market, rows = subscription.instrument, decode(TRADES, frame.payload).data
    inbox.trades[market.name] += _trades(rows, market, frame.received)


def _read_book(subscription: Subscription, frame: Frame, inbox: Inbox) -> None:
    """The few best levels come whole each time. After a maintenance the number is once smaller than
    the one before, which it follows all the same; a message without changes follows itself."""
    market, whole, previous = subscription.instrument, True, None
    if 0 < subscription.depth <= 5:
        (found,) = decode(TOP, frame.payload).data
    else:
        push = decode(BOOK_PUSH, frame.payload)
        (found,), whole = push.data, push.action == "snapshot"
        previous = None if whole else push.data[0].prev_seq_id
    bids, asks = _levels(found.bids, market), _levels(found.asks, market)
    numbers = (found.ts * 1_000, None, found.seq_id, previous)
    inbox.books[market.name].append(BookChange(whole, bids, asks, frame.received, *numbers))


def _read_rows(subscription: Subscription, frame: Frame, inbox: Inbox) -> None:
    market = subscription.instrument
    for time, o, h, low, c, volume, currency, quote, closed in decode(ROWS, frame.payload).data:
        if closed == "1":
            base = currency if market.symbol.contract else volume
            columns = (time * 1_000, o, h, low, c, base, quote, None, None, None)
            candle = LiveCandle(*columns, frame.received)
            inbox.candles[market.name, subscription.span].append(candle)


READERS: dict[Channel, Callable[[Subscription, Frame, Inbox], None]] = {
    Channel.TRADES: _read_trades,
    Channel.BOOK: _read_book,
    Channel.OHLC: _read_rows,
}


def _said(answer: Answer) -> tuple[str, str]:
    """The code of an answer, "" if it has none, and its words."""
    try:
        reply = REPLY.decode(answer.body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return "", answer.quote
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
    symbol, trading = Symbol(base, quote, contract), market.state == "live"
    found = Instrument(symbol, market.inst_id, trading, _listed(market), _size(market))
    return replace(found, inverse=market.ct_type == "inverse")


def _listed(market: Market) -> int | None:
    listed = int(_number(market.list_time, market)) if market.list_time else 0
    return listed * 1_000 if listed >= MOVED else None


def _size(market: Market) -> float:
    """Base units of a linear contract, dollars of an inverse one."""
    texts = (market.ct_val, market.ct_mult) if market.ct_type else ()
    return math.prod((_number(text, market) for text in texts), start=1.0)


def _number(text: str, market: Market) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadAnswer(
            f"OKX: {text!r} is not a number, in the entry of {market.inst_id}"
        ) from error
