"""Published files first: what of a plan they hold is stored before the exchange is asked."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from dccd_core.archives.archive import Archive
from dccd_core.archives.base import Part
from dccd_core.archives.doubles import without_stored
from dccd_core.exchanges.base import ExchangeError, Instrument
from dccd_core.history import Outcome, Progress
from dccd_core.intervals import clip, subtract, union
from dccd_core.limits import Cancelled
from dccd_core.models import Channel, Series, Window
from dccd_core.plan import Cell, Plan
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.period import Merged
from dccd_core.store.schemas import SchemaError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Filled:
    """What came from files into one period of a series."""

    merged: Merged | None = None
    added: int = 0
    revised: int = 0
    requests: int = 0
    notes: list[str] = field(default_factory=list)


class ArchiveFirst:
    """Stores what an archive holds, and remembers it for the outcomes of the cells."""

    def __init__(
        self,
        archive: Archive,
        store: DataStore,
        instrument: Callable[[Series], Instrument],
        progress: Callable[[Progress], None],
    ) -> None:
        self._archive, self._store = archive, store
        self._instrument, self._progress = instrument, progress
        self._filled: dict[tuple[Series, str], _Filled] = defaultdict(_Filled)

    def expect(self, plans: Sequence[Plan]) -> list[Plan]:
        """The plans with the requests that are left when files have been taken; nothing is asked
        but the list of markets. A file and its checksum are two requests."""
        by_series: dict[Series, list[Plan]] = defaultdict(list)
        for plan in plans:
            by_series[plan.cell.series].append(plan)
        return [new for series, some in by_series.items() for new in self._expect(series, some)]

    def _expect(self, series: Series, plans: list[Plan]) -> list[Plan]:
        missing = union(
            w for plan in plans if not plan.problem for w in [*plan.missing, *plan.beyond]
        )
        if not missing or not self._archive.offers(series):
            return [replace(plan, beyond=[]) for plan in plans]
        try:
            files = self._archive.files(series, self._instrument(series), missing)
        except (ExchangeError, Cancelled):
            return plans
        held = [file.window for file in files]
        found, counted = [], 0
        for plan in plans:
            started = sum(window.start < plan.cell.window.end for window in held)
            found.append(_left(plan, held, 2 * (started - counted)))
            counted = started
        return found

    def fill(self, plans: Sequence[Plan]) -> None:
        """Fetch and store what is missing and published. It ends early when it is cancelled: what
        is missing then is still missing."""
        windows: dict[Series, list[Window]] = defaultdict(list)
        for plan in plans:
            if not plan.problem and self._archive.offers(plan.cell.series):
                windows[plan.cell.series].append(plan.cell.window)
        for series, wanted in windows.items():
            try:
                if missing := self._lacking(series, wanted):
                    self._fill(series, missing)
            except ExchangeError:
                continue  # an unknown pair: the exchange's collector says so
            except Cancelled:
                return

    def _lacking(self, series: Series, wanted: list[Window]) -> list[Window]:
        """What is not stored of some windows: more than a plan's `missing` where the exchange
        itself does not reach so far back."""
        whole = Window(min(one.start for one in wanted), max(one.end for one in wanted))
        if series.span:
            whole = series.grid(whole)
        try:
            missing = self._store.missing_windows(series, whole) if whole.start < whole.end else []
        except (SchemaError, OSError):
            return []  # the collector's plan says so
        return [part for window in union(wanted) for part in clip(missing, window)]

    def _fill(self, series: Series, missing: list[Window]) -> None:
        rows, before = 0, self._archive.requests
        for item in self._archive.fetch(series, self._instrument(series), missing):
            sent, before = self._archive.requests - before, self._archive.requests
            if not isinstance(item, Part):
                log.warning("%s: %s is not used: %s", series, item.file, item.reason)
                for period, _ in series.periods(item.window):
                    self._filled[series, period].notes.append(f"{item.file}: {item.reason}")
                continue
            filled = self._filled[series, item.period]
            filled.requests += sent
            try:
                merged = self._merge(series, item)
            except (SchemaError, OSError) as error:
                filled.notes.append(f"{item.file}: not stored: {error}")
                continue
            filled.merged = merged
            filled.added += merged.added
            filled.revised += merged.revised
            rows += merged.added
            self._progress(Progress(series, 0, 1, rows, self._archive.requests))

    def _merge(self, series: Series, part: Part) -> Merged:
        rows = part.rows
        if series.channel is Channel.TRADES and self._archive.renumbers(series):
            with suppress(UnreadableError):  # merging sets it aside: nothing of it is stored then
                rows = without_stored(self._store, series, rows)
        return self._store.merge(series, part.period, rows, part.covered, "archive")

    def told(self, outcome: Outcome) -> Outcome:
        """An outcome with what files gave to its cell."""
        filled = self._filled.pop(_place(outcome.cell), None)
        if filled is None:
            return outcome
        took = [f"{filled.added:,} rows from published files"] if filled.added else []
        note = "" if filled.added and not outcome.added else outcome.note
        return replace(
            outcome,
            merged=outcome.merged or filled.merged,
            added=outcome.added + filled.added,
            revised=outcome.revised + filled.revised,
            requests=outcome.requests + filled.requests,
            note="; ".join(filter(None, [*took, *filled.notes[:20], note])),
        )


def _left(plan: Plan, held: list[Window], requests: int) -> Plan:
    """A plan without the windows that files hold, which take some requests themselves."""
    left = subtract(plan.missing, held)
    plan = replace(plan, beyond=subtract(plan.beyond, subtract(plan.beyond, held)))
    if not left:
        return replace(plan, pages=[], others=float(requests))
    whole = sum(end - start for start, end in plan.missing)
    share = sum(end - start for start, end in left) / whole
    others = None if plan.others is None else plan.others * share + requests
    return replace(plan, pages=[page for page in plan.pages if clip(left, page)], others=others)


def _place(cell: Cell) -> tuple[Series, str]:
    return cell.series, cell.period
