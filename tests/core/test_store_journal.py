"""The journal: what is synced is there after any crash, and nothing that was not written."""

import errno
import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from dccd_core.exchanges.live import BookChange, LiveCandle
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store import files, frames
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import BusyError
from dccd_core.store.gather import Gathered, JournalReader
from dccd_core.store.journal import JournalWriter, closed_segments, recover, segments
from dccd_core.store.schemas import BookRow, Loss, books_table, live_candles_table, trades_table

BTC = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
ETH = replace(BTC, symbol=Symbol("ETH", "USDT"))
BOOK = replace(BTC, channel=Channel.BOOK)
DELTAS = replace(BTC, channel=Channel.BOOK_DELTAS)
LIVE = replace(BTC, channel=Channel.LIVE_OHLC, span=60)
START = 1_795_305_600_000_000


OPEN: list[JournalWriter] = []


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    while OPEN:
        abandon(OPEN.pop())


def begin(folder: Path) -> JournalWriter:
    """A writer that is let go of after the test."""
    OPEN.append(JournalWriter(folder))
    return OPEN[-1]


def trade(n: int) -> Trade:
    return Trade(START + n * 1_000, START + n * 1_000 + 7, str(n), n / 8, 1 / (n + 1), n % 2 == 0)


def fill(folder: Path, ticks: int, rows: int = 5) -> Path:
    """A segment of two series, as a process that died leaves it; tick k has rows 5k … 5k+4."""
    writer = begin(folder)
    for tick in range(ticks):
        numbers = range(tick * rows, (tick + 1) * rows)
        for series in (BTC, ETH):
            writer.append_trades(series, [trade(n) for n in numbers])
            writer.mark(series, Window(START + tick * SECOND, START + (tick + 1) * SECOND))
        writer.sync()
    (path,) = segments(folder)
    abandon(writer)
    return path


def abandon(writer: JournalWriter) -> None:
    """Let go as a process that is killed does."""
    writer._hold.release()


def numbers(folder: Path, series: Series = BTC) -> list[int]:
    return [int(number) for number in JournalReader(folder).rows(series)["trade_id"].to_pylist()]


# --- writing and reading -----------------------------------------------------------------------


def test_every_kind_of_row_comes_back_as_it_was_with_its_marks(tmp_path: Path) -> None:
    writer, reader = begin(tmp_path), JournalReader(tmp_path)
    trades = [trade(1), trade(2)._replace(received=None, trade_id="ü-7")]
    candle = LiveCandle(START, 1, 2, 0.5, 1.5, 9, None, 3, None, 2.5, START + 60)
    books = [BookRow(START, START - 5, [(1.0, 2.0)], [], valid=True)]
    change = BookChange(True, [(1.0, 2.0)], [(2.0, 0.0)], START, None, 1, 2, None, -7, 10)
    writer.append_trades(BTC, trades)
    writer.append_candles(LIVE, [candle])
    writer.append_books(BOOK, books)
    writer.append_deltas(DELTAS, [change])
    covered, lost = Window(START, START + 9), Loss(START + 9, START + 12, "connection lost")
    writer.mark(BTC, covered)
    writer.mark(BTC, lost)
    writer.mark(BTC, Window(START, START))
    assert numbers(tmp_path / "nothing") == []
    assert reader.rows(BTC).num_rows == 0, "seen before it is durable"
    assert writer.sync() > 0 == writer.pending
    assert reader.rows(BTC).equals(trades_table(trades))
    assert reader.rows(LIVE).equals(live_candles_table([candle]))
    assert reader.rows(BOOK).equals(books_table(books))
    (row,) = reader.rows(DELTAS).to_pylist()
    assert (row["sequence"], row["depth"], row["ask_amount"]) == (2, 10, [0.0])
    found = reader.read(BTC)
    assert (found.covered, found.lost) == ([covered], [lost])
    assert reader.read(ETH).covered == []
    assert writer.sync() == 0
    writer.close()
    assert reader.rows(BTC).equals(trades_table(trades))


def test_rows_of_another_channel_are_refused(tmp_path: Path) -> None:
    writer = begin(tmp_path)
    with pytest.raises(ValueError, match="binance/book/BTC-USDT does not hold trades"):
        writer.append_trades(BOOK, [trade(1)])
    assert writer.pending == 0


def test_changes_are_received_one_after_the_other_in_the_order_of_their_application(
    tmp_path: Path,
) -> None:
    """Those that waited for the first book came before it, and are applied after it."""
    writer = begin(tmp_path)
    receipts = [START + 50, START + 10, START + 20, START + 60, START + 60]
    changes = [BookChange(n == 0, [], [], at, at) for n, at in enumerate(receipts)]
    writer.append_deltas(DELTAS, changes[:2])
    writer.append_deltas(DELTAS, changes[2:])
    writer.sync()
    rows = JournalReader(tmp_path).rows(DELTAS)
    times = rows["received"].cast(pa.int64()).to_pylist()
    assert sorted(times) == [START + n for n in (50, 51, 52, 60, 61)]
    assert rows["time"].cast(pa.int64()).to_pylist() == sorted(receipts)


def test_one_tick_of_two_hundred_series_is_one_write_and_one_fdatasync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    writer = begin(tmp_path)
    many = [replace(BTC, symbol=Symbol(f"N{n}", "USDT")) for n in range(200)]
    writer.append_trades(BTC, [trade(0)])
    writer.sync()
    for name in ("pwrite", "fdatasync", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *given, name=name, real=real: calls.append(name) or real(*given)
        )
    for series in many:
        writer.append_trades(series, [trade(n) for n in range(5)])
        writer.mark(series, Window(START, START + SECOND))
    writer.sync()
    assert calls == ["pwrite", "fdatasync"]
    assert all(numbers(tmp_path, series) == list(range(5)) for series in many[::50])


def test_what_a_tick_costs_does_not_depend_on_what_is_there(tmp_path: Path) -> None:
    """In bytes: a thousand trades on nothing and on a million."""
    writer = begin(tmp_path)
    batch = [trade(n) for n in range(1_000)]
    writer.append_trades(BTC, batch)
    first = writer.sync()
    frame = frames.encode_rows(BTC, [trade(n) for n in range(1_000)])
    assert first == len(frame) < 60_000
    for _ in range(50):
        writer.append_trades(BTC, batch)
        assert writer.sync() == first
    (path,) = segments(tmp_path)
    assert path.stat().st_size == 51 * first


def test_rotating_closes_a_segment_and_nothing_closes_none(tmp_path: Path) -> None:
    writer = begin(tmp_path)
    assert writer.rotate() == []
    for n in range(3):
        writer.append_trades(BTC, [trade(n)])
        assert len(writer.rotate()) == n + 1
    assert writer.rotate() == closed_segments(tmp_path)
    assert [path.name for path in segments(tmp_path)] == [f"{n:08}.closed" for n in (1, 2, 3)]
    writer.append_trades(BTC, [trade(3)])
    writer.sync()
    assert segments(tmp_path)[-1].name == "00000004.open"
    assert numbers(tmp_path) == [0, 1, 2, 3]


def test_a_second_writer_is_refused_and_the_next_may_begin_after_the_first(tmp_path: Path) -> None:
    writer = begin(tmp_path)
    with pytest.raises(BusyError, match=r"writer\.lock is held by another process"):
        begin(tmp_path)
    with pytest.raises(BusyError):
        recover(tmp_path)
    writer.append_trades(BTC, [trade(0)])
    writer.close()
    begin(tmp_path).close()
    assert numbers(tmp_path) == [0]


# --- a disk that is full or failing ------------------------------------------------------------


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_what_cannot_be_written_is_kept_and_written_later_once(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = begin(tmp_path)
    writer.append_trades(BTC, [trade(0)])
    writer.sync()
    whole = segments(tmp_path)[0].read_bytes()
    real = os.pwrite

    def full(*given: object) -> int:
        if call == "pwrite":
            file, content, offset = given
            real(file, content[:5], offset)  # type: ignore[index,arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        for n in (1, 2):
            writer.append_trades(BTC, [trade(n)])
            with pytest.raises(OSError, match="No space left"):
                writer.sync()
    assert writer.pending > 0
    assert segments(tmp_path)[0].read_bytes() == whole
    writer.append_trades(BTC, [trade(3)])
    writer.sync()
    assert writer.pending == 0
    assert numbers(tmp_path) == [0, 1, 2, 3]
    found = list(frames.scan(segments(tmp_path)[0].read_bytes()))
    assert all(isinstance(frame, frames.Frame) for frame in found)
    assert len(found) == 4


# --- crashes -----------------------------------------------------------------------------------


def test_a_torn_end_is_cut_at_any_byte_and_every_whole_frame_before_it_is_there(
    tmp_path: Path,
) -> None:
    whole = fill(tmp_path / "whole", 3, rows=2).read_bytes()
    ends = [frame.end for frame in frames.scan(whole)]
    for size in sorted({*range(0, len(whole), 11), *ends, *(end - 1 for end in ends)}):
        folder = tmp_path / "cut"
        folder.mkdir()
        (folder / "00000001.open").write_bytes(whole[:size])
        before = numbers(folder)
        writer = JournalWriter(folder)
        kept = max((end for end in ends if end <= size), default=0)
        assert writer.recovered.cut == size - kept
        assert writer.recovered.damage == []
        (closed,) = writer.recovered.segments
        assert closed.read_bytes() == whole[:kept]
        found = numbers(folder)
        assert found == before == list(range(len(found)))
        assert len(found) == 2 * sum(end <= size for end in ends[::4])
        abandon(writer)
        shutil.rmtree(folder)


@pytest.mark.parametrize("page", [16, 512, 4_096])
def test_an_end_of_zeros_is_cut_as_a_block_without_its_data_leaves_it(
    page: int, tmp_path: Path
) -> None:
    path = fill(tmp_path, 40)
    whole = path.read_bytes()
    assert len(whole) > 2 * page
    path.write_bytes(whole[:-page] + bytes(page))
    found = numbers(tmp_path)
    writer = begin(tmp_path)
    assert 0 < page <= writer.recovered.cut
    assert numbers(tmp_path) == found == list(range(len(found)))
    path.with_suffix(".closed").write_bytes(whole + bytes(page))
    assert numbers(tmp_path) == list(range(200))


def test_flipped_bits_lose_their_frame_and_never_make_a_wrong_row(tmp_path: Path) -> None:
    """Everywhere: in marks, lengths, sums, keys and rows."""
    whole = fill(tmp_path, 6).read_bytes()
    good = {row["trade_id"]: row for row in JournalReader(tmp_path).rows(BTC).to_pylist()}
    assert len(good) == 30
    randomly = random.Random(4)
    path = segments(tmp_path)[0]
    for _ in range(400):
        at = randomly.randrange(len(whole))
        broken = bytearray(whole)
        broken[at] ^= 1 << randomly.randrange(8)
        path.write_bytes(broken)
        for series in (BTC, ETH):
            rows = JournalReader(tmp_path).rows(series).to_pylist()
            assert all(good[row["trade_id"]] == row for row in rows)
            assert len(rows) >= 25


def test_garbage_of_any_kind_is_no_frame(tmp_path: Path) -> None:
    whole = fill(tmp_path, 2).read_bytes()
    randomly = random.Random(5)
    for _ in range(300):
        cut = randomly.randrange(len(whole))
        junk = randomly.choice([randomly.randbytes(200), bytes(200), whole[cut : cut + 60]])
        found = list(frames.scan(whole[:cut] + junk))
        kept = [frame for frame in found if isinstance(frame, frames.Frame)]
        assert all(whole.find(bytes(frame.body)) >= 0 for frame in kept)
        assert len(kept) >= sum(frame.end <= cut for frame in frames.scan(whole))
    assert list(frames.scan(b"")) == []


def test_a_damaged_frame_in_the_middle_is_told_and_what_is_beside_it_is_not_called_covered(
    tmp_path: Path,
) -> None:
    path = fill(tmp_path, 5)
    whole = bytearray(path.read_bytes())
    second = [frame for frame in frames.scan(bytes(whole)) if isinstance(frame, frames.Frame)][4]
    whole[second.start + 30] ^= 1
    path.write_bytes(whole)
    recovered = recover(tmp_path)
    ((damage,), cut) = (recovered.damage, recovered.cut)
    assert (damage.path, damage.offset, cut) == (path, second.start, 0)
    assert damage.length == second.end - second.start
    assert f"{second.end - second.start} bytes from {second.start}" in str(damage)
    assert numbers(tmp_path) == [0, 1, 2, 3, 4, *range(10, 25)]
    assert numbers(tmp_path, ETH) == list(range(25))
    for series in (BTC, ETH):
        found = JournalReader(tmp_path).read(series)
        assert found.covered == [tick(n) for n in (2, 3, 4)]
        assert [(Window(*loss[:2]), loss.cause) for loss in found.lost] == [
            (tick(n), "the journal was damaged") for n in (0, 1)
        ]


def tick(n: int) -> Window:
    return Window(START + n * SECOND, START + (n + 1) * SECOND)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 on fork
def test_killed_at_any_moment_what_was_synced_is_there_and_no_half_of_a_tick(
    tmp_path: Path,
) -> None:
    """The child tells each sync through a pipe; twenty of them die at random."""
    randomly = random.Random(6)
    for round_ in range(20):
        folder = tmp_path / str(round_)
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            writer = begin(folder)
            for n in range(10_000):
                writer.append_trades(BTC, [trade(n)])
                writer.append_trades(ETH, [trade(n)])
                if n % 50 == 49:
                    writer.rotate()
                else:
                    writer.sync()
                os.write(tell, b".")
            os._exit(0)
        os.close(tell)
        synced = len(os.read(told, 1))
        wanted = randomly.randrange(1, 120)
        while synced < wanted:
            synced += len(os.read(told, wanted - synced))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(told, "rb") as rest:
            synced += len(rest.read())
        writer = begin(folder)
        for series in (BTC, ETH):
            found = numbers(folder, series)
            assert found == list(range(len(found)))
            assert len(found) >= synced
        writer.append_trades(BTC, [trade(99_999)])
        writer.close()
        assert numbers(folder)[-1] == 99_999


# --- readers beside the writer -----------------------------------------------------------------


def test_a_reader_beside_the_writer_sees_a_whole_beginning_at_every_moment(tmp_path: Path) -> None:
    writer, store = begin(tmp_path / ".dccd" / "journal"), DataStore(tmp_path)
    synced, done, problems = [0], threading.Event(), list[str]()

    def read() -> None:
        while not done.is_set():
            before = synced[0]
            found = store.load(BTC)["trade_id"].to_list()
            if found != [str(n) for n in range(len(found))] or len(found) < before:
                problems.append(f"{len(found)} rows after {before} were synced")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(300):
        writer.append_trades(BTC, [trade(n)])
        writer.sync()
        synced[0] = n + 1
        if n % 40 == 0:
            writer.rotate()
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert store.load(BTC).height == 300


def test_appending_from_many_threads_loses_nothing(tmp_path: Path) -> None:
    writer = begin(tmp_path)
    many = [replace(BTC, symbol=Symbol(f"N{n}", "USDT")) for n in range(8)]

    def work(series: Series) -> None:
        for n in range(200):
            writer.append_trades(series, [trade(n)])
            if n % 50 == 0:
                writer.sync()

    threads = [threading.Thread(target=work, args=(series,)) for series in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert all(numbers(tmp_path, series) == list(range(200)) for series in many)


def test_a_segment_that_is_renamed_or_folded_while_it_is_read_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = begin(tmp_path)
    for n in range(2):
        writer.append_trades(BTC, [trade(n)])
        writer.rotate()
    writer.append_trades(BTC, [trade(2)])
    writer.sync()
    real = Path.read_bytes

    def meanwhile(path: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", real)
        files.remove(tmp_path / "00000001.closed")
        writer.rotate()
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", meanwhile)
    assert numbers(tmp_path) == [1, 2]
    assert Gathered(BTC).table().num_rows == 0


def test_a_segment_that_is_closed_between_two_looks_at_the_folder_is_seen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = begin(tmp_path)
    writer.append_trades(BTC, [trade(0)])
    writer.sync()
    real = Path.glob

    def look(folder: Path, pattern: str) -> list[Path]:
        found = list(real(folder, pattern))
        monkeypatch.setattr(Path, "glob", real)
        writer.rotate()
        return found

    monkeypatch.setattr(Path, "glob", look)
    assert numbers(tmp_path) == [0]
