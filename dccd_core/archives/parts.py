"""From the rows of one file to parts of periods, each as soon as it is complete."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dccd_core.archives.base import ArchiveError, ArchiveFile, Part, Refused
from dccd_core.archives.ids import Ids
from dccd_core.archives.rows import (
    check_grid,
    check_times,
    flat_filled,
    in_order,
    runs,
)
from dccd_core.intervals import clip, subtract, union
from dccd_core.limits import Cancelled
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.schemas import SCHEMAS, bits, table_times

# A year of 1 m candles, 40 MB.
MOST_ROWS = 530_000


class Parts:
    """Takes the rows of one file, those inside `wanted`, and gives them back by periods.

    Of trades, all of the file's time is covered, but for holes in ids that are `contiguous`. Of
    candles, that is covered of which there are rows, flat ones too where the file leaves out what
    was not traded and the exchange itself does not (`fill_empty`).
    """

    def __init__(
        self,
        series: Series,
        file: ArchiveFile,
        wanted: list[Window],
        *,
        contiguous: bool,
        fill_empty: bool,
    ) -> None:
        self._series, self._file, self._wanted = series, file, wanted
        self._contiguous, self._fill_empty = contiguous, fill_empty
        self._open: dict[str, list[pa.Table]] = {}
        self._done: set[str] = set()
        self._ids = Ids()
        self._holes: list[Window] = []
        self._last: pa.Table | None = None

    def add(self, rows: pa.Table) -> Iterator[Part]:
        """Some more rows; the periods that end before them."""
        if not rows.num_rows:
            return
        check_times(rows, self._file.window)
        if self._contiguous:
            self._holes += self._ids.holes(rows)
        if self._fill_empty:
            rows = self._filled(rows)
        times = table_times(rows)
        earliest = int(times.min())
        for wanted in self._wanted:
            inside = _between(rows, times, wanted)
            if inside.num_rows:
                self._take(inside)
        before = self._series.period(earliest)
        yield from (self._part(period) for period in sorted(self._open) if period < before)

    def finish(self) -> Iterator[Part]:
        """The periods that are left, also those of which the file has no row."""
        periods = {p for window in self._wanted for p, _ in self._series.periods(window)}
        for period in sorted(periods - self._done):
            part = self._part(period)
            if part.covered:
                yield part

    def _filled(self, rows: pa.Table) -> pa.Table:
        joined = rows if self._last is None else pa.concat_tables([self._last, rows])
        check_grid(joined, self._series)
        before, self._last = self._last, rows.slice(rows.num_rows - 1)
        return flat_filled(rows, before, self._series)

    def _take(self, rows: pa.Table) -> None:
        times = table_times(rows)
        span = Window(int(times.min()), int(times.max()) + 1)
        for period, window in self._series.periods(span):
            if period in self._done:
                raise ArchiveError(f"rows of {period} come after those of later days")
            self._open.setdefault(period, []).append(_between(rows, times, window))

    def _part(self, period: str) -> Part:
        tables = self._open.pop(period, [])
        self._done.add(period)
        rows = in_order(pa.concat_tables(tables)) if tables else self._none()
        return Part(period, rows, self._covered(period, rows), self._file.path)

    def _none(self) -> pa.Table:
        return pa.Table.from_batches([], schema=SCHEMAS[self._series.channel])

    def _covered(self, period: str, rows: pa.Table) -> list[Window]:
        if self._series.channel is Channel.OHLC:
            check_grid(rows, self._series)
            return runs(table_times(rows), self._series.span * SECOND)
        inside = clip(clip(self._wanted, self._series.period_window(period)), self._file.window)
        return subtract(inside, self._holes)


def joined(items: Iterator[Part | Refused], series: Series) -> Iterator[Part | Refused]:
    """The same with candles of several files as one part, as long as they are of one period: each
    part that is stored costs its file anew. After a cancel what was held comes first."""
    held: list[Part] = []
    try:
        for item in items:
            if isinstance(item, Refused) or series.channel is not Channel.OHLC:
                yield item
                continue
            rows = sum(part.rows.num_rows for part in held)
            if held and (held[0].period != item.period or rows >= MOST_ROWS):
                yield _one(held)
                held = []
            held.append(item)
    except Cancelled:
        if held:
            yield _one(held)
        raise
    if held:
        yield _one(held)


def _one(parts: list[Part]) -> Part:
    rows = in_order(pa.concat_tables([part.rows for part in parts]))
    covered = union(window for part in parts for window in part.covered)
    return Part(parts[0].period, rows, covered, parts[-1].file)


def _between(rows: pa.Table, times: NDArray[np.int64], window: Window) -> pa.Table:
    """The rows of a window; all of them as they are where that is so."""
    inside = (times >= window.start) & (times < window.end)
    if inside.all():
        return rows
    return rows.filter(pa.Array.from_buffers(pa.bool_(), len(rows), [None, bits(inside)]))
