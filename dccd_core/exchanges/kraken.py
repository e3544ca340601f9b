"""Kraken spot. https://docs.kraken.com/api: the REST API, and version 2 of the WebSocket API."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from zlib import crc32

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
    number_rows,
    retry_after,
    whole,
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
from dccd_core.models import SECOND, Channel, Symbol, Window, microseconds, nameable

T = TypeVar("T")

# neither NaN nor infinite nor negative
Number = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
# price, amount, time in seconds, taker's side, market or limit, unused, id
PastTrade = tuple[Number, Number, msgspec.Raw, Literal["b", "s"], str, str, int]


class Head(msgspec.Struct):
    """What every answer begins with. Errors come with HTTP 200."""

    error: list[str]


class Pair(msgspec.Struct):
    """One market. `wsname` has its codes as shown, XBT/USD; those of the dark pool have none."""

    altname: str
    pair_decimals: int
    lot_decimals: int
    status: str
    wsname: str | None = None


class Sides(msgspec.Struct):
    """An order book, best levels first."""

    bids: list[tuple[Number, Number, int]]
    asks: list[tuple[Number, Number, int]]


class Result(msgspec.Struct, Generic[T]):
    """An answer: by Kraken's own name of the pair, which is not always the one asked with."""

    result: dict[str, T]


class LiveTrade(msgspec.Struct, gc=False):
    """One trade of a stream; the side is the taker's."""

    symbol: str
    side: Literal["buy", "sell"]
    price: Number
    qty: Number
    trade_id: int
    timestamp: Moment


class Bar(msgspec.Struct, gc=False):
    """A candle as it is now. Nothing tells that it is final but the next one."""

    symbol: str
    open: Number
    high: Number
    low: Number
    close: Number
    trades: Annotated[int, msgspec.Meta(ge=0)]
    volume: Number
    interval_begin: Moment
    interval: int


class LiveLevel(msgspec.Struct, gc=False):
    """A price and its amount, 0 where nothing is left."""

    price: Number
    qty: Number


class LiveBook(msgspec.Struct, gc=False):
    """A book or changes of it."""

    symbol: str
    bids: list[LiveLevel]
    asks: list[LiveLevel]
    checksum: int
    timestamp: Moment | None = None


class Status(msgspec.Struct):
    """The state of the trading engine: online, maintenance, cancel_only, post_only."""

    system: str


class TradeFrame(msgspec.Struct, tag_field="channel", tag="trade", gc=False):
    """Trades, possibly of several markets."""

    type: Literal["snapshot", "update"]
    data: list[LiveTrade]


class BookFrame(msgspec.Struct, tag_field="channel", tag="book", gc=False):
    """A book, whole or changed."""

    type: Literal["snapshot", "update"]
    data: list[LiveBook]


class OhlcFrame(msgspec.Struct, tag_field="channel", tag="ohlc", gc=False):
    """Candles that have changed."""

    data: list[Bar]


class StatusFrame(msgspec.Struct, tag_field="channel", tag="status"):
    """Sent first, and when the state changes."""

    data: list[Status]


class Heartbeat(msgspec.Struct, tag_field="channel", tag="heartbeat"):
    """Sent each second in which nothing else is."""


class Feed(msgspec.Struct):
    """What an acknowledgement is about."""

    symbol: str


class Reply(msgspec.Struct):
    """The answer to a request, one for each symbol of it; or to a ping; or only an error."""

    method: Literal["subscribe", "unsubscribe", "pong"] | None = None
    success: bool | None = None
    req_id: int | None = None
    result: Feed | None = None
    error: str | None = None
    symbol: str | None = None


FRAMES = msgspec.json.Decoder(TradeFrame | BookFrame | OhlcFrame | StatusFrame | Heartbeat)
REPLIES = msgspec.json.Decoder(Reply)
HEAD = msgspec.json.Decoder(Head)
PAIRS = msgspec.json.Decoder(Result[Pair])
PAGES = msgspec.json.Decoder(Result[msgspec.Raw])
PAST = msgspec.json.Decoder(list[PastTrade], strict=False)
LAST = msgspec.json.Decoder(Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,19}$")])
BOOKS = msgspec.json.Decoder(Result[Sides], strict=False)

# https://support.kraken.com/articles/360001206766: what Kraken calls otherwise than the world
ALIASES = {"XBT": "BTC", "XDG": "DOGE"}
# what is traded in these states, https://docs.kraken.com/api/docs/rest-api/get-tradable-asset-pairs
TRADED = frozenset({"online", "limit_only", "reduce_only"})
LIVE_DEPTHS = (10, 25, 100, 500, 1_000)
_TIME = re.compile(rb"(\d{1,12})(?:\.(\d{1,20}))?")
# A float holds fifteen digits; a longer price or amount cannot be printed again as it came.
EXACT = 10**15


class Kraken(Exchange, TradesHistory, Depth, Live):
    """Kraken spot: the 720 newest candles, flat ones where nothing was traded; all trades."""

    name = "kraken"
    title = "Kraken"
    docs = "https://docs.kraken.com/api/docs/guides/spot-rest-intro"
    rest_url = "https://api.kraken.com"
    # About one public request a second, https://support.kraken.com/articles/206548367
    limits = Limits(weight=1, seconds=1, burst=1, page=720)
    # Not its weeks, which open on Thursdays, nor its 15 days: those are built from days.
    spans: ClassVar[Mapping[int, str]] = {m * 60: str(m) for m in (1, 5, 15, 30, 60, 240, 1_440)}
    gapless = True
    candles_depth = 720
    fills_empty = True
    candle_columns = frozenset({"trades"})
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    contiguous = False  # ids count up, but nothing says that they do so without a hole
    reach = None
    trades_page = 1_000
    trades_weight = 1.0
    depths = (10, 25, 100, 500)

    ws_url = "wss://ws.kraken.com"
    # 150 attempts in ten minutes, and a minute without a message ends a connection:
    # https://docs.kraken.com/api/docs/guides/spot-ws-intro. The other two are not documented.
    live_limits = LiveLimits(100, 5, seconds=1, connects=150, connect_seconds=600, ping=30)
    live_spans = frozenset(spans)
    checksum_depth = 10

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for; warnings, which begin with W, stand for nothing."""
        if answer.status != 200:
            raise _http_error(answer)
        if answer.body.startswith(b'{"error":[],'):
            return
        errors = [text for text in decode(HEAD, answer.body).error if not text.startswith("W")]
        if errors:
            raise _error(errors, answer)

    def instruments_requests(self) -> list[Request]:
        """All pairs, without a listing date."""
        return [Request("/0/public/AssetPairs")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Pairs whose codes our names can hold: not those of the dark pool, no tokenized stocks."""
        pairs = decode(PAIRS, answer.body).result.values()
        lit = [_instrument(pair) for pair in pairs if not pair.altname.endswith(".d")]
        return Listed([one for one in lit if nameable(one.symbol.base, one.symbol.quote)])

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """`since` is a second earlier: whether it is inclusive is not documented."""
        params = {"pair": instrument.name, "interval": self.spans[span]}
        return Request("/0/public/OHLC", params | {"since": str(window.start // SECOND - 1)})

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The first trade: candles do not reach back to it."""
        return _since(instrument, 0, 1)

    def first_candle(self, answer: Answer, instrument: Instrument, span: int) -> int | None:
        """When the candle of the first trade opens."""
        rows, size = _past(answer)[0], span * SECOND
        return _micro(rows[0][2]) // size * size if rows else None

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The running candle is always the last one."""
        return Request("/0/public/OHLC", {"pair": instrument.name, "interval": self.spans[span]})

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows of open time in seconds, open, high, low, close, average price, volume, trades; the
        running candle is the last one. The average has too few digits to make a sum of it."""
        times, o, h, low, c, _, volume, trades = number_rows(_page(answer)[0], 8)
        return Candles(whole(times, SECOND), o, h, low, c, volume, trades=whole(trades))

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """`since` is in nanoseconds, one earlier than wanted: it is exclusive (unverified)."""
        # a number of fewer digits, up to the year 2001, would be one of seconds
        return _since(instrument, time * 1_000 - 1 if time > 10**15 else 0, self.trades_page)

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """A page that is not full is the newest one. `last` is the time of its last trade.

        The next page begins a nanosecond before it, since more trades may share that time; only
        where a whole page does is `last` taken as it is.
        """
        rows, last = _past(answer)
        trades = [
            Trade(_micro(time), None, str(number), price, amount, side == "b")
            for price, amount, time, side, _, _, number in rows
        ]
        if len(rows) < self.trades_page:
            again = self.trades_request(instrument, trades[-1].time) if trades else None
            return TradesPage(trades, None, again)
        since = int(request.params["since"])
        if last <= since:
            raise BadAnswer(f"Kraken: a page of trades since {since} that ends at {last}")
        return TradesPage(trades, _since(instrument, max(last - 1, since + 1), self.trades_page))

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """Any number of levels up to 500."""
        return Request("/0/public/Depth", {"pair": instrument.name, "count": str(depth)})

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """Each level has a time, the book none."""
        books = list(decode(BOOKS, answer.body).result.values())
        if len(books) != 1:
            raise BadAnswer(f"Kraken: {len(books)} books in an answer")
        bids, asks = ([one[:2] for one in side] for side in (books[0].bids, books[0].asks))
        return Book(bids, asks, None, None)

    def live_path(self, subscription: Subscription) -> str:
        """Version 2. A connection takes one span of candles a market, so that each has its own."""
        own = subscription.channel is Channel.OHLC and subscription.span != 60
        return f"/v2?interval={subscription.span // 60}" if own else "/v2"

    def session(self) -> "KrakenSession":
        """The protocol of a new connection."""
        return KrakenSession()


class KrakenSession(Session):
    """Requests name a channel and markets; each market of one is acknowledged on its own.

    Books are not numbered: every message has the checksum of the best ten levels of each side, as
    the book is afterwards, cut to the depth that is subscribed.
    """

    def __init__(self) -> None:
        self._markets: dict[str, Instrument] = {}
        self._depths: dict[str, int] = {}
        self._asked: dict[int, dict[str, Subscription]] = {}
        self._running: dict[tuple[str, int], Bar] = {}
        self._inexact: set[str] = set()
        self._offline = False

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """A message for each channel and its options."""
        anew = {(one.instrument.name, one.span) for one in subscriptions}
        self._running = {key: bar for key, bar in self._running.items() if key not in anew}
        for one in subscriptions:
            self._markets[str(one.instrument.symbol)] = one.instrument
            if one.channel is Channel.BOOK:
                self._depths[str(one.instrument.symbol)] = _depth(one)
        return self._messages("subscribe", subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """The same, with the same options."""
        return self._messages("unsubscribe", subscriptions)

    def ping(self) -> bytes:
        """Any message keeps the connection."""
        return b'{"method":"ping"}'

    def read(self, frame: Frame, inbox: Inbox) -> None:
        """Data of a channel, or the answer to a request."""
        try:
            message = decode(FRAMES, frame.payload)
        except BadAnswer:
            if b'"method"' not in frame.payload and b'"error"' not in frame.payload:
                raise
            self._reply(decode(REPLIES, frame.payload), inbox)
            return
        match message:
            case TradeFrame():
                self._trades(message, frame, inbox)
            case BookFrame():
                for name, change in [self._change(message, one, frame) for one in message.data]:
                    inbox.books[name].append(change)
            case OhlcFrame():
                self._candles(message.data, frame, inbox)
            case StatusFrame():
                self._status([one.system for one in message.data], inbox)

    def checksum(self, instrument: Instrument, bids: Levels, asks: Levels) -> int:
        """CRC32 of prices and amounts in all decimals of the pair, without point and leading zeros,
        asks first: https://docs.kraken.com/api/docs/guides/spot-ws-book-v2"""
        price, amount = _scales(instrument)
        best = [*asks[:10], *bids[:10]]
        return crc32("".join(f"{round(p * price)}{round(q * amount)}" for p, q in best).encode())

    def _messages(self, method: str, subscriptions: Sequence[Subscription]) -> list[bytes]:
        messages = []
        for (channel, *option), group in groupby(sorted(subscriptions, key=_options), _options):
            wanted = {str(one.instrument.symbol): one for one in group}
            params = {"channel": channel, "symbol": list(wanted)} | dict([option] if option else [])
            if method == "subscribe":
                params["snapshot"] = channel != "trade"
            number = len(self._asked) + 1
            self._asked[number] = wanted
            message = {"method": method, "params": params, "req_id": number}
            messages.append(msgspec.json.encode(message))
        return messages

    def _market(self, symbol: str) -> Instrument:
        if symbol not in self._markets:
            raise BadAnswer(f"Kraken: data of {symbol}, which was not asked for")
        return self._markets[symbol]

    def _trades(self, of: TradeFrame, frame: Frame, inbox: Inbox) -> None:
        """Those of a snapshot were made before the subscription."""
        named = [(self._market(trade.symbol).name, trade) for trade in of.data]
        for name, trade in named if of.type == "update" else []:
            time, number, buy = microseconds(trade.timestamp), trade.trade_id, trade.side == "buy"
            row = Trade(time, frame.received, str(number), trade.price, trade.qty, buy)
            inbox.trades[name].append(row)

    def _change(self, of: BookFrame, book: LiveBook, frame: Frame) -> tuple[str, BookChange]:
        market, depth = self._market(book.symbol), self._depths.get(book.symbol)
        if depth is None:
            raise BadAnswer(f"Kraken: a book of {book.symbol}, which was not asked for")
        bids, asks = ([(one.price, one.qty) for one in side] for side in (book.bids, book.asks))
        time = None if book.timestamp is None else microseconds(book.timestamp)
        checksum = book.checksum if self._exact(market, [*bids, *asks]) else None
        new = of.type == "snapshot"
        row = BookChange(new, bids, asks, frame.received, time, checksum=checksum, keep=depth)
        return market.name, row

    def _exact(self, market: Instrument, levels: Levels) -> bool:
        """Whether a checksum can be had: not once a number came that no float holds."""
        price, amount = _scales(market)
        if any(p * price >= EXACT or q * amount >= EXACT for p, q in levels):
            self._inexact.add(market.name)
        return market.name not in self._inexact

    def _candles(self, bars: list[Bar], frame: Frame, inbox: Inbox) -> None:
        """A candle is closed once a later one of its market is there."""
        named = [(self._market(bar.symbol).name, bar) for bar in bars]
        if any(bar.interval * 60 not in Kraken.spans for bar in bars):
            raise BadAnswer("Kraken: a candle of a span that was not asked for")
        for name, bar in named:
            key = (name, bar.interval * 60)
            known = self._running.get(key) or bar
            closed, running = sorted((known, bar), key=lambda one: one.interval_begin)
            if closed.interval_begin < running.interval_begin:
                inbox.candles[key].append(_candle(closed, frame))
            self._running[key] = running

    def _status(self, systems: list[str], inbox: Inbox) -> None:
        """After maintenance all feeds begin anew."""
        inbox.notices += [f"Kraken: {system}" for system in systems if system != "online"]
        for system in systems:
            if self._offline and system == "online":
                inbox.reconnect = "Kraken is online again"
            self._offline = system != "online"

    def _reply(self, reply: Reply, inbox: Inbox) -> None:
        if reply.method == "pong":
            return None
        if reply.method is None and reply.error is not None:
            return inbox.notices.append(f"Kraken: {reply.error}")
        asked = self._asked.get(reply.req_id or 0)
        told = reply.result if reply.success else reply.error
        if asked is None or None in (reply.method, reply.success, told):
            raise BadAnswer(f"Kraken: no answer to anything: {reply}")
        if reply.result:
            settled = [asked.pop(one) for one in [reply.result.symbol] if one in asked]
        else:  # as in "Currency pair not supported XBT/USD"; one that names none is about all
            named = [one for one in asked if one in (reply.symbol, *str(reply.error).split())]
            settled = [asked.pop(one) for one in named or list(asked)]
        if reply.method == "subscribe" and reply.success:
            inbox.accepted += settled
        elif reply.method == "subscribe":
            inbox.refused += [(one, str(reply.error)) for one in settled]
        return None


def _options(subscription: Subscription) -> tuple[Any, ...]:
    """The channel of a feed, and its option with the value."""
    match subscription.channel:
        case Channel.TRADES:
            return ("trade",)
        case Channel.BOOK:
            return "book", "depth", _depth(subscription)
        case Channel.OHLC:
            return "ohlc", "interval", subscription.span // 60
    raise ValueError(f"Kraken has no feed of {subscription.channel}")


def _depth(subscription: Subscription) -> int:
    """The smallest depth that is deep enough."""
    return next((one for one in LIVE_DEPTHS if 0 < subscription.depth <= one), LIVE_DEPTHS[-1])


def _scales(instrument: Instrument) -> tuple[int, int]:
    """What makes integers of prices and amounts."""
    if instrument.price_digits is None or instrument.amount_digits is None:
        raise ValueError(f"{instrument.symbol}: the list of Kraken's markets is to be asked again")
    return int(10**instrument.price_digits), int(10**instrument.amount_digits)


def _candle(bar: Bar, frame: Frame) -> LiveCandle:
    time, none = microseconds(bar.interval_begin), None
    prices = (bar.open, bar.high, bar.low, bar.close)
    return LiveCandle(time, *prices, bar.volume, none, bar.trades, none, none, frame.received)


def _instrument(pair: Pair) -> Instrument:
    base, slash, quote = (pair.wsname or "").partition("/")
    if not slash:
        raise BadAnswer(f"Kraken: {pair.altname} without a name of its two codes")
    codes = {base: base, quote: quote} | ALIASES
    symbol = Symbol(codes[base], codes[quote])
    traded, price, amount = pair.status in TRADED, pair.pair_decimals, pair.lot_decimals
    return Instrument(symbol, pair.altname, traded, price_digits=price, amount_digits=amount)


def _since(instrument: Instrument, nanoseconds: int, count: int) -> Request:
    params = {"pair": instrument.name, "since": str(nanoseconds), "count": str(count)}
    return Request("/0/public/Trades", params)


def _past(answer: Answer) -> tuple[list[PastTrade], int]:
    rows, last = _page(answer)
    return decode(PAST, rows), int(decode(LAST, last))


def _page(answer: Answer) -> tuple[bytes, bytes]:
    """The rows and `last` of an answer about one pair."""
    result = decode(PAGES, answer.body).result
    pairs = [name for name in result if name != "last"]
    if len(pairs) != 1 or "last" not in result:
        raise BadAnswer(f"Kraken: an answer with {sorted(result)} where a pair and 'last' belong")
    return bytes(result[pairs[0]]), bytes(result["last"])


def _micro(text: msgspec.Raw) -> int:
    """Seconds with a fraction as microseconds, cut: a float would lose digits."""
    found = _TIME.fullmatch(bytes(text))
    if not found:
        raise BadAnswer(f"Kraken: {bytes(text)!r} is no time")
    return int(found[1]) * SECOND + int((found[2] or b"").ljust(6, b"0")[:6])


def _http_error(answer: Answer) -> ExchangeError:
    """Other statuses than 200 are from Cloudflare, which stands before the exchange."""
    text = f"Kraken: HTTP {answer.status}: {answer.quote}"
    if answer.status == 429:
        return RateLimited(text, retry_after(answer))
    if answer.status in (403, 451):
        return Blocked(f"{text}. Set a proxy, or another rest_url, under exchanges.kraken")
    return Unavailable(text) if answer.status >= 500 else Rejected(text)


def _error(errors: list[str], answer: Answer) -> ExchangeError:
    """https://docs.kraken.com/api/docs/guides/spot-errors: severity, category, text."""
    text = f"Kraken: {', '.join(errors)}"
    throttled = re.search(r"Throttled: (\d{10})\b", text)
    if throttled:
        return RateLimited(text, max(0.0, int(throttled[1]) - answer.time / SECOND))
    if re.search(r"Rate limit exceeded|Too many requests|Temporary lockout", text):
        return RateLimited(text, retry_after(answer))
    if re.search(r"EQuery:(Unknown|Invalid) asset", text):
        return UnknownSymbol(text)
    return Unavailable(text) if re.search("EService|Internal error", text) else Rejected(text)
