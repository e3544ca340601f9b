"""What is to be fetched: requested window minus what is stored, cut into pages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dccd_core.exchanges.base import Limits
from dccd_core.intervals import clip
from dccd_core.models import SECOND, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import SchemaError

# Fetched again at each extension: exchanges revise the newest candles.
REREAD = 3
# What a request takes when no limit slows it: a round trip and its share of parsing.
ROUND_TRIP = 0.15


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """The wanted part of one period of one series: the unit of work and of success."""

    series: Series
    period: str
    window: Window


@dataclass(frozen=True, slots=True)
class Plan:
    """One cell and the pages that it takes; `listed` is when the series begins, if known.

    `problem` says why nothing can be stored here, and so nothing will be asked.
    """

    cell: Cell
    missing: list[Window]
    pages: list[Window]
    listed: int | None = None
    problem: str = ""

    @property
    def before_listing(self) -> bool:
        """Whether the whole cell lies before the first candle."""
        return self.listed is not None and self.listed >= self.cell.window.end


def cells(series: Series, window: Window) -> list[Cell]:
    """A window of one series as cells, oldest first."""
    return [Cell(series, period, part) for period, part in series.periods(window)]


def plan_cell(store: DataStore, cell: Cell, limits: Limits) -> Plan:
    """What is missing of a cell, and the pages that fetch it."""
    series = cell.series
    grid = series.grid(cell.window)
    missing, problem = [grid], ""
    try:
        missing = store.missing_windows(series, grid) if grid.start < grid.end else []
    except (SchemaError, OSError) as error:
        problem = str(error)
    wanted = clip([_with_overlap(series, hole) for hole in missing], grid)
    listed = store.read_listing(series)
    return Plan(cell, missing, list(_cut(series, wanted, limits.page)), listed, problem)


def _with_overlap(series: Series, hole: Window) -> Window:
    return Window(hole.start - REREAD * series.span * SECOND, hole.end)


def _cut(series: Series, windows: Iterable[Window], page: int) -> Iterator[Window]:
    step = page * series.span * SECOND
    for window in windows:
        for start in range(window.start, window.end, step):
            yield Window(start, min(start + step, window.end))


def after_listing(plan: Plan, listed: int, limits: Limits) -> Plan:
    """The plan without what lies before the first candle."""
    series = plan.cell.series
    exists = Window(series.floor(listed), series.grid(plan.cell.window).end)
    wanted = clip(plan.pages, exists) if exists.start < exists.end else []
    missing = clip(plan.missing, exists) if exists.start < exists.end else []
    return replace(
        plan, missing=missing, pages=list(_cut(series, wanted, limits.page)), listed=listed
    )


def estimate(requests: int, limits: Limits, threads: int) -> float:
    """Seconds that pages take: the slower of the exchange's budget and the round trips."""
    weight = max(0.0, requests * limits.page_weight - limits.burst)
    by_budget = weight * limits.seconds / limits.weight
    return max(by_budget, requests * ROUND_TRIP / threads)
