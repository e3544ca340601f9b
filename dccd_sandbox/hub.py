"""All WebSocket connections of a sandbox: opened, counted, ended, loaded."""

import time
from collections import Counter, deque
from collections.abc import Sequence

from dccd_sandbox.clock import Clock
from dccd_sandbox.load import Load, Pump
from dccd_sandbox.sockets import WebSocket
from dccd_sandbox.stream import Close, Message
from dccd_sandbox.stream_faults import StreamFaults

DEEDS = ("cut", "close", "shutdown")
_PAUSE_PER_CONNECTION = 0.0002


class Hub:
    """What the connections share. `limited`: exchanges' limits on messages and connects hold."""

    def __init__(self, clock: Clock, limited: bool) -> None:
        self.clock = clock
        self.limited = limited
        self.faults = StreamFaults()
        self.live: set[WebSocket] = set()
        self._pump: Pump | None = None
        self._connects: dict[str, deque[float]] = {}
        self.reset()

    def reset(self) -> None:
        """No faults, no counts, no load; connections stay."""
        self.faults.set(())
        self.counts: dict[str, Counter[str]] = {}
        self._connects.clear()
        self.load(None)

    @property
    def pause(self) -> float:
        """Seconds between looks at a connection, so that a thousand of them do not starve us."""
        return len(self.live) * _PAUSE_PER_CONNECTION

    def load(self, load: Load | None) -> None:
        """New connections of an exchange get this load and no market; None: as ever."""
        if self._pump is not None:
            self._pump.stop()
        self._pump = None if load is None else Pump(load, self.clock.now())

    def moment(self, socket: WebSocket) -> int:
        """The time as a connection sees it: a load begins at midnight."""
        return self._pump.start_ms if self._pump and socket.loaded else self.clock.now()

    def may_connect(self, exchange: str, connects: tuple[int, float]) -> bool:
        """Count an attempt; False when there were more than `connects` (number, seconds)."""
        now, (most, seconds) = time.monotonic(), connects
        times = self._connects.setdefault(exchange, deque())
        times.append(now)
        while times[0] <= now - seconds:
            times.popleft()
        return not self.limited or len(times) <= most

    def opened(self, socket: WebSocket) -> None:
        """A connection is there."""
        self.live.add(socket)
        pump = self._pump
        socket.loaded = pump is not None and _exchange(socket) == pump.load.exchange
        self.count(socket, "connections")

    def lost(self, socket: WebSocket) -> None:
        """A connection is gone."""
        self.live.discard(socket)
        if self._pump is not None:
            self._pump.lost(socket)

    def heard(self, socket: WebSocket, fault: str) -> None:
        """A client has said something."""
        self.count(socket, "heard")
        if fault:
            self.count(socket, fault)

    def subscribed(self, socket: WebSocket) -> None:
        """A client may have subscribed to something."""
        if self._pump is not None and socket.loaded and socket.stream.topics:
            self._pump.joins(socket)

    def sent(self, socket: WebSocket, messages: Sequence[Message]) -> None:
        """Messages of the market are on their way, or were spoilt."""
        counts = self.counts.setdefault(_exchange(socket), Counter())
        for message in messages:
            counts[f"sent_{message.kind}"] += 1

    def count(self, socket: WebSocket, what: str) -> None:
        """Count something that happened to a connection."""
        self.counts.setdefault(_exchange(socket), Counter())[what] += 1

    def act(self, deed: str, path: str, close: Close) -> int:
        """Do something to all connections of a path now: cut, close, shutdown. How many."""
        if deed not in DEEDS:
            raise ValueError(f"stream deed {deed!r}: want one of {', '.join(DEEDS)}")
        found = [socket for socket in self.live if socket.line.path.startswith(path)]
        for socket in found:
            socket.act(deed, close)
        return len(found)

    def report(self) -> dict[str, object]:
        """What GET /_sandbox/stats says of streams."""
        exchanges: dict[str, dict[str, object]] = {}
        for name, counts in sorted(self.counts.items()):
            mine = [socket for socket in self.live if _exchange(socket) == name]
            topics = sorted(topic for socket in mine for topic in socket.stream.topics)
            exchanges[name] = {"open": len(mine), "topics": topics, **counts}
        hits = {
            f"{number} {rule.kind}": self.faults.hits[number]
            for number, rule in enumerate(self.faults.rules)
        }
        load = None if self._pump is None else self._pump.report()
        behind = max((self.clock.now() - socket.upto for socket in self.live), default=0)
        return {"exchanges": exchanges, "faults": hits, "load": load, "behind_ms": behind}


def _exchange(socket: WebSocket) -> str:
    return socket.line.path[1:].partition("/")[0]
