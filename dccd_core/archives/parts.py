"""From the rows of one file to parts of periods, each as soon as it is complete."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dccd_core.archives.base import ArchiveError, ArchiveFile, Part, Refused
from dccd_core.archives.edges import Rhythm, Seam
from dccd_core.archives.ids import Ids
from dccd_core.archives.rows import (
    check_grid,
    check_times,
    flat_filled,
    in_order,
    kept,
    runs,
)
from dccd_core.intervals import clip, subtract, union
from dccd_core.limits import Cancelled
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.schemas import SCHEMAS, table_times

# A year of 1 m candles, 40 MB.
MOST_ROWS = 530_000


class Parts:
    """Takes the rows of one file, those inside `wanted`, and gives them back by periods.

    Of trades, the file's time is covered but for what it seems to lack before its first and after
    its last one. Where ids are contiguous, which `seam` says, holes in them are not covered either,
    and the ends wait for the ids of the files beside. Of candles, that is covered of which there
    are rows, flat ones too where the file leaves out what was not traded and the exchange itself
    does not (`fill_empty`).
    """

    def __init__(
        self,
        series: Series,
        file: ArchiveFile,
        wanted: list[Window],
        *,
        seam: Seam | None,
        fill_empty: bool,
    ) -> None:
        self._series, self._file, self._wanted = series, file, wanted
        self._seam, self._fill_empty = seam, fill_empty
        self._open: dict[str, list[pa.Table]] = {}
        self._done: set[str] = set()
        self._ids, self._rhythm = Ids(), Rhythm()
        self._holes: list[Window] = []
        self._begun = self._seen = False
        self._last: pa.Table | None = None

    def see(self, times: NDArray[np.int64]) -> None:
        """Some more trades, those of other markets in the file too, which then tell of its ends."""
        self._seen = True
        if len(times):
            self._rhythm.see(times)

    def add(self, rows: pa.Table) -> Iterator[Part]:
        """Some more rows; the periods that end before them."""
        if not rows.num_rows:
            return
        check_times(rows, self._file.window)
        if self._seam:
            self._holes += self._ids.holes(rows)
        if self._fill_empty:
            rows = self._filled(rows)
        times = table_times(rows)
        if self._trades and not self._seen:
            self._rhythm.see(times)
        earliest = int(times.min())
        for wanted in self._wanted:
            inside = _between(rows, times, wanted)
            if inside.num_rows:
                self._take(inside)
        before = self._series.period(earliest)
        ready = sorted(period for period in self._open if period < before)
        if self._trades and (ready or self._ids.oldest_first):
            yield from self._begin()
        yield from (self._part(period) for period in ready)

    def finish(self) -> Iterator[Part]:
        """The periods that are left, also those of which the file has no row."""
        edge, believed = None, False
        if self._trades:
            yield from self._begin()
            edge, believed = self._last_edge()
        if self._seam:
            ends = self._ids.ends
            yield from self._seam.end(self._file.window, ends[1].id if ends else None)
        periods = {p for window in self._wanted for p, _ in self._series.periods(window)}
        for period in sorted(periods - self._done):
            part = self._part(period)
            open_end = subtract(clip(self._inside(period), edge), self._holes) if edge else []
            if self._seam and open_end:
                part = replace(part, covered=subtract(part.covered, open_end))
                self._seam.hold(part, open_end, believed=believed)
            elif part.covered or part.rows.num_rows:
                yield part

    def _begin(self) -> Iterator[Part]:
        """Settle once what is before the first trade; the parts of the file before."""
        seen = self._rhythm.seen
        if self._begun or seen is None:
            return
        self._begun = True
        empty, start = None, seen.start
        if self._seam and (ends := self._ids.ends):
            start = ends[0].time + 1  # a file that is cut may be so amid the trades of a moment
            empty, freed = self._seam.begin(self._file.window, ends[0].id)
            yield from freed
        edge = Window(self._file.window.start, start)
        if not (self._is_believed(edge) if empty is None else empty):
            self._holes.append(edge)

    def _last_edge(self) -> tuple[Window, bool]:
        """What is after the last trade, and whether it is to be believed that none followed."""
        seen, ends = self._rhythm.seen, self._ids.ends
        start = self._file.window.start if seen is None else seen.end
        edge = Window(ends[1].time if ends else start, self._file.window.end)
        believed = self._is_believed(edge)
        if not self._seam and not believed:
            self._holes.append(edge)
        return edge, believed

    def _is_believed(self, edge: Window) -> bool:
        """Whether nothing was traded at an end of the file, as far as the file itself tells."""
        if self._seam is None and self._rhythm.seen is None:
            return False  # a file without any line is no answer
        beyond = self._seam is None or self._seam.may_believe(edge)
        return beyond and self._rhythm.is_usual(edge)

    @property
    def _trades(self) -> bool:
        return self._series.channel is Channel.TRADES

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
        return subtract(self._inside(period), self._holes)

    def _inside(self, period: str) -> list[Window]:
        return clip(clip(self._wanted, self._series.period_window(period)), self._file.window)


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
    """The rows of a window."""
    return kept(rows, (times >= window.start) & (times < window.end))
