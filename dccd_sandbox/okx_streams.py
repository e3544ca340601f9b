"""OKX's streams v5. https://www.okx.com/docs-v5/en/#order-book-trading-market-data

Changes of books are sent one by one, not gathered for 100 ms. A client that does not ping is not
cut, since time may run fast here. Candles only on the grid of UTC.
"""

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from dccd_sandbox.book import Book
from dccd_sandbox.feeds import BookFeed, CandleFeed, TradeFeed
from dccd_sandbox.okx_products import Product, candle_cells
from dccd_sandbox.spans import HOUR
from dccd_sandbox.stream import Kind, Message, Stream
from dccd_sandbox.tape import aggregated

DEPTHS = {"books": 400, "books5": 5, "bbo-tbt": 1}
MOST_REQUESTS = 480
_QUIET_MS = 60_000
_CONNECTION = "a4d3ae55"

Find = Callable[[str], Product | None]
Bars = Mapping[str, tuple[int, int]]


class Topic(ABC):
    """What a channel of a product sends from a moment on."""

    kind: ClassVar[Kind]

    def __init__(self, channel: str, product: Product) -> None:
        self.arg = {"channel": channel, "instId": product.name}
        self.product = product

    @abstractmethod
    def due(self, now: int) -> Iterator[str]:
        """JSON of what has happened since the last call."""

    def pushed(self, data: list[Any], **more: object) -> str:
        """A push as it is on the wire."""
        return _json({"arg": self.arg} | more | {"data": data})


class TradesTopic(Topic):
    """trades-all: one by one; trades: the fills of an order together, with their last id."""

    kind = Kind.TRADES

    def __init__(self, channel: str, product: Product, now: int) -> None:
        super().__init__(channel, product)
        self._feed = TradeFeed(product.market, now)

    def due(self, now: int) -> Iterator[str]:
        """One trade a message."""
        found = self._feed.due(now)
        if self.arg["channel"] == "trades-all":
            yield from (self.pushed([row]) for row in self.product.deals(found))
            return
        grouped, counts = aggregated(found)
        last = found.first_id - 1
        for row, count in zip(self.product.deals(grouped), counts.tolist(), strict=True):
            last += count
            yield self.pushed([row | {"tradeId": str(last), "count": str(count), "seqId": last}])


class BookTopic(Topic):
    """books: a snapshot, then what changes; books5 and bbo-tbt: the best levels, whole each time.

    seqId is the number of the change, so that it has holes where deeper levels changed.
    """

    kind = Kind.BOOK

    def __init__(self, channel: str, product: Product, now: int) -> None:
        super().__init__(channel, product)
        self._depth = DEPTHS[channel]
        self._feed = BookFeed(product.market, now, self._depth)
        self._last, self._sent = self._feed.book.sequence, now
        self._first = self._whole(self._feed.book)

    def due(self, now: int) -> Iterator[str]:
        """After a minute of silence an empty message that follows itself."""
        if self._first:
            yield self._first
            self._first = ""
        for change in self._feed.due(now):
            if not (change.bids or change.asks):
                continue
            if self._depth < 400:
                book = self.product.market.book.after(change.sequence)
                yield self._whole(book.top(self._depth))
            else:
                yield self._update(Book(change.sequence, change.time, change.bids, change.asks))
            self._last, self._sent = change.sequence, change.time
        if self._depth == 400 and now - self._sent >= _QUIET_MS:
            self._sent = now
            yield self._update(Book(self._last, now, [], []))

    def _sides(self, book: Book) -> dict[str, object]:
        sides = {"asks": self.product.levels(book.asks), "bids": self.product.levels(book.bids)}
        return sides | {"ts": str(book.time), "seqId": book.sequence}

    def _whole(self, book: Book) -> str:
        if self._depth < 400:
            return self.pushed([self._sides(book)])
        return self.pushed(
            [self._sides(book) | {"checksum": 0, "prevSeqId": -1}], action="snapshot"
        )

    def _update(self, book: Book) -> str:
        data = self._sides(book) | {"checksum": 0, "prevSeqId": self._last}
        return self.pushed([data], action="update")


class CandleTopic(Topic):
    """candle{bar}: each second at most, and once it is confirmed."""

    kind = Kind.OHLC

    def __init__(self, channel: str, product: Product, span: int, now: int) -> None:
        super().__init__(channel, product)
        self._feed = CandleFeed(product.market, span, now)

    def due(self, now: int) -> Iterator[str]:
        """One candle a message."""
        rows = self._feed.due(now)
        for cells in candle_cells(rows, self.product, self._feed.span, 0, now):
            yield self.pushed([cells])


class OkxStream(Stream):
    """A connection: `kind` is public or business; `find` knows the products, `bars` the candles."""

    def __init__(self, kind: str, find: Find, bars: Bars) -> None:
        super().__init__()
        self._kind = kind
        self._find = find
        self._bars = bars
        self._live: dict[str, Topic] = {}
        self._requests: deque[int] = deque()

    def heard(self, text: str, now: int) -> list[Message]:
        """subscribe, unsubscribe, and ping, which is no JSON."""
        if text == "ping":
            return [Message("pong", Kind.BEAT)]
        try:
            asked = json.loads(text)
            action, args, number = asked["op"], asked["args"], asked.get("id")
            names = [(arg["channel"], arg["instId"]) for arg in args]
        except (ValueError, KeyError, TypeError, AttributeError):
            return [_error("60012", f"Invalid request: {text}", None)]
        if action not in ("subscribe", "unsubscribe"):
            return [_error("60012", f"Invalid request: {text}", number)]
        if not self._may(now):
            return [_error("60014", "Requests too frequent", number)]
        return [self._act(action, channel, name, number, now) for channel, name in names]

    def _may(self, now: int) -> bool:
        """Count a request of this hour of market time."""
        while self._requests and self._requests[0] <= now - HOUR * 1_000:
            self._requests.popleft()
        self._requests.append(now)
        return len(self._requests) <= MOST_REQUESTS

    def _act(self, action: str, channel: str, name: str, number: str | None, now: int) -> Message:
        key, arg = f"{channel} {name}", {"channel": channel, "instId": name}
        if action == "unsubscribe":
            self._live.pop(key, None)
            self.topics.discard(key)
        elif key not in self._live:
            topic = self._topic(channel, name, now)
            if topic is None:
                return _missing(channel, name, number)
            self._live[key] = topic
            self.topics.add(key)
        return _event(number, {"event": action, "arg": arg})

    def _topic(self, channel: str, name: str, now: int) -> Topic | None:
        product = self._find(name)
        if product is None:
            return None
        bar = self._bars.get(channel.removeprefix("candle")) if "candle" in channel else None
        public = self._kind == "public"
        if channel in DEPTHS and public:
            return BookTopic(channel, product, now)
        if channel == ("trades" if public else "trades-all"):
            return TradesTopic(channel, product, now)
        if bar is not None and bar[1] == 0 and not public:
            return CandleTopic(channel, product, bar[0], now)
        return None

    def due(self, now: int) -> list[Message]:
        """Channel by channel."""
        return [
            Message(text, topic.kind, topic.product.market.symbol)
            for topic in self._live.values()
            for text in topic.due(now)
        ]

    def refused(self, text: str, now: int) -> list[Message]:
        """As a channel that is not there."""
        asked = json.loads(text)
        names = [(arg["channel"], arg["instId"]) for arg in asked["args"]]
        return [_missing(channel, name, asked.get("id")) for channel, name in names]

    def shutdown(self, now: int) -> list[Message]:
        """A minute before the connection ends."""
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        return [_event(None, {"event": "notice", "code": "64008", "msg": text})]


def _missing(channel: str, name: str, number: str | None) -> Message:
    text = (
        f"Wrong URL or channel:{channel},instId:{name} doesn't exist. Please use the correct URL, "
        f"channel and parameters referring to API document."
    )
    return _error("60018", text, number)


def _error(code: str, text: str, number: str | None) -> Message:
    return _event(number, {"event": "error", "code": code, "msg": text})


def _event(number: str | None, content: dict[str, object]) -> Message:
    known = {"id": number} if number is not None else {}
    return Message(_json(known | content | {"connId": _CONNECTION}))


def _json(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))
