"""The shared reader: what it reads for whom, and when it gives back what was lent to it."""

import threading
import time
from collections.abc import Iterator

import pytest

from dccd_streams.shared_reader import SharedReader

FAR = 3_600.0  # seconds: no test waits for it
SHORT = 0.02


class Fake:
    """Something to read, which has enough, or fails, after some reads, and some turns to do."""

    def __init__(self, enough: int = 0, turns: int = 1_000_000) -> None:
        self._enough, self._turns = enough, turns
        self.reads = self.turns = 0
        self.read = threading.Event()
        self.turned = threading.Event()

    def collect(self) -> bool:
        self.reads += 1
        self.read.set()
        return self.reads == self._enough

    def turn(self) -> bool:
        self.turns += 1
        self.turned.set()
        return self.turns < self._turns


class Broken(Fake):
    """It cannot be read the second time."""

    def collect(self) -> bool:
        if self.reads:
            raise ZeroDivisionError
        return super().collect()


class Dull(Fake):
    """It has no turn."""

    def turn(self) -> bool:
        raise ZeroDivisionError


@pytest.fixture
def reader() -> Iterator[SharedReader]:
    one = SharedReader()
    yield one
    one.close()


def lend(reader: SharedReader, fake: Fake, every: float = FAR) -> threading.Thread:
    """Lend it, in a thread of its own."""
    arguments = (fake.collect, fake.turn, every)
    thread = threading.Thread(target=reader.read, args=arguments, daemon=True)
    thread.start()
    return thread


def test_it_is_read_and_has_its_turns_until_one_says_that_it_is_over(reader: SharedReader) -> None:
    fake = Fake(turns=3)
    reader.read(fake.collect, fake.turn, SHORT)
    assert fake.turns == 3
    assert fake.reads >= 3


def test_what_was_given_back_is_left_alone(reader: SharedReader) -> None:
    one, other = Fake(turns=1), Fake(turns=3)
    reader.read(one.collect, one.turn, SHORT)
    reads = one.reads
    reader.read(other.collect, other.turn, SHORT)  # the reader goes on with another one
    assert (one.reads, one.turns) == (reads, 1)


def test_enough_has_its_turn_at_once(reader: SharedReader) -> None:
    fake = Fake(enough=3, turns=1)
    reader.read(fake.collect, fake.turn, FAR)
    assert (fake.reads, fake.turns) == (3, 1)


def test_between_turns_it_is_read_more_often(reader: SharedReader) -> None:
    fake = Fake(turns=2)
    reader.read(fake.collect, fake.turn, 0.5)
    assert fake.reads > 4


@pytest.mark.parametrize("kind", [Broken, Dull])
def test_a_mistake_with_one_is_its_owners_and_the_others_go_on(
    reader: SharedReader, kind: type[Fake]
) -> None:
    other, wrong = Fake(), kind()
    thread = lend(reader, other, SHORT)
    with pytest.raises(ZeroDivisionError):
        reader.read(wrong.collect, wrong.turn, SHORT)
    other.turned.clear()
    assert other.turned.wait(60)
    assert thread.is_alive()
    reader.close()
    thread.join(60)
    assert not thread.is_alive()


def test_one_whose_turns_are_long_leaves_the_others_their_turns(reader: SharedReader) -> None:
    """Nobody comes last for ever, and all are read between two long turns."""
    go_on, quick = threading.Event(), Fake()

    class Slow(Fake):
        def turn(self) -> bool:
            go_on.wait(0.15)
            return super().turn()

    slow = [Slow(), Slow()]
    threads = [lend(reader, one, SHORT) for one in (*slow, quick)]
    for one in (*slow, quick, *slow, quick):
        one.turned.clear()
        assert one.turned.wait(60)
    assert quick.reads >= max(one.turns for one in slow)
    go_on.set()
    reader.close()
    for thread in threads:
        thread.join(60)


def test_who_has_enough_and_waits_for_its_turn_is_read_no_more(reader: SharedReader) -> None:
    """Else a flood that is faster than its turns would fill the memory."""

    class Flood(Fake):
        most = unread = 0

        def collect(self) -> bool:
            super().collect()
            self.unread += 1
            self.most = max(self.most, self.unread)
            return True

        def turn(self) -> bool:
            self.unread = 0
            time.sleep(0.04)  # longer than the reader has for all turns
            return super().turn()

    floods = [Flood(turns=5) for _ in range(4)]
    threads = [lend(reader, one) for one in floods]
    for thread in threads:
        thread.join(60)
    assert [(one.turns, one.most) for one in floods] == [(5, 1)] * 4


def test_closing_gives_back_what_is_lent_and_nothing_is_read_afterwards() -> None:
    reader, fake = SharedReader(), Fake()
    thread = lend(reader, fake)
    assert fake.read.wait(60)
    reader.close()
    thread.join(60)
    assert not thread.is_alive()
    reads = fake.reads
    reader.read(fake.collect, fake.turn, FAR)
    assert (fake.reads, fake.turns) == (reads, 0)


def test_closing_waits_no_longer_than_it_may_for_a_turn_that_hangs() -> None:
    go_on, reader = threading.Event(), SharedReader()

    class Hanging(Fake):
        def turn(self) -> bool:
            super().turn()
            go_on.wait(60)
            return True

    hanging = Hanging(enough=1)
    thread = lend(reader, hanging)
    assert hanging.turned.wait(60)
    assert not reader.close(0.1)
    go_on.set()
    assert reader.close(60)
    thread.join(60)
    assert not thread.is_alive()
