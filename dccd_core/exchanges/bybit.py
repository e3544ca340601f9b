"""Bybit v5: spot and linear contracts. https://bybit-exchange.github.io/docs/v5/market/kline"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import msgspec
import numpy as np

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Banned,
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
from dccd_core.exchanges.trades import Book, Depth, OutOfReach, Trade, TradesHistory, TradesPage
from dccd_core.models import DAY, SECOND, WEEK, Channel, Symbol, Window, iso, nameable

T = TypeVar("T")
HOUR, PAGE = 3_600, 1_000
INSTRUMENTS = "/v5/market/instruments-info"
# A contract that is listed again has one Symbol with its closed namesake: the last one read stays,
# so the statuses are asked one after the other, what trades at the end.
STATUSES = ("Closed", "Delivering", "PreLaunch", "Trading")
BAN = 600.0  # seconds of silence for who has passed the limit of an address

# up to the year 9999, so that a date can be made of it
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
# "NaN" and "inf" are no prices
Positive = Annotated[float, msgspec.Meta(gt=0, lt=1e300)]
Amount = Annotated[float, msgspec.Meta(ge=0, lt=1e300)]
# open time, open, high, low, close, volume in base units, turnover in quote units: all text
Kline = tuple[Milliseconds, float, float, float, float, float, float]


class Envelope(msgspec.Struct, rename="camel"):
    """What every answer begins with; errors come with HTTP 200 as well."""

    ret_code: int
    ret_msg: str


class Klines(msgspec.Struct):
    """Candles, newest first."""

    category: str
    symbol: str
    list: list[Kline]


class Pair(msgspec.Struct, rename="camel"):
    """One spot market: there is no listing date in it."""

    symbol: str
    base_coin: str
    quote_coin: str
    status: str


class Contract(Pair, rename="camel"):
    """One linear contract; `delivery_time` of a perpetual is 0, or when it was delisted."""

    contract_type: str
    launch_time: Milliseconds
    delivery_time: Milliseconds


class Pairs(msgspec.Struct):
    list: list[Pair]


class Contracts(msgspec.Struct, rename="camel"):
    next_page_cursor: str
    list: list[Contract]


class Result(msgspec.Struct, Generic[T]):
    result: T


class PastTrade(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """A trade by REST; the side is the taker's."""

    exec_id: str
    price: Positive
    size: Positive
    side: Literal["Buy", "Sell"]
    time: Milliseconds


class PastTrades(msgspec.Struct):
    """Trades, newest first."""

    list: list[PastTrade]


class Levels(msgspec.Struct, frozen=True):
    """A book or its changes: price and amount, bids and asks; `u` numbers the updates."""

    s: str
    b: list[tuple[Positive, Amount]]
    a: list[tuple[Positive, Amount]]
    u: int


class RestLevels(Levels, frozen=True):
    """A book by REST; `cts` is the time of the matching engine."""

    cts: Milliseconds


class Topic(msgspec.Struct):
    """What every push has."""

    topic: str


class LiveTrade(msgspec.Struct, frozen=True, gc=False):
    """A trade of publicTrade: its time, taker side, amount, price and id."""

    T: Milliseconds
    S: Literal["Buy", "Sell"]
    v: Positive
    p: Positive
    i: str


class TradesPush(msgspec.Struct):
    """Up to 1,024 trades, oldest first."""

    data: list[LiveTrade]


class BookPush(msgspec.Struct):
    """A book or its changes."""

    type: Literal["snapshot", "delta"]
    cts: Milliseconds
    data: Levels


class Bar(msgspec.Struct, frozen=True, gc=False):
    """A candle; it does not change any more once `confirm` is true."""

    start: Milliseconds
    open: Positive
    high: Positive
    low: Positive
    close: Positive
    volume: Amount
    turnover: Amount
    confirm: bool


class BarsPush(msgspec.Struct):
    """Candles of one span."""

    data: list[Bar]


class Response(msgspec.Struct):
    """The answer to a subscription or a ping."""

    success: bool
    ret_msg: str
    op: str
    req_id: str = ""


@dataclass(frozen=True, slots=True)
class Since(Request):
    """A request for the newest trades that must reach back to a time in microseconds."""

    since: int = 0


ENVELOPE = msgspec.json.Decoder(Envelope)
KLINES = msgspec.json.Decoder(Result[Klines], strict=False)
PAIRS = msgspec.json.Decoder(Result[Pairs])
CONTRACTS = msgspec.json.Decoder(Result[Contracts], strict=False)
PAST_TRADES = msgspec.json.Decoder(Result[PastTrades], strict=False)
BOOK = msgspec.json.Decoder(Result[RestLevels], strict=False)
TOPIC = msgspec.json.Decoder(Topic)
TRADES_PUSH = msgspec.json.Decoder(TradesPush, strict=False)
BOOK_PUSH = msgspec.json.Decoder(BookPush, strict=False)
BARS_PUSH = msgspec.json.Decoder(BarsPush, strict=False)
RESPONSE = msgspec.json.Decoder(Response)

# https://bybit-exchange.github.io/docs/v5/error
LIMITED, BANNED, PARAMETER = (429, 10006, 10018, 10429), 10009, 10001
PLAIN = {5004: Unavailable, 10000: Unavailable, 10016: Unavailable, 10024: Blocked}


# The newest trades are all there is by REST, and so many of them.
NEWEST = {"spot": 60, "linear": 1_000}
BOOK_DEPTHS = (1, 50, 200, 1_000)


class Bybit(Exchange, TradesHistory, Depth, Live):
    """Bybit: candles newest first, both bounds inclusive on the open time, in milliseconds.

    BTCUSDT is a spot pair and a perpetual: so `Instrument.name` has the category, "linear BTCUSDT".
    """

    name = "bybit"
    title = "Bybit"
    docs = "https://bybit-exchange.github.io/docs/v5/intro"
    rest_url = "https://api.bybit.com"
    # 600 in 5 seconds and address. A tenth is kept as burst, so that no 5 seconds see more.
    limits = Limits(weight=540, seconds=5, burst=60, page=PAGE)
    spans: ClassVar[Mapping[int, str]] = {
        60: "1", 180: "3", 300: "5", 900: "15", 1_800: "30", 3_600: "60", 7_200: "120",
        14_400: "240", 21_600: "360", 43_200: "720", 86_400: "D", 604_800: "W",
    }  # fmt: skip
    gapless = True
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    contiguous = False
    # The newest trades are those of seconds in a busy market, of hours in a quiet one: `trades`
    # refuses what they do not reach.
    reach = HOUR
    trades_page = NEWEST["linear"]
    trades_weight = 1.0
    depths = BOOK_DEPTHS

    ws_url = "wss://stream.bybit.com"
    # https://bybit-exchange.github.io/docs/v5/ws/connect: 500 connections in 5 minutes, 21,000
    # characters of topics a connection (one has up to 40), ping each 20 seconds. How many messages
    # may be sent is not said.
    live_limits = LiveLimits(
        streams=500, messages=50, seconds=1, connects=500, connect_seconds=300, ping=20
    )
    live_spans, live_gapless = frozenset(spans), True

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for: by its HTTP status, or by retCode in HTTP 200."""
        text = "" if answer.status == 200 else f"Bybit: HTTP {answer.status}: {answer.quote}"
        if answer.status == 403 and b"too frequent" in answer.body:
            raise Banned(text, BAN)
        if answer.status in (403, 451):
            raise Blocked(f"{text}. Set a proxy, or another rest_url, under exchanges.bybit")
        if answer.status == 429:
            raise RateLimited(text, _wait(answer))
        if answer.status != 200:
            raise Unavailable(text) if answer.status >= 500 else Rejected(text)
        head = decode(ENVELOPE, answer.body)
        if head.ret_code:
            raise _refusal(answer, head)

    def instruments_requests(self) -> list[Request]:
        """Spot, which is one list, and linear contracts, which are pages of each status."""
        return [Request(INSTRUMENTS, {"category": "spot"}), _contracts(STATUSES[0])]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Markets of one page; after the last page of a status comes the next status."""
        if request.params["category"] == "spot":
            pairs = decode(PAIRS, answer.body).result.list
            return Listed([_spot(p) for p in pairs if nameable(p.base_coin, p.quote_coin)])
        page, status = decode(CONTRACTS, answer.body).result, request.params["status"]
        found = [_linear(c) for c in page.list if _kind(c) and nameable(c.base_coin, c.quote_coin)]
        if page.next_page_cursor:
            return Listed(found, _contracts(status, page.next_page_cursor))
        following = [_contracts(b) for a, b in pairwise(STATUSES) if a == status]
        return Listed(found, *following)

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Candles of a window. Both bounds are sent, and `limit` counts all that open between them:
        which end of a longer range is kept is not documented."""
        count = -(-(window.end - window.start) // (span * SECOND))
        bounds = {"start": str(window.start // 1_000), "end": str(window.end // 1_000 - 1)}
        return self._klines(instrument, span, count, bounds)

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest 1,000 hours: the first of up to five steps, see `first_candle`."""
        return self._klines(instrument, HOUR, PAGE, {})

    def first_candle(
        self, answer: Answer, instrument: Instrument, span: int
    ) -> int | Request | None:
        """The oldest candle, or the next step on the way to it: the newest hours, days, weeks
        until a page is not full, then the hours of its first candle, then the candles of that hour.
        A market in its first hour is listed at its full hour."""
        times = self.candles(answer, instrument, span).time
        if len(times) < 2:
            return int(times[0]) if len(times) else None
        first, step = int(times[0]), int(np.diff(times).min()) // SECOND
        if len(times) == PAGE and step < WEEK:
            return self._klines(instrument, DAY if step < DAY else WEEK, PAGE, {})
        if step <= span:
            return first
        finer = HOUR if step > HOUR else span
        return self.candles_request(instrument, finer, Window(first, first + step * SECOND))

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """Without bounds the newest rows come back."""
        return self._klines(instrument, span, 1, {})

    def _klines(
        self, instrument: Instrument, span: int, limit: int, bounds: dict[str, str]
    ) -> Request:
        category, _, symbol = instrument.name.partition(" ")
        question = {"category": category, "symbol": symbol, "interval": self.spans[span]}
        return Request("/v5/market/kline", question | bounds | {"limit": str(limit)})

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows as documented; the running candle may be the newest one, which comes first."""
        result = decode(KLINES, answer.body).result
        rows = result.list[::-1]
        if rows and f"{result.category} {result.symbol}" != instrument.name:
            raise BadAnswer(f"Bybit: {result.category} {result.symbol}, not {instrument.name}")
        columns = list(zip(*rows, strict=True)) or [()] * 7
        o, h, low, c, volume, turnover = map(floats, columns[1:])
        return Candles(integers(columns[0], 1_000), o, h, low, c, volume, turnover)

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """The newest trades: there is no other question. `trades` judges if they go far enough."""
        category, _, symbol = instrument.name.partition(" ")
        question = {"category": category, "symbol": symbol, "limit": str(NEWEST[category])}
        return Since("/v5/market/recent-trade", question, since=time)

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """Block and RPI trades are among them, as in the stream. OutOfReach where a page is full
        and does not reach back to the time that was asked for."""
        rows = decode(PAST_TRADES, answer.body).result.list[::-1]
        rows.sort(key=lambda row: row.time)
        found = [
            Trade(row.time * 1_000, None, row.exec_id, row.price, row.size, row.side == "Buy")
            for row in rows
        ]
        since = request.since if isinstance(request, Since) else 0
        if len(rows) >= int(request.params["limit"]) and since <= found[0].time:
            raise OutOfReach(
                f"Bybit: the newest {len(rows)} trades of {instrument.symbol} reach back only to "
                f"{iso(found[0].time)}, asked was {iso(since)}, and it serves no older ones",
                found,
            )
        return TradesPage(found, None)

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """The book, numbered as the stream of 1,000 levels is."""
        category, _, symbol = instrument.name.partition(" ")
        question = {"category": category, "symbol": symbol, "limit": str(depth)}
        return Request("/v5/market/orderbook", question)

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """The time is that of the matching engine."""
        found = decode(BOOK, answer.body).result
        if found.s != instrument.name.partition(" ")[2]:
            raise BadAnswer(f"Bybit: the book of {found.s}, not of {instrument.name}")
        return Book(found.b, found.a, found.u, found.cts * 1_000)

    def live_path(self, subscription: Subscription) -> str:
        """Spot and linear are apart."""
        return f"/v5/public/{subscription.instrument.name.partition(' ')[0]}"

    def session(self) -> Session:
        """A connection of either kind."""
        return BybitSession()


class BybitSession(Session):
    """Topics. Each is asked for alone, so that a refusal is of that one only."""

    def __init__(self) -> None:
        self._topics: dict[str, Subscription] = {}
        self._ended: set[str] = set()
        self._asked: dict[str, str] = {}  # topics by the number of their request
        self._requests = 0

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """One request a topic."""
        asked = {_topic(one): one for one in subscriptions}
        self._topics |= asked
        self._ended -= asked.keys()
        return [self._request("subscribe", topic) for topic in asked]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """One request a topic. What is under way when they are sent is not read any more."""
        topics = [_topic(one) for one in subscriptions]
        self._ended |= self._topics.keys() & topics
        self._topics = {name: one for name, one in self._topics.items() if name not in topics}
        return [self._request("unsubscribe", topic) for topic in topics]

    def ping(self) -> bytes:
        """Needed each 20 seconds."""
        return b'{"op":"ping"}'

    def read(self, frame: Frame, inbox: Inbox) -> None:
        """A push of a topic, or an answer to a request."""
        try:
            topic = TOPIC.decode(frame.payload).topic
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            return self._hear(decode(RESPONSE, frame.payload), inbox)
        subscription = self._topics.get(topic)
        if subscription is not None:
            return READERS[subscription.channel](subscription, frame, inbox)
        if topic not in self._ended:
            raise BadAnswer(f"Bybit: {topic} was not asked for")
        return None

    def _request(self, action: str, topic: str) -> bytes:
        self._requests += 1
        number = str(self._requests)
        self._asked[number] = topic
        return msgspec.json.encode({"req_id": number, "op": action, "args": [topic]})

    def _hear(self, response: Response, inbox: Inbox) -> None:
        if response.op in ("ping", "pong"):
            return
        topic = self._asked.get(response.req_id) or self._named(response.ret_msg)
        subscription = self._topics.get(topic or "")
        if topic is None or (response.success and response.op not in ("subscribe", "unsubscribe")):
            raise BadAnswer(f"Bybit: an answer to nothing: {response}")
        if not response.success:
            inbox.notices.append(f"Bybit: {response.op} {topic}: {response.ret_msg}")
        if subscription is None or response.op != "subscribe":
            return
        if response.success:
            inbox.accepted.append(subscription)
        else:
            del self._topics[topic]
            inbox.refused.append((subscription, f"Bybit: {response.ret_msg}"))

    def _named(self, text: str) -> str | None:
        """The topic that a refusal without a number names."""
        return next((topic for topic in self._topics if topic in text), None)


def _topic(subscription: Subscription) -> str:
    symbol = subscription.instrument.name.partition(" ")[2]
    if subscription.channel is Channel.TRADES:
        return f"publicTrade.{symbol}"
    if subscription.channel is Channel.OHLC:
        return f"kline.{Bybit.spans[subscription.span]}.{symbol}"
    wanted = subscription.depth or BOOK_DEPTHS[-1]
    depth = next((depth for depth in BOOK_DEPTHS if depth >= wanted), BOOK_DEPTHS[-1])
    return f"orderbook.{depth}.{symbol}"


def _read_trades(subscription: Subscription, frame: Frame, inbox: Inbox) -> None:
    received = frame.received
    inbox.trades[subscription.instrument.name] += [
        Trade(one.T * 1_000, received, one.i, one.p, one.v, one.S == "Buy")
        for one in decode(TRADES_PUSH, frame.payload).data
    ]


def _read_book(subscription: Subscription, frame: Frame, inbox: Inbox) -> None:
    """Numbers grow by one, as in recorded traffic; 1 is a new book after a restart."""
    push = decode(BOOK_PUSH, frame.payload)
    levels, time = push.data, push.cts * 1_000
    if push.type == "snapshot" or levels.u == 1:
        change = BookChange(True, levels.b, levels.a, frame.received, time, last=levels.u)
    else:
        numbers = (levels.u, levels.u, levels.u - 1)
        change = BookChange(False, levels.b, levels.a, frame.received, time, *numbers)
    inbox.books[subscription.instrument.name].append(change)


def _read_bars(subscription: Subscription, frame: Frame, inbox: Inbox) -> None:
    inbox.candles[subscription.instrument.name, subscription.span] += [
        LiveCandle(
            *(bar.start * 1_000, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.turnover),
            *(None, None, None, frame.received),
        )
        for bar in decode(BARS_PUSH, frame.payload).data
        if bar.confirm
    ]


READERS: dict[Channel, Callable[[Subscription, Frame, Inbox], None]] = {
    Channel.TRADES: _read_trades,
    Channel.BOOK: _read_book,
    Channel.OHLC: _read_bars,
}


def _contracts(status: str, cursor: str = "") -> Request:
    question = {"category": "linear", "status": status, "limit": "1000"}
    return Request(INSTRUMENTS, question | ({"cursor": cursor} if cursor else {}))


def _spot(pair: Pair) -> Instrument:
    symbol = Symbol(pair.base_coin, pair.quote_coin)
    return Instrument(symbol, f"spot {pair.symbol}", pair.status == "Trading")


def _linear(contract: Contract) -> Instrument:
    symbol = Symbol(contract.base_coin, contract.quote_coin, _kind(contract))
    listed, trading = contract.launch_time * 1_000 or None, contract.status == "Trading"
    return Instrument(symbol, f"linear {contract.symbol}", trading, listed)


def _kind(contract: Contract) -> str:
    """PERP, or the day of delivery as YYMMDD; nothing for a type that is not documented."""
    if contract.contract_type == "LinearPerpetual":
        return "PERP"
    if contract.contract_type == "LinearFutures" and contract.delivery_time:
        return datetime.fromtimestamp(contract.delivery_time / 1e3, UTC).strftime("%y%m%d")
    return ""


def _refusal(answer: Answer, head: Envelope) -> ExchangeError:
    """The error of a retCode that is not 0."""
    code, text = head.ret_code, f"Bybit: {head.ret_code} {head.ret_msg}"
    if code in LIMITED:
        return RateLimited(text, _wait(answer))
    if code == BANNED:
        return Banned(text, BAN)
    if code in PLAIN:
        return PLAIN[code](text)
    # "Not supported symbols", "params error: symbol invalid"
    unknown = code == PARAMETER and "symbol" in head.ret_msg.lower()
    return UnknownSymbol(text) if unknown else Rejected(text)


def _wait(answer: Answer) -> float | None:
    """Retry-After, else the seconds until X-Bapi-Limit-Reset-Timestamp (milliseconds)."""
    wait, reset = retry_after(answer), answer.headers.get("x-bapi-limit-reset-timestamp")
    if wait is not None or reset is None or not (reset.isascii() and reset.isdigit()):
        return wait
    return max(0.0, int(reset) / 1e3 - answer.time / SECOND)
