"""Binance spot. https://github.com/binance/binance-spot-api-docs: rest-api.md for what is asked,
web-socket-streams.md for what is streamed."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, ClassVar

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
from dccd_core.exchanges.trades import Book, Depth, Trade, TradesHistory, TradesPage
from dccd_core.models import DAY, SECOND, Channel, Symbol, Window, nameable

# neither NaN nor infinite nor negative
Number = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
# below it milliseconds are microseconds of 64 bits
Whole = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Sides = list[tuple[Number, Number]]


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


class PastTrade(msgspec.Struct, rename="camel", gc=False):
    """One row of historicalTrades. The maker bought: the taker sold."""

    id: Whole
    price: Number
    qty: Number
    time: Whole
    is_buyer_maker: bool


class Aggregate(msgspec.Struct, gc=False):
    """One row of aggTrades: its own id, and the id of the first trade in it, -1 if that is gone."""

    id: Whole = msgspec.field(name="a")
    first: int = msgspec.field(name="f")


class DepthAnswer(msgspec.Struct, rename="camel"):
    """An order book, best levels first."""

    last_update_id: Whole
    bids: Sides
    asks: Sides


class TradeEvent(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    """One trade of a stream."""

    symbol: str = msgspec.field(name="s")
    id: Whole = msgspec.field(name="t")
    price: Number = msgspec.field(name="p")
    amount: Number = msgspec.field(name="q")
    time: Whole = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")


class Bar(msgspec.Struct, gc=False):
    """A candle as it is now; final if `closed`."""

    start: Whole = msgspec.field(name="t")
    end: Whole = msgspec.field(name="T")
    interval: str = msgspec.field(name="i")
    open: Number = msgspec.field(name="o")
    high: Number = msgspec.field(name="h")
    low: Number = msgspec.field(name="l")
    close: Number = msgspec.field(name="c")
    volume: Number = msgspec.field(name="v")
    trades: Whole = msgspec.field(name="n")
    closed: bool = msgspec.field(name="x")
    quote_volume: Number = msgspec.field(name="q")
    taker_volume: Number = msgspec.field(name="V")
    taker_quote_volume: Number = msgspec.field(name="Q")


class KlineEvent(msgspec.Struct, tag_field="e", tag="kline", gc=False):
    """A candle of a stream."""

    symbol: str = msgspec.field(name="s")
    bar: Bar = msgspec.field(name="k")


class DepthEvent(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    """Changes of a book: the update ids from the first to the last, amounts as they are now."""

    symbol: str = msgspec.field(name="s")
    time: Whole = msgspec.field(name="E")
    first: Whole = msgspec.field(name="U")
    last: Whole = msgspec.field(name="u")
    bids: Sides = msgspec.field(name="b")
    asks: Sides = msgspec.field(name="a")


class Shutdown(msgspec.Struct, tag_field="e", tag="serverShutdown"):
    """The server goes down for maintenance; a new connection reaches another."""


class Event(msgspec.Struct, gc=False):
    """The frame of a combined stream; its stream's name says nothing that is not inside."""

    data: TradeEvent | KlineEvent | DepthEvent | Shutdown


class Reply(msgspec.Struct):
    """The answer to a message of ours. A refusal is in `error`, in older servers beside the id;
    of a message that the server could not read there is no id."""

    id: int | None = None
    result: msgspec.UnsetType | None = msgspec.UNSET
    error: Error | msgspec.UnsetType = msgspec.UNSET
    code: int | msgspec.UnsetType = msgspec.UNSET
    msg: str | msgspec.UnsetType = msgspec.UNSET

    def refusal(self) -> str | None:
        """The reason of a refusal; None if it is none."""
        if isinstance(self.error, Error):
            return f"{self.error.code} {self.error.msg}"
        refused = self.code is not msgspec.UNSET and self.msg is not msgspec.UNSET
        return f"{self.code} {self.msg}" if refused else None


INFO = msgspec.json.Decoder(ExchangeInfo)
ERROR = msgspec.json.Decoder(Error)
PAST = msgspec.json.Decoder(list[PastTrade], strict=False)
AGGREGATES = msgspec.json.Decoder(list[Aggregate])
DEPTH = msgspec.json.Decoder(DepthAnswer, strict=False)
EVENTS = msgspec.json.Decoder(Event, strict=False)
REPLIES = msgspec.json.Decoder(Reply)
AGGREGATES_PATH, PAST_PATH = "/api/v3/aggTrades", "/api/v3/historicalTrades"
# The host of candles has no historicalTrades:
# https://github.com/binance/binance-spot-api-docs/blob/master/faqs/market_data_only.md
TRADES_URL = "https://api.binance.com"
# what a book of so many levels costs
DEPTH_WEIGHTS = ((100, 5), (500, 25), (1_000, 50), (5_000, 250))
# A message of 4,096 bytes or more is refused; 100 names of streams are 3,500 at most.
NAMES = 100
_new_trade = partial(tuple.__new__, Trade)  # half the price of Trade(...)


class Binance(Exchange, TradesHistory, Depth, Live):
    """Binance spot: candles ascending, both bounds inclusive on the open time, in milliseconds.

    Trades are the raw ones, whose ids follow each other without a hole.
    """

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

    contiguous = True
    reach = None
    trades_page = 1_000
    trades_weight = 25.0
    depths = (5, 10, 20, 50, 100, 500, 1_000, 5_000)

    ws_url = "wss://data-stream.binance.vision"
    # Five messages a second may come in, of which one is left for the answer to a ping.
    live_limits = LiveLimits(
        streams=1_024, messages=4, seconds=1, connects=300, connect_seconds=300, lifetime=DAY
    )
    live_spans, live_gapless = frozenset(spans), True
    book_from_rest = True

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for. Errors carry {"code", "msg"} with HTTP 4XX."""
        if answer.status == 200:
            return
        text = _error_text(answer)
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
        """Rows of open time, open, high, low, close, volume, close time, quote volume, trades,
        taker buy base, taker buy quote and a 0; the running candle may be the last one."""
        columns = number_rows(answer.body, 12)
        times, o, h, low, c, volume, ends, quote, counts, taker, taker_quote, _ = columns
        opened, closed = whole(times, 1_000), whole(ends, 1_000)
        if (closed - opened != span * SECOND - 1_000).any():
            raise BadAnswer(f"Binance: a candle that is not {span} s long")
        trades = whole(counts)
        return Candles(opened, o, h, low, c, volume, quote, trades, taker, taker_quote)

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """Past trades are asked for by id only; the first aggregate from a time on tells the id."""
        return _aggregate(instrument, {"startTime": str(max(time, 0) // 1_000)})

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """A page that is not full is the newest one."""
        if request.path == AGGREGATES_PATH:
            return TradesPage([], _after_aggregate(answer, instrument))
        rows = decode(PAST, answer.body)
        ids = [int(request.params["fromId"]) - 1, *(row.id for row in rows)]
        if any(one >= two for one, two in pairwise(ids)):
            raise BadAnswer(f"Binance: trades that are not in order from {ids[0] + 1} on")
        trades = [
            Trade(row.time * 1_000, None, str(row.id), row.price, row.qty, not row.is_buyer_maker)
            for row in rows
        ]
        full = len(rows) >= self.trades_page
        return TradesPage(trades, _past(instrument, ids[-1] + 1) if full else None)

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """Any number of levels up to 5,000."""
        weight = next(weight for most, weight in DEPTH_WEIGHTS if depth <= most)
        params = {"symbol": instrument.name, "limit": str(depth)}
        return Request("/api/v3/depth", params, weight)

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """Best levels first; there is no time in it."""
        found = decode(DEPTH, answer.body)
        return Book(found.bids, found.asks, found.last_update_id, None)

    def live_path(self, subscription: Subscription) -> str:
        """Combined streams: each frame is {"stream", "data"}."""
        return "/stream"

    def session(self) -> "BinanceSession":
        """The protocol of a new connection."""
        return BinanceSession()


class BinanceSession(Session):
    """Feeds are streams named as btcusdt@trade; requests are answered by their id.

    The first change of a book is the one with U <= lastUpdateId + 1 <= u, and each later one has
    U = u + 1 of the one before: so what a change follows is U - 1.
    """

    def __init__(self) -> None:
        self._asked: dict[int, list[Subscription]] = {}
        self._last = 0

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """A hundred streams in a message. A name that does not exist is acknowledged like others
        (unverified), and nothing comes."""
        parts = [subscriptions[i : i + NAMES] for i in range(0, len(subscriptions), NAMES)]
        return [self._message("SUBSCRIBE", part, list(part)) for part in parts]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """The same, with nothing that could be accepted."""
        parts = [subscriptions[i : i + NAMES] for i in range(0, len(subscriptions), NAMES)]
        return [self._message("UNSUBSCRIBE", part, []) for part in parts]

    def read(self, frame: Frame, inbox: Inbox) -> None:
        """An event of a stream, or the answer to a request."""
        try:
            event = decode(EVENTS, frame.payload).data
        except BadAnswer:
            if b'"stream"' in frame.payload:
                raise
            return self._reply(decode(REPLIES, frame.payload), inbox)
        return self._happened(event, frame.received, inbox)

    def read_all(self, frames: Sequence[Frame], inbox: Inbox) -> None:
        """As `read` reads each; trades, of which there are most, at half the price."""
        read, trades = EVENTS.decode, inbox.trades
        for frame in frames:
            payload, received = frame
            try:
                event = read(payload).data
                if type(event) is TradeEvent:
                    trades[event.symbol].append(_trade(event, received))
                else:
                    self._happened(event, received, inbox)
            except (msgspec.MsgspecError, UnicodeDecodeError, BadAnswer):
                super().read_all([frame], inbox)  # an answer, or it tells what is wrong

    def _happened(
        self, event: TradeEvent | KlineEvent | DepthEvent | Shutdown, received: int, inbox: Inbox
    ) -> None:
        match event:
            case TradeEvent():
                inbox.trades[event.symbol].append(_trade(event, received))
            case DepthEvent():
                inbox.books[event.symbol].append(_change(event, received))
            case KlineEvent():
                _candle(event, received, inbox)
            case Shutdown():
                inbox.reconnect = "Binance shuts this server down"

    def _message(
        self, method: str, subscriptions: Sequence[Subscription], awaited: list[Subscription]
    ) -> bytes:
        self._last += 1
        self._asked[self._last] = awaited
        names = [_stream(one) for one in subscriptions]
        return msgspec.json.encode({"method": method, "params": names, "id": self._last})

    def _reply(self, reply: Reply, inbox: Inbox) -> None:
        reason = reply.refusal()
        if reason is None and reply.result is msgspec.UNSET:
            raise BadAnswer("Binance: a message of no known kind")
        if reply.id is None and reason is not None:
            inbox.notices.append(f"Binance: {reason}")
        elif reply.id is None or reply.id not in self._asked:
            raise BadAnswer(f"Binance: an answer to message {reply.id}, which was not sent")
        elif reason is None:
            inbox.accepted += self._asked.pop(reply.id)
        else:
            inbox.refused += [(one, reason) for one in self._asked.pop(reply.id)]


SPANS = {interval: span for span, interval in Binance.spans.items()}


def _stream(subscription: Subscription) -> str:
    """The stream of a feed. Books come every 100 ms, whatever their depth."""
    market = subscription.instrument.name.lower()
    match subscription.channel:
        case Channel.TRADES:
            return f"{market}@trade"
        case Channel.BOOK:
            return f"{market}@depth@100ms"
        case Channel.OHLC:
            return f"{market}@kline_{Binance.spans[subscription.span]}"
    raise ValueError(f"Binance has no stream of {subscription.channel}")


def _trade(event: TradeEvent, received: int) -> Trade:
    time, buy = event.time * 1_000, not event.buyer_is_maker
    return _new_trade((time, received, str(event.id), event.price, event.amount, buy))


def _change(event: DepthEvent, received: int) -> BookChange:
    if event.last < event.first:
        raise BadAnswer(f"Binance: changes from {event.first} to {event.last}")
    return BookChange(
        snapshot=False,
        bids=event.bids,
        asks=event.asks,
        received=received,
        time=event.time * 1_000,
        first=event.first,
        last=event.last,
        previous=event.first - 1,
    )


def _candle(event: KlineEvent, received: int, inbox: Inbox) -> None:
    bar, span = event.bar, SPANS.get(event.bar.interval)
    if span is None or bar.end - bar.start != span * 1_000 - 1:
        raise BadAnswer(f"Binance: a candle of {bar.interval!r} that is not so long")
    if bar.closed:
        inbox.candles[event.symbol, span].append(
            LiveCandle(
                time=bar.start * 1_000,
                open=bar.open,
                high=bar.high,
                low=bar.low,
                close=bar.close,
                volume=bar.volume,
                quote_volume=bar.quote_volume,
                trades=bar.trades,
                taker_buy_volume=bar.taker_volume,
                taker_buy_quote_volume=bar.taker_quote_volume,
                received=received,
            )
        )


def _aggregate(instrument: Instrument, bound: dict[str, str]) -> Request:
    params = {"symbol": instrument.name, "limit": "1"} | bound
    return Request(AGGREGATES_PATH, params, weight=4)


def _past(instrument: Instrument, first: int) -> Request:
    params = {"symbol": instrument.name, "limit": "1000", "fromId": str(first)}
    return Request(PAST_PATH, params, Binance.trades_weight, base=TRADES_URL)


def _after_aggregate(answer: Answer, instrument: Instrument) -> Request | None:
    """Where the raw trades begin; None if there are none from the time on."""
    rows = decode(AGGREGATES, answer.body)
    if len(rows) > 1:
        raise BadAnswer(f"Binance: asked for one aggregate, it answers with {len(rows)}")
    if rows and rows[0].first < 0:
        return _aggregate(instrument, {"fromId": str(rows[0].id + 1)})
    return _past(instrument, rows[0].first) if rows else None


def _error_text(answer: Answer) -> str:
    try:
        error = ERROR.decode(answer.body)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return answer.quote
    return f"{error.code} {error.msg}"


def _ban(answer: Answer) -> float | None:
    """Retry-After, else the moment in the message: "IP banned until 1573543860000"."""
    until: Any = re.search(rb"banned until (\d{13})", answer.body)
    wait = retry_after(answer)
    return wait if wait is not None or not until else int(until[1]) / 1e3 - answer.time / 1e6
