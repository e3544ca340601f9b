"""One WebSocket connection: frames, pings, limits, and what faults do to it."""

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from dccd_sandbox import frames
from dccd_sandbox.frames import BadFrame, Frame, Reader
from dccd_sandbox.stream import Close, Message, Stream
from dccd_sandbox.stream_faults import Line, Step

if TYPE_CHECKING:
    from dccd_sandbox.hub import Hub

_POLL = 0.005
_CLOSE_WAIT = 1.0
_STRIDE_MS = 60_000
"""So much of the market at most is sent in one go, so that a clock that leaps stops nobody else."""
SLOW_BYTES = 64 * 1_024 * 1_024
"""A client that leaves so much unread is cut off, as exchanges do."""


class WebSocket(asyncio.Protocol):
    """The server's end of an upgraded connection. `path` begins with the exchange's prefix."""

    def __init__(self, hub: "Hub", stream: Stream, path: str, transport: asyncio.Transport) -> None:
        self.stream = stream
        self.line = Line(path)
        self.loaded = False
        self.sent = 0
        self._hub = hub
        self._transport = transport
        self._reader = Reader()
        self._queue: deque[Step] = deque()
        self._waiting: asyncio.TimerHandle | None = None
        self._poll: asyncio.TimerHandle | None = None
        self._times: deque[float] = deque()
        self._pinged = self._ponged = time.monotonic()
        self.upto = 0
        self._ending = False
        self._drained = asyncio.Event()
        self._drained.set()

    def start(self, rest: bytes) -> None:
        """Begin, with what came after the client's handshake."""
        self._hub.opened(self)
        for fault in self._hub.faults.opened(self.line.path):
            if fault.kind == "deaf":
                self._transport.pause_reading()
            else:
                close = Close(fault.code, fault.reason)
                asyncio.get_running_loop().call_later(fault.seconds, self.end, close)
        self.upto = self._hub.moment(self)
        self._say(lambda: self.stream.opened(self.upto))
        self._hub.subscribed(self)  # Binance's streams may be named in the address
        self._tick()
        if rest:
            self.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        for timer in (self._poll, self._waiting):
            if timer is not None:
                timer.cancel()
        self._ending = True
        self._drained.set()
        self._hub.lost(self)

    def data_received(self, data: bytes) -> None:
        """Some bytes of frames."""
        try:
            for frame in self._reader.read(data):
                self._frame(frame)
        except BadFrame as error:
            self.end(Close(error.code, str(error)))

    def pause_writing(self) -> None:
        """The client reads more slowly than we send."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._drained.set()

    async def writable(self) -> bool:
        """Wait until there is room again; False when the connection is gone."""
        await self._drained.wait()
        return not self._ending

    def send(self, messages: Sequence[Message]) -> None:
        """Messages of the exchange, as faults leave them."""
        if not messages or self._ending:
            return
        if self._hub.faults.rules or self.line.stalls or self.line.held:
            self._do(self._hub.faults.spoil(self.line, messages, time.monotonic()))
        else:
            self._do([Step(b"".join([frames.text_frame(one.text) for one in messages]))])
        self.sent += len(messages)
        self._hub.sent(self, messages)

    def write(self, data: bytes) -> None:
        """Bytes, now."""
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > SLOW_BYTES and not self.loaded:
            self._hub.count(self, "slow")
            self.cut()

    def end(self, close: Close) -> None:
        """Send a close frame and wait a moment for the client's."""
        if self._ending:
            return
        self._ending = True
        self._transport.write(frames.close_frame(close.code, close.reason))
        asyncio.get_running_loop().call_later(_CLOSE_WAIT, self._transport.close)

    def cut(self) -> None:
        """Reset the TCP connection."""
        self._ending = True
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):  # it is closed already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def drop(self) -> None:
        """End the connection without a word."""
        self._ending = True
        self._transport.abort()

    def act(self, deed: str, close: Close) -> None:
        """Something done to the connection now: cut, close or shutdown."""
        if deed == "cut":
            self.cut()
            return
        if deed == "shutdown":
            self._say(lambda: self.stream.shutdown(self._hub.moment(self)))
        self.end(close)

    def _tick(self) -> None:
        """Send what is due, and again a few milliseconds later."""
        if self._ending:
            return
        now = self._hub.moment(self)
        upto = min(now, self.upto + _STRIDE_MS)
        if not self.loaded:
            self.upto = upto
            self._say(lambda: self.stream.due(upto))
        self._keep_alive()
        loop = asyncio.get_running_loop()
        wait = max(_POLL, self._hub.pause) if upto == now else 0.0
        self._poll = loop.call_later(wait, self._tick)

    def _say(self, messages: Callable[[], Iterable[Message]]) -> None:
        try:
            self.send(list(messages()))
        except Exception:
            self._hub.count(self, "error")
            self.end(Close(1011, "the sandbox has an error, see its log"))
            raise
        if self.stream.close is not None:
            self._do([Step(close=self.stream.close)])

    def _keep_alive(self) -> None:
        every, now = self.stream.ping_seconds, time.monotonic()
        if every is None or self.line.is_dead(now):
            return
        if self._ponged < self._pinged and now - self._pinged > self.stream.pong_seconds:
            self.end(Close(1008, "Pong timeout"))
        elif now - self._pinged >= every and self._ponged >= self._pinged:
            self._pinged = now
            self._transport.write(frames.frame(frames.PING, str(time.time_ns()).encode()))

    def _frame(self, frame: Frame) -> None:
        if self._ending and frame.opcode != frames.CLOSE:
            return
        match frame.opcode:
            case frames.CLOSE:
                if not self._ending:
                    self._transport.write(frames.frame(frames.CLOSE, frame.payload[:2]))
                self._ending = True
                self._transport.close()
                return
            case frames.PING if not self.line.is_dead(time.monotonic()):
                self._transport.write(frames.frame(frames.PONG, frame.payload))
            case frames.PONG:
                self._ponged = time.monotonic()
            case frames.TEXT | frames.BINARY:
                self._heard(frame.payload)
        if self._hub.limited and self._is_too_many():
            self._hub.count(self, "too_many")
            self.end(self.stream.too_many)

    def _heard(self, payload: bytes) -> None:
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self.end(Close(1007, "not UTF-8"))
            return
        fault = self._hub.faults.heard(self.line.path, text)
        kind, moment = fault.kind if fault else "", self._hub.moment(self)
        self._hub.heard(self, kind)
        if kind == "refuse":
            self._say(lambda: self.stream.refused(text, moment))
        elif kind != "no_ack":
            back = int(fault.seconds * 1_000) if fault else 0
            self._say(lambda: self.stream.heard(text, moment - back))
            self._hub.subscribed(self)

    def _is_too_many(self) -> bool:
        now = time.monotonic()
        self._times.append(now)
        while self._times[0] <= now - self.stream.seconds:
            self._times.popleft()
        return len(self._times) > self.stream.messages

    def _do(self, steps: Iterable[Step]) -> None:
        """Take these steps, in order, after those that still wait."""
        self._queue.extend(steps)
        while self._queue and self._waiting is None:
            step = self._queue.popleft()
            if step.data and not self._transport.is_closing():
                self.write(step.data)
            if step.wait:
                loop = asyncio.get_running_loop()
                self._waiting = loop.call_later(step.wait, self._waited)
            elif step.close is not None:
                self.end(step.close)
            elif step.cut:
                self.cut()

    def _waited(self) -> None:
        self._waiting = None
        self._do(())
