"""WebSocket frames of a server, from bytes as they come: RFC 6455, section 5.

Many frames are read at once. Payloads are not checked for UTF-8: whoever decodes the JSON does.
"""

from functools import partial

from dccd_core.exchanges.live import Frame

LARGEST = 64 << 20
"""Bytes of one message; Coinbase's largest snapshots have 5 MB."""

_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA
_new_frame = partial(tuple.__new__, Frame)  # half the price of Frame(payload, received)


class ProtocolError(Exception):
    """Bytes that are no frames of a WebSocket server."""


class FrameReader:
    """Collects bytes and gives whole messages, each with the time of receipt of its last byte.

    `held` is how many bytes it has that gave no message yet. `pings` are payloads yet to be
    answered; `closed` is the server's code and reason after its close frame (1005 where it gave
    none), behind which nothing is read.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self.held = 0
        self.pings: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self._pieces: list[tuple[bytes, int]] = []
        self._wanted = 2
        self._parts: list[bytes] | None = None
        self._part_bytes = 0
        self._largest = largest

    def feed(self, piece: bytes, received: int) -> None:
        """Keep what was read, which costs next to nothing, until the messages are wanted."""
        self._pieces.append((piece, received))
        self.held += len(piece)

    def messages(self, found: list[Frame]) -> None:
        """Append the messages that are whole; ProtocolError after those before the fault."""
        if self.held < self._wanted:
            return
        receipts = iter(self._pieces)
        piece, received = next(receipts)
        data = b"".join([one for one, _ in self._pieces])
        start, end, until, self._wanted = 0, self.held, len(piece), 2
        try:
            while self.closed is None and end - start >= 2:
                first, size, head = data[start], data[start + 1], start + 2
                if size == 126 and end - start > 3:
                    size, head = data[head] << 8 | data[start + 3], start + 4
                elif size > 125:
                    head += 2 if size == 126 else _more(size)
                    size = int.from_bytes(data[start + 2 : head])  # too small if cut: still no more
                stop = head + size
                if stop > end:
                    self._want(stop - start, size)
                    break
                while stop > until:
                    piece, received = next(receipts)
                    until += len(piece)
                start = stop
                if self._parts is None and (first == 0x81 or first == 0x82):
                    found.append(_new_frame((data[head:stop], received)))
                else:
                    self._other(first, Frame(data[head:stop], received), found)
        finally:
            rest = data[start:]
            self.held = len(rest)
            self._pieces = [(rest, received)] if rest else []

    def _want(self, count: int, size: int) -> None:
        """Wait for so many bytes, of a message of `size`, before any is looked at again."""
        if size > self._largest:
            raise ProtocolError(f"a message of {size} bytes")
        self._wanted = count

    def _other(self, first: int, frame: Frame, found: list[Frame]) -> None:
        """A control frame, or a part of a message."""
        if first & 0x70:
            raise ProtocolError("a frame with reserved bits: no extension was agreed on")
        opcode, final = first & 0x0F, bool(first & 0x80)
        if opcode >= _CLOSE:
            self._control(opcode, final, frame.payload)
        elif opcode > 2:
            raise ProtocolError(f"a frame of the unknown kind {opcode}")
        elif (opcode == 0) != (self._parts is not None):
            raise ProtocolError("the parts of messages are mixed up")
        else:
            self._part(final, frame, found)

    def _part(self, final: bool, frame: Frame, found: list[Frame]) -> None:
        parts = self._parts if self._parts is not None else []
        parts.append(frame.payload)
        self._part_bytes += len(frame.payload)
        if self._part_bytes > self._largest or len(parts) > 65_536:
            raise ProtocolError(f"a message of more than {self._largest} bytes or 65536 parts")
        self._parts = None if final else parts
        if final:
            self._part_bytes = 0
            found.append(Frame(b"".join(parts), frame.received))

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
