"""Coinbase Exchange. https://docs.cdp.coinbase.com/exchange/introduction/welcome"""

import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    LiveLimits,
    Session,
    Subscription,
)
from dccd_core.exchanges.trades import Book, Depth, Trade, TradesHistory, TradesPage
from dccd_core.models import SECOND, Channel, Symbol, Window, iso, microseconds, nameable

# open time in seconds, LOW, HIGH, open, close, volume: all of them numbers
Row = tuple[int, float, float, float, float, float]

Time = Annotated[datetime, msgspec.Meta(tz=True)]
# neither NaN nor infinite nor negative
Number = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Side = Literal["buy", "sell"]


class Error(msgspec.Struct):
    """The body of a refusal."""

    message: str


class Product(msgspec.Struct):
    """One entry of the product list. What was delisted stays in it; there is no listing date."""

    id: str
    base_currency: str
    quote_currency: str
    status: str
    trading_disabled: bool


class Tick(msgspec.Struct):
    """One trade, read for its time only."""

    time: datetime
    price: float
    size: float


class PastTrade(msgspec.Struct, gc=False):
    """One trade by REST; `side` is the MAKER's."""

    trade_id: Whole
    side: Side
    price: Number
    size: Number
    time: Time


class BookAnswer(msgspec.Struct):
    """An order book: price, size, number of orders."""

    bids: list[tuple[Number, Number, int]]
    asks: list[tuple[Number, Number, int]]
    sequence: Whole
    time: Time | None = None


class Match(PastTrade, tag_field="type", tag="match", gc=False):
    """One trade of a stream."""

    product_id: str


class LastMatch(msgspec.Struct, tag_field="type", tag="last_match"):
    """The newest trade before the subscription."""


class Snapshot(msgspec.Struct, tag_field="type", tag="snapshot", gc=False):
    """A whole book."""

    product_id: str
    bids: list[tuple[Number, Number]]
    asks: list[tuple[Number, Number]]


class Update(msgspec.Struct, tag_field="type", tag="l2update", gc=False):
    """Levels as they are now; 0 removes one."""

    product_id: str
    changes: list[tuple[Side, Number, Number]]
    time: Time


class Feed(msgspec.Struct):
    """A channel and the products that one hears of."""

    name: str
    product_ids: list[str]


class Subscriptions(msgspec.Struct, tag_field="type", tag="subscriptions"):
    """All that a connection is subscribed to: the answer to every request."""

    channels: list[Feed]


class Refusal(msgspec.Struct, tag_field="type", tag="error"):
    """The other answer to a request. It does not say to which."""

    message: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(Request):
    """A request on the way to the first trade of a time, in microseconds.

    The trade `low` is before it or is none, `high` is not before it. None: the newest page.
    """

    time: int
    low: int
    high: int | None


ROWS = msgspec.json.Decoder(list[Row])
TICKS = msgspec.json.Decoder(list[Tick], strict=False)
TRADES = msgspec.json.Decoder(list[PastTrade], strict=False)
BOOK = msgspec.json.Decoder(BookAnswer, strict=False)
EVENTS = msgspec.json.Decoder(
    Match | LastMatch | Snapshot | Update | Subscriptions | Refusal, strict=False
)
PRODUCTS = msgspec.json.Decoder(list[Product])
ERROR = msgspec.json.Decoder(Error)

# How a list of trades begins, and a list of candles never.
OBJECTS = re.compile(rb"\s*\[\s*\{")
# The most trades of one answer.
TAPE = 1_000
# More levels than any book has.
WHOLE = 1_000_000
# level2_batch is level2 every 50 ms, and the only one without a key. It is echoed as level2_50.
# https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
FEEDS = {Channel.TRADES: "matches", Channel.BOOK: "level2_batch"}
ECHOES = {"matches": Channel.TRADES, "level2_batch": Channel.BOOK, "level2_50": Channel.BOOK}


class Coinbase(Exchange, TradesHistory, Depth, Live):
    """Coinbase Exchange: candles newest first, both bounds inclusive, as ISO texts.

    Trades are those of the order book: matches of requests for quotes have ids of their own. The
    changes of a book carry neither a number nor a checksum, so that a lost one is not noticed.
    """

    name = "coinbase"
    title = "Coinbase Exchange"
    docs = "https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-candles"
    rest_url = "https://api.exchange.coinbase.com"
    # 10 requests a second and address, 15 at once. A page has 301 rows where its bounds are 300
    # bars apart, but 300 is what is documented.
    limits = Limits(weight=9, seconds=1, burst=5, page=300)
    spans: ClassVar[Mapping[int, str]] = {
        60: "60", 300: "300", 900: "900", 3_600: "3600", 21_600: "21600", 86_400: "86400",
    }  # fmt: skip
    # Intervals without a trade are left out.
    gapless = False
    # There is no live channel of candles: they are made of trades. The book is level2_batch.
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    contiguous = True
    reach = None
    trades_page = TAPE
    trades_weight = 1.0
    depths = (1, WHOLE)

    ws_url = "wss://ws-feed.exchange.coinbase.com"
    # https://docs.cdp.coinbase.com/exchange/websocket-feed/rate-limits: 8 connections a second, 100
    # messages. How much one carries is not limited, but a slow reader is thrown out: 100 is ours.
    live_limits = LiveLimits(streams=100, messages=80, seconds=1, connects=8, connect_seconds=1)

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for. Errors carry {"message"} with HTTP 4XX."""
        if answer.status == 200:
            return
        text = _error_text(answer)
        if answer.status == 429:
            raise RateLimited(f"Coinbase: too many requests: {text}", retry_after(answer))
        if answer.status in (403, 451):
            raise Blocked(
                f"Coinbase refuses this address (HTTP {answer.status}): {text}. Set a proxy under "
                f"exchanges.coinbase"
            )
        if answer.status >= 500:
            raise Unavailable(f"Coinbase: HTTP {answer.status}: {text}")
        if answer.status == 404 and text in ("NotFound", "Product not found"):
            raise UnknownSymbol(f"Coinbase: no such product ({text})")
        raise Rejected(f"Coinbase: HTTP {answer.status}: {text}")

    def instruments_requests(self) -> list[Request]:
        """All products, also those that were delisted."""
        return [Request("/products")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Products by their own codes of base and quote."""
        return Listed(
            [
                Instrument(
                    Symbol(p.base_currency, p.quote_currency),
                    p.id,
                    p.status == "online" and not p.trading_disabled,
                )
                for p in decode(PRODUCTS, answer.body)
                if nameable(p.base_currency, p.quote_currency)
            ]
        )

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Both bounds: one alone would be ignored, and the newest rows come, minutes old.

        The bounds of a single bar are moved apart, since they must not be the same.
        """
        size = span * SECOND
        end = max(window.end - size, window.start + size)
        bounds = {"start": iso(window.start), "end": iso(end)}
        question = {"granularity": self.spans[span]}
        return Request(f"/products/{instrument.name}/candles", question | bounds)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows from the oldest on; of a trade, which `last_candle_request` asks for, the candle
        that it is in, as far as one trade tells."""
        if OBJECTS.match(answer.body):
            rows = [_row(trade, span) for trade in decode(TICKS, answer.body)]
        else:
            rows = decode(ROWS, answer.body)
        columns = list(zip(*reversed(rows), strict=True)) or [()] * 6
        low, high, opened, close, volume = map(floats, columns[1:])
        return Candles(integers(columns[0], SECOND), opened, high, low, close, volume)

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The first thousand trades: a product's ids are contiguous and begin with 1."""
        return self._tape(instrument, TAPE, {"after": str(TAPE + 1)})

    def first_candle(self, answer: Answer, instrument: Instrument, span: int) -> int | None:
        """The candle of the oldest trade. Of BTC/USD, whose candles of a span begin months after
        its trades, that is too early, which costs a few empty pages."""
        trades = decode(TICKS, answer.body)
        return min(_row(trade, span)[0] for trade in trades) * SECOND if trades else None

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest trade: a market may be quiet for longer than any page of candles."""
        return self._tape(instrument, 1, {})

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """Trades are asked for by id only: the search for the first one begins at the newest.

        It aims a second too early, since nothing says that times never go back where ids go on.
        """
        newest = self._tape(instrument, TAPE, {})
        return Search(newest.path, newest.params, time=time - SECOND, low=0, high=None)

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """An answer holds the newest trades below an id, newest first."""
        rows = decode(TRADES, answer.body)[::-1]
        if any(one.trade_id >= two.trade_id for one, two in pairwise(rows)):
            raise BadAnswer("Coinbase: trades that are not newest first")
        if not isinstance(request, Search) or _found(rows, request):
            return TradesPage([_trade(row, None) for row in rows], self._next(rows, request))
        if request.high is None and (not rows or _micro(rows[-1]) < request.time):
            return TradesPage([], None)
        return TradesPage([], self._narrowed(rows, instrument, request))

    def _next(self, rows: list[PastTrade], request: Request) -> Request | None:
        """The page behind. One that ends far below the id that was asked for is the newest: a few
        ids may be missing, half a page is not."""
        last = rows[-1].trade_id if rows else 0
        if "after" not in request.params or int(request.params["after"]) - last > TAPE // 2:
            return None
        after = {"after": str(last + TAPE + 1)}
        return Request(request.path, {"limit": str(TAPE)} | after)

    def _narrowed(self, rows: list[PastTrade], instrument: Instrument, request: Search) -> Request:
        """The next step of the search; the first page where it is over."""
        low, high = request.low, request.high
        if rows and _micro(rows[0]) >= request.time:
            high = rows[0].trade_id
        else:
            low = int(request.params["after"]) - 1
        if high is None or low + 1 >= high:
            return self._tape(instrument, TAPE, {"after": str(low + 1 + TAPE)})
        after = min((low + high) // 2 + TAPE // 2, high)
        page = self._tape(instrument, TAPE, {"after": str(after)})
        return Search(page.path, page.params, time=request.time, low=low, high=high)

    def _tape(self, instrument: Instrument, limit: int, bounds: dict[str, str]) -> Request:
        return Request(f"/products/{instrument.name}/trades", {"limit": str(limit)} | bounds)

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """Level 1 is the best of each side, level 2 the whole book."""
        level = "1" if depth == 1 else "2"
        return Request(f"/products/{instrument.name}/book", {"level": level})

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """Best levels first. The number is that of the full channel, not of level2_batch."""
        found = decode(BOOK, answer.body)
        bids, asks = ([(price, size) for price, size, _ in s] for s in (found.bids, found.asks))
        time = None if found.time is None else microseconds(found.time)
        return Book(bids, asks, found.sequence, time)

    def live_path(self, subscription: Subscription) -> str:
        """One address for all."""
        return ""

    def session(self) -> "CoinbaseSession":
        """The protocol of a new connection."""
        return CoinbaseSession()


class CoinbaseSession(Session):
    """Requests are answered in turn, each with the list of all that is subscribed to."""

    def __init__(self) -> None:
        self._requests: deque[list[Subscription]] = deque()
        self._asked: list[Subscription] = []

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """A message for each product, since a refusal is one of the whole message."""
        self._asked += subscriptions
        return self._messages("subscribe", subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """The same way."""
        self._asked = [one for one in self._asked if one not in subscriptions]
        return self._messages("unsubscribe", subscriptions)

    def _messages(self, kind: str, subscriptions: Sequence[Subscription]) -> list[bytes]:
        by_product: dict[str, list[Subscription]] = defaultdict(list)
        for one in subscriptions:
            by_product[one.instrument.name].append(one)
        messages = []
        for product, wanted in by_product.items():
            self._requests.append(wanted if kind == "subscribe" else [])
            channels = [FEEDS[one.channel] for one in wanted]
            content = {"type": kind, "product_ids": [product], "channels": channels}
            messages.append(msgspec.json.encode(content))
        return messages

    def read(self, frame: Frame, inbox: Inbox) -> None:
        """The trade before the subscription is not new."""
        match decode(EVENTS, frame.payload):
            case Match() as found:
                inbox.trades[found.product_id].append(_trade(found, frame.received))
            case Update() as found:
                inbox.books[found.product_id].append(_change(found, frame.received))
            case Snapshot(product_id=product, bids=bids, asks=asks):
                inbox.books[product].append(BookChange(True, bids, asks, frame.received))
            case Subscriptions() as found:
                self._accept(found, inbox)
            case Refusal() as found:
                self._refuse(found, inbox)

    def _accept(self, answer: Subscriptions, inbox: Inbox) -> None:
        heard = {
            (ECHOES[feed.name], product)
            for feed in answer.channels
            if feed.name in ECHOES
            for product in feed.product_ids
        }
        found = [one for one in self._asked if (one.channel, one.instrument.name) in heard]
        inbox.accepted += found
        self._asked = [one for one in self._asked if one not in found]
        if self._requests:
            self._requests.popleft()

    def _refuse(self, answer: Refusal, inbox: Inbox) -> None:
        reason = ": ".join(text for text in (answer.message, answer.reason) if text)
        wanted = self._requests.popleft() if self._requests else []
        refused = [one for one in wanted if one in self._asked]
        inbox.refused += [(one, reason) for one in refused]
        self._asked = [one for one in self._asked if one not in refused]
        if not refused:
            inbox.notices.append(f"Coinbase: {reason}")


def _found(rows: list[PastTrade], request: Search) -> bool:
    """Whether the first trade of the time is on a page."""
    if not rows or _micro(rows[-1]) < request.time:
        return False
    return _micro(rows[0]) < request.time or rows[0].trade_id <= request.low + 1


def _micro(row: PastTrade) -> int:
    return microseconds(row.time)


def _trade(row: PastTrade, received: int | None) -> Trade:
    """The maker sold: the taker bought."""
    buy = row.side == "sell"
    return Trade(microseconds(row.time), received, str(row.trade_id), row.price, row.size, buy)


def _change(update: Update, received: int) -> BookChange:
    bids = [(price, size) for side, price, size in update.changes if side == "buy"]
    asks = [(price, size) for side, price, size in update.changes if side == "sell"]
    return BookChange(False, bids, asks, received, microseconds(update.time))


def _row(trade: Tick, span: int) -> Row:
    """The candle of one trade; BadAnswer if its time has no zone."""
    try:
        seconds = microseconds(trade.time) // SECOND
    except ValueError as error:
        raise BadAnswer(f"Coinbase: the time of a trade: {error}") from error
    price = trade.price
    return seconds // span * span, price, price, price, price, trade.size


def _error_text(answer: Answer) -> str:
    try:
        return ERROR.decode(answer.body).message
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return answer.quote
