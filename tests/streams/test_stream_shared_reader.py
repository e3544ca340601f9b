"""The shared reader: what it reads for whom, and when it gives back what was lent to it."""

import threading
import time
from collections.abc import Iterator

import pytest

from dccd_core.exchanges.live import Frame
from dccd_streams.shared_reader import ENOUGH, SharedReader
from dccd_streams.transport import Disconnected

FAR = 3_600.0  # seconds from now: no test waits for it


class Fake:
    """A transport that gives its batches one by one, then nothing, or its error."""

    def __init__(self, *batches: list[Frame], end: Exception | None = None) -> None:
        self._batches, self._end = list(batches), end
        self.calls = 0
        self.called = threading.Event()

    def connect(self, url: str, proxy: str | None) -> None:
        raise AssertionError("the reader does not connect")

    def send(self, message: bytes) -> None:
        raise AssertionError("the reader does not send")

    def close(self) -> None:
        raise AssertionError("the reader does not close")

    def receive(self, timeout: float) -> list[Frame]:
        assert timeout == 0, "the reader must not wait for one of many"
        self.calls += 1
        self.called.set()
        if self._batches:
            return self._batches.pop(0)
        if self._end is not None:
            raise self._end
        return []


@pytest.fixture
def reader() -> Iterator[SharedReader]:
    one = SharedReader()
    yield one
    one.close()


def frames(first: int, count: int = 1) -> list[Frame]:
    return [Frame(str(n).encode(), n) for n in range(first, first + count)]


def lend(reader: SharedReader, transport: Fake) -> tuple[threading.Thread, list[Frame]]:
    """Lend a transport for an hour, in a thread of its own."""
    found: list[Frame] = []
    until = time.monotonic() + FAR
    thread = threading.Thread(target=reader.read, args=(transport, found, until), daemon=True)
    thread.start()
    return thread, found


def test_what_comes_until_the_moment_is_appended_in_order(reader: SharedReader) -> None:
    transport, found = Fake(frames(1), frames(2, 3)), frames(0)
    while transport.calls < 2:
        reader.read(transport, found, time.monotonic())
    assert found == frames(0, 5)


def test_a_transport_that_was_given_back_is_left_alone(reader: SharedReader) -> None:
    transport, other = Fake(), Fake()
    reader.read(transport, [], time.monotonic())
    calls = transport.calls
    reader.read(other, [], time.monotonic())  # the reader goes on with another one
    assert other.calls == 1
    assert transport.calls == calls == 1


def test_a_lot_is_given_back_at_once(reader: SharedReader) -> None:
    found: list[Frame] = []
    reader.read(Fake(frames(0, ENOUGH)), found, time.monotonic() + FAR)
    assert found == frames(0, ENOUGH)


def test_the_end_is_told_after_what_came_before_it(reader: SharedReader) -> None:
    found: list[Frame] = []
    with pytest.raises(Disconnected, match="cut"):
        reader.read(Fake(frames(0, 2), end=Disconnected("cut")), found, time.monotonic() + FAR)
    assert found == frames(0, 2)


def test_a_mistake_with_one_is_its_owners_and_the_others_are_read(reader: SharedReader) -> None:
    other = Fake()
    thread, _ = lend(reader, other)
    with pytest.raises(ZeroDivisionError):
        reader.read(Fake(end=ZeroDivisionError()), [], time.monotonic() + FAR)
    other.called.clear()
    assert other.called.wait(60)
    assert thread.is_alive()
    reader.close()
    thread.join(60)
    assert not thread.is_alive()


def test_closing_gives_back_what_is_lent_and_nothing_is_read_afterwards() -> None:
    reader, transport = SharedReader(), Fake()
    thread, _ = lend(reader, transport)
    assert transport.called.wait(60)
    reader.close()
    thread.join(60)
    assert not thread.is_alive()
    calls = transport.calls
    reader.read(transport, [], time.monotonic() + FAR)
    assert transport.calls == calls
