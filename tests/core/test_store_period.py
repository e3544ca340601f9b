"""One period: main file, tail and fold. Promises 7, 8 and 10, and a model of all merges."""

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import BTC_1H, assert_sound, at, plain, table
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dccd_core.intervals import union
from dccd_core.models import Window
from dccd_core.store import files, period
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.period import Merged, Period
from dccd_core.store.schemas import OHLC, SchemaError

HOUR = 3_600_000_000
START = at("2024-01-01")
Rows = dict[int, float]


def time(n: int) -> int:
    return START + n * HOUR


def span(first: int, end: int) -> Window:
    return Window(time(first), time(end))


def rows(numbers: Rows) -> pa.Table:
    """Candles by number of the hour, with their close."""
    by_minute = {time(n) // 60_000_000: close for n, close in numbers.items()}
    return table([time(n) for n in sorted(numbers)], by_minute.__getitem__)


def fresh(folder: Path) -> Period:
    """The files as another process finds them."""
    return Period(folder, BTC_1H, "2024")


def put(folder: Path, first: int, end: int, close: float = 1.0) -> Merged:
    """Merge the candles first … end - 1 and say so in the ledger."""
    numbers = dict.fromkeys(range(first, end), close)
    return fresh(folder).merge(rows(numbers), [span(first, end)], "test")


def seen(folder: Path) -> Rows:
    """What the parts hold, by number of the hour."""
    found: Rows = {}
    for part in fresh(folder).open():
        read = part.read(["time", "close"])
        times = read.column("time").cast(pa.int64()).to_pylist()
        numbers = [(moment - START) // HOUR for moment in times]
        assert not found.keys() & set(numbers), "a row is there twice"
        found |= dict(zip(numbers, read.column("close").to_pylist(), strict=True))
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def small_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(period, "TAIL_ROWS", 10)


# --- any sequence of merges, against a dict ----------------------------------------------------

NUMBERS = st.integers(0, 120)
CLOSES = st.sampled_from([1.0, 2.0, 3.0])


class Merging(RuleBasedStateMachine):
    """Random merges: the rows, the counts and the ledger are those of a plain dict."""

    folders: ClassVar[Iterator[Path]]

    @initialize(tail=st.sampled_from([1, 7, 20]))
    def begin(self, tail: int) -> None:
        self.folder = next(self.folders)
        self.folder.mkdir()
        self.tail, self.rows, self.revised = tail, dict[int, float](), 0
        self.covered: list[Window] = []

    def merge(self, new: Rows, covered: list[Window]) -> None:
        again = [n for n in new if n in self.rows and self.rows[n] != new[n]]
        added = len(new.keys() - self.rows.keys())
        before, period.TAIL_ROWS = period.TAIL_ROWS, self.tail
        try:
            merged = fresh(self.folder).merge(rows(new), covered, "test")
        finally:
            period.TAIL_ROWS = before
        assert (merged.added, merged.revised) == (added, len(again))
        self.rows |= new
        self.revised += len(again)
        self.covered = union([*self.covered, *covered])
        assert (merged.rows, merged.covered) == (len(self.rows), self.covered)
        assert merged.first == (time(min(self.rows)) if self.rows else None)
        assert merged.last == (time(max(self.rows)) if self.rows else None)
        assert merged.set_aside == []

    @rule(count=st.integers(1, 12), reread=st.integers(0, 3), close=CLOSES)
    def append(self, count: int, reread: int, close: float) -> None:
        """As the schedule does: the newest rows again, and a few more."""
        last = max(self.rows, default=-1)
        new = {n: self.rows[n] for n in range(last - reread, last + 1) if n in self.rows}
        new |= dict.fromkeys(range(last + 1, last + 1 + count), close)
        self.merge(new, [span(min(new), max(new) + 1)])

    @rule(first=NUMBERS, count=st.integers(1, 30), close=CLOSES)
    def overlap(self, first: int, count: int, close: float) -> None:
        """Anywhere: before, inside or after what is there, some of it revised."""
        self.merge(dict.fromkeys(range(first, first + count), close), [span(first, first + count)])

    @rule(some=st.dictionaries(NUMBERS, CLOSES, max_size=8))
    def scatter(self, some: Rows) -> None:
        """Single rows with holes between them; nothing is said of the holes."""
        self.merge(some, [span(n, n + 1) for n in some])

    @rule(first=NUMBERS, count=st.integers(0, 30))
    def cover(self, first: int, count: int) -> None:
        """The exchange said that there is nothing here."""
        self.merge({}, [span(first, first + count)])

    @invariant()
    def the_files_are_the_rows(self) -> None:
        if not hasattr(self, "folder"):
            return
        assert seen(self.folder) == self.rows
        parts = fresh(self.folder).open()
        assert union(w for part in parts for w in part.footer.windows) == self.covered
        assert sum(part.footer.revised for part in parts) == self.revised
        for part in parts:
            times = part.read(["time"]).column("time").cast(pa.int64()).to_numpy()
            assert (np.diff(times) > 0).all()
            assert part.footer.first == (times[0] if len(times) else None)
            assert part.footer.last == (times[-1] if len(times) else None)
        assert names(self.folder) <= {"2024.parquet", "2024.tail.parquet"}
        tails = [part for part in parts if part.path.name == "2024.tail.parquet"]
        assert all(part.rows <= max(self.tail, 1) for part in tails)


def test_any_sequence_of_merges_is_as_a_dict(tmp_path: Path) -> None:
    Merging.folders = (tmp_path / str(n) for n in itertools.count())
    Merging.TestCase.settings = settings(
        max_examples=40,
        stateful_step_count=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    Merging.TestCase("runTest").runTest()


def test_times_out_of_order_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    mixed = pa.concat_tables([rows({5: 1.0}), rows({4: 1.0})])
    for wrong in (mixed, pa.concat_tables([rows({5: 1.0})] * 2)):
        with pytest.raises(ValueError, match="not strictly ascending"):
            fresh(tmp_path).merge(wrong, [span(4, 6)], "test")
    assert names(tmp_path) == set()


# --- promise 8 ---------------------------------------------------------------------------------


def test_promise_8_a_new_row_costs_the_same_on_a_hundred_thousand_as_on_a_thousand(
    tmp_path: Path,
) -> None:
    """Counted in bytes written; the newest three candles come again with each new one."""
    minutes = 60_000_000
    written = {}
    for size in (1_000, 100_000):
        folder = tmp_path / str(size)
        folder.mkdir()
        times = [START + n * minutes for n in range(size + 40)]
        ledger = [Window(START, times[size])]
        fresh(folder).merge(table(times[:size]), ledger, "test")
        main = (folder / "2024.parquet").stat()
        sizes = []
        for n in range(size, size + 40):
            covered = [Window(times[n - 3], times[n] + minutes)]
            merged = fresh(folder).merge(table(times[n - 3 : n + 1]), covered, "test")
            assert (merged.added, merged.revised, merged.rows) == (1, 0, n + 1)
            sizes.append(merged.written)
        after = (folder / "2024.parquet").stat()
        assert (after.st_ino, after.st_mtime_ns) == (main.st_ino, main.st_mtime_ns)
        written[size] = sum(sizes)
    assert written[100_000] < 1.2 * written[1_000]


def test_promise_8_the_tail_is_folded_in_when_it_is_full(tmp_path: Path, small_tail: None) -> None:
    put(tmp_path, 0, 50)
    for n in range(50, 60):
        put(tmp_path, n, n + 1)
    assert names(tmp_path) == {"2024.parquet", "2024.tail.parquet"}
    assert pq.read_metadata(tmp_path / "2024.tail.parquet").num_rows == 10
    put(tmp_path, 60, 61)
    assert names(tmp_path) == {"2024.parquet"}
    assert len(seen(tmp_path)) == 61


def test_what_is_known_is_not_written_again(tmp_path: Path) -> None:
    put(tmp_path, 0, 50)
    put(tmp_path, 50, 55)
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    again = put(tmp_path, 10, 55)
    assert (again.added, again.revised, again.written) == (0, 0, 0)
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == before


def test_a_candle_that_changed_is_replaced_and_counted_null_against_number_too(
    tmp_path: Path,
) -> None:
    put(tmp_path, 0, 5)
    revised = put(tmp_path, 3, 6, close=2.0)
    assert (revised.added, revised.revised) == (1, 2)
    assert seen(tmp_path) == {0: 1.0, 1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0}
    known = rows({4: 2.0})
    place = OHLC.get_field_index("trades")
    known = known.set_column(place, OHLC.field(place), pa.array([7], pa.int64()))
    merged = fresh(tmp_path).merge(known, [], "test")
    assert (merged.added, merged.revised) == (0, 1)
    assert sum(part.footer.revised for part in fresh(tmp_path).open()) == 3


# --- promise 7: every moment at which a writer may die -----------------------------------------


# Python 3.12 warns of every fork of a process with threads; the child here uses none.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def dying(act: Callable[[], object], after: int) -> bool:
    """Run in a forked process that is killed before its so manieth step on the disk; whether it
    was. The steps are every fsync, rename and unlink."""
    child = os.fork()
    if child == 0:
        left = after

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def step(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return call(*arguments, **options)

            return step

        os.fsync = counted(os.fsync)
        Path.replace = counted(Path.replace)  # type: ignore[method-assign]
        Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


MERGES: dict[str, tuple[int, int]] = {
    "the first file": (0, 20),
    "a new tail": (30, 33),
    "a longer tail": (33, 35),
    "a fold of a full tail": (35, 60),
    "a fold for an older row": (-5, 3),
}


@FORKS
@pytest.mark.parametrize("what", MERGES)
def test_promise_7_a_writer_killed_before_any_step_on_the_disk_loses_and_doubles_nothing(
    what: str, tmp_path: Path, small_tail: None
) -> None:
    start = tmp_path / "start"
    start.mkdir()
    if what != "the first file":
        put(start, 0, 30)
    if what not in ("the first file", "a new tail"):
        put(start, 30, 33)
    first, end = MERGES[what]
    done = tmp_path / "done"
    shutil.copytree(start, done)
    put(done, first, end, close=2.0)
    old, new = seen(start), seen(done)
    for step in itertools.count():
        folder = tmp_path / str(step)
        shutil.copytree(start, folder)
        killed = dying(lambda folder=folder: put(folder, first, end, close=2.0), step)  # type: ignore[misc]
        now = seen(folder)
        assert now in (old, new)
        if any(folder.glob("*.parquet")):
            glob = plain(folder)["time"]
            assert glob.is_unique().all(), "a plain reader sees a row twice"
            assert {(moment - START) // HOUR for moment in glob.to_physical()} <= now.keys()
        put(folder, first, end, close=2.0)
        assert seen(folder) == new
        assert plain(folder).equals(plain(done))
        assert not {name for name in names(folder) if name.startswith(".")}
        if not killed:
            break
    assert step >= 3


@pytest.mark.parametrize("step", [1, 2, 3])
def test_promise_7_each_state_of_the_three_steps_of_a_fold(
    step: int, tmp_path: Path, small_tail: None
) -> None:
    """Made by hand, as the docstring of the module describes them."""
    put(tmp_path, 0, 30)
    put(tmp_path, 30, 33)
    whole = tmp_path / "whole"
    whole.mkdir()
    put(whole, 0, 45)
    shutil.copy(whole / "2024.parquet", tmp_path / ".2024.fold")
    if step >= 2:
        (tmp_path / "2024.tail.parquet").unlink()
    if step >= 3:
        (tmp_path / ".2024.fold").rename(tmp_path / "2024.parquet")
    shutil.rmtree(whole)
    glob = {1: 33, 2: 30, 3: 45}[step]
    assert len(plain(tmp_path)) == glob
    assert sorted(seen(tmp_path)) == list(range(45))
    merged = put(tmp_path, 45, 46)
    assert merged.rows == 46
    assert sorted(seen(tmp_path)) == list(range(46))
    assert plain(tmp_path).height == 46


# --- promise 7: what cannot be read ------------------------------------------------------------


def damage(path: Path, how: str) -> bytes:
    whole = path.read_bytes()
    broken = {
        "truncated": whole[: len(whole) * 2 // 3],
        "empty": b"",
        "garbage": b"\x17" * len(whole),
        "zeroed page": whole[:40] + b"\0" * 200 + whole[240:],
    }[how]
    path.write_bytes(broken)
    return broken


@pytest.mark.parametrize("how", ["truncated", "empty", "garbage", "zeroed page"])
@pytest.mark.parametrize("name", ["2024.parquet", "2024.tail.parquet"])
def test_promise_7_a_damaged_file_is_moved_aside_reported_and_missing_again(
    name: str, how: str, tmp_path: Path
) -> None:
    put(tmp_path, 0, 30)
    put(tmp_path, 30, 33)
    broken = damage(tmp_path / name, how)
    with pytest.raises(UnreadableError, match=name.replace(".", r"\.")):
        seen(tmp_path)
    merged = put(tmp_path, -2, 1, close=2.0)  # touches both files
    (aside,) = merged.set_aside
    assert aside.name.startswith(f"_{name}.unreadable-")
    assert aside.read_bytes() == broken
    left = {-2: 2.0, -1: 2.0, 0: 2.0}
    left |= dict.fromkeys(range(30, 33) if name == "2024.parquet" else range(1, 30), 1.0)
    assert seen(tmp_path) == left
    rest = span(30, 33) if name == "2024.parquet" else span(0, 30)
    assert merged.covered == union([span(-2, 1), rest])
    again = put(tmp_path, -2, 33, close=2.0)
    assert (again.rows, again.set_aside) == (35, [])
    assert plain(tmp_path).height == 35


@pytest.mark.parametrize("how", ["truncated", "empty", "garbage", "zeroed page"])
def test_promise_7_a_damaged_fold_does_not_take_the_place_of_a_good_file(
    how: str, tmp_path: Path
) -> None:
    put(tmp_path, 0, 30)
    put(tmp_path, 30, 33)
    shutil.copy(tmp_path / "2024.parquet", tmp_path / ".2024.fold")
    damage(tmp_path / ".2024.fold", how)
    merged = put(tmp_path, 33, 34)
    assert [path.name.partition(".unreadable")[0] for path in merged.set_aside] == ["_.2024.fold"]
    assert sorted(seen(tmp_path)) == list(range(34))
    assert plain(tmp_path).height == 34


def test_promise_10_a_foreign_file_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "2024.parquet"
    pq.write_table(rows({1: 1.0}), path)
    content = path.read_bytes()
    with pytest.raises(SchemaError, match=r"2024\.parquet was not written by this program"):
        put(tmp_path, 0, 5)
    assert path.read_bytes() == content
    assert names(tmp_path) == {"2024.parquet"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"version":2}', "another version"),
        (b"\xff", "another version"),
        (b"[]", "another version"),
    ],
)
def test_promise_10_another_version_is_never_mixed_in(
    raw: bytes, message: str, tmp_path: Path
) -> None:
    files.write_table(tmp_path / "2024.parquet", rows({1: 1.0}), {b"dccd": raw})
    with pytest.raises(SchemaError, match=message):
        put(tmp_path, 0, 5)
    with pytest.raises(SchemaError, match=message):
        fresh(tmp_path).open()


def test_promise_10_a_newer_version_of_the_same_shape_is_told(tmp_path: Path) -> None:
    put(tmp_path, 0, 5)
    path = tmp_path / "2024.parquet"
    footer = pq.read_metadata(path).metadata[b"dccd"].replace(b'"version":1', b'"version":2')
    files.write_table(path, rows({1: 1.0}), {b"dccd": footer})
    with pytest.raises(SchemaError, match="has schema version 2, this program 1"):
        put(tmp_path, 0, 5)


# --- files that somebody else moved ------------------------------------------------------------


def test_a_tail_whose_main_file_was_removed_is_still_data(tmp_path: Path) -> None:
    put(tmp_path, 0, 30)
    put(tmp_path, 30, 33)
    (tmp_path / "2024.parquet").unlink()
    assert sorted(seen(tmp_path)) == [30, 31, 32]
    assert put(tmp_path, 33, 34).rows == 4
    assert names(tmp_path) == {"2024.parquet", "2024.tail.parquet"}


def test_a_main_file_put_back_from_a_copy_beside_a_newer_tail_is_told_and_mended(
    tmp_path: Path,
) -> None:
    """As a restore of one file leaves it. Reading must not wait for ever for the right tail."""
    put(tmp_path, 0, 20)
    copy = (tmp_path / "2024.parquet").read_bytes()
    put(tmp_path, -1, 30)
    put(tmp_path, 30, 33)
    (tmp_path / "2024.parquet").write_bytes(copy)
    with pytest.raises(UnreadableError, match=r"tail\.parquet .* does not continue 2024\.parquet"):
        fresh(tmp_path).open()
    merged = put(tmp_path, 20, 25)
    assert [path.name.partition(".unreadable")[0] for path in merged.set_aside] == [
        "_2024.tail.parquet"
    ]
    assert merged.covered == [span(0, 25)]
    assert sorted(seen(tmp_path)) == list(range(25))
    store = DataStore(tmp_path)
    assert store.existing_periods(BTC_1H) == []
    assert_sound(tmp_path)
