"""Two processes at the same series at once: no row lost, none twice, and none fetched in vain."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import workers
from helpers import (
    BTC_1H,
    NOW,
    assert_sound,
    assert_whole,
    at,
    collect,
    page_questions,
    plain,
    truth,
    window,
)

from dccd_core.models import Window
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Sandbox, Settings

WANTED = window("2024-11-20", "2025-02-10")


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0, latency=0.003)) as running:
        yield running


def test_two_backfills_of_the_same_series_end_as_one(box: Sandbox, tmp_path: Path) -> None:
    arguments = (workers.backfill, tmp_path, box.binance_url, [BTC_1H], WANTED, 48)
    both = [workers.start(*arguments) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert_sound(tmp_path)
    assert_whole(DataStore(tmp_path), BTC_1H, truth(box, BTC_1H, WANTED))
    assert DataStore(tmp_path).missing_windows(BTC_1H, WANTED) == []


def test_a_backfill_forwards_and_one_backwards_meet(box: Sandbox, tmp_path: Path) -> None:
    middle = at("2024-12-25T05:00")
    halves = [Window(WANTED.start, middle), Window(middle, WANTED.end)]
    both = [
        workers.start(workers.backfill, tmp_path, box.binance_url, [BTC_1H], half, 48)
        for half in halves
    ]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert_whole(DataStore(tmp_path), BTC_1H, truth(box, BTC_1H, WANTED))
    box.reset()
    assert [o.error for o in collect(box.binance_url, tmp_path, BTC_1H, WANTED)] == [None, None]
    assert page_questions(box) == []


def test_mergers_in_three_processes_lose_nothing(tmp_path: Path) -> None:
    first = at("2024-01-01")
    store = DataStore(tmp_path)
    processes = [
        workers.start(workers.merge_share, tmp_path, first, share, 3, 40) for share in range(3)
    ]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    rows = store.load(BTC_1H)
    assert rows["time"].to_physical().to_list() == [
        first + n * workers.HOUR for n in range(3 * 40 * 4)
    ]
    assert plain(store.folder(BTC_1H)).equals(rows)


def file_by_file(folder: Path) -> list[int]:
    """The times of `*.parquet` to a reader that knows nothing of us and opens each file once.

    DuckDB and polars open a path more than once, and say so if it was replaced in between.
    """
    found: list[int] = []
    for path in sorted(folder.glob("*.parquet")):
        with path.open("rb") as file:
            found += pq.read_table(file, columns=["time"]).column("time").cast("int64").to_pylist()
    return found


def test_a_reader_sees_a_whole_state_at_every_moment(tmp_path: Path) -> None:
    """Rows come in order here, so that every consistent state is a beginning of the whole."""
    first = at("2024-01-01")
    store, plainly = DataStore(tmp_path), 0
    seen: list[int] = []
    writer = workers.start(workers.append, tmp_path, first, 250)
    while writer.exitcode is None or not seen:
        if not store.existing_periods(BTC_1H):
            time.sleep(0.002)
            continue
        times = store.load(BTC_1H)["time"].to_physical().to_list()
        assert times == [first + n * workers.HOUR for n in range(len(times))]
        seen.append(len(times))
        assert [window.start for window in store.covered(BTC_1H)] == [first]
        with suppress(FileNotFoundError):  # the tail that was listed is folded in by now
            found = file_by_file(store.folder(BTC_1H))
            assert found == sorted(set(found)), "a row twice"
            plainly += 1
    assert writer.exitcode == 0
    assert len(set(seen)) > 5, "the reader saw too few states to say anything"
    assert seen == sorted(seen), "a row that was there was not there a moment later"
    assert plainly > 5
    assert file_by_file(store.folder(BTC_1H)) == [first + n * workers.HOUR for n in range(1_000)]


def test_the_lock_of_a_killed_writer_is_free_at_once(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    holder = workers.start(workers.hold, tmp_path)
    lock = store.private / "locks" / f"{'.'.join(BTC_1H.key)}.lock"
    while not (lock.exists() and (tmp_path / "held").exists()):
        time.sleep(0.002)
    waiting = workers.start(workers.append, tmp_path, at("2024-01-01"), 1)
    waiting.join(0.3)
    assert waiting.exitcode is None, "two writers at once"
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    waiting.join()
    assert waiting.exitcode == 0
    assert_sound(tmp_path)
    assert store.existing_periods(BTC_1H) == ["2024"]
