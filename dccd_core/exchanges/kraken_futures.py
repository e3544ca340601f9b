"""Kraken Futures, linear contracts. https://docs.kraken.com/api/docs/futures-api/charts/candles,
/futures-api/history/get-public-execution-events and /futures-api/websocket/trade, /book."""

import re
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
    LiveLimits,
    Session,
    Subscription,
)
from dccd_core.exchanges.trades import Book, Depth, Levels, Trade, TradesHistory, TradesPage
from dccd_core.models import SECOND, Channel, Symbol, Window, microseconds, nameable

Time = Annotated[datetime, msgspec.Meta(tz=True)]
# neither NaN nor infinite nor negative
Number = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
# below it milliseconds are microseconds of 64 bits
Whole = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


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


class Taker(msgspec.Struct, rename="camel"):
    """The order that met another one in the book."""

    direction: Literal["Buy", "Sell"]
    order_type: str


class Execution(msgspec.Struct, rename="camel"):
    """A trade; the quantity is in contracts."""

    uid: str
    taker_order: Taker
    timestamp: Whole
    quantity: Number
    price: Number


class Executed(msgspec.Struct):
    """What surrounds it."""

    execution: Execution


class Element(msgspec.Struct):
    """An event of a market's history: {"uid", "timestamp", "event": {"Execution": …}}."""

    event: dict[Literal["Execution"], Executed]


class Executions(msgspec.Struct, rename="camel"):
    """A page of a market's history; the token asks for the next one."""

    elements: list[Element]
    continuation_token: str | None = None


class Sides(msgspec.Struct):
    """All levels: price and contracts."""

    bids: list[tuple[Number, Number]]
    asks: list[tuple[Number, Number]]


class BookAnswer(msgspec.Struct, rename="camel"):
    """The order book."""

    order_book: Sides
    server_time: Time


class Head(msgspec.Struct, gc=False):
    """What a frame is: rows of a feed, or an event, which may name a feed too."""

    event: str | None = None
    feed: str | None = None


class Event(msgspec.Struct):
    """The answer to a request; an error does not say to which."""

    event: str
    feed: str = ""
    product_ids: list[str] = []
    message: str = ""


class Fill(msgspec.Struct, gc=False):
    """A trade of a stream; the quantity is in contracts."""

    product_id: str
    uid: str
    side: Literal["buy", "sell"]
    type: str
    time: Whole
    qty: Number
    price: Number


class Change(msgspec.Struct, gc=False):
    """A level of a book as it is now; 0 removes it."""

    product_id: str
    side: Literal["buy", "sell"]
    seq: Whole
    price: Number
    qty: Number
    timestamp: Whole


class Level(msgspec.Struct, gc=False):
    """A level of a whole book."""

    price: Number
    qty: Number


class Snapshot(msgspec.Struct, gc=False):
    """A whole book."""

    product_id: str
    timestamp: Whole
    seq: Whole
    bids: list[Level]
    asks: list[Level]


PAGE = msgspec.json.Decoder(Page, strict=False)
MARKETS = msgspec.json.Decoder(Markets)
ERROR = msgspec.json.Decoder(Error)
EXECUTIONS = msgspec.json.Decoder(Executions, strict=False)
BOOK = msgspec.json.Decoder(BookAnswer)
HEAD = msgspec.json.Decoder(Head)
EVENT = msgspec.json.Decoder(Event)
FILL = msgspec.json.Decoder(Fill)
CHANGE = msgspec.json.Decoder(Change)
SNAPSHOT = msgspec.json.Decoder(Snapshot)
# Orders that meet outside of the book: positions that are handed over, and blocks.
ELSEWHERE = {"Assignment", "Unwind", "Block"}
# What is traded in the book.
FILLS = {"fill", "liquidation"}
FEEDS = {Channel.TRADES: "trade", Channel.BOOK: "book"}
EXECUTIONS_PAGE = 1_000
WHOLE = 1_000_000  # levels, more than any book has
# PF_XBTUSD, FF_XBTUSD_260925: linear, quoted in USD.
NAME = re.compile(r"(?:PF|FF)_([A-Z0-9.]+)USD(?:_(\d{6}))?")
LINEAR = {"flexible_futures", "futures_vanilla"}
NO_MARKET = {"contractNotFound", "notFound"}
PASSING = {"unavailable", "Unavailable", "marketUnavailable", "Server Error", "unknownError"}


class KrakenFutures(Exchange, TradesHistory, Depth, Live):
    """Candles of the trade price, ascending; times asked in seconds, told in milliseconds.

    Not inverse contracts (PI_, FI_): their volume is in dollars, and how many coins that is no
    candle tells. Trades are those made in the book, liquidations among them, not assignments,
    terminations and blocks. That a trade's uid in the history is that of the stream is unverified.
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

    contiguous = False
    reach = None
    trades_page = EXECUTIONS_PAGE
    # No budget is documented for it; a request in 600 ms is what ccxt allows itself.
    trades_weight = 5.4
    depths = (WHOLE,)

    ws_url = "wss://futures.kraken.com"
    # https://docs.kraken.com/api/docs/guides/futures-rate-limits: 100 connections, 100 requests a
    # second. How many feeds one carries is not limited: 200 is ours. Within 60 seconds the exchange
    # wants a ping, not as a text but as a frame of WebSocket: support.kraken.com, 360022635632.
    live_limits = LiveLimits(
        streams=200, messages=90, seconds=1, connects=100, connect_seconds=60, ping=30
    )

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for: by its error, else by its HTTP status."""
        error = _error(answer.body)
        if answer.status == 200 and error is None:
            return
        text = answer.quote if error is None else error
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

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """Ascending from a time on. Whether that is inclusive is not documented: a millisecond
        before, it does not matter."""
        path = f"/api/history/v3/market/{instrument.name}/executions"
        since = str(max(time // 1_000 - 1, 0))
        params = {"sort": "asc", "count": str(EXECUTIONS_PAGE), "since": since}
        return Request(path, params, self.trades_weight)

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """Pages continue by a token, which is in the header or in the body."""
        page = decode(EXECUTIONS, answer.body)
        rows = [element.event["Execution"].execution for element in page.elements if element.event]
        if len(rows) != len(page.elements):
            raise BadAnswer("Kraken Futures: an event that is no execution")
        if any(one.timestamp > two.timestamp for one, two in pairwise(rows)):
            raise BadAnswer("Kraken Futures: executions that are not in order of their times")
        rows = [row for row in rows if row.taker_order.order_type not in ELSEWHERE]
        trades = [_past_trade(row, instrument) for row in rows]
        token = answer.headers.get("next-continuation-token") or page.continuation_token
        if not token or not page.elements:
            return TradesPage(trades, None)
        params = dict(request.params) | {"continuation_token": token}
        return TradesPage(trades, Request(request.path, params, request.weight))

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """All levels: there is no choice."""
        return Request("/derivatives/api/v3/orderbook", {"symbol": instrument.name})

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """The time is the server's when it answered."""
        found, size = decode(BOOK, answer.body), instrument.size
        bids = sorted(((price, n * size) for price, n in found.order_book.bids), reverse=True)
        asks = sorted((price, n * size) for price, n in found.order_book.asks)
        return Book(bids, asks, None, microseconds(found.server_time))

    def live_path(self, subscription: Subscription) -> str:
        """One address for all."""
        return "/ws/v1"

    def session(self) -> "KrakenFuturesSession":
        """The protocol of a new connection."""
        return KrakenFuturesSession()


class KrakenFuturesSession(Session):
    """Requests are answered in turn, one product at a time. Each change of a book has a number."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], Subscription] = {}
        self._markets: dict[str, Instrument] = {}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """A message for each feed of a product: an error does not say of which it is."""
        self._asked |= {_key(one): one for one in subscriptions}
        self._markets |= {_key(one)[1]: one.instrument for one in subscriptions}
        return [_message("subscribe", one) for one in subscriptions]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """The same way."""
        self._asked = {k: one for k, one in self._asked.items() if one not in subscriptions}
        return [_message("unsubscribe", one) for one in subscriptions]

    def ping(self) -> bytes:
        """A frame of WebSocket."""
        return b""

    def read(self, frame: Frame, inbox: Inbox) -> None:
        """The trades before the subscription, newest first, are not new."""
        head = decode(HEAD, frame.payload)
        match (head.event, head.feed):
            case (None, "book"):
                self._change(decode(CHANGE, frame.payload), frame.received, inbox)
            case (None, "trade"):
                self._fill(decode(FILL, frame.payload), frame.received, inbox)
            case (None, "book_snapshot"):
                self._snapshot(decode(SNAPSHOT, frame.payload), frame.received, inbox)
            case (None, "trade_snapshot" | "heartbeat"):
                pass
            case (str(), _):
                self._event(decode(EVENT, frame.payload), inbox)
            case _:
                raise BadAnswer(f"Kraken Futures: neither an event nor a feed: {head.feed}")

    def _market(self, product: str) -> Instrument:
        if product not in self._markets:
            raise BadAnswer(f"Kraken Futures: rows of {product}, which nobody asked for")
        return self._markets[product]

    def _change(self, change: Change, received: int, inbox: Inbox) -> None:
        market = self._market(change.product_id)
        levels: Levels = [(change.price, change.qty * market.size)]
        bids, asks = (levels, []) if change.side == "buy" else ([], levels)
        number, time = change.seq, change.timestamp * 1_000
        row = BookChange(False, bids, asks, received, time, number, number, number - 1)
        inbox.books[market.name].append(row)

    def _snapshot(self, book: Snapshot, received: int, inbox: Inbox) -> None:
        market = self._market(book.product_id)
        bids = [(level.price, level.qty * market.size) for level in book.bids]
        asks = [(level.price, level.qty * market.size) for level in book.asks]
        time = book.timestamp * 1_000
        row = BookChange(True, bids, asks, received, time, first=book.seq, last=book.seq)
        inbox.books[market.name].append(row)

    def _fill(self, fill: Fill, received: int, inbox: Inbox) -> None:
        market = self._market(fill.product_id)
        amount, time = fill.qty * market.size, fill.time * 1_000
        if fill.type in FILLS:
            trade = Trade(time, received, fill.uid, fill.price, amount, fill.side == "buy")
            inbox.trades[market.name].append(trade)

    def _event(self, event: Event, inbox: Inbox) -> None:
        keys = [(event.feed, product.upper()) for product in event.product_ids]
        known = [self._asked[key] for key in keys if key in self._asked]
        match event.event:
            case "subscribed" if keys:
                inbox.accepted += known
            case "subscribed_failed" | "error":
                # an error is of the oldest request that is not answered yet
                known = known or list(self._asked.values())[:1]
                reason = event.message or event.event
                inbox.refused += [(one, reason) for one in known]
                inbox.notices += [] if known else [f"Kraken Futures: {reason}"]
            case "alert" | "unsubscribed_failed":
                known = []
                inbox.notices.append(f"Kraken Futures: {event.message or event.event}")
            case "info" | "unsubscribed":
                known = []
            case _:
                raise BadAnswer(f"Kraken Futures: an event of no known kind: {event.event}")
        for one in known:
            del self._asked[_key(one)]


def _key(subscription: Subscription) -> tuple[str, str]:
    """Feed and product, which the stream writes in upper case."""
    return FEEDS[subscription.channel], subscription.instrument.name.upper()


def _message(event: str, subscription: Subscription) -> bytes:
    feed, product = _key(subscription)
    return msgspec.json.encode({"event": event, "feed": feed, "product_ids": [product]})


def _past_trade(row: Execution, instrument: Instrument) -> Trade:
    amount, buy = row.quantity * instrument.size, row.taker_order.direction == "Buy"
    return Trade(row.timestamp * 1_000, None, row.uid, row.price, amount, buy)


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
