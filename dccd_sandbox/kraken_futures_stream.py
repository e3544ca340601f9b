"""Kraken Futures' trades and books: as rows of REST, and as the feeds trade, book and heartbeat.

https://docs.kraken.com/api/docs/futures-api/websocket/book, /trade. From general knowledge and not
documented: that a request with one invalid product subscribes to nothing, the words of the alert.
"""

import json
from abc import ABC, abstractmethod
from typing import Any

from dccd_sandbox.candles import Trades
from dccd_sandbox.feeds import BookFeed, TradeFeed
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Close, Kind, Message, Stream

FEEDS = ("trade", "book", "heartbeat")
_SNAPSHOT = 100
_BEAT_MS = 1_000

Row = dict[str, Any]


def uid(number: int) -> str:
    """What Kraken Futures calls a trade."""
    return f"5eed0000-0000-4000-8000-{number:012x}"


def fills(market: Market, product: str, found: Trades) -> list[Row]:
    """Trades in order as the stream has them."""
    digits = market.digits
    columns = (found.time.tolist(), found.ticks.tolist(), found.lots.tolist(), found.buy.tolist())
    return [
        {
            "feed": "trade",
            "product_id": product,
            "uid": uid(number),
            "side": "buy" if buy else "sell",
            "type": "fill",
            "seq": number + 1,
            "time": time,
            "qty": lots / 10**digits.amount,
            "price": ticks / 10**digits.price,
        }
        for number, (time, ticks, lots, buy) in enumerate(
            zip(*columns, strict=True), found.first_id
        )
    ]


class Feed(ABC):
    """A product's trades or book on a connection."""

    def __init__(self, market: Market, product: str, now: int) -> None:
        self.market = market
        self.product = product
        self._now = now

    @abstractmethod
    def snapshot(self) -> Message:
        """What there is at first."""

    @abstractmethod
    def due(self, now: int) -> list[Message]:
        """What has happened since."""


class TradesOf(Feed):
    """The last hundred trades, newest first; then each."""

    def __init__(self, market: Market, product: str, now: int) -> None:
        super().__init__(market, product, now)
        self._feed = TradeFeed(market, now)

    def snapshot(self) -> Message:
        """Newest first."""
        rows = fills(self.market, self.product, self.market.tape.newest(_SNAPSHOT, self._now))
        head = {"feed": "trade_snapshot", "product_id": self.product}
        return self._message(head | {"trades": rows[::-1]})

    def due(self, now: int) -> list[Message]:
        """A message for each."""
        found = fills(self.market, self.product, self._feed.due(now))
        return [self._message(row) for row in found]

    def _message(self, content: Row) -> Message:
        return Message(_text(content), Kind.TRADES, self.market.symbol)


class BookOf(Feed):
    """All levels; then each that changes, with the next number."""

    def __init__(self, market: Market, product: str, now: int) -> None:
        super().__init__(market, product, now)
        self._feed = BookFeed(market, now)
        # The numbers go on from the first book of the connection, each level has its own.
        self._seq = self._feed.book.sequence

    def snapshot(self) -> Message:
        """Both sides, best first."""
        book, digits = self._feed.book, self.market.digits
        sides = {
            name: [
                {"price": ticks / 10**digits.price, "qty": lots / 10**digits.amount}
                for ticks, lots in levels
            ]
            for name, levels in (("bids", book.bids), ("asks", book.asks))
        }
        head = {"feed": "book_snapshot", "product_id": self.product, "timestamp": book.time}
        return self._message(head | {"seq": self._seq, "tickSize": None} | sides)

    def due(self, now: int) -> list[Message]:
        """A message for each level. What goes comes first: so the book is never crossed."""
        found = []
        for change in self._feed.due(now):
            levels = [("sell", *level) for level in change.asks]
            levels += [("buy", *level) for level in change.bids]
            for side, ticks, lots in sorted(levels, key=lambda level: level[2] > 0):
                found.append(self._change(side, ticks, lots, change.time))
        return found

    def _change(self, side: str, ticks: int, lots: int, time: int) -> Message:
        self._seq += 1
        digits = self.market.digits
        level = {"price": ticks / 10**digits.price, "qty": lots / 10**digits.amount}
        head = {"feed": "book", "product_id": self.product, "side": side, "seq": self._seq}
        return self._message(head | level | {"timestamp": time})

    def _message(self, content: Row) -> Message:
        return Message(_text(content), Kind.BOOK, self.market.symbol)


class KrakenFuturesStream(Stream):
    """One connection: an answer for each product of a request."""

    messages = 100
    too_many = Close(1008, "rate limit exceeded")

    def __init__(self, markets: dict[str, Market]) -> None:
        super().__init__()
        self._markets = markets
        self._feeds: dict[str, Feed] = {}
        self._beat: int | None = None

    def opened(self, now: int) -> list[Message]:
        """The version."""
        return [_said({"event": "info", "version": 1})]

    def heard(self, text: str, now: int) -> list[Message]:
        """subscribe and unsubscribe."""
        try:
            content = json.loads(text)
        except ValueError:
            return [_said({"event": "error", "message": "Json Error"})]
        event = content.get("event") if isinstance(content, dict) else None
        if event not in ("subscribe", "unsubscribe"):
            return [_said({"event": "alert", "message": "Bad request"})]
        feed = content.get("feed")
        products = [str(name).upper() for name in content.get("product_ids", [])]
        problem = self._problem(feed, products)
        if problem:
            return [_said({"event": "error", "message": problem})]
        if feed == "heartbeat":
            self._beat = now // _BEAT_MS if event == "subscribe" else None
            return [_said({"event": f"{event}d", "feed": feed})]
        act = self._subscribe if event == "subscribe" else self._unsubscribe
        return [message for name in products for message in act(str(feed), name, now)]

    def refused(self, text: str, now: int) -> list[Message]:
        """An error, which does not say of what."""
        return [_said({"event": "error", "message": "Invalid product id"})]

    def due(self, now: int) -> list[Message]:
        """What the feeds bring."""
        found = [message for feed in self._feeds.values() for message in feed.due(now)]
        if self._beat is not None:
            beats = range(self._beat + 1, now // _BEAT_MS + 1)
            self._beat = max(self._beat, now // _BEAT_MS)
            contents = ({"feed": "heartbeat", "time": beat * _BEAT_MS} for beat in beats)
            found += [Message(_text(content), Kind.BEAT) for content in contents]
        return found

    def _problem(self, feed: object, products: list[str]) -> str:
        if feed not in FEEDS:
            return "Invalid feed"
        known = all(name in self._markets for name in products)
        return "" if known and (products or feed == "heartbeat") else "Invalid product id"

    def _subscribe(self, feed: str, product: str, now: int) -> list[Message]:
        topic, kind = f"{feed}:{product}", TradesOf if feed == "trade" else BookOf
        found = kind(self._markets[product], product, now)
        again = {"event": "alert", "message": "Already subscribed to feed, re-requesting"}
        alerts = [_said(again)] if topic in self.topics else []
        self.topics.add(topic)
        self._feeds[topic] = found
        return [*alerts, _said(_answer("subscribed", feed, product)), found.snapshot()]

    def _unsubscribe(self, feed: str, product: str, now: int) -> list[Message]:
        self.topics.discard(f"{feed}:{product}")
        self._feeds.pop(f"{feed}:{product}", None)
        return [_said(_answer("unsubscribed", feed, product))]


def _answer(event: str, feed: str, product: str) -> Row:
    return {"event": event, "feed": feed, "product_ids": [product]}


def _text(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))


def _said(content: object) -> Message:
    return Message(_text(content))
