"""A load for benchmarks: an exchange's messages, built beforehand, sent fast or at a rate."""

import asyncio
import time
from dataclasses import dataclass
from itertools import zip_longest

from dccd_sandbox.frames import text_frame
from dccd_sandbox.sockets import WebSocket
from dccd_sandbox.spans import DAY_MS
from dccd_sandbox.stream import DATA

_STEP_MS = 100
_SETTLED = 0.5
_AT_ONCE = 500
_EMPTY_STEPS = 10_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """Messages to send over `connections` of an exchange, `messages` in all.

    rate: messages a second over all connections, each at its own time as in real life; None for as
    many as are read. They begin half a second after the last of the connections has subscribed;
    until then all are silent.
    """

    exchange: str
    messages: int
    connections: int = 1
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.messages < 1 or self.connections < 1 or (self.rate is not None and self.rate <= 0):
            raise ValueError(f"load of {self.exchange}: a number is not above 0")


class Pump:
    """A load on its way. Its market time begins at midnight UTC, so that it is of one day."""

    def __init__(self, load: Load, now: int) -> None:
        self.load = load
        self.start_ms = now // DAY_MS * DAY_MS
        self.sent = self.bytes = 0
        self.began = self.ended = 0.0
        self._sockets: list[WebSocket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def joins(self, socket: WebSocket) -> None:
        """A connection has subscribed to something."""
        if self._tasks:
            return
        if socket not in self._sockets:
            self._sockets.append(socket)
        if self._timer is not None:
            self._timer.cancel()
        if len(self._sockets) >= self.load.connections:
            self._timer = asyncio.get_running_loop().call_later(_SETTLED, self._begin)

    def lost(self, socket: WebSocket) -> None:
        """A connection is gone."""
        if socket in self._sockets and not self._tasks:
            self._sockets.remove(socket)

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def report(self) -> dict[str, object]:
        """How far it is: what GET /_sandbox/stats says."""
        done = self.ended or time.time()
        return {
            "exchange": self.load.exchange,
            "messages": self.load.messages,
            "connections": len(self._sockets),
            "sent": self.sent,
            "bytes": self.bytes,
            "seconds": done - self.began if self.began else 0.0,
            "finished": bool(self.ended),
        }

    def _begin(self) -> None:
        count = len(self._sockets)
        shares = [
            self.load.messages // count + (index < self.load.messages % count)
            for index in range(count)
        ]
        built = [
            (socket, self._built(socket, share))
            for socket, share in zip(self._sockets, shares, strict=True)
        ]
        self.began = time.time()
        loop = asyncio.get_running_loop()
        if self.load.rate is None:
            self._tasks = [loop.create_task(self._flood(*one)) for one in built]
        else:
            self._tasks = [loop.create_task(self._pace(built, self.load.rate))]

    def _built(self, socket: WebSocket, share: int) -> list[bytes]:
        """The first messages of the market's data since the start."""
        found: list[bytes] = []
        now = self.start_ms
        last = now + _EMPTY_STEPS * _STEP_MS
        while len(found) < share and now < last:
            now += _STEP_MS
            found += [text_frame(one.text) for one in socket.stream.due(now) if one.kind in DATA]
        return found[:share]

    async def _flood(self, socket: WebSocket, messages: list[bytes]) -> None:
        at = 0
        while at < len(messages) and await socket.writable():
            upto = min(at + _AT_ONCE, len(messages))
            self._sent(socket, b"".join(messages[at:upto]), upto - at)
            at = upto
            await asyncio.sleep(0)

    async def _pace(self, built: list[tuple[WebSocket, list[bytes]]], rate: float) -> None:
        """Each message at its own time, by its own write, on one connection after the other."""
        turns = zip_longest(*(messages for _, messages in built))
        began, number = time.monotonic(), 0
        for turn in turns:
            for (socket, _), message in zip(built, turn, strict=True):
                if message is None:
                    continue
                ahead = number / rate - (time.monotonic() - began)
                if ahead > 0:
                    await asyncio.sleep(ahead)
                self._sent(socket, message, 1)
                number += 1

    def _sent(self, socket: WebSocket, data: bytes, messages: int) -> None:
        socket.write(data)
        self.sent += messages
        self.bytes += len(data)
        if self.sent >= self.load.messages:
            self.ended = time.time()
