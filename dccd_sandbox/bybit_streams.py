"""Bybit's public streams v5. https://bybit-exchange.github.io/docs/v5/ws/connect

Not documented, but from general knowledge: the texts of refusals, and that a request with a wrong
topic is refused as a whole. A client that does not ping is not cut, since time may run fast here.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from dccd_sandbox.book import Change, Level
from dccd_sandbox.candles import TIME, Trades, texts
from dccd_sandbox.feeds import BookFeed, CandleFeed, TradeFeed
from dccd_sandbox.market import Market
from dccd_sandbox.spans import end_of
from dccd_sandbox.stream import Kind, Message, Stream

DEPTHS = (1, 50, 200, 1_000)
MOST_TRADES = 1_024
_MOST_ARGS = 10
_AGAIN_MS = 3_000
_CONNECTION = "2324d924-aa4d-45b0-a858-7b8be29ab52b"

Find = Callable[[str], Market | None]


class Topic(ABC):
    """What one topic sends from a moment on."""

    kind: ClassVar[Kind]

    def __init__(self, name: str, symbol: str, market: Market) -> None:
        self.name = name
        self.symbol = symbol
        self.market = market

    @abstractmethod
    def due(self, now: int) -> Iterator[str]:
        """JSON of what has happened since the last call."""

    def pushed(self, kind: str, sent: int, data: object, **more: object) -> str:
        """A push as it is on the wire."""
        content = {"topic": self.name, "type": kind, "ts": sent, "data": data} | more
        return json.dumps(content, separators=(",", ":"))


class TradesTopic(Topic):
    """publicTrade.{symbol}: the trades of a millisecond together, up to 1,024 of them."""

    kind = Kind.TRADES

    def __init__(self, name: str, symbol: str, market: Market, now: int) -> None:
        super().__init__(name, symbol, market)
        self._feed = TradeFeed(market, now)

    def due(self, now: int) -> Iterator[str]:
        """Oldest first."""
        rows = [_streamed(row, self.symbol) for row in deals(self._feed.due(now), self.market)]
        part: list[dict[str, Any]] = []
        for row in rows:
            if part and (row["T"] != part[0]["T"] or len(part) == MOST_TRADES):
                yield self.pushed("snapshot", part[0]["T"] + 2, part)
                part = []
            part.append(row)
        if part:
            yield self.pushed("snapshot", part[0]["T"] + 2, part)


class BookTopic(Topic):
    """orderbook.{depth}.{symbol}: a snapshot, then a message for each change that can be seen.

    `u` counts messages; of 1,000 levels it is the number of the change, as in the book by REST.
    """

    kind = Kind.BOOK

    def __init__(self, name: str, symbol: str, market: Market, now: int) -> None:
        super().__init__(name, symbol, market)
        self._depth = int(name.split(".")[1])
        self._feed = BookFeed(market, now, self._depth)
        book = self._feed.book
        self._number, self._sequence = book.sequence, book.sequence
        self._first = self._push("snapshot", book.bids, book.asks, book.time)
        self._best, self._sent = self._first, now

    def due(self, now: int) -> Iterator[str]:
        """One level is always sent whole, and again after three seconds of silence."""
        if self._first:
            yield self._first
            self._first = ""
        for change in self._feed.due(now):
            yield from self._changed(change)
        if self._depth == 1 and now - self._sent >= _AGAIN_MS:
            self._sent = now
            yield self._best

    def _changed(self, change: Change) -> Iterator[str]:
        if not (change.bids or change.asks):
            return
        self._number, self._sequence = self._number + 1, change.sequence
        if self._depth == 1:
            whole = self.market.book.after(change.sequence).top(1)
            self._best = self._push("snapshot", whole.bids, whole.asks, change.time)
            self._sent = change.time
            yield self._best
        else:
            yield self._push("delta", change.bids, change.asks, change.time)

    def _push(self, kind: str, bids: list[Level], asks: list[Level], time: int) -> str:
        sides = {"b": levels(bids, self.market), "a": levels(asks, self.market)}
        data = {"s": self.symbol} | sides | {"u": self._number, "seq": self._sequence}
        return self.pushed(kind, time + 3, data, cts=time)


class KlineTopic(Topic):
    """kline.{interval}.{symbol}: each second at most, and once it is confirmed."""

    kind = Kind.OHLC

    def __init__(self, name: str, symbol: str, market: Market, span: int, now: int) -> None:
        super().__init__(name, symbol, market)
        self._feed = CandleFeed(market, span, now)

    def due(self, now: int) -> Iterator[str]:
        """One candle a message."""
        rows = self._feed.due(now)
        cells = zip(*texts(rows, self.market.digits)[1:7], strict=True)
        for start, row in zip(rows[:, TIME].tolist(), cells, strict=True):
            named = dict(
                zip(("open", "high", "low", "close", "volume", "turnover"), row, strict=True)
            )
            times = {"start": start, "end": end_of(start, self._feed.span) - 1}
            data = times | {"interval": self.name.split(".")[1]} | named
            data |= {"confirm": self._feed.is_closed(start, now), "timestamp": now}
            yield self.pushed("snapshot", now, [data])


class BybitStream(Stream):
    """A connection of one category; `find` knows its markets, `spans` the lengths of intervals."""

    def __init__(self, category: str, find: Find, spans: dict[str, int]) -> None:
        super().__init__()
        self._category = category
        self._find = find
        self._spans = spans
        self._live: dict[str, Topic] = {}

    def heard(self, text: str, now: int) -> list[Message]:
        """subscribe, unsubscribe, ping."""
        try:
            asked = json.loads(text)
            action, number = asked["op"], asked.get("req_id", "")
        except (ValueError, KeyError, TypeError, AttributeError):
            return [_answer(False, "Invalid request", "", "")]
        if action == "ping":
            return [_answer(True, "pong", number, "ping", Kind.BEAT)]
        if action not in ("subscribe", "unsubscribe"):
            return [_answer(False, f"Invalid op:{action}", number, action)]
        return self._act(action, asked.get("args", []), number, now)

    def _act(self, action: str, args: list[str], number: str, now: int) -> list[Message]:
        if self._category == "spot" and len(args) > _MOST_ARGS:
            return [_answer(False, f"args size >{_MOST_ARGS}", number, action)]
        if action == "unsubscribe":
            for name in args:
                self._live.pop(name, None)
                self.topics.discard(name)
            return [_answer(True, "", number, action)]
        made: dict[str, Topic] = {}
        for name in args:
            topic = None if name in self._live else self._topic(name, now)
            if topic is None:
                known = name in self._live
                why = f"error:already subscribed,topic:{name}" if known else _unknown(name)
                return [_answer(False, why, number, action)]
            made[name] = topic
        self._live |= made
        self.topics |= made.keys()
        return [_answer(True, "", number, action)]

    def _topic(self, name: str, now: int) -> Topic | None:
        kind, *middle, symbol = name.split(".")
        market = self._find(symbol)
        if market is None:
            return None
        match kind, middle:
            case "publicTrade", []:
                return TradesTopic(name, symbol, market, now)
            case "orderbook", [depth] if depth in map(str, DEPTHS):
                return BookTopic(name, symbol, market, now)
            case "kline", [interval] if interval in self._spans:
                return KlineTopic(name, symbol, market, self._spans[interval], now)
        return None

    def due(self, now: int) -> list[Message]:
        """Topic by topic."""
        return [
            Message(text, topic.kind, topic.market.symbol)
            for topic in self._live.values()
            for text in topic.due(now)
        ]

    def refused(self, text: str, now: int) -> list[Message]:
        """As a symbol that is not there."""
        asked = json.loads(text)
        return [_answer(False, _unknown(asked["args"][0]), asked.get("req_id", ""), asked["op"])]


def deals(found: Trades, market: Market) -> Iterator[dict[str, Any]]:
    """Trades with the fields that the stream and REST share, oldest first."""
    columns = (found.time.tolist(), found.ticks.tolist(), found.lots.tolist(), found.buy.tolist())
    for place, (time, ticks, lots, buy) in enumerate(zip(*columns, strict=True)):
        yield {
            "id": str(found.first_id + place),
            "price": market.price(ticks),
            "size": market.amount(lots),
            "side": "Buy" if buy else "Sell",
            "time": time,
            "seq": (found.first_id + place) // 2,
        }


def levels(side: list[Level], market: Market) -> list[list[str]]:
    """Price and amount as text."""
    return [[market.price(ticks), market.amount(lots)] for ticks, lots in side]


def _streamed(deal: dict[str, Any], symbol: str) -> dict[str, Any]:
    names = {"T": "time", "S": "side", "v": "size", "p": "price", "i": "id", "seq": "seq"}
    found = {short: deal[name] for short, name in names.items()}
    return {"s": symbol, "L": "PlusTick", "BT": False, "RPI": False} | found


def _unknown(name: str) -> str:
    return f"error:handler not found,topic:{name}"


def _answer(good: bool, text: str, number: str, action: str, kind: Kind = Kind.REPLY) -> Message:
    content = {"success": good, "ret_msg": text, "conn_id": _CONNECTION}
    content |= {"req_id": number, "op": action}
    return Message(json.dumps(content, separators=(",", ":")), kind)
