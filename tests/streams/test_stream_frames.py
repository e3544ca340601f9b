"""The frame loop: against frames made by somebody else's library, cut anywhere, and garbage."""

import random
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode

from dccd_core.exchanges.live import Frame as Received
from dccd_streams.frames import FrameReader, ProtocolError

PIECE = 64 << 10


def wire(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = False) -> bytes:
    """A frame as another library writes it."""
    return Frame(opcode, data, fin).serialize(mask=mask)


def read(reader: FrameReader, data: bytes) -> list[bytes]:
    """What a reader makes of bytes that come in one piece after the other."""
    found: list[Received] = []
    for start in range(0, len(data), PIECE):
        reader.feed(data[start : start + PIECE], 0)
        reader.messages(found)
    return [frame.payload for frame in found]


MESSAGES = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.sampled_from([125, 126, 65_535, 65_536, 300_000]).map(lambda size: b"x" * size),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(MESSAGES, st.lists(st.integers(1, 50_000), min_size=3), st.integers(0, 2**32))
def test_messages_come_whole_however_they_are_cut(
    messages: list[bytes], cuts: list[int], seed: int
) -> None:
    dice = random.Random(seed)
    data = b"".join(as_frames(message, dice) for message in messages)
    reader, found = FrameReader(), list[bytes]()
    for piece in pieces(data, cuts, dice):
        found += read(reader, piece)
    assert list(map(len, found)) == list(map(len, messages))
    assert all(one == other for one, other in zip(found, messages, strict=True))
    assert all(ping == b"p" for ping in reader.pings)


def pieces(data: bytes, cuts: list[int], dice: random.Random) -> Iterator[bytes]:
    """Data as a network may cut it; not into too many."""
    least = 0 if len(data) < 5_000 else 997
    while data:
        size = dice.choice(cuts) + least
        yield data[:size]
        data = data[size:]


def as_frames(message: bytes, dice: random.Random) -> bytes:
    """A message in one frame or some, with pings between."""
    if dice.random() < 0.5:
        return wire(Opcode.TEXT, message)
    cut = dice.randint(0, len(message))
    return (
        wire(Opcode.BINARY, message[:cut], fin=False)
        + wire(Opcode.PING, b"p")
        + wire(Opcode.CONT, message[cut:])
    )


@given(st.binary(max_size=2_000))
def test_garbage_is_refused_or_waits_for_more(data: bytes) -> None:
    reader = FrameReader(largest=1_000)
    try:
        found = read(reader, data)
    except ProtocolError:
        return
    assert sum(map(len, found)) <= len(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bytes([0x81, 0x81, 1, 2, 3, 4, 121]), "masked"),
        (bytes([0xC1, 1, 65]), "reserved bits"),
        (bytes([0x83, 1, 65]), "unknown kind 3"),
        (bytes([0x8B, 1, 65]), "unknown kind 11"),
        (wire(Opcode.CONT, b"x"), "mixed up"),
        (wire(Opcode.TEXT, b"x", fin=False) + wire(Opcode.TEXT, b"y"), "mixed up"),
        (bytes([0x09, 1, 65]), "control frame"),
        (bytes([0x88, 1, 3]), "half a code"),
        (bytes([0x81, 127]) + (1 << 40).to_bytes(8), "a message of"),
        (wire(Opcode.TEXT, b"x" * 700, fin=False) * 1 + wire(Opcode.CONT, b"x" * 700), "more than"),
    ],
)
def test_what_no_server_may_send(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        read(FrameReader(largest=1_000), data)


def test_what_came_before_a_fault_is_kept() -> None:
    reader, found = FrameReader(), list[Received]()
    reader.feed(wire(Opcode.TEXT, b"good") + bytes([0x83, 0]), 1)
    with pytest.raises(ProtocolError):
        reader.messages(found)
    assert found == [(b"good", 1)]


@settings(deadline=None, max_examples=60)
@given(MESSAGES, st.lists(st.integers(1, 50_000), min_size=3), st.integers(0, 2**32))
def test_a_message_has_the_receipt_of_its_last_byte(
    messages: list[bytes], cuts: list[int], seed: int
) -> None:
    dice = random.Random(seed)
    frames = [as_frames(message, dice) for message in messages]
    parts = list(pieces(b"".join(frames), cuts, dice))
    reader, found = FrameReader(), list[Received]()
    for number, piece in enumerate(parts):
        reader.feed(piece, number)
        if dice.random() < 0.3:
            reader.messages(found)
    reader.messages(found)
    ends, fed = accumulate(map(len, frames)), list(accumulate(map(len, parts)))
    assert [frame.received for frame in found] == [bisect_left(fed, end) for end in ends]
    assert reader.held == 0


def test_a_close_frame_ends_the_messages() -> None:
    reader = FrameReader()
    close = CloseCode.GOING_AWAY.to_bytes(2) + b"bye"
    data = wire(Opcode.TEXT, b"1") + wire(Opcode.CLOSE, close) + wire(Opcode.TEXT, b"2")
    assert read(reader, data) == [b"1"]
    assert reader.closed == (1001, "bye")


def test_memory_is_given_back_after_a_large_message() -> None:
    reader = FrameReader()
    large = b"x" * 5_000_000
    assert list(map(len, read(reader, wire(Opcode.TEXT, large)))) == [len(large)]
    for _ in range(40):
        read(reader, wire(Opcode.TEXT, b"y" * 100_000))
    assert reader.held == 0


def test_a_message_of_many_parts_has_its_limits() -> None:
    parts = wire(Opcode.CONT, b"x" * 10, fin=False)
    reader = FrameReader(largest=1_000_000)
    first, last = wire(Opcode.TEXT, b"", fin=False), wire(Opcode.CONT, b"")
    for _ in range(2):  # the second message begins at nothing
        assert read(reader, first + parts * 60_000 + last) == [b"x" * 600_000]
    with pytest.raises(ProtocolError, match="65536 parts"):
        read(reader, first + parts * 66_000)
    with pytest.raises(ProtocolError, match="more than 1000000 bytes"):
        read(
            FrameReader(largest=1_000_000), first + wire(Opcode.CONT, b"x" * 600_000, fin=False) * 2
        )
