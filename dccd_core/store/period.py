"""One period of one series: a main file, and a small tail so that a new row costs little.

`2026.parquet` holds the bulk, `2026.tail.parquet` the newest rows. Together they are the whole
period without duplicates. When the tail is full it is folded into the main file in three steps,
each of which leaves a state that readers and a later writer understand:

1. the union is written beside as `.2026.fold`, complete and durable: from here on it counts,
2. the tail is removed: a reader of the plain files sees a moment ago, never a row twice,
3. the fold takes the main file's place.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dccd_core.models import Channel, Series, Window
from dccd_core.store import files
from dccd_core.store.footer import Footer, ledger, make_footer, read_footer, still_lost
from dccd_core.store.rows import News, alone, arrange, combine, compared, margin, news
from dccd_core.store.schemas import Loss, frozen, table_times

TAIL_ROWS = 1_500
# A day of a million trades is folded twenty times; a tail of books weighs about as much.
DAILY_TAIL_ROWS = {Channel.TRADES: 50_000, Channel.BOOK: 5_000, Channel.BOOK_DELTAS: 20_000}


@dataclass(frozen=True, slots=True)
class Part:
    """One open file of a period with its footer."""

    path: Path
    file: pq.ParquetFile
    footer: Footer
    bytes: int

    @property
    def rows(self) -> int:
        return int(self.file.metadata.num_rows)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """The rows; UnreadableError if a page of the file is damaged."""
        return self.read_groups(range(self.file.num_row_groups), columns)

    def read_groups(self, groups: Iterable[int], columns: list[str] | None = None) -> pa.Table:
        """The rows of some row groups; UnreadableError if a page of them is damaged."""
        with files.naming_unreadable(self.path):
            table = self.file.read_row_groups(list(groups), columns, use_threads=False)
        return frozen(table.replace_schema_metadata(None))

    def groups(self, window: Window) -> list[int]:
        """The row groups that may have rows of a window."""
        found = []
        for index in range(self.file.num_row_groups):
            column = self.file.metadata.row_group(index).column(0)
            if column.path_in_schema == "time" and column.is_stats_set:
                first, last = column.statistics.min_raw, column.statistics.max_raw
                if last < window.start or first >= window.end:
                    continue
            found.append(index)
        return found


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did, and the period afterwards; `bytes` is its size on disk.

    `written` is how many bytes of files the merge wrote, 0 if all of it was known.
    """

    added: int
    revised: int
    rows: int
    first: int | None
    last: int | None
    covered: list[Window]
    lost: list[Loss]
    path: Path
    bytes: int
    written: int
    set_aside: list[Path]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """What is to be merged; see `Period.merge`."""

    rows: pa.Table
    covered: list[Window]
    source: str
    lost: list[Loss]
    close: bool


class Period:
    """The files of one period of one series."""

    def __init__(self, folder: Path, series: Series, period: str) -> None:
        self.folder, self.series, self.period = folder, series, period
        self.main = folder / f"{period}.parquet"
        self.tail = folder / f"{period}.tail.parquet"
        self.fold = folder / f".{period}.fold"

    def open(self) -> list[Part]:
        """The parts as one consistent state, oldest first; empty if there is no file.

        No lock is needed: a state that changes while it is opened is opened again. UnreadableError
        names a file that is damaged, or a tail that does not belong to the main file beside it.
        """
        while True:
            before = self._state()
            if fold := self._open(self.fold, before):
                return [fold]
            main, tail = self._open(self.main, before), self._open(self.tail, before)
            if main and tail and main.footer.last == tail.footer.base:
                return [main, tail]
            if self._state() != before:
                continue
            if main and tail:
                other = ValueError(f"it does not continue {self.main.name}, which was replaced")
                raise files.UnreadableError(self.tail, other)
            # a tail alone: someone removed the main file, but what is left is still data
            return [part for part in (main, tail) if part]

    def _state(self) -> dict[Path, tuple[int, int, int]]:
        """Which files are there, and what tells one content from another; the size is last."""
        found = {}
        for path in (self.main, self.tail, self.fold):
            with suppress(FileNotFoundError):
                state = os.stat(path)  # noqa: PTH116 - the inventory asks this of thousands
                found[path] = (state.st_ino, state.st_mtime_ns, state.st_size)
        return found

    def _open(self, path: Path, state: dict[Path, tuple[int, int, int]]) -> Part | None:
        if path not in state:
            return None
        try:
            return Part(path, *self._read(path), state[path][-1])
        except FileNotFoundError:
            return None

    def _read(self, path: Path) -> tuple[pq.ParquetFile, Footer]:
        file = files.open_parquet(path)
        return file, read_footer(file.metadata, path)

    def paths(self) -> list[Path]:
        """The files that exist of this period."""
        return [path for path in (self.main, self.tail, self.fold) if path.exists()]

    def merge(
        self,
        new: pa.Table,
        covered: list[Window],
        source: str,
        lost: Sequence[Loss] = (),
        *,
        close: bool = False,
    ) -> Merged:
        """Add rows and ledger entries; a row that is known is replaced if it differs.

        `new` has the frozen schema; candles of REST are in strictly ascending order of time, other
        rows in any, repeated ones too. `close` puts all into the main file. The series' lock must
        be held. A damaged file is set aside, and what it covered is missing again.
        """
        try:
            new = arrange(self.series.channel, new)
        except ValueError as error:
            raise ValueError(f"{self.series} {self.period}: {error}") from error
        files.clean(self.folder)
        batch = _Batch(new, covered, source, list(lost), close)
        aside: list[Path] = []
        while True:
            try:
                self._resume_fold()
                return self._merge(batch, aside)
            except files.UnreadableError as error:
                aside.append(files.set_aside(error.path))

    def _resume_fold(self) -> None:
        """Finish what a killed writer began, once it is sure that the fold is whole."""
        if fold := self._open(self.fold, self._state()):
            fold.read()
            self._finish_fold()

    def _finish_fold(self) -> None:
        files.remove(self.tail)
        files.move(self.fold, self.main)

    def _merge(self, batch: _Batch, aside: list[Path]) -> Merged:
        parts = self._parts()
        fresh = _news(batch.rows, parts[0], self.series.channel) if parts else None
        new = fresh.table if fresh else batch.rows
        tail = parts[1].read() if len(parts) == 2 else new.slice(0, 0)
        into_tail = bool(fresh and not batch.close and self._fits_tail(fresh, tail, parts[0]))
        touched = parts[1:] if into_tail else parts
        old = tail if into_tail else pa.concat_tables([*(p.read() for p in parts[:1]), tail])
        found = combine(self.series.channel, old, new) if parts else alone(new)
        state = [(part.rows, part.footer) for part in parts]
        footers = [footer for _, footer in state]
        before, after = ledger(footers), ledger(footers, batch.covered, batch.lost)
        closing = batch.close and not (len(parts) == 1 and parts[0].footer.closed)
        written = 0
        if found.changed or not parts or closing or before != after:
            windows, lost = ledger([part.footer for part in touched], batch.covered, batch.lost)
            lost = still_lost(lost, after[0])
            changes = found.revised + sum(part.footer.revised for part in touched)
            footer = make_footer(self.series, found.table, windows, batch.source, changes, lost)
            if into_tail:
                footer = msgspec.structs.replace(footer, base=parts[0].footer.last)
                written = files.write_table(self.tail, found.table, footer.encode())
            else:
                footer = msgspec.structs.replace(footer, closed=batch.close)
                written = self._write_main(found.table, footer)
            state = [*(state[:1] if into_tail else []), (found.table.num_rows, footer)]
        footers = [footer for _, footer in state]
        return Merged(
            added=found.added,
            revised=found.revised,
            rows=sum(rows for rows, _ in state),
            first=min((f.first for f in footers if f.first is not None), default=None),
            last=max((f.last for f in footers if f.last is not None), default=None),
            covered=after[0],
            lost=after[1],
            path=self.main,
            bytes=sum(path.stat().st_size for path in self.paths()),
            written=written,
            set_aside=aside,
        )

    def _write_main(self, table: pa.Table, footer: Footer) -> int:
        target = self.fold if self.tail.exists() else self.main
        size = files.write_table(target, table, footer.encode(), closed=footer.closed)
        if target == self.main:
            return size
        self._finish_fold()
        return size

    def _parts(self) -> list[Part]:
        parts = self.open()
        if parts and parts[0].path == self.tail:
            files.move(self.tail, self.main)
            return self.open()
        return parts

    def _fits_tail(self, fresh: News, tail: pa.Table, main: Part) -> bool:
        if not fresh.table.num_rows:
            return True
        most = DAILY_TAIL_ROWS.get(self.series.channel, TAIL_ROWS)
        later = fresh.later and main.footer.last is not None
        return later and tail.num_rows + fresh.table.num_rows <= most


def _news(new: pa.Table, main: Part, channel: Channel) -> News:
    """What of `new` the main file does not hold.

    The newest rows are fetched again at each extension, which must not rewrite the file.
    """
    times, last, reach = table_times(new), main.footer.last, margin(channel)
    count = 0 if last is None else int(np.searchsorted(times, last + reach, side="right"))
    if last is None or not count:
        return News(new, later=True)
    window = Window(int(times[0]) - reach, int(times[count - 1]) + reach + 1)
    held = main.read_groups(main.groups(window), compared(channel))
    found = news(channel, held, new.slice(0, count))
    later = found.later and (table_times(found.table.slice(0, 1)) >= last).all()
    return News(pa.concat_tables([found.table, new.slice(count)]), bool(later))
