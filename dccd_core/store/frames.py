"""The frames of a journal: how rows and marks become bytes, and how damage is told from data.

A frame is a mark, the length and the CRC-32 of its body; the body is the series' key and its rows
in msgpack. Every frame names its series, so that a damaged one costs itself and no other.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dccd_core.exchanges.live import BookChange, LiveCandle
from dccd_core.models import Channel, Series
from dccd_core.store.packed import PackedTrades
from dccd_core.store.schemas import BookRow

_MARK = b"\xd7dj1"  # 1 is the version of the frames
_HEAD = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")


class Candles(msgspec.Struct, array_like=True, tag=2):
    """Candles of a frame."""

    rows: list[LiveCandle]


class Books(msgspec.Struct, array_like=True, tag=3):
    """Books of a frame."""

    rows: list[BookRow]


class Changes(msgspec.Struct, array_like=True, tag=4):
    """Changes of a book of a frame."""

    rows: list[BookChange]


class Covered(msgspec.Struct, array_like=True, tag=5):
    """A window that was streamed without a break."""

    start: int
    end: int


class Lost(msgspec.Struct, array_like=True, tag=6):
    """A window that is lost, and why."""

    start: int
    end: int
    cause: str


Rows = PackedTrades | Candles | Books | Changes
Content = Rows | Covered | Lost
ROWS: dict[Channel, Callable[[Any], Rows]] = {
    Channel.TRADES: PackedTrades.of,
    Channel.LIVE_OHLC: Candles,
    Channel.BOOK: Books,
    Channel.BOOK_DELTAS: Changes,
}
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Content)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A whole frame: its series' key, and where it lies in the segment's bytes."""

    key: bytes
    start: int
    end: int
    body: memoryview

    def content(self) -> Content | None:
        """The rows or the mark; None if another program wrote it, or it is damaged after all."""
        try:
            found: Content = _decoder.decode(self.body)
        except msgspec.MsgspecError:
            return None
        return None if isinstance(found, PackedTrades) and not found.whole() else found


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes that are no frame; `last` if no frame follows them."""

    start: int
    end: int
    last: bool


def encode(series: Series, content: Content) -> bytes:
    """One frame."""
    key = str(series).encode()
    body = bytes([len(key)]) + key + _encoder.encode(content)
    length = _LENGTH.pack(len(body))
    return _MARK + length + _LENGTH.pack(zlib.crc32(body, zlib.crc32(length))) + body


def encode_rows(series: Series, rows: Sequence[tuple[object, ...]]) -> bytes:
    """One frame of rows of the series' channel."""
    return encode(series, ROWS[series.channel](list(rows)))


def scan(content: bytes) -> Iterator[Frame | Hole]:
    """Frames in their order, and what is between them that is none."""
    view, at = memoryview(content), 0
    while at < len(content):
        frame = _frame(view, at)
        if frame is None:
            following = _next_frame(content, view, at + 1)
            yield Hole(at, len(content) if following is None else following, following is None)
            if following is None:
                return
            at = following
        else:
            yield frame
            at = frame.end


def _next_frame(content: bytes, view: memoryview, at: int) -> int | None:
    """Where the next whole frame begins: a damaged length is not to be trusted."""
    while (at := content.find(_MARK, at)) >= 0:
        if _frame(view, at) is not None:
            return at
        at += 1
    return None


def _frame(view: memoryview, at: int) -> Frame | None:
    """The frame that begins here, None if there is none, or not a whole one."""
    start = at + _HEAD.size
    if start > len(view):
        return None
    mark, length, checksum = _HEAD.unpack_from(view, at)
    body = view[start : start + length]
    if mark != _MARK or not length or len(body) != length:
        return None
    if zlib.crc32(body, zlib.crc32(view[at + 4 : at + 8])) != checksum:
        return None
    rest = 1 + body[0]
    return Frame(bytes(body[1:rest]), at, start + length, body[rest:])
