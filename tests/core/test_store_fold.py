"""The fold: from the journal into the daily files, killed anywhere, done again, and the same."""

import itertools
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from helpers import assert_sound, at, plain, window
from test_store_journal import BOOK, BTC, DELTAS, ETH, LIVE

from dccd_core.exchanges.live import BookChange, LiveCandle
from dccd_core.exchanges.trades import Trade
from dccd_core.models import DAY, SECOND, Series, Window
from dccd_core.store import fold as fold_module
from dccd_core.store import frames, period
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import BusyError
from dccd_core.store.fold import Folded, fold
from dccd_core.store.journal import JournalWriter, closed_segments, segments
from dccd_core.store.packed import PackedTrades
from dccd_core.store.schemas import BookRow, Loss, SchemaError, trades_table

START = at("2026-11-22")
MIDNIGHT = START + DAY * SECOND
EVERY = (BTC, ETH, BOOK, DELTAS, LIVE)
KEYS = {BTC: "trade_id", BOOK: "time"}
OPEN: list[JournalWriter] = []


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop()._hold.release()


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    return DataStore(tmp_path / "data")


def begin(store: DataStore) -> JournalWriter:
    OPEN.append(JournalWriter(store.journal))
    return OPEN[-1]


def trade(n: int, time: int | None = None) -> Trade:
    """Ten a second, from a second before midnight on."""
    time = MIDNIGHT - SECOND + n * 100_000 if time is None else time
    return Trade(time, time + 50, str(n), n / 8, 1.0, n % 2 == 0)


def stream(store: DataStore, first: int, end: int, segments: int = 1) -> None:
    """Rows first … end - 1 of every kind around midnight, in so many closed segments."""
    writer = JournalWriter(store.journal)
    for part in range(segments):
        for n in range(first + part, end, segments):
            time = MIDNIGHT - SECOND + n * 100_000
            writer.append_trades(BTC, [trade(n)])
            writer.append_trades(ETH, [trade(n)])
            writer.append_books(BOOK, [BookRow(time, time, [(n, 1.0)], [(n + 1, 1.0)], valid=True)])
            writer.append_deltas(DELTAS, [BookChange(n == 0, [(n, 1.0)], [], time, time, n, n)])
            candle = LiveCandle(time, 1, 1, 1, 1, 1, None, n, None, None, time + 1)
            writer.append_candles(LIVE, [candle])
            for series in EVERY:
                writer.mark(series, Window(time, time + 100_000))
        writer.mark(BTC, Loss(MIDNIGHT + 60 * SECOND, MIDNIGHT + 61 * SECOND, "cut"))
        writer.rotate()
    writer.close()


def ids(store: DataStore, series: Series = BTC) -> list[int]:
    return [int(number) for number in store.load(series)["trade_id"].to_list()]


# --- what a fold does --------------------------------------------------------------------------


def test_the_journal_goes_into_the_days_of_its_rows_with_its_ledger(store: DataStore) -> None:
    stream(store, 0, 30, segments=3)
    before = {series: store.load(series) for series in EVERY}
    assert [frame.height for frame in before.values()] == [30] * 5
    assert store.existing_periods(BTC) == []
    folded = fold(store)
    assert (folded.failed, folded.damage, segments(store.journal)) == ([], [], [])
    days = ["2026-11-22", "2026-11-23"]
    assert sorted((str(one.series), one.period) for one in folded.stored) == sorted(
        (str(series), day) for series in EVERY for day in days
    )
    for series, frame in before.items():
        assert store.load(series).equals(frame)
        assert plain(store.folder(series)).height == 30
        assert store.existing_periods(series) == days
        assert store.covered(series) == [Window(MIDNIGHT - SECOND, MIDNIGHT + 2 * SECOND)]
    cut = Loss(MIDNIGHT + 60 * SECOND, MIDNIGHT + 61 * SECOND, "cut")
    assert (store.lost(BTC), store.lost(ETH)) == ([cut], [])
    sources = [part.footer.source for day in days for part in store.parts(BTC, day)]
    assert sources == ["stream", "stream"]
    assert fold(store) == Folded()


def test_a_time_that_no_calendar_has_ends_neither_the_fold_nor_the_others(store: DataStore) -> None:
    """Microseconds for milliseconds: the year 58000."""
    writer = begin(store)
    writer.append_trades(BTC, [trade(1, START * 1_000)])
    writer.append_trades(ETH, [trade(1)])
    writer.mark(ETH, window("2026-11-22", "2026-11-23"))
    writer.rotate()
    for _ in range(2):
        folded = fold(store)
        assert [failed.series for failed in folded.failed] == [BTC]
        assert ids(store, ETH) == [1]
    assert store.existing_periods(ETH) == ["2026-11-22"]
    assert segments(store.journal) != []


def test_rows_that_make_no_table_are_told_and_the_others_are_stored(store: DataStore) -> None:
    writer = begin(store)
    for n in range(300):
        candle = LiveCandle(START + n, 1, 1, 1, 1, 1, None, 1 << 63, None, None, START)
        writer.append_candles(LIVE, [candle])
    writer.append_trades(ETH, [trade(1)])
    writer.rotate()
    assert [failed.series for failed in fold(store).failed] == [LIVE]
    assert ids(store, ETH) == [1]
    with pytest.raises(OverflowError):
        store.load(LIVE)


def test_what_is_not_folded_yet_is_read_with_what_is(store: DataStore) -> None:
    """The overlap is compared, and each row is there once; also its ledger."""
    stream(store, 0, 20)
    fold(store)
    stream(store, 15, 40)
    assert ids(store) == ids(store, ETH) == list(range(40))
    assert store.load(BOOK)["bid_price"].list.first().to_list() == list(range(40))
    assert store.load(BTC, MIDNIGHT)["trade_id"].to_list() == [str(n) for n in range(10, 40)]
    assert store.load(BTC, None, MIDNIGHT).height == 10
    late = store.scan(BTC, MIDNIGHT + SECOND).select("side").collect()
    assert late.height == 20
    assert store.scan(BTC).head(17).collect()["trade_id"].to_list()[-1] == "16"
    last = store.last_timestamp(BTC)
    assert last is not None
    assert at(last.isoformat()) == trade(39).time
    assert store.covered(LIVE) == [Window(MIDNIGHT - SECOND, MIDNIGHT + 3 * SECOND)]
    assert store.missing_windows(BTC, Window(MIDNIGHT, MIDNIGHT + 4 * SECOND)) == [
        Window(MIDNIGHT + 3 * SECOND, MIDNIGHT + 4 * SECOND)
    ]
    assert store.missing_ids(BTC, "2026-11-23") == []
    assert len(store.times(LIVE)) == 40
    fold(store)
    assert ids(store) == list(range(40))


def test_rows_of_several_years_and_late_ones_go_to_their_own_days(store: DataStore) -> None:
    writer = begin(store)
    days = ["2024-02-29", "2025-12-31", "2026-01-01", "2026-11-22"]
    rows = [trade(n, at(day) + 5) for n, day in enumerate(days)]
    writer.append_trades(BTC, rows[::-1])
    writer.mark(BTC, window("2025-12-31T23:00", "2026-01-01T01:00"))
    writer.mark(BTC, Loss(at("2026-03-01T23:00"), at("2026-03-02T01:00"), "gone"))
    writer.rotate()
    fold(store)
    writer.append_trades(BTC, [trade(9, at("2024-02-29") + 3)])
    writer.rotate()
    (late,) = fold(store).stored
    assert (late.period, late.merged.added, late.merged.rows) == ("2024-02-29", 1, 2)
    assert ids(store) == [9, 0, 1, 2, 3]
    assert store.existing_periods(BTC) == [*days[:3], "2026-03-01", "2026-03-02", days[3]]
    assert store.covered(BTC) == [window("2025-12-31T23:00", "2026-01-01T01:00")]
    assert store.lost(BTC) == [Loss(*window("2026-03-01T23:00", "2026-03-02T01:00"), "gone")]
    for path in store.folder(BTC).glob("*.parquet"):
        found = pq.read_table(path)["time"].to_pylist()
        assert {f"{time:%Y-%m-%d}" for time in found} <= {path.name.split(".")[0]}


def test_the_open_segment_is_folded_once_its_writer_is_dead(store: DataStore) -> None:
    writer = begin(store)
    writer.append_trades(BTC, [trade(0)])
    writer.sync()
    assert fold(store) == Folded()
    with pytest.raises(BusyError):
        fold(store, closed_only=False)
    OPEN.pop()._hold.release()  # as a process that was killed
    assert len(fold(store, closed_only=False).stored) == 1
    assert (ids(store), segments(store.journal)) == ([0], [])


def test_parts_of_the_journal_that_services_share_are_read_and_dead_ones_folded(
    store: DataStore,
) -> None:
    """As services leave them that were started with a share of the work each."""
    for share, series in ((1, BTC), (2, ETH)):
        OPEN.append(JournalWriter(store.journal / f"{share}-of-2"))
        OPEN[-1].append_trades(series, [trade(share)])
        OPEN[-1].sync()
    assert (ids(store, BTC), ids(store, ETH)) == ([1], [2])
    OPEN.pop()._hold.release()  # the second one is killed, the first one lives
    assert [one.series for one in fold(store).stored] == [ETH]
    assert (ids(store, BTC), ids(store, ETH)) == ([1], [2])
    OPEN.pop().close()
    assert [one.series for one in fold(store).stored] == [BTC]


def test_more_than_fits_in_memory_is_folded_in_parts(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module, "_BATCH_BYTES", 3_000)
    stream(store, 0, 60, segments=12)
    folded = fold(store)
    assert len([one for one in folded.stored if one.series == BTC]) > 6
    assert (ids(store), segments(store.journal)) == (list(range(60)), [])


def test_a_fold_beside_a_writer_and_readers(store: DataStore) -> None:
    """Every reader sees all that was synced before it began, each row once."""
    writer, done, problems, synced = begin(store), threading.Event(), list[str](), [0]

    def read() -> None:
        while not done.is_set():
            before, found = synced[0], ids(store)
            if found != list(range(len(found))) or len(found) < before:
                problems.append(f"{len(found)} rows after {before} were synced")

    def folding() -> None:
        while not done.is_set():
            fold(store)

    threads = [threading.Thread(target=work) for work in (read, folding)]
    [thread.start() for thread in threads]
    for n in range(0, 400, 4):
        writer.append_trades(BTC, [trade(k) for k in range(n, n + 4)])
        writer.sync()
        synced[0] = n + 4
        if n % 20 == 0:
            writer.rotate()
    done.set()
    [thread.join() for thread in threads]
    writer.close()
    fold(store)
    assert problems == []
    assert ids(store) == list(range(400))
    assert_sound(store.root)


# --- any batches, any order --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_overlapping_batches_in_any_order_folded_at_any_time_give_the_same_days(
    seed: int, store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(period.DAILY_TAIL_ROWS, BTC.channel, 40)
    randomly = random.Random(seed)
    batches = [range(n, n + randomly.randrange(1, 30)) for n in range(0, 200, 10)]
    randomly.shuffle(batches)
    writer, everything = begin(store), set[int]()
    for batch in batches:
        writer.append_trades(BTC, [trade(n) for n in batch])
        everything |= set(batch)
        if randomly.random() < 0.4:
            writer.rotate()
        if randomly.random() < 0.5:
            fold(store)
        writer.sync()
        assert ids(store) == sorted(everything)
    writer.rotate()
    fold(store)
    assert ids(store) == sorted(everything)
    assert plain(store.folder(BTC)).height == len(everything)


# --- crashes -----------------------------------------------------------------------------------


def dying(act: Callable[[], object], after: int) -> bool:
    """Run in a forked process that is killed before its so manieth fsync, rename or unlink."""
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


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 on fork
def test_a_fold_killed_before_any_step_on_the_disk_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two series over midnight, into a full tail on one side and a new file on the other."""
    monkeypatch.setitem(period.DAILY_TAIL_ROWS, BTC.channel, 6)
    start = DataStore(tmp_path / "start")
    for first, end in ((0, 4), (4, 8)):
        writer = JournalWriter(start.journal)
        writer.append_trades(BTC, [trade(n) for n in range(first, end)])
        writer.close()
        fold(start)
    writer = JournalWriter(start.journal)
    for part in (range(7, 20), range(15, 22)):
        writer.append_trades(BTC, [trade(n) for n in part])
        writer.append_books(BOOK, [BookRow(trade(n).time, 1, [], [], valid=False) for n in part])
        writer.mark(BTC, Window(trade(0).time, trade(22).time))
        writer.rotate()
    writer.close()
    for step in itertools.count():
        shutil.copytree(tmp_path / "start", tmp_path / str(step))
        store = DataStore(tmp_path / str(step))
        killed = dying(lambda store=store: fold(store), step)  # type: ignore[misc]
        for _ in range(2):
            assert ids(store) == list(range(22))
            assert store.load(BOOK).height == 15
            assert store.covered(BTC) == [Window(trade(0).time, trade(22).time)]
            for series in (BTC, BOOK):
                found = list[object]()
                for path in store.folder(series).glob("2026-11-22.*parquet"):
                    found += pq.read_table(path)[KEYS[series]].to_pylist()
                assert len(set(found)) == len(found), "a plain reader sees a row twice"
            fold(store)
        assert segments(store.journal) == []
        assert sum(part.footer.revised for part in store.parts(BTC, "2026-11-22")) == 0
        assert plain(store.folder(BTC)).height == 22
        if not killed:
            break
    assert step > 15


# --- what goes wrong ---------------------------------------------------------------------------


def test_a_series_that_cannot_be_stored_keeps_its_rows_and_the_others_go_on(
    store: DataStore,
) -> None:
    foreign = store.folder(ETH) / "2026-11-22.parquet"
    foreign.parent.mkdir(parents=True)
    pq.write_table(trades_table([trade(1)]), foreign)
    stream(store, 0, 20, segments=3)
    for _ in range(2):
        folded = fold(store)
        ((failed,), damage) = (folded.failed, folded.damage)
        assert (failed.series, type(failed.error), damage) == (ETH, SchemaError, [])
        assert len(closed_segments(store.journal)) == 1
        assert ids(store) == list(range(20))
    assert store.lost(BTC) != []
    foreign.unlink()
    assert ids(store, ETH) == list(range(20))
    assert {one.series for one in fold(store).stored} == {ETH}
    assert ids(store, ETH) == list(range(20))
    assert store.covered(ETH) == [Window(MIDNIGHT - SECOND, MIDNIGHT + SECOND)]
    assert segments(store.journal) == []


def test_a_fold_that_was_killed_while_it_kept_a_series_ends_with_the_newest_version_of_a_row(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revised candle was the old one again, for ever."""
    writer = begin(store)
    for n, volume in enumerate([1.0, 2.0]):
        candle = LiveCandle(START, 1, 1, 1, 1, volume, None, n, None, None, START + 1)
        writer.append_candles(LIVE, [candle])
        writer.append_trades(BTC, [trade(n)])
        writer.rotate()
    merge, remove = DataStore.merge, fold_module.files.remove

    def fail(self: DataStore, series: Series, *rest: Any) -> Any:
        if series == BTC:
            raise OSError("no such disk")
        return merge(self, series, *rest)

    def killed(path: Path) -> None:
        if path.suffix == ".closed":
            raise KeyboardInterrupt
        remove(path)

    with monkeypatch.context() as broken:
        broken.setattr(DataStore, "merge", fail)
        broken.setattr(fold_module.files, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            fold(store)
    fold(store)
    assert store.load(LIVE)["volume"].to_list() == [2.0]
    assert store.load(BTC)["trade_id"].to_list() == ["0", "1"]


def test_when_nothing_can_be_stored_the_journal_stays_as_it_is(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream(store, 0, 20, segments=2)
    before = {path: path.read_bytes() for path in closed_segments(store.journal)}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dccd_core.store.files.write_table", full)
        folded = fold(store)
    assert {failed.series for failed in folded.failed} == set(EVERY)
    assert folded.stored == []
    assert {path: path.read_bytes() for path in closed_segments(store.journal)} == before
    assert fold(store).failed == []
    assert ids(store) == list(range(20))


def test_damage_is_told_and_what_it_may_have_held_is_lost_in_the_ledger_until_it_is_fetched(
    store: DataStore,
) -> None:
    stream(store, 0, 20)
    (path,) = closed_segments(store.journal)
    content = bytearray(path.read_bytes())
    middle = content.find(b"\xd7dj1", len(content) // 2)
    content[middle + 12] ^= 0x40
    path.write_bytes(content)
    folded = fold(store)
    ((damage,), failed) = (folded.damage, folded.failed)
    assert (damage.path, damage.offset, failed) == (path, middle, [])
    assert segments(store.journal) == []
    present = {series: store.load(series).height for series in EVERY}
    assert min(present.values()) >= 19
    for series in EVERY:
        lost = store.lost(series)
        assert "the journal was damaged" in {loss.cause for loss in lost}
        hidden = store.missing_windows(series, Window(MIDNIGHT - SECOND, MIDNIGHT + SECOND))
        assert 0 < sum(end - start for start, end in hidden) <= 3 * 100_000
    rest = store.missing_windows(BTC, Window(MIDNIGHT - SECOND, MIDNIGHT + SECOND))
    for day, part in ((d, p) for hole in rest for d, p in BTC.periods(hole)):
        rows = [trade(n) for n in range(20) if part.start <= trade(n).time < part.end]
        store.merge(BTC, day, trades_table(rows), [part], "rest")
    assert ids(store) == list(range(20))
    assert {loss.cause for loss in store.lost(BTC)} == {"cut"}


class Unknown(str):
    """A key that is no series of ours."""

    __slots__ = ()


@pytest.mark.parametrize(
    "frame",
    [
        frames.encode(Unknown("binance/nothing/BTC-USDT"), frames.Covered(1, 2)),  # type: ignore[arg-type]
        frames.encode(Unknown("\ud800".encode("utf-8", "replace").decode()), frames.Covered(1, 2)),  # type: ignore[arg-type]
        frames.encode(BTC, msgspec.structs.replace(PackedTrades.of([trade(7)]), price=b"")),
        frames.encode(BTC, msgspec.structs.replace(PackedTrades.of([trade(7)]), ids=b"12345")),
        frames.encode(BTC, (99, 1, 2)),  # type: ignore[arg-type]
    ],
)
def test_a_whole_frame_that_is_none_of_ours_is_damage_and_no_crash(
    frame: bytes, store: DataStore
) -> None:
    writer = begin(store)
    writer.append_trades(BTC, [trade(0)])
    writer._append(frame)
    writer.append_trades(BTC, [trade(1)])
    writer.rotate()
    assert ids(store) == [0, 1]
    folded = fold(store)
    assert [damage.length for damage in folded.damage] == [len(frame)]
    assert ids(store) == [0, 1]
