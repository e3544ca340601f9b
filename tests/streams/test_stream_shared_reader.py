"""The shared reader: what it reads for whom, and when it gives back what was lent to it."""

import threading
from collections.abc import Iterator

import pytest

from dccd_streams.shared_reader import SharedReader

FAR = 3_600.0  # seconds: no test waits for it


class Fake:
    """Something to read, which has enough after some times, or fails then."""

    def __init__(self, enough: int = 1_000_000, end: Exception | None = None) -> None:
        self._enough, self._end = enough, end
        self.calls = 0
        self.called = threading.Event()

    def collect(self) -> bool:
        self.calls += 1
        self.called.set()
        if self.calls >= self._enough and self._end is not None:
            raise self._end
        return self.calls >= self._enough


@pytest.fixture
def reader() -> Iterator[SharedReader]:
    one = SharedReader()
    yield one
    one.close()


def lend(reader: SharedReader, fake: Fake) -> threading.Thread:
    """Lend it for an hour, in a thread of its own."""
    thread = threading.Thread(target=reader.read, args=(fake.collect, FAR), daemon=True)
    thread.start()
    return thread


def test_it_is_read_again_and_again_until_its_time_is_over(reader: SharedReader) -> None:
    fake = Fake()
    reader.read(fake.collect, 0.2)
    assert fake.calls > 1


def test_what_was_given_back_is_left_alone(reader: SharedReader) -> None:
    one, other = Fake(), Fake()
    reader.read(one.collect, 0)
    calls = one.calls
    reader.read(other.collect, 0)  # the reader goes on with another one
    assert other.calls == 1
    assert one.calls == calls == 1


def test_enough_is_given_back_at_once(reader: SharedReader) -> None:
    fake = Fake(enough=3)
    reader.read(fake.collect, FAR)
    assert fake.calls == 3


def test_a_mistake_with_one_is_its_owners_and_the_others_are_read(reader: SharedReader) -> None:
    other = Fake()
    thread = lend(reader, other)
    with pytest.raises(ZeroDivisionError):
        reader.read(Fake(enough=2, end=ZeroDivisionError()).collect, FAR)
    other.called.clear()
    assert other.called.wait(60)
    assert thread.is_alive()
    reader.close()
    thread.join(60)
    assert not thread.is_alive()


def test_closing_gives_back_what_is_lent_and_nothing_is_read_afterwards() -> None:
    reader, fake = SharedReader(), Fake()
    thread = lend(reader, fake)
    assert fake.called.wait(60)
    reader.close()
    thread.join(60)
    assert not thread.is_alive()
    calls = fake.calls
    reader.read(fake.collect, FAR)
    assert fake.calls == calls
