"""What is to be fetched: requested window minus what is stored, cut into pages."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dccd_core.exchanges.base import Limits
from dccd_core.intervals import clip, subtract, union
from dccd_core.models import DAY, SECOND, Series, Window, span_label
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.removed import read_removed
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

    `problem` says why nothing can be stored here, and so nothing will be asked. `others` is about
    how many requests it takes that are no pages of candles; None where nobody can know. `note`
    says why less than what is missing is asked for; `beyond` is what published files may have and
    the exchange does not reach.
    """

    cell: Cell
    missing: list[Window]
    pages: list[Window]
    listed: int | None = None
    problem: str = ""
    others: float | None = 0.0
    note: str = ""
    beyond: list[Window] = field(default_factory=list)

    @property
    def before_listing(self) -> bool:
        """Whether the whole cell lies before the first candle."""
        return self.listed is not None and self.listed >= self.cell.window.end


def cells(series: Series, window: Window) -> list[Cell]:
    """A window of one series as cells, oldest first."""
    return [Cell(series, period, part) for period, part in series.periods(window)]


def plan_years(store: DataStore, cells: Sequence[Cell], limits: Limits) -> list[Plan]:
    """What is missing of cells of candles, and the pages that fetch it.

    The last candles before what is missing are asked for again, also where these are of the cell
    before.
    """
    lacking = {cell: _lacking(store, cell) for cell in cells}
    next_to = {(cell.series, cell.window.start): cell for cell in cells}
    plans = []
    for cell, (missing, problem) in lacking.items():
        series, after = cell.series, next_to.get((cell.series, cell.window.end))
        holes = [*missing, *(lacking[after][0] if after else [])]
        grid = series.grid(cell.window)
        # three candles would take the place of a year that was removed, as a file of its own
        here = Window(max(grid.start, read_removed(store.folder(series))), grid.end)
        wanted = clip([with_overlap(series, hole) for hole in holes], here)
        pages = list(_cut(series, wanted, limits.page))
        plans.append(Plan(cell, missing, pages, store.read_listing(series), problem))
    return plans


def _lacking(store: DataStore, cell: Cell) -> tuple[list[Window], str]:
    """What is missing of a cell; all of it, and why that cannot be known, if its files are bad."""
    grid = cell.series.grid(cell.window)
    if grid.start == grid.end:
        return [], ""
    try:
        return store.missing_windows(cell.series, grid), ""
    except (SchemaError, OSError) as error:
        return [grid], str(error)


def plan_days(
    store: DataStore,
    cells: Sequence[Cell],
    reach: int | None,
    a_page: int,
    now: int,
    sampled: float | None = None,
) -> list[Plan]:
    """What is missing of days of trades, all of one series.

    `reach` is how many seconds back the exchange answers, `a_page` how many trades at once. How
    many requests it takes is guessed by the days of the series that are stored, else by how many
    trades a second a sample had.
    """
    series = cells[0].series
    try:
        listed = store.read_listing(series)
        rows = _rows_a_second(store, series) or sampled
        whole = Window(cells[0].window.start, max(cell.window.end for cell in cells))
        missing = store.missing_windows(series, whole)
    except (SchemaError, UnreadableError, OSError) as error:
        return [_plan_alone(store, cell, str(error)) for cell in cells]
    plans = []
    for cell in cells:
        gaps, note, lost = clip(missing, cell.window), "", []
        if reach is not None and (lost := clip(gaps, Window(0, _oldest(reach, now)))):
            gaps = subtract(gaps, lost)
            note = f"only published files have it: trades are served for {span_label(reach)}"
        seconds = sum(window.end - window.start for window in gaps) / SECOND
        guess = rows * seconds / a_page if rows is not None else None if gaps else 0.0
        plans.append(Plan(cell, gaps, [], listed, others=guess, note=note, beyond=lost))
    return plans


def _oldest(reach: int, now: int) -> int:
    """From when on trades are asked for. Where the exchange serves those of some hours only, none
    are: each run would leave a hole."""
    return now - reach * SECOND if reach >= DAY else now + DAY * SECOND


def _plan_alone(store: DataStore, cell: Cell, trouble: str) -> Plan:
    """A day of a series that has one which cannot be read: perhaps it is another one."""
    try:
        missing = store.missing_windows(cell.series, cell.window)
    except (SchemaError, OSError) as error:
        return Plan(cell, [cell.window], [], problem=str(error))
    listed = store.read_listing(cell.series)
    return Plan(cell, missing, [], listed, others=None, note=trouble)


def _rows_a_second(store: DataStore, series: Series) -> float | None:
    """How many trades a second the newest stored days have; None if there are none."""
    parts = [p for day in store.existing_periods(series)[-7:] for p in store.parts(series, day)]
    covered = union(window for part in parts for window in part.footer.windows)
    seconds = sum(window.end - window.start for window in covered) / SECOND
    return sum(part.rows for part in parts) / seconds if seconds else None


def with_overlap(series: Series, hole: Window) -> Window:
    """A hole and the last candles before it, which may have been revised."""
    return Window(hole.start - REREAD * series.span * SECOND, hole.end)


def _cut(series: Series, windows: Iterable[Window], page: int) -> Iterator[Window]:
    step = page * series.span * SECOND
    for window in windows:
        for start in range(window.start, window.end, step):
            yield Window(start, min(start + step, window.end))


def after_listing(plan: Plan, listed: int, limits: Limits) -> Plan:
    """The plan without what lies before the first candle."""
    series = plan.cell.series
    if not series.span:
        missing = clip(plan.missing, Window(listed, max(listed, plan.cell.window.end)))
        others = plan.others if missing else 0.0
        return replace(plan, missing=missing, others=others, listed=listed)
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
