"""WebSocket frames as a server reads and writes them. https://www.rfc-editor.org/rfc/rfc6455"""

import base64
import hashlib
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_KNOWN = {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MESSAGE_LIMIT = 1024 * 1024


class BadFrame(Exception):
    """Bytes that no client may send; the connection is closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole message or a control frame: TEXT, BINARY, CLOSE, PING or PONG."""

    opcode: int
    payload: bytes


def accept(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    digest = hashlib.sha1(key.encode("latin-1") + _MAGIC, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    """One unmasked frame."""
    first = opcode | (0x80 if final else 0)
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65_536:
        return bytes((first, 126)) + length.to_bytes(2) + payload
    return bytes((first, 127)) + length.to_bytes(8) + payload


def text_frame(text: str) -> bytes:
    """A whole text message."""
    return frame(TEXT, text.encode())


def fragments(text: str, pieces: int = 3) -> bytes:
    """A text message in several frames, with a ping between the first and the second."""
    content = text.encode()
    size = max(-(-len(content) // pieces), 1)
    parts = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
    frames = [
        frame(CONTINUATION if index else TEXT, part, final=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]
    return frames[0] + frame(PING, b"between") + b"".join(frames[1:])


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut to what a control frame holds."""
    return frame(CLOSE, code.to_bytes(2) + reason.encode()[:123])


class Reader:
    """Takes bytes of a client and gives whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._opcode = 0

    def read(self, data: bytes) -> list[Frame]:
        """The messages that these bytes complete. Raises BadFrame."""
        self._buffer += data
        found = []
        while (raw := self._take()) is not None:
            whole = self._whole(*raw)
            if whole is not None:
                found.append(whole)
        return found

    def _take(self) -> tuple[bool, int, bytes] | None:
        """One frame off the buffer: final, opcode, payload. None while it is not all there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        final, reserved, opcode = buffer[0] & 0x80, buffer[0] & 0x70, buffer[0] & 0x0F
        length, start = buffer[1] & 0x7F, 2
        if reserved or opcode not in _KNOWN or not buffer[1] & 0x80:
            raise BadFrame(1002, "reserved bits, unknown opcode or no mask")
        if opcode >= CLOSE and (length > 125 or not final):
            raise BadFrame(1002, "long or fragmented control frame")
        if length > 125:
            size = 2 if length == 126 else 8
            if len(buffer) < 2 + size:
                return None
            length, start = int.from_bytes(buffer[2 : 2 + size]), 2 + size
        if length > _MESSAGE_LIMIT:
            raise BadFrame(1009, "message too big")
        if len(buffer) < start + 4 + length:
            return None
        mask = bytes(buffer[start : start + 4])
        payload = _unmasked(bytes(buffer[start + 4 : start + 4 + length]), mask)
        del buffer[: start + 4 + length]
        return bool(final), opcode, payload

    def _whole(self, final: bool, opcode: int, payload: bytes) -> Frame | None:
        if opcode >= CLOSE:
            return Frame(opcode, payload)
        if (opcode == CONTINUATION) != bool(self._parts):
            raise BadFrame(1002, "continuation without a start, or a start within a message")
        if not self._parts:
            self._opcode = opcode
        self._parts.append(payload)
        if sum(map(len, self._parts)) > _MESSAGE_LIMIT:
            raise BadFrame(1009, "message too big")
        if not final:
            return None
        whole = Frame(self._opcode, b"".join(self._parts))
        self._parts = []
        return whole


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)
