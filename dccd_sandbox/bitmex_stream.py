"""BitMEX's stream: the tables trade, orderBookL2, orderBookL2_25 and tradeBin of each market.

https://www.bitmex.com/app/wsAPI. From general knowledge and not documented: the texts of the
errors, and that a change of a book is sent as updates, deletes and inserts in this order.
"""

import json
from abc import ABC, abstractmethod
from itertools import groupby
from typing import Any, ClassVar

from dccd_sandbox import spans
from dccd_sandbox.bitmex_tables import BINS, Contract, Row, bins, buckets, level_rows, levels, stamp
from dccd_sandbox.bitmex_tables import trades as trade_rows
from dccd_sandbox.feeds import BookFeed, TradeFeed
from dccd_sandbox.stream import Kind, Message, Stream

_DOCS = "https://www.bitmex.com/app/wsAPI"
_CONNECTS = 60


class Table(ABC):
    """A table of one market, from a moment (ms) on."""

    kind: ClassVar[Kind]
    keys: ClassVar[list[str]] = []

    def __init__(self, name: str, contract: Contract) -> None:
        self.name = name
        self.contract = contract

    @abstractmethod
    def partial(self, now: int) -> list[Row]:
        """What is there at first."""

    @abstractmethod
    def due(self, now: int) -> list[tuple[str, list[Row]]]:
        """Actions since, each with its rows."""

    def message(self, action: str, rows: list[Row]) -> Message:
        """Rows as they are sent."""
        head: dict[str, Any] = {"table": self.name, "action": action}
        if action == "partial":
            about = {"foreignKeys": {"symbol": "instrument"}, "attributes": {"symbol": "grouped"}}
            head |= {"keys": self.keys, "types": {"symbol": "symbol"}} | about
            head |= {"filter": {"symbol": self.contract.symbol}}
        return Message(_text(head | {"data": rows}), self.kind, self.contract.market.symbol)


class TradeTable(Table):
    """trade: the newest one, then each; those of a millisecond come together."""

    kind = Kind.TRADES

    def __init__(self, name: str, contract: Contract, now: int) -> None:
        super().__init__(name, contract)
        self._feed = TradeFeed(contract.market, now)

    def partial(self, now: int) -> list[Row]:
        """The newest trade."""
        return trade_rows(self.contract, self.contract.market.tape.newest(1, now))

    def due(self, now: int) -> list[tuple[str, list[Row]]]:
        """Trades since."""
        rows = trade_rows(self.contract, self._feed.due(now))
        groups = groupby(rows, key=lambda row: str(row["timestamp"]))
        return [("insert", list(group)) for _, group in groups]


class BookTable(Table):
    """orderBookL2 and, of the best 25 levels, orderBookL2_25. An update has no price."""

    kind = Kind.BOOK
    keys: ClassVar[list[str]] = ["symbol", "id", "side"]

    def __init__(self, name: str, contract: Contract, now: int) -> None:
        super().__init__(name, contract)
        self._feed = BookFeed(contract.market, now, 25 if name.endswith("_25") else 0)
        book = self._feed.book
        self._there = {("Buy", ticks) for ticks, _ in book.bids}
        self._there |= {("Sell", ticks) for ticks, _ in book.asks}

    def partial(self, now: int) -> list[Row]:
        """All levels."""
        return levels(self.contract, self._feed.book)

    def due(self, now: int) -> list[tuple[str, list[Row]]]:
        """Of each change what is set anew, what goes, what comes."""
        found: list[tuple[str, list[Row]]] = []
        for change in self._feed.due(now):
            rows: dict[str, list[Row]] = {"update": [], "delete": [], "insert": []}
            for side, side_levels in (("Sell", change.asks), ("Buy", change.bids)):
                for level in side_levels:
                    action = self._action(side, *level)
                    (row,) = level_rows(self.contract, side, [level], change.time)
                    rows[action].append(_trimmed(row, action))
            found += [(action, some) for action, some in rows.items() if some]
        return found

    def _action(self, side: str, ticks: int, lots: int) -> str:
        key = (side, ticks)
        if lots == 0:
            self._there.discard(key)
            return "delete"
        action = "update" if key in self._there else "insert"
        self._there.add(key)
        return action


class BinTable(Table):
    """tradeBin1m and its like: the bucket that closed last, then each that closes."""

    kind = Kind.OHLC

    def __init__(self, name: str, contract: Contract, now: int) -> None:
        super().__init__(name, contract)
        self._span = BINS[name.removeprefix("tradeBin")]
        self._open = spans.open_of(now, self._span)

    def partial(self, now: int) -> list[Row]:
        """The newest one that is closed."""
        return self._rows(self._open - self._span * 1_000, self._open - 1, now)

    def due(self, now: int) -> list[tuple[str, list[Row]]]:
        """What has closed."""
        running = spans.open_of(now, self._span)
        rows = self._rows(self._open, running - 1, now)
        self._open = running
        return [("insert", [row]) for row in rows]

    def _rows(self, start: int, end: int, now: int) -> list[Row]:
        found = buckets(self.contract.market, self._span, start, end, now)
        return bins(found, self.contract, self._span * 1_000)


class BitmexStream(Stream):
    """One connection. `topics` of the address are subscribed to at once."""

    def __init__(self, contracts: dict[str, Contract], topics: list[str]) -> None:
        super().__init__()
        self._contracts = contracts
        self._wanted = topics
        self._tables: dict[str, Table] = {}

    def opened(self, now: int) -> list[Message]:
        """A welcome."""
        welcome = {"info": "Welcome to the BitMEX Realtime API.", "version": "2.0.0"}
        more = {"timestamp": stamp(now), "docs": _DOCS, "limit": {"remaining": _CONNECTS - 1}}
        request = {"op": "subscribe", "args": self._wanted}
        return [_said(welcome | more), *self._heard(request, now)]

    def heard(self, text: str, now: int) -> list[Message]:
        """ping, subscribe, unsubscribe."""
        if text == "ping":
            return [Message("pong", Kind.BEAT)]
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict) or request.get("op") not in ("subscribe", "unsubscribe"):
            return [_error(f"Unrecognized request. See {_DOCS}", {"request": request})]
        return self._heard(request, now)

    def refused(self, text: str, now: int) -> list[Message]:
        """An error with the request in it."""
        return [_error("Refused by the sandbox.", {"request": json.loads(text)})]

    def due(self, now: int) -> list[Message]:
        """What the tables bring."""
        return [
            table.message(action, rows)
            for table in self._tables.values()
            for action, rows in table.due(now)
        ]

    def _heard(self, request: dict[str, Any], now: int) -> list[Message]:
        args = request.get("args", [])
        topics = [args] if isinstance(args, str) else args
        found: list[Message] = []
        for topic in topics:
            if request["op"] == "subscribe":
                found += self._subscribe(str(topic), request, now)
            elif topic in self.topics:
                self.topics.discard(topic)
                self._tables.pop(topic, None)
                found.append(_said({"success": True, "unsubscribe": topic, "request": request}))
            else:
                text = f"User was not subscribed to topic: {topic}."
                found.append(_error(text, {"request": request}))
        return found

    def _subscribe(self, topic: str, request: dict[str, Any], now: int) -> list[Message]:
        name, _, symbol = topic.partition(":")
        contract = self._contracts.get(symbol)
        table = None if contract is None else _table(name, contract, now)
        problem = ""
        if topic in self.topics:
            problem = f"You are already subscribed to this topic: {topic}"
        elif contract is None:
            problem = "Unknown or expired symbol."
        if problem or table is None:
            return [_error(problem or f"Unknown table: {name}", {"request": request})]
        self.topics.add(topic)
        self._tables[topic] = table
        acknowledged = _said({"success": True, "subscribe": topic, "request": request})
        return [acknowledged, table.message("partial", table.partial(now))]


def _table(name: str, contract: Contract, now: int) -> Table | None:
    if name == "trade":
        return TradeTable(name, contract, now)
    if name in ("orderBookL2", "orderBookL2_25"):
        return BookTable(name, contract, now)
    return BinTable(name, contract, now) if name.removeprefix("tradeBin") in BINS else None


def _trimmed(row: Row, action: str) -> Row:
    """An update comes without its price, a delete without its size, too."""
    gone = {"insert": (), "update": ("price",), "delete": ("price", "size")}[action]
    return {name: value for name, value in row.items() if name not in gone}


def _error(text: str, more: dict[str, Any]) -> Message:
    return _said({"status": 400, "error": text, "meta": {}} | more)


def _text(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))


def _said(content: object) -> Message:
    return Message(_text(content))
