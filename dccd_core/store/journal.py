"""The journal: what streams brought since the last fold, of all series, in one append-only file.

The service writes it through one `JournalWriter`, once a tick; readers of the open day see it
through `DataStore`. Segments lie in `DataStore.journal`: `00000007.open` is being written,
`00000006.closed` waits to be folded into the daily files.

    writer = JournalWriter(store.journal)    # closes what a crash left, and cuts its torn end
    writer.recovered                         # Recovered(segments, cut, damage)
    writer.append_trades(series, trades)     # list[Trade]
    writer.append_candles(series, candles)   # list[LiveCandle]; the channel is LIVE_OHLC
    writer.append_books(series, rows)        # list[BookRow]
    writer.append_deltas(series, changes)    # list[BookChange], in the order of their application
    writer.mark(series, Window(start, end))  # streamed without a break: covered in the ledger
    writer.mark(series, Loss(start, end, "connection lost"))  # in the ledger with its cause
    writer.sync()                            # bytes; ONE write and fdatasync for all since the last
    writer.rotate()                          # sync, close the segment; all closed segments
    writer.pending                           # bytes that are only in memory
    writer.close()                           # rotate, let go of the journal

    folded = fold(store)                     # of dccd_core.store.fold: closed segments into files
    folded.stored                            # list[Stored(series, period, merged)]
    folded.failed                            # list[Failed(series, error)]: rows stay in the journal
    folded.damage                            # list[Damage(path, offset, length)]: skipped, told
    store.close_period(series, "2026-11-22") # after the last fold of a day: one file of it

Any thread may call any method. `append_*` and `mark` only fill memory. `sync` raises OSError on a
full or failing disk and keeps what it could not write for the next `sync`: bound your memory by
`pending`. `fold` may run beside the writer; killed anywhere, it is simply done again. Mark a window
after appending the rows inside it, in the clock of the `time` column. Readers see what is synced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock

from dccd_core.exchanges.live import BookChange, LiveCandle
from dccd_core.exchanges.trades import Trade
from dccd_core.models import Channel, Series, Window
from dccd_core.store import files, frames
from dccd_core.store.schemas import BookRow, Loss


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes in the middle of a segment that are no frame: what was in them is lost."""

    path: Path
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.path}: {self.length} bytes from {self.offset} on are damaged"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a crash left: segments that are closed now, bytes cut off their ends, damage inside."""

    segments: list[Path]
    cut: int
    damage: list[Damage]


class JournalWriter:
    """Writes the journal of one folder; files.BusyError if another one does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hold = files.Hold(folder / "writer.lock")
        self._frames: list[bytes] = []
        self._pending = 0
        self._filling, self._writing = Lock(), RLock()
        self._file: files.Appender | None = None
        self._applied: dict[Series, int] = {}
        try:
            self.recovered = _recover(folder)
        except BaseException:
            self._hold.release()
            raise

    @property
    def pending(self) -> int:
        """Bytes that are in memory only."""
        return self._pending

    def append_trades(self, series: Series, trades: Sequence[Trade]) -> None:
        """Add trades, in any order."""
        self._append_rows(series, trades, Channel.TRADES)

    def append_candles(self, series: Series, candles: Sequence[LiveCandle]) -> None:
        """Add closed candles of a stream."""
        self._append_rows(series, candles, Channel.LIVE_OHLC)

    def append_books(self, series: Series, rows: Sequence[BookRow]) -> None:
        """Add books as they were at a time."""
        self._append_rows(series, rows, Channel.BOOK)

    def append_deltas(self, series: Series, changes: Sequence[BookChange]) -> None:
        """Add changes in the order in which they were applied.

        Each is stored as received after the one before it, by a microsecond if need be: `received`
        is the order in which they are applied again.
        """
        last = self._applied.get(series, 0)
        ordered = []
        for change in changes:
            last = max(change.received, last + 1)
            ordered.append(change if last == change.received else change._replace(received=last))
        self._applied[series] = last
        self._append_rows(series, ordered, Channel.BOOK_DELTAS)

    def mark(self, series: Series, mark: Window | Loss) -> None:
        """Say that a window was streamed without a break, or that it is lost."""
        if mark.start < mark.end:
            known = frames.Lost(*mark) if isinstance(mark, Loss) else frames.Covered(*mark)
            self._append(frames.encode(series, known))

    def _append_rows(
        self, series: Series, rows: Sequence[tuple[object, ...]], channel: Channel
    ) -> None:
        if series.channel is not channel:
            raise ValueError(f"{series} does not hold {channel}")
        if rows:
            self._append(frames.encode_rows(series, rows))

    def _append(self, frame: bytes) -> None:
        with self._filling:
            self._frames.append(frame)
            self._pending += len(frame)

    def sync(self) -> int:
        """Make all that was added durable; how many bytes that were. OSError keeps them here."""
        with self._writing:
            with self._filling:
                count = len(self._frames)
            content = b"".join(self._frames[:count])
            if content:
                self._file = self._file or files.Appender(_next_segment(self._folder))
                self._file.append(content)
            with self._filling:
                del self._frames[:count]
                self._pending -= len(content)
            return len(content)

    def rotate(self) -> list[Path]:
        """Make all durable and close the segment; all closed segments, oldest first."""
        with self._writing:
            self.sync()
            if self._file is not None:
                self._file.close()
                _close_segment(self._file.path)
                self._file = None
            return closed_segments(self._folder)

    def close(self) -> None:
        """Close the segment and let another writer begin."""
        with self._writing:
            try:
                self.rotate()
            finally:
                self._hold.release()


def recover(folder: Path) -> Recovered:
    """Close what a dead writer left; files.BusyError if the writer lives."""
    hold = files.Hold(folder / "writer.lock")
    try:
        return _recover(folder)
    finally:
        hold.release()


def _recover(folder: Path) -> Recovered:
    closed, cut, damage = [], 0, list[Damage]()
    for path in sorted(folder.glob("*.open")):
        content = path.read_bytes()
        whole = 0
        for found in frames.scan(content):
            if isinstance(found, frames.Frame):
                whole = found.end
            elif not found.last:
                damage.append(Damage(path, found.start, found.end - found.start))
        files.cut(path, whole)
        cut += len(content) - whole
        closed.append(_close_segment(path))
    return Recovered(closed, cut, damage)


def _next_segment(folder: Path) -> Path:
    return folder / f"{max(map(_number, segments(folder)), default=0) + 1:08}.open"


def _close_segment(path: Path) -> Path:
    closed = path.with_suffix(".closed")
    files.move(path, closed)
    return closed


def journals(folder: Path) -> list[Path]:
    """The folder of the journal, and those below it of services that share the work."""
    if not folder.is_dir():
        return []
    return [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]


def segments(folder: Path) -> list[Path]:
    """All segments, oldest first."""
    # open ones first: one that is closed meanwhile is seen twice, in the other order not at all
    found = [*folder.glob("*.open"), *folder.glob("*.closed")]
    by_number = {_number(path): path for path in found if path.stem.isdigit()}
    return [by_number[number] for number in sorted(by_number)]


def closed_segments(folder: Path) -> list[Path]:
    """The segments that wait to be folded, oldest first."""
    return [path for path in segments(folder) if path.suffix == ".closed"]


def _number(path: Path) -> int:
    return int(path.stem)


def read_segment(path: Path) -> bytes | None:
    """The bytes of a segment, None if it was folded meanwhile."""
    for name in (path, path.with_suffix(".closed")):
        try:
            return name.read_bytes()
        except FileNotFoundError:
            continue
    return None
