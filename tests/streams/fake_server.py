"""The other side of `fake_exchange`: one port for REST and WebSocket, faults on demand."""

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fake_exchange import checksum
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from dccd_core.exchanges.trades import Levels

MINUTE = 60_000_000


@dataclass
class Market:
    """What happened on one market. Times are wall clock, in microseconds, and only grow."""

    name: str
    trades: list[tuple[int, int, float, float, bool]] = field(default_factory=list)
    bids: dict[float, float] = field(default_factory=dict)
    asks: dict[float, float] = field(default_factory=dict)
    number: int = 0
    time: int = 0
    states: list[tuple[int, Levels, Levels]] = field(default_factory=list)
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def now(self) -> int:
        self.time = max(self.time + 1, time.time_ns() // 1_000)
        return self.time

    def trade(self, count: int = 1) -> list[tuple[int, int, float, float, bool]]:
        """Trades happen, several of them in one microsecond."""
        moment = self.now()
        first = len(self.trades) + 1
        new = [
            (first + i, moment + i // 3, 100 + (first + i) % 7 / 4, 1 + i % 5 / 8, i % 2 == 0)
            for i in range(count)
        ]
        self.time = new[-1][1]
        self.trades += new
        return new

    def change(self) -> dict[str, Any]:
        """The book changes: the message that says so."""
        moment, dice = self.now(), self.dice
        bids: Levels = []
        asks: Levels = []
        for side, levels, base in ((bids, self.bids, 99.0), (asks, self.asks, 101.0)):
            for _ in range(3):
                price = base + dice.randint(-50, 50) / 100
                amount = 0.0 if dice.random() < 0.4 else float(dice.randint(1, 9))
                side.append((price, amount))
                if amount:
                    levels[price] = amount
                else:
                    levels.pop(price, None)
        first = self.number + 1
        self.number += 2
        self.states.append((moment, *self.levels()))
        return self._message(False, bids, asks, moment) | {
            "first": first, "last": self.number, "previous": first - 1
        }  # fmt: skip

    def whole(self) -> dict[str, Any]:
        """The whole book as a message."""
        self.states.append((self.now(), *self.levels()))
        found = self._message(True, *self.levels(), self.time)
        return found | {"first": None, "last": self.number, "previous": None}

    def _message(self, snapshot: bool, bids: Levels, asks: Levels, moment: int) -> dict[str, Any]:
        total = checksum(*self.levels())
        return {
            "k": "b", "s": self.name, "snapshot": snapshot, "bids": bids, "asks": asks,
            "time": moment, "sum": total,
        }  # fmt: skip

    def levels(self) -> tuple[Levels, Levels]:
        bids = [(price, self.bids[price]) for price in sorted(self.bids, reverse=True)]
        return bids, [(price, self.asks[price]) for price in sorted(self.asks)]

    def state_at(self, moment: int) -> tuple[Levels, Levels]:
        """The truth: the book after everything up to a moment."""
        found = [state for state in self.states if state[0] <= moment]
        return found[-1][1], found[-1][2]


Change = Callable[[str, list[str]], list[str]]


class FakeServer:
    """`edit` may change what is sent on a topic: it gets the topic and the messages in order.

    `refuse`, `mute` (accepted, but nothing is sent), `unacknowledged`: sets of topics. `handshake`:
    the status that a new connection is answered with. `rest_down`: the status of all of REST.
    """

    def __init__(self, *names: str) -> None:
        self.markets = {name: Market(name) for name in names}
        self.lock = threading.RLock()
        self.edit: Change | None = None
        self.refuse: dict[str, str] = {}
        self.mute: set[str] = set()
        self.unacknowledged: set[str] = set()
        self.heartbeats = True
        self.handshake: int | None = None
        self.rest_down: int | None = None
        self.connects: list[float] = []
        self.said: list[tuple[int, dict[str, Any]]] = []
        self.asked: list[str] = []
        self.topics: dict[ServerConnection, set[str]] = {}
        self._stop = threading.Event()
        self._server: Server = serve(
            self._serve, "127.0.0.1", 0, process_request=self._rest, ping_interval=None,
            max_size=None, compression=None,
        )  # fmt: skip
        self.port = self._server.socket.getsockname()[1]
        self._threads = [
            threading.Thread(target=self._server.serve_forever, daemon=True),
            threading.Thread(target=self._beat, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        for connection in list(self.topics):
            connection.socket.close()

    # --- what tests do -------------------------------------------------------------------------

    def trade(self, name: str, count: int = 1) -> None:
        """Trades happen and are sent, one message for each three."""
        with self.lock:
            new = self.markets[name].trade(count)
            rows = [new[i : i + 3] for i in range(0, count, 3)]
            self._send(f"trades:{name}", [{"k": "t", "s": name, "rows": row} for row in rows])

    def change(self, name: str, count: int = 1) -> None:
        """The book changes, and it is sent."""
        with self.lock:
            changes = [self.markets[name].change() for _ in range(count)]
            self._send(f"book:{name}", changes)

    def candle(self, name: str, start: int) -> None:
        """A candle closes."""
        with self.lock:
            self._send(f"ohlc:{name}", [{"k": "c", "s": name, "row": candle(start)}])

    def say(self, text: str) -> None:
        """Send a text on every connection."""
        with self.lock:
            for connection in list(self.topics):
                self._put(connection, text)

    def cut(self) -> None:
        """Cut every connection, as a network does."""
        with self.lock:
            for connection in list(self.topics):
                connection.socket.shutdown(2)

    def close(self, code: int = 1000) -> None:
        """Close every connection, as a server does."""
        for connection in list(self.topics):
            connection.close(code, "so long")

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self.topics)

    def subscribed(self, topic: str) -> int:
        """On how many connections."""
        return sum(topic in topics for topics in self.topics.values())

    # --- the protocol --------------------------------------------------------------------------

    def _send(self, topic: str, messages: list[dict[str, Any]]) -> None:
        texts = [json.dumps(message) for message in messages]
        if self.edit is not None:
            texts = self.edit(topic, texts)
        for connection, topics in list(self.topics.items()):
            if topic in topics and topic not in self.mute:
                for text in texts:
                    self._put(connection, text)

    def _put(self, connection: ServerConnection, text: str) -> None:
        try:
            connection.send(text)
        except (ConnectionClosed, OSError):
            self.topics.pop(connection, None)

    def _serve(self, connection: ServerConnection) -> None:
        with self.lock:
            self.topics[connection] = set()
            self.connects.append(time.monotonic())
            number = len(self.connects)
        try:
            for text in connection:
                said = json.loads(text)
                with self.lock:
                    self.said.append((number, said))
                    self._hear(connection, said)
        except (ConnectionClosed, OSError):
            pass
        finally:
            self.topics.pop(connection, None)

    def _hear(self, connection: ServerConnection, said: dict[str, Any]) -> None:
        if said["op"] == "ping":
            self._put(connection, '{"k": "pong"}')
        elif said["op"] == "unsubscribe":
            self.topics[connection] -= set(said["args"])
        else:
            refused = [name for name in said["args"] if name in self.refuse]
            if refused:
                # the protocol cannot tell which of them it means
                why = self.refuse[refused[0]]
                answer = {"k": "no", "args": said["args"], "why": why}
                self._put(connection, json.dumps(answer))
                return
            self.topics[connection] |= set(said["args"])
            args = [name for name in said["args"] if name not in self.unacknowledged]
            self._put(connection, json.dumps({"k": "ack", "args": args}))
            for name in said["args"]:
                channel, _, market = name.partition(":")
                if channel == "book" and name not in self.mute:
                    self._put(connection, json.dumps(self.markets[market].whole()))

    def _beat(self) -> None:
        while not self._stop.wait(0.1):
            if self.heartbeats:
                self.say('{"k": "hb"}')

    def _rest(self, connection: ServerConnection, request: Request) -> Response | None:
        url = urlsplit(request.path)
        if url.path == "/ws":
            return None if self.handshake is None else _answer(self.handshake, b"no")
        self.asked.append(request.path)
        if self.rest_down is not None:
            return _answer(self.rest_down, b"down")
        query = defaultdict(str, {key: value[0] for key, value in parse_qs(url.query).items()})
        with self.lock:
            return _answer(200, json.dumps(self._ask(url.path, query)).encode())

    def _ask(self, path: str, query: dict[str, str]) -> Any:
        if path == "/instruments":
            return list(self.markets)
        market = self.markets[query["s"]]
        if path == "/trades":
            if query["id"]:
                rows = market.trades[int(query["id"]) - 1 :]
            else:
                rows = [row for row in market.trades if row[1] >= int(query["time"])]
            return rows[:100]
        if path == "/book":
            market.now()
            bids, asks = market.levels()
            return {"bids": bids, "asks": asks, "u": market.number}
        first = -(-int(query["start"]) // MINUTE) * MINUTE
        return [candle(t) for t in range(first, int(query["end"]), MINUTE)]


def candle(start: int) -> list[float]:
    """The candle of a minute."""
    price = 100.0 + start // MINUTE % 10
    return [start, price, price + 2, price - 2, price + 1, 5.0]


def _answer(status: int, body: bytes) -> Response:
    now = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    headers = Headers({"Content-Length": str(len(body)), "Date": now, "Connection": "close"})
    return Response(status, HTTPStatus(status).phrase, headers, body)
