"""Books out of their stored changes: the book at any moment, or the words why it is not known."""

import random
from pathlib import Path

import pytest
from helpers import at, window
from test_store_journal import DELTAS

from dccd_core.exchanges.live import BookChange
from dccd_core.exchanges.trades import Book
from dccd_core.models import DAY, SECOND, Window
from dccd_core.store.books import rebuild, replay
from dccd_core.store.datastore import DataStore
from dccd_core.store.fold import fold
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import Loss

START = at("2026-11-22T23:00")
STEP = 30 * SECOND
KEEP = 8
Sides = tuple[dict[float, float], dict[float, float]]


def market(seed: int, steps: int) -> list[tuple[BookChange, Book]]:
    """Changes over midnight, a snapshot now and then, each with the whole book after it."""
    randomly, found = random.Random(seed), list[tuple[BookChange, Book]]()
    book: Sides = ({}, {})
    for n in range(steps):
        snapshot = n % 60 == 0
        book = ({}, {}) if snapshot else book
        changes: tuple[list[tuple[float, float]], ...] = ([], [])
        for side in (0, 1):
            for _ in range(12 if snapshot else randomly.randrange(4)):
                price = 100.0 + randomly.randrange(1, 20) * (-1, 1)[side]
                amount = float(randomly.choice([1, 2, 3] if snapshot else [0, 1, 2, 3]))
                changes[side].append((price, amount))
                book[side].pop(price, None)
                book[side].update({price: amount} if amount else {})
        best = [sorted(one.items(), reverse=not n)[:KEEP] for n, one in enumerate(book)]
        book = (dict(best[0]), dict(best[1]))
        received = START + n * STEP
        time = received - randomly.randrange(SECOND) if randomly.random() < 0.8 else None
        change = BookChange(snapshot, *changes, received, time, n, n, n - 1, None, KEEP)
        stored = received if time is None else time
        found.append((change, Book(best[0], best[1], n, stored)))
    return found


def write(store: DataStore, changes: list[BookChange], *marks: Window | Loss) -> None:
    writer = JournalWriter(store.journal)
    writer.append_deltas(DELTAS, changes)
    for mark in marks:
        writer.mark(DELTAS, mark)
    writer.close()


@pytest.mark.parametrize("folded", [0, 100, 200])
def test_every_book_is_rebuilt_from_files_and_journal_as_it_was(
    folded: int, tmp_path: Path
) -> None:
    """Two hundred changes; from the hundredth on they are in the next day."""
    store, truth = DataStore(tmp_path), market(1, 200)
    end = START + 200 * STEP
    assert START + 100 * STEP < at("2026-11-23") < end
    write(store, [change for change, _ in truth[:folded]], Window(START, START + folded * STEP))
    fold(store)
    write(store, [change for change, _ in truth[folded:]], Window(START + folded * STEP, end))
    for n in (0, 1, 59, 60, 61, 100, 119, 120, 199):
        assert rebuild(store, DELTAS, START + n * STEP) == truth[n][1]
        assert rebuild(store, "binance/book_deltas/BTC-USDT", START + n * STEP + 9) == truth[n][1]
    seen = [(received, ladder.book()) for received, ladder in replay(store, DELTAS)]
    assert seen == [(change.received, book) for change, book in truth]
    middle = [
        (received, ladder.book())
        for received, ladder in replay(store, DELTAS, START + 70 * STEP, START + 130 * STEP)
    ]
    assert middle == [(change.received, book) for change, book in truth[70:130]]
    assert rebuild(store, DELTAS, START).bids == truth[0][1].bids
    top = next(ladder for _, ladder in replay(store, DELTAS)).book(3)
    assert (top.bids, top.asks) == (truth[0][1].bids[:3], truth[0][1].asks[:3])


def test_changes_that_waited_for_the_first_book_are_applied_after_it(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    changes = [
        BookChange(True, [(1.0, 1.0)], [(2.0, 1.0)], START + 50, None, last=7),
        BookChange(False, [(1.0, 0.0)], [], START + 10, START + 5, last=8),
        BookChange(False, [(0.5, 4.0)], [], START + 20, START + 15, last=9),
    ]
    write(store, changes, Window(START, START + SECOND))
    fold(store)
    found = rebuild(store, DELTAS, START + 60)
    assert (found.bids, found.asks, found.sequence) == ([(0.5, 4.0)], [(2.0, 1.0)], 9)


def test_a_short_loss_is_one_too_but_not_its_end_by_another_clock(tmp_path: Path) -> None:
    store, truth = DataStore(tmp_path), market(2, 70)
    times = [START + n * STEP for n in range(70)]
    # the first book is received at START
    early = Loss(START - SECOND, START + 3 * SECOND, "not running")
    short = Loss(times[20] + 1, times[20] + SECOND, "cut")
    write(store, [change for change, _ in truth], early)
    write(store, [], short, Window(START + 3 * SECOND, times[20] + 1))
    write(store, [], Window(times[20] + SECOND, times[69] + 1))
    assert rebuild(store, DELTAS, times[10]) == truth[10][1]
    assert rebuild(store, DELTAS, times[20]) == truth[20][1]
    for after in (2, SECOND, 30 * SECOND):
        with pytest.raises(LookupError, match=r"is not known: lost \(cut\)"):
            rebuild(store, DELTAS, times[20] + after)
    assert rebuild(store, DELTAS, times[60]) == truth[60][1]


def test_a_book_is_not_known_before_the_first_one_and_after_a_loss(tmp_path: Path) -> None:
    store, truth = DataStore(tmp_path), market(2, 130)
    times = [START + n * STEP for n in range(130)]
    changes = [change for n, (change, _) in enumerate(truth) if not 20 <= n < 30]
    lost = Loss(times[20] - 1, times[30], "connection lost")
    write(store, changes, Window(START, times[20] - 1), lost, Window(times[30], times[129] + 1))
    assert rebuild(store, DELTAS, times[19]) == truth[19][1]
    for n in (20, 21, 25, 45, 59):
        with pytest.raises(LookupError, match=r"is not known: lost \(connection lost\): 2026"):
            rebuild(store, DELTAS, times[n])
    assert rebuild(store, DELTAS, times[60]) == truth[60][1]
    with pytest.raises(LookupError, match="no whole book is stored before 2026-11-22T22:59:59"):
        rebuild(store, DELTAS, START - SECOND)
    with pytest.raises(LookupError, match="is not known: missing"):
        rebuild(store, DELTAS, times[129] + DAY * SECOND)
    with pytest.raises(LookupError, match="no whole book"):
        rebuild(DataStore(tmp_path / "other"), DELTAS, START)


def test_replay_begins_with_the_first_whole_book(tmp_path: Path) -> None:
    store, truth = DataStore(tmp_path), market(3, 70)
    write(store, [change for change, _ in truth[1:]])
    seen = [(received, ladder.book()) for received, ladder in replay(store, DELTAS)]
    assert seen == [(change.received, book) for change, book in truth[60:]]
    assert list(replay(store, DELTAS, *window("2020-01-01", "2020-01-02"))) == []
    assert list(replay(DataStore(tmp_path / "other"), DELTAS)) == []
