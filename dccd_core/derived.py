"""Candles of spans that an exchange does not have, from shorter ones that are stored."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dccd_core.build import merge_candles
from dccd_core.exchanges import load
from dccd_core.exchanges.base import Candles
from dccd_core.history import Outcome, joined, note_of
from dccd_core.intervals import clip, subtract, union
from dccd_core.lineage import source_of
from dccd_core.models import SECOND, Series, Window, span_label
from dccd_core.pages import settles
from dccd_core.plan import REREAD, Cell, Plan, with_overlap
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.period import Merged
from dccd_core.store.schemas import OHLC, SchemaError, candles_table


@dataclass(slots=True)
class Stored:
    """What came into one cell so far."""

    merged: Merged | None = None
    added: int = 0
    revised: int = 0
    failed: list[tuple[Window, str]] = field(default_factory=list)

    def merge(
        self, store: DataStore, cell: Cell, candles: Candles, covered: Window, source: str
    ) -> None:
        """Store candles of the cell's period; what cannot be stored is noted as failed."""
        table = candles_table(candles)
        try:
            self.merged = store.merge(cell.series, cell.period, table, [covered], source)
        except (SchemaError, OSError) as error:
            self.failed.append((covered, f"not stored: {error}"))
            return
        self.added += self.merged.added
        self.revised += self.merged.revised


class Deriver:
    """Builds cells of candles from the stored candles of their source. It asks nobody."""

    def __init__(self, store: DataStore) -> None:
        self._store = store

    def plan(self, cells: Sequence[Cell]) -> list[Plan]:
        """What the cells lack."""
        return [self._plan(cell) for cell in cells]

    def _plan(self, cell: Cell) -> Plan:
        series, source = cell.series, derived_from(cell.series)
        grid = series.grid(cell.window)
        try:
            listed = self._store.read_listing(source)
            if listed is not None and self._store.read_listing(series) is None:
                self._store.write_listing(series, series.floor(listed))
            missing = self._store.missing_windows(series, grid) if grid.start < grid.end else []
        except (SchemaError, UnreadableError, OSError) as error:
            return Plan(cell, [grid], [], problem=str(error))
        first = None if listed is None else series.floor(listed)
        return Plan(cell, missing, [], first)

    def collect(self, cells: Sequence[Cell]) -> Generator[Outcome]:
        """Build and store what is missing and whose source is there; one outcome for each cell."""
        for plan in self.plan(cells):
            began = time.monotonic()
            stored = Stored()
            if plan.problem:
                stored.failed.append((plan.cell.window, plan.problem))
            elif holes := [*plan.missing, *self._revisable(plan.cell)]:
                self._build(plan.cell, holes, stored)
            yield Outcome(
                cell=plan.cell,
                merged=stored.merged,
                added=stored.added,
                revised=stored.revised,
                requests=0,
                seconds=time.monotonic() - began,
                failed=joined(stored.failed),
                note=note_of(plan),
            )

    def _revisable(self, cell: Cell) -> list[Window]:
        """What is built of the newest candles of the source: these are asked for again, and may
        have been revised after a candle here was built."""
        series, source = cell.series, derived_from(cell.series)
        reach = REREAD * source.span * SECOND
        end = _now() - series.span * SECOND - 2 * reach
        if cell.window.end < end:
            return []
        try:
            newest = max((w.end for w in self._store.covered(source, cell.window)), default=0)
        except SchemaError:
            return []  # what reads it says so
        window = Window(series.floor(newest - reach), series.floor(newest))
        return [window] if newest >= end and window.start < window.end else []

    def _build(self, cell: Cell, holes: Sequence[Window], stored: Stored) -> None:
        series, source = cell.series, derived_from(cell.series)
        wanted = clip(union(with_overlap(series, hole) for hole in holes), series.grid(cell.window))
        try:
            lacking = [
                gap
                for hole in wanted
                for gap in self._store.missing_windows(source, hole, here=True)
            ]
            for part in aligned(series, subtract(wanted, lacking)):
                candles = stored_candles(self._store, source, part)
                longer = merge_candles(
                    candles,
                    series.span,
                    opens_at_last_close=load(series.exchange).opens_at_last_close,
                )
                stored.merge(self._store, cell, longer, part, span_label(source.span))
        except (SchemaError, UnreadableError) as error:
            stored.failed.append((cell.window, str(error)))
            return
        late = _now() - settles(load(series.exchange)) - source.span * SECOND
        for gap in clip(lacking, Window(0, late)):
            stored.failed.append((gap, f"candles of {source} are missing"))


def derived_from(series: Series) -> Series:
    """The source of a derived series; ValueError if it has none."""
    source = source_of(series)
    if source is None:
        raise ValueError(f"{series} is not built from another series")
    return source


def aligned(series: Series, windows: Sequence[Window]) -> list[Window]:
    """The whole candles of a series inside each window."""
    inside = (Window(series.ceil(start), series.floor(end)) for start, end in windows)
    return [window for window in inside if window.start < window.end]


def stored_candles(store: DataStore, series: Series, window: Window) -> Candles:
    """Stored candles as arrays; a column that is not known of all of them is None."""
    rows = store.load(series, *window)

    def column(name: str) -> Any:
        return None if rows[name].null_count() else rows[name].to_numpy()

    times = rows["time"].dt.timestamp("us").to_numpy()
    return Candles(times, *(column(name) for name in OHLC.names[1:]))


def _now() -> int:
    return time.time_ns() // 1_000
