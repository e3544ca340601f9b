"""BitMEX, API v1: https://www.bitmex.com/api/explorer/, streams: https://www.bitmex.com/app/wsAPI"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
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
from dccd_core.models import SECOND, Channel, Symbol, Window, microseconds, moment, nameable

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Number = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
# an amount can be divided by it
Price = Annotated[float, msgspec.Meta(gt=0, le=1e300)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Bucket(msgspec.Struct, rename="camel", gc=False):
    """A candle; `timestamp` is its END. Prices are null before a market's first trade."""

    symbol: str
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
    is_inverse: bool
    is_quanto: bool
    multiplier: float | None = None
    underlying_to_position_multiplier: float | None = None
    underlying_to_settle_multiplier: float | None = None


class Row(msgspec.Struct, rename="camel", gc=False):
    """A trade. `trd_type` came later than the others; what is not Regular, as the prices of an
    index and the settlement of a contract, was not traded in the book and may lack the rest."""

    timestamp: Time
    symbol: str
    id: str = msgspec.field(name="trdMatchID")
    price: Number | None
    side: Literal["Buy", "Sell", ""] | None
    home_notional: Number | None
    trd_type: str = "Regular"


class Gone(msgspec.Struct, kw_only=True, gc=False):
    """A level of a book that is no more: `id` stood for it as long as it was there."""

    symbol: str
    id: Whole
    side: Literal["Buy", "Sell"]
    timestamp: Time | None = None


class Resized(Gone, kw_only=True, gc=False):
    """A level that has another size now, in contracts."""

    size: Number


class Level(Resized, kw_only=True, gc=False):
    """A level that is new."""

    price: Price


class Asked(msgspec.Struct):
    """The request to which an answer belongs."""

    args: list[str]


class Message(msgspec.Struct):
    """A frame: rows of a table, the answer to a request, or a word of welcome."""

    table: str | None = None
    action: Literal["partial", "insert", "update", "delete"] | None = None
    data: msgspec.Raw = msgspec.Raw()
    filter: dict[str, str] = {}
    success: bool | None = None
    subscribe: str | None = None
    error: str | None = None
    request: Asked | None = None
    info: str | None = None


ROWS = msgspec.json.Decoder(list[Row])
LEVELS = msgspec.json.Decoder(list[Level])
CHANGES: Mapping[str, msgspec.json.Decoder[list[Gone]]] = {
    "insert": msgspec.json.Decoder(list[Level]),
    "update": msgspec.json.Decoder(list[Resized]),
    "delete": msgspec.json.Decoder(list[Gone]),
}
MESSAGES = msgspec.json.Decoder(Message)
BUCKETS = msgspec.json.Decoder(list[Bucket])
MARKETS = msgspec.json.Decoder(list[Market])
# {"error": {"message": …, "name": "HTTPError"}}
ERROR = msgspec.json.Decoder(dict[Literal["error"], dict[str, str]])
# CFI codes of /instrument. Not here: indices, options, prediction and rate markets.
PERPETUAL, DATED, SPOT = {"FFWCSX", "FFWCSF", "FFSCSX"}, {"FFCCSX", "FFMCSX"}, {"IFXXXP"}
MOST_MARKETS, MOST_TRADES = 500, 1_000
WHOLE = 1_000_000  # levels, more than any book has
QUANTO = "BitMEX: how much a contract of {} is in base units depends on the price of another coin"
OPENING = 1_388_534_400 * SECOND  # 2014-01-01: BitMEX opened in November


class Bitmex(Exchange, TradesHistory, Depth, Live):
    """Candles ascending, times ISO 8601 and of the bucket's end. Of quanto contracts there is no
    book: what they are in base units BitMEX says in trades and candles only."""

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
    contiguous = False
    reach = None
    trades_page = MOST_TRADES
    trades_weight = 1.0
    depths = (1, 10, 25, 100, 500, 1_000, WHOLE)

    ws_url = "wss://ws.bitmex.com"
    # 60 connections an hour: https://blog.bitmex.com/api_announcement/updates-to-rate-limits. Once
    # connected nothing is limited: 100 feeds and 20 requests a second are ours. Ping after 5 s.
    live_limits = LiveLimits(100, 20, 1, connects=40, connect_seconds=3_600, ping=5)
    live_spans, live_gapless = frozenset(spans), True

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for; the HTTP status tells, the body says it in words."""
        if answer.status == 200:
            return
        text = _error_text(answer)
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
        names = ("x-ratelimit-limit", "x-ratelimit-remaining")
        limit, remaining = (answer.headers.get(name) for name in names)
        if not (limit and remaining and f"{limit}{remaining}".isdecimal() and int(limit)):
            return None
        return 1 - min(int(remaining) / int(limit), 1.0)

    def instruments_requests(self) -> list[Request]:
        """The first part of all markets there ever were."""
        return [_instruments_request(0)]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """The markets of a part; a full part has another behind it. `listing` is not used: XBTUSD
        was listed in 2016 by it and has candles of 2015. Only books need `size`: other amounts
        come in base units."""
        markets = decode(MARKETS, answer.body)
        start = int(request.params["start"]) + len(markets)
        following = _instruments_request(start) if len(markets) == MOST_MARKETS else None
        return Listed(list(_instruments(markets)), following)

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """The buckets that end after the window's start and up to its end. Whether bounds are
        inclusive is not documented: at these moments no bucket ends."""
        count = (window.end - window.start) // (span * SECOND)
        start, end = _iso(window.start + span * SECOND - 1_000), _iso(window.end + 1_000)
        return self._buckets(instrument, span, count, {"startTime": start, "endTime": end})

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
        question = {"binSize": self.spans[span], "partial": "false", "symbol": instrument.name}
        question |= {"count": str(count)} | bounds
        return Request("/trade/bucketed", question, self.limits.page_weight)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """The open is the close of the bucket before, and may lie outside of low and high."""
        rows = _born(answer.body)
        prices = zip(*map(_prices, rows), strict=True) if rows else [()] * 4
        opened, high, low, close = map(floats, prices)
        times = integers([microseconds(row.timestamp) - span * SECOND for row in rows])
        base = floats([row.home_notional for row in rows])
        quote = floats([row.foreign_notional for row in rows])
        trades = integers([row.trades for row in rows])
        return Candles(times, opened, high, low, close, base, quote, trades)

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """From a millisecond before: whether startTime is inclusive is not documented."""
        return _trades_request(instrument.name, max(time // 1_000 - 1, OPENING // 1_000), 0)

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """A page that is not full is the newest one."""
        rows = decode(ROWS, answer.body)
        if any(one.timestamp > two.timestamp for one, two in pairwise(rows)):
            raise BadAnswer("BitMEX: trades that are not in order of their times")
        trades = [_trade(row, None) for row in rows if row.trd_type == "Regular"]
        again = self.trades_request(instrument, microseconds(rows[-1].timestamp)) if rows else None
        return TradesPage(trades, _next_trades(rows, request), again)

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """Rejected for a quanto contract. A depth of 0 is all levels."""
        if not instrument.size:
            raise Rejected(QUANTO.format(instrument.name))
        levels = "0" if depth == WHOLE else str(depth)
        return Request("/orderBook/L2", {"symbol": instrument.name, "depth": levels})

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """All levels in one list; the book is as old as its newest level."""
        rows = decode(LEVELS, answer.body)
        return Book(*_sides(rows, instrument), None, _newest(rows))

    def live_path(self, subscription: Subscription) -> str:
        """One address for all markets."""
        return "/realtime"

    def session(self) -> "BitmexSession":
        """The protocol of a new connection."""
        return BitmexSession()


class BitmexSession(Session):
    """Tables that begin with a partial, whose rows are later named by their ids. There are no
    numbers and checksums: that a message was lost shows only by an unknown id."""

    def __init__(self) -> None:
        self._asked: dict[str, Subscription] = {}
        self._unfit: list[Subscription] = []
        self._markets: dict[str, Instrument] = {}
        # the price of each level's id, of the markets whose partial has come
        self._prices: dict[str, dict[tuple[int, str], float]] = {}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """A message for each feed: a refusal does not say which of several it is of."""
        fit = [s for s in subscriptions if s.instrument.size or s.channel is not Channel.BOOK]
        self._unfit += [one for one in subscriptions if one not in fit]
        self._asked |= {_topic(one): one for one in fit}
        self._markets |= {one.instrument.name: one.instrument for one in fit}
        return [_message("subscribe", one) for one in fit]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """The same way; what still comes of the books is not read any more."""
        ended = {one.instrument.name for one in subscriptions if one.channel is Channel.BOOK}
        self._prices = {name: ids for name, ids in self._prices.items() if name not in ended}
        return [_message("unsubscribe", one) for one in subscriptions]

    def ping(self) -> bytes:
        """It is answered with the text pong."""
        return b"ping"

    def read(self, frame: Frame, inbox: Inbox) -> None:
        """Rows of a table, or the answer to a request."""
        inbox.refused += [(one, QUANTO.format(one.instrument.name)) for one in self._unfit]
        self._unfit = []
        if frame.payload == b"pong":
            return
        message = decode(MESSAGES, frame.payload)
        if message.table is not None:
            self._rows(message, message.table, frame.received, inbox)
        elif message.subscribe in self._asked and message.success:
            inbox.accepted.append(self._asked.pop(message.subscribe))
        elif message.error is not None:
            self._refuse(message.error, message.request, inbox)
        elif message.info is None and not message.success:
            raise BadAnswer("BitMEX: neither rows nor an answer")

    def _refuse(self, reason: str, request: Asked | None, inbox: Inbox) -> None:
        topics = [topic for topic in request.args if topic in self._asked] if request else []
        inbox.refused += [(self._asked.pop(topic), reason) for topic in topics]
        inbox.notices += [] if topics else [f"BitMEX: {reason}"]

    def _rows(self, message: Message, table: str, received: int, inbox: Inbox) -> None:
        if message.action is None:
            raise BadAnswer(f"BitMEX: rows of {table} without an action")
        if table == "trade":
            _read_trades(message, received, inbox)
        elif table in BINS:
            _read_candles(message, BINS[table], received, inbox)
        elif table not in ("orderBookL2", "orderBookL2_25"):
            raise BadAnswer(f"BitMEX: rows of {table}, which nobody asked for")
        elif message.action == "partial":
            self._read_partial(message, received, inbox)
        else:
            self._read_changes(message, received, inbox)

    def _read_partial(self, message: Message, received: int, inbox: Inbox) -> None:
        rows = decode(LEVELS, bytes(message.data))
        market = self._markets.get(str(message.filter.get("symbol")))
        if market is None:
            raise BadAnswer("BitMEX: a book of no market that was asked for")
        self._prices[market.name] = {(row.id, row.side): row.price for row in rows}
        change = BookChange(True, *_sides(rows, market), received, _newest(rows))
        inbox.books[market.name].append(change)

    def _read_changes(self, message: Message, received: int, inbox: Inbox) -> None:
        """What comes before the partial of a market, or after an unknown id, is not read."""
        rows = decode(CHANGES[str(message.action)], bytes(message.data))
        time = _newest(rows)
        changes = defaultdict[str, BookChange](lambda: BookChange(False, [], [], received, time))
        for row in rows:
            if row.symbol not in self._prices:
                continue
            price = _price(row, self._prices[row.symbol])
            if price is None:
                del self._prices[row.symbol]
                inbox.lost.append((row.symbol, f"BitMEX: level {row.id} was never in this book"))
                continue
            change, size = changes[row.symbol], row.size if isinstance(row, Resized) else 0.0
            level = (price, _amount(size, price, self._markets[row.symbol]))
            (change.bids if row.side == "Buy" else change.asks).append(level)
        for name in changes.keys() & self._prices.keys():
            inbox.books[name].append(changes[name])


BINS = {f"tradeBin{name}": span for span, name in Bitmex.spans.items()}


def _message(op: str, subscription: Subscription) -> bytes:
    return msgspec.json.encode({"op": op, "args": [_topic(subscription)]})


def _topic(subscription: Subscription) -> str:
    """The feed's name. Of books the smallest that is deep enough: the best 25 levels, or all."""
    name, depth = subscription.instrument.name, subscription.depth
    match subscription.channel:
        case Channel.TRADES:
            return f"trade:{name}"
        case Channel.OHLC:
            return f"tradeBin{Bitmex.spans[subscription.span]}:{name}"
        case Channel.BOOK if 0 < depth <= 25:
            return f"orderBookL2_25:{name}"
        case Channel.BOOK:
            return f"orderBookL2:{name}"
    raise ValueError(f"BitMEX has no feed of {subscription.channel}")


def _read_trades(message: Message, received: int, inbox: Inbox) -> None:
    """The partial is the trade before the subscription, which is not new."""
    rows = [row for row in decode(ROWS, bytes(message.data)) if row.trd_type == "Regular"]
    for row, trade in [(row, _trade(row, received)) for row in rows]:
        if message.action != "partial":
            inbox.trades[row.symbol].append(trade)


def _read_candles(message: Message, span: int, received: int, inbox: Inbox) -> None:
    """The partial is the last candle that closed before; it is a candle like others."""
    found = [(row, _prices(row)) for row in _born(bytes(message.data))]
    for row, prices in found:
        time = microseconds(row.timestamp) - span * SECOND
        base, quote = row.home_notional, row.foreign_notional
        candle = LiveCandle(time, *prices, base, quote, row.trades, None, None, received)
        inbox.candles[row.symbol, span].append(candle)


def _trade(row: Row, received: int | None) -> Trade:
    """The side is the taker's; the amount in base units is BitMEX's own."""
    if row.price is None or row.home_notional is None or not row.side:
        raise BadAnswer(f"BitMEX: trade {row.id} has no price, no amount or no side")
    time, buy = microseconds(row.timestamp), row.side == "Buy"
    return Trade(time, received, row.id, row.price, row.home_notional, buy)


def _price(row: Gone, prices: dict[tuple[int, str], float]) -> float | None:
    """What a level's id stands for, None if that is not known; what is new or gone is noted."""
    key = row.id, row.side
    if isinstance(row, Level):
        prices[key] = row.price
    price = prices.get(key)
    if price is not None and not isinstance(row, Resized):
        del prices[key]
    return price


def _sides(rows: Iterable[Level], market: Instrument) -> tuple[Levels, Levels]:
    """Bids and asks, best first."""
    levels = [(row.side, row.price, _amount(row.size, row.price, market)) for row in rows]
    bids = sorted(((price, n) for side, price, n in levels if side == "Buy"), reverse=True)
    return bids, sorted((price, n) for side, price, n in levels if side == "Sell")


def _amount(contracts: float, price: float, market: Instrument) -> float:
    """Base units of contracts at a price."""
    if market.inverse:
        return contracts * market.size / price
    # a division by a whole number is right to the last digit, a product with a fraction is not
    return contracts * market.size if market.size >= 1 else contracts / round(1 / market.size)


def _newest(rows: Sequence[Gone]) -> int | None:
    return max((microseconds(row.timestamp) for row in rows if row.timestamp), default=None)


def _trades_request(name: str, start: int, skipped: int) -> Request:
    """Trades from a time in milliseconds on, without the first ones."""
    bounds = {"startTime": _iso(start * 1_000), "start": str(skipped)}
    question = {"symbol": name, "count": str(MOST_TRADES), "reverse": "false"}
    return Request("/trade", question | bounds, Bitmex.trades_weight)


def _next_trades(rows: Sequence[Row], request: Request) -> Request | None:
    """From the last trade's time on, which others share; within one that fills a page, by rows."""
    if len(rows) < MOST_TRADES:
        return None
    name, known = request.params["symbol"], int(request.params["start"]) + len(rows)
    asked = microseconds(datetime.fromisoformat(request.params["startTime"])) // 1_000
    start = microseconds(rows[-1].timestamp) // 1_000 - 1
    return _trades_request(name, *((start, 0) if start > asked else (asked, known)))


def _born(body: bytes) -> list[Bucket]:
    """Buckets, without those before the first trade: they have neither trades nor any price."""
    rows = decode(BUCKETS, body)
    return [row for row in rows if row.trades or {row.open, row.high, row.low, row.close} != {None}]


def _prices(row: Bucket) -> tuple[float, float, float, float]:
    if row.open is None or row.high is None or row.low is None or row.close is None:
        raise BadAnswer("BitMEX: a candle that lacks a price")
    return row.open, row.high, row.low, row.close


def _instruments_request(start: int) -> Request:
    params = {"count": str(MOST_MARKETS), "start": str(start), "reverse": "false"}
    return Request("/instrument", params)


def _instruments(markets: Iterable[Market]) -> Iterable[Instrument]:
    """Markets that can be traded, or could be, and named. Several contracts of a pair differ by the
    currency in which they settle: ETHUSD, ETHUSD_ETH. The pair's name belongs to the one without a
    suffix. (Spot is always named BASE_QUOTE.)"""
    for market in markets:
        contract, size = _contract(market), _size(market)
        names = market.underlying.upper(), market.quote_currency.upper()
        base, quote = ("BTC" if code == "XBT" else code for code in names)
        if contract is not None and nameable(base, quote):
            symbol, trading = Symbol(base, quote, contract), market.state == "Open"
            inverse = market.is_inverse
            yield Instrument(symbol, market.symbol, trading, size=size, inverse=inverse)


def _size(market: Market) -> float:
    """What a contract is: quote units of an inverse one, else base units; 0 if neither is fixed."""
    position = market.underlying_to_position_multiplier
    settle = market.underlying_to_settle_multiplier
    if market.is_quanto:
        return 0.0
    if market.is_inverse:
        return market.multiplier / settle if market.multiplier and settle else 0.0
    return 1 / position if position else 0.0


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


def _error_text(answer: Answer) -> str:
    try:
        return ERROR.decode(answer.body)["error"]["message"]
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError):
        return answer.quote


def _iso(time: int) -> str:
    return moment(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")
