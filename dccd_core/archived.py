"""Published files first: what of a plan they hold is stored before the exchange is asked."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from dccd_core.archives.archive import Archive
from dccd_core.archives.base import Part
from dccd_core.exchanges.base import ExchangeError, Instrument
from dccd_core.history import Outcome, Progress
from dccd_core.intervals import union
from dccd_core.limits import Cancelled
from dccd_core.models import Series, Window
from dccd_core.plan import Cell, Plan
from dccd_core.store.datastore import DataStore
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

    def fill(self, plans: Sequence[Plan]) -> None:
        """Fetch and store what is missing and published. It ends early when it is cancelled: what
        is missing then is still missing."""
        windows: dict[Series, list[Window]] = defaultdict(list)
        for plan in plans:
            if plan.missing and not plan.problem and self._archive.offers(plan.cell.series):
                windows[plan.cell.series] += plan.missing
        for series, missing in windows.items():
            try:
                self._fill(series, union(missing))
            except ExchangeError:
                continue  # an unknown pair: the exchange's collector says so
            except Cancelled:
                return

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
                merged = self._store.merge(series, item.period, item.rows, item.covered, "archive")
            except (SchemaError, OSError) as error:
                filled.notes.append(f"{item.file}: not stored: {error}")
                continue
            filled.merged = merged
            filled.added += merged.added
            filled.revised += merged.revised
            rows += merged.added
            self._progress(Progress(series, 0, 1, rows, self._archive.requests))

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


def _place(cell: Cell) -> tuple[Series, str]:
    return cell.series, cell.period
