"""One run over series × periods: what is collected, and the events that tell of it."""

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from queue import SimpleQueue

import dagster as dg

from dccd_core.collection import wanted
from dccd_core.health import HealthMonitor
from dccd_core.history import CANCELLED, Outcome
from dccd_core.intervals import clip
from dccd_core.messages import some
from dccd_core.models import Series, Window
from dccd_core.plan import Cell
from dccd_core.store.datastore import DataStore, as_time
from dccd_pipelines.cards import materialization_metadata
from dccd_pipelines.checks import check_names, verdict
from dccd_pipelines.interleave import interleave
from dccd_pipelines.keys import asset_key
from dccd_pipelines.old_runs import BACKFILL
from dccd_pipelines.resources import Collectors

Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckResult

START_TAG = "dccd/start"
END_TAG = "dccd/end"
# A run with this tag tells only of periods that changed: Dagster's freshness looks at the time of
# events, so that an hourly "nothing new" would make a dead series look alive.
QUIET_TAG = "dccd/quiet"


class SeriesRun:
    """Collects the periods of some series, and judges what is in `judged`: series and check."""

    def __init__(
        self,
        collectors: Collectors,
        tags: Mapping[str, str],
        periods: Sequence[str],
        judged: Collection[tuple[Series, str]],
    ) -> None:
        self._collectors, self._tags, self._periods = collectors, tags, periods
        self._judged = judged
        self._fetched: SimpleQueue[Outcome] = SimpleQueue()
        self._config = collectors.config
        self._store = DataStore(self._config.settings.data_path)
        self._health = HealthMonitor(self._config.settings.data_path)
        self._now = _now()

    def events(self, series: Sequence[Series]) -> Iterator[Event]:
        """Fetch everything; one event per period as it is stored, and the checks of each series.

        Raises Failure at the end, with each missing window, if any is not complete: the good
        periods keep their materializations, and a re-execution asks for what is missing only.
        """
        cells = [cell for one in series for cell in self._cells(one)]
        left = Counter(cell.series for cell in cells)
        outcomes: dict[Series, list[Outcome]] = {one: [] for one in series}
        for one in series:
            if not left[one]:
                yield from self._verdict(one, [])
        for outcome in self._outcomes(cells):
            self._collectors.outcome(outcome)
            yield from self._tell_of_sources()
            one = outcome.cell.series
            outcomes[one].append(outcome)
            yield from self._tell(outcome)
            left[one] -= 1
            if not left[one]:
                self._record(one, outcomes[one])
                yield from self._verdict(one, outcomes[one])
        yield from self._tell_outside(series)
        failed = [o for many in outcomes.values() for o in many if o.error]
        if failed:
            raise _failure(failed, len(cells))

    def checks(self) -> Iterator[Event]:
        """Judge what is stored, without asking for anything."""
        for one in sorted({series for series, _ in self._judged}):
            yield from self._verdict(one, [])

    def _outcomes(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """What becomes of the cells; those of several exchanges are fetched at the same time."""
        by_exchange: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_exchange[cell.series.exchange].append(cell)
        sources = [self._collect(*item) for item in by_exchange.items()]
        if sources:
            yield from interleave(sources, self._collectors.cancel.set)

    def _collect(self, exchange: str, cells: Sequence[Cell]) -> Iterator[Outcome]:
        with self._collectors.open(exchange, self._fetched.put) as collector:
            yield from collector.collect(cells)

    def _wanted(self, series: Series) -> Window:
        start, end = (self._tags.get(tag) for tag in (START_TAG, END_TAG))
        return wanted(
            self._config,
            series,
            self._now,
            None if start is None else as_time(start, 0),
            None if end is None else as_time(end, 0),
        )

    def _cells(self, series: Series) -> Iterator[Cell]:
        window = self._wanted(series)
        for period in self._periods:
            for part in clip([series.period_window(period)], window):
                yield Cell(series, period, part)

    def _outside(self, series: Series) -> list[str]:
        """The periods of which nothing is asked, though a person named them."""
        inside = {cell.period for cell in self._cells(series)}
        named = [] if QUIET_TAG in self._tags else self._periods
        return [period for period in named if period not in inside]

    def _tell_outside(self, series: Sequence[Series]) -> Iterator[Event]:
        """A backfill counts a cell that it asked for and was not told of as failed; else nothing
        that was not asked for may be green."""
        kind = dg.AssetMaterialization if BACKFILL in self._tags else dg.AssetObservation
        for one in series:
            note = dg.MetadataValue.text(f"outside the wanted window {self._wanted(one)}")
            told = {"dagster/row_count": dg.MetadataValue.int(0), "note": note}
            for period in self._outside(one):
                yield kind(asset_key(one), partition=period, metadata=told)

    def _tell_of_sources(self) -> Iterator[Event]:
        """The days of trades that candles needed: their asset is not part of this run, but it has
        new files."""
        while not self._fetched.empty():
            outcome = self._fetched.get()
            if outcome.added or outcome.revised:
                yield from self._tell(outcome)

    def _tell(self, outcome: Outcome) -> Iterator[Event]:
        cell = outcome.cell
        key = asset_key(cell.series)
        if outcome.error:
            windows = dg.MetadataValue.text("\n".join(f"{w}: {why}" for w, why in outcome.failed))
            told = {"error": windows, "rows_added": dg.MetadataValue.int(outcome.added)}
            yield dg.AssetObservation(key, partition=cell.period, metadata=told)
        elif outcome.added or outcome.revised or QUIET_TAG not in self._tags:
            last = cell.period == self._periods[-1]
            metadata = materialization_metadata(self._store, outcome, last=last)
            yield dg.AssetMaterialization(key, partition=cell.period, metadata=metadata)

    def _record(self, series: Series, outcomes: Sequence[Outcome]) -> None:
        """Count the run and its rows; one that a person ended is no error of the series."""
        rows = sum(outcome.added for outcome in outcomes)
        ended = {why for outcome in outcomes for _, why in outcome.failed} == {CANCELLED}
        self._health.record(series, time.time(), rows, _errors(outcomes), cancelled=ended)

    def _verdict(self, series: Series, outcomes: Sequence[Outcome]) -> Iterator[Event]:
        for name in check_names(series):
            if (series, name) in self._judged:
                since = self._config.start_of(series) if series in self._config.jobs else None
                outside = self._outside(series)
                note = f"nothing was asked of {some(outside)}: see its note" if outside else ""
                yield verdict(self._store, series, name, _errors(outcomes), since, note)


def _errors(outcomes: Sequence[Outcome]) -> str | None:
    return "; ".join(f"{o.cell.period}: {o.error}" for o in outcomes if o.error) or None


def _now() -> int:
    return time.time_ns() // 1_000


def _failure(failed: Sequence[Outcome], cells: int) -> dg.Failure:
    lines = [
        f"- {outcome.cell.series} {outcome.cell.period}: {window}: {why}"
        for outcome in failed
        for window, why in outcome.failed
    ]
    return dg.Failure(
        f"{len(failed)} of {cells} (series, period) are not complete; the others are stored. "
        f"First: {lines[0].removeprefix('- ')}",
        metadata={"missing": dg.MetadataValue.md("\n".join(lines[:200]))},
        allow_retries=False,
    )
