"""WebSocket frames of a server, from bytes as they come: RFC 6455, section 5.

Many frames are read at once. Payloads are not checked for UTF-8: whoever decodes the JSON does.
"""

from collections.abc import Callable

ROOM = 256 << 10
LARGEST = 64 << 20
"""Bytes of one message; Coinbase's largest snapshots have 5 MB."""

_LEAST = 16 << 10  # what one TLS record holds
_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA


class ProtocolError(Exception):
    """Bytes that are no frames of a WebSocket server."""


class FrameReader:
    """Collects bytes and gives whole messages.

    `pings` are payloads yet to be answered; `closed` is the server's code and reason after its
    close frame (1005 where it gave none), behind which nothing is read.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self.pings: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self._buffer = bytearray(ROOM)
        self._start = self._end = 0
        self._wanted = 2
        self._parts: list[bytes] | None = None
        self._largest = largest

    def fill(self, receive_into: Callable[[memoryview], int]) -> int:
        """Read once into the free room; how many bytes came."""
        if len(self._buffer) - self._end < _LEAST:
            self._make_room()
        with memoryview(self._buffer) as view, view[self._end :] as free:
            count = receive_into(free)
        self._end += count
        return count

    def messages(self, found: list[bytes]) -> None:
        """Append the messages that are whole; ProtocolError after those before the fault."""
        if self._end - self._start < self._wanted:
            return
        with memoryview(self._buffer) as view:
            data = bytes(view[self._start : self._end])  # slices of bytes are the cheapest
        start, end, self._wanted = 0, len(data), 2
        try:
            while self.closed is None and end - start >= 2:
                first, size, head = data[start], data[start + 1], start + 2
                if size > 125:
                    head += 2 if size == 126 else _more(size)
                    size = int.from_bytes(data[start + 2 : head])  # too small if cut: still no more
                stop = head + size
                if stop > end:
                    self._want(stop - start, size)
                    break
                start = stop
                if self._parts is None and (first == 0x81 or first == 0x82):
                    found.append(data[head:stop])
                else:
                    self._other(first, data[head:stop], found)
        finally:
            self._start += start
            self._forget()

    def _want(self, count: int, size: int) -> None:
        """Wait for so many bytes, of a message of `size`, before any is looked at again."""
        if size > self._largest:
            raise ProtocolError(f"a message of {size} bytes")
        self._wanted = count

    def _forget(self) -> None:
        """Begin at the front where all is read; give back what a large message needed."""
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > ROOM:
                self._buffer = bytearray(ROOM)

    def _make_room(self) -> None:
        """Move what is not read yet to the front; double the buffer if that is most of it."""
        rest = self._buffer[self._start : self._end]
        size = len(self._buffer)
        if len(rest) > size // 2:
            size *= 2
        self._buffer = rest + bytes(size - len(rest))
        self._start, self._end = 0, len(rest)

    def _other(self, first: int, payload: bytes, found: list[bytes]) -> None:
        """A control frame, or a part of a message."""
        if first & 0x70:
            raise ProtocolError("a frame with reserved bits: no extension was agreed on")
        opcode, final = first & 0x0F, bool(first & 0x80)
        if opcode >= _CLOSE:
            self._control(opcode, final, payload)
        elif opcode > 2:
            raise ProtocolError(f"a frame of the unknown kind {opcode}")
        elif (opcode == 0) != (self._parts is not None):
            raise ProtocolError("the parts of messages are mixed up")
        else:
            self._part(final, payload, found)

    def _part(self, final: bool, payload: bytes, found: list[bytes]) -> None:
        parts = self._parts if self._parts is not None else []
        parts.append(payload)
        if sum(map(len, parts)) > self._largest or len(parts) > 65_536:
            raise ProtocolError(f"a message of more than {self._largest} bytes or 65536 parts")
        self._parts = None if final else parts
        if final:
            found.append(b"".join(parts))

    def _control(self, opcode: int, final: bool, payload: bytes) -> None:
        if not final or len(payload) > 125:
            raise ProtocolError("a control frame in parts, or of more than 125 bytes")
        if opcode == _PING:
            self.pings.append(payload)
        elif opcode == _CLOSE:
            if len(payload) == 1:
                raise ProtocolError("a close frame with half a code")
            code = int.from_bytes(payload[:2]) if payload else 1005
            self.closed = (code, payload[2:].decode(errors="replace"))
        elif opcode != _PONG:
            raise ProtocolError(f"a control frame of the unknown kind {opcode}")


def _more(size: int) -> int:
    """How many bytes of length follow; ProtocolError for a masked frame."""
    if size > 127:
        raise ProtocolError("a masked frame: only clients mask")
    return 2 if size == 126 else 8
