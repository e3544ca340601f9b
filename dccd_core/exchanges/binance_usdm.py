"""Binance USD-M futures. https://developers.binance.com/docs/derivatives/usds-margined-futures"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
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


class PastTrade(msgspec.Struct, gc=False):
    """One row of aggTrades. The maker bought: the taker sold."""

    id: Whole = msgspec.field(name="a")
    price: Number = msgspec.field(name="p")
    amount: Number = msgspec.field(name="q")
    time: Whole = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")


class DepthAnswer(msgspec.Struct):
    """An order book, best levels first."""

    last: Whole = msgspec.field(name="lastUpdateId")
    time: Whole = msgspec.field(name="E")
    bids: Sides
    asks: Sides


class TradeEvent(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    """One aggregate of a stream. There is a stream of single trades too, but it is not documented,
    and past ones need a key."""

    symbol: str = msgspec.field(name="s")
    id: Whole = msgspec.field(name="a")
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
    """Changes of a book since update `previous`: amounts as they are now. Update ids are shared by
    all markets, so that the first one of an event does not follow the last one before it."""

    symbol: str = msgspec.field(name="s")
    time: Whole = msgspec.field(name="E")
    previous: Whole = msgspec.field(name="pu")
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
DEPTH = msgspec.json.Decoder(DepthAnswer, strict=False)
EVENTS = msgspec.json.Decoder(Event, strict=False)
REPLIES = msgspec.json.Decoder(Reply)
# what a book of so many levels costs
DEPTH_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1_000, 20))
# A message of 4,096 bytes or more is refused; 100 names of streams are 3,500 at most.
NAMES = 100
# what a request for so many candles costs: below 100, below 500, up to 1,000, and beyond
WEIGHTS = ((100, 1), (500, 2), (1_001, 5), (1_501, 10))
# disconnected, time-out, overloaded, shutting down; they come with several HTTP statuses
BROKEN = ("-1001 ", "-1007 ", "-1008 ", "-1016 ")


class BinanceUsdm(Exchange, TradesHistory, Depth, Live):
    """Binance USD-M: candles ascending, both bounds inclusive on the open time, in milliseconds.

    Trades are aggregates: of one taker's order, at one price, within 100 ms.
    """

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

    contiguous = True
    # "not older than one year"; a day of it is kept back for the time that a walk takes
    reach = 364 * DAY
    trades_page = 1_000
    trades_weight = 20.0
    depths = (5, 10, 20, 50, 100, 500, 1_000)

    ws_url = "wss://fstream.binance.com"
    # Ten messages a second may come in, of which one is left for the answer to a ping. The limit
    # of connections is that of spot: none is documented here.
    live_limits = LiveLimits(
        streams=1_024, messages=9, seconds=1, connects=300, connect_seconds=300, lifetime=DAY
    )
    live_spans, live_gapless = frozenset(spans), True
    book_from_rest = True

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for. Errors carry {"code", "msg"} with HTTP 4XX and 5XX."""
        if answer.status == 200:
            return
        text = _error_text(answer)
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
        """Rows of open time, open, high, low, close, volume, close time, quote volume, trades,
        taker buy base, taker buy quote and a 0; the running candle may be the last one."""
        columns = number_rows(answer.body, 12)
        times, o, h, low, c, volume, ends, quote, counts, taker, taker_quote, _ = columns
        opened, closed = whole(times, 1_000), whole(ends, 1_000)
        if (closed - opened != span * SECOND - 1_000).any():
            raise BadAnswer(f"Binance USD-M: a candle that is not {span} s long")
        trades = whole(counts)
        return Candles(opened, o, h, low, c, volume, quote, trades, taker, taker_quote)

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """No endTime: with both they must be within an hour."""
        return _aggregates(instrument, {"startTime": str(max(time, 0) // 1_000)})

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """A page that is not full is the newest one."""
        rows = decode(PAST, answer.body)
        ids = [int(request.params["fromId"]) - 1] if "fromId" in request.params else []
        ids += [row.id for row in rows]
        if any(one >= two for one, two in pairwise(ids)):
            raise BadAnswer("Binance USD-M: trades that are not in order, or not those asked for")
        trades = [
            Trade(
                row.time * 1_000, None, str(row.id), row.price, row.amount, not row.buyer_is_maker
            )
            for row in rows
        ]
        full = len(rows) >= self.trades_page
        after = {"fromId": str(ids[-1] + 1)} if full else {}
        return TradesPage(trades, _aggregates(instrument, after) if full else None)

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """Only these numbers of levels are served."""
        weight = next(weight for most, weight in DEPTH_WEIGHTS if depth <= most)
        params = {"symbol": instrument.name, "limit": str(depth)}
        return Request("/fapi/v1/depth", params, weight)

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """Best levels first, with the time of the message."""
        found = decode(DEPTH, answer.body)
        return Book(found.bids, found.asks, found.last, found.time * 1_000)

    def live_path(self, subscription: Subscription) -> str:
        """Books are served apart from the rest; elsewhere they are silently missing."""
        book = subscription.channel in (Channel.BOOK, Channel.BOOK_DELTAS)
        return "/public/stream" if book else "/market/stream"

    def session(self) -> "BinanceUsdmSession":
        """The protocol of a new connection."""
        return BinanceUsdmSession()


class BinanceUsdmSession(Session):
    """Feeds are streams named as btcusdt@aggTrade; requests are answered by their id.

    A change holds all that happened to a book after update pu up to u: those are its numbers here,
    since U, the first one that is documented, may be far above pu.
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
        match event:
            case TradeEvent():
                inbox.trades[event.symbol].append(_trade(event, frame.received))
            case DepthEvent():
                inbox.books[event.symbol].append(_change(event, frame.received))
            case KlineEvent():
                _candle(event, frame.received, inbox)
            case Shutdown():
                inbox.reconnect = "Binance USD-M shuts this server down"
        return None

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
            raise BadAnswer("Binance USD-M: a message of no known kind")
        if reply.id is None and reason is not None:
            inbox.notices.append(f"Binance USD-M: {reason}")
        elif reply.id is None or reply.id not in self._asked:
            raise BadAnswer(f"Binance USD-M: an answer to message {reply.id}, which was not sent")
        elif reason is None:
            inbox.accepted += self._asked.pop(reply.id)
        else:
            inbox.refused += [(one, reason) for one in self._asked.pop(reply.id)]


SPANS = {interval: span for span, interval in BinanceUsdm.spans.items()}


def _stream(subscription: Subscription) -> str:
    """The stream of a feed. Books come every 100 ms, whatever their depth."""
    market = subscription.instrument.name.lower()
    match subscription.channel:
        case Channel.TRADES:
            return f"{market}@aggTrade"
        case Channel.BOOK:
            return f"{market}@depth@100ms"
        case Channel.OHLC:
            return f"{market}@kline_{BinanceUsdm.spans[subscription.span]}"
    raise ValueError(f"Binance USD-M has no stream of {subscription.channel}")


def _trade(event: TradeEvent, received: int) -> Trade:
    time, buy = event.time * 1_000, not event.buyer_is_maker
    return Trade(time, received, str(event.id), event.price, event.amount, buy)


def _change(event: DepthEvent, received: int) -> BookChange:
    if event.last < event.previous:
        raise BadAnswer(f"Binance USD-M: changes after {event.previous} up to {event.last}")
    return BookChange(
        snapshot=False,
        bids=event.bids,
        asks=event.asks,
        received=received,
        time=event.time * 1_000,
        first=event.previous + 1,
        last=event.last,
        previous=event.previous,
    )


def _candle(event: KlineEvent, received: int, inbox: Inbox) -> None:
    bar, span = event.bar, SPANS.get(event.bar.interval)
    if span is None or bar.end - bar.start != span * 1_000 - 1:
        raise BadAnswer(f"Binance USD-M: a candle of {bar.interval!r} that is not so long")
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


def _aggregates(instrument: Instrument, bound: dict[str, str]) -> Request:
    params = {"symbol": instrument.name, "limit": "1000"} | bound
    return Request("/fapi/v1/aggTrades", params, BinanceUsdm.trades_weight)


def _instrument(contract: Contract) -> Instrument:
    """A perpetual has its pair's name, BTCUSDT; a dated contract more, BTCUSDT_260925. The type
    does not tell: it is empty where trading has not begun or has ended."""
    delivery = datetime.fromtimestamp(contract.delivery_date / 1e3, UTC)
    kind = "PERP" if contract.symbol == contract.pair else f"{delivery:%y%m%d}"
    symbol = Symbol(contract.base_asset, contract.quote_asset, kind)
    return Instrument(symbol, contract.symbol, contract.status == "TRADING")


def _error_text(answer: Answer) -> str:
    try:
        error = ERROR.decode(answer.body)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return answer.quote
    return f"{error.code} {error.msg}"


def _ban(answer: Answer) -> float | None:
    """Retry-After, else the moment in the message: "IP banned until 1573543860000"."""
    until, wait = re.search(rb"banned until (\d{13})", answer.body), retry_after(answer)
    return wait if wait is not None or not until else int(until[1]) / 1e3 - answer.time / 1e6
