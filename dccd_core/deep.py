"""Candles of an exchange that serves only its newest ones: the older ones are built from trades.

The trades are stored as the series of their own that they are, so that all spans of a pair share
them, and an interruption costs a page.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from dccd_core.build import build_candles, fill
from dccd_core.derived import Stored, aligned, derived_from
from dccd_core.exchanges.base import Candles, ExchangeError
from dccd_core.history import CANCELLED, Collector, Outcome, joined, note_of
from dccd_core.intervals import clip, subtract, union
from dccd_core.limits import Cancelled
from dccd_core.models import DAY, SECOND, Series, Window
from dccd_core.pages import columns, concatenate, no_candles
from dccd_core.plan import Cell, Plan, cells
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import OHLC, SchemaError
from dccd_core.trades_history import TradesCollector

# While we ask, candles close: so many of the newest are not relied on to be served any more.
MARGIN = 20
# Trades are read and built from in pieces of about this length.
PIECE = 7 * DAY
TROUBLE = (SchemaError, UnreadableError, OSError, ExchangeError)
REQUIRED = 6  # columns of a candle that every exchange has


@dataclass(slots=True)
class _Old:
    """The part of a cell that is built from trades: what it lacks, and what became of it."""

    cell: Cell
    missing: list[Window]
    stored: Stored = field(default_factory=Stored)
    requests: int = 0
    began: float = 0.0


class DeepCollector:
    """Collects candles, the newest by the one collector, the older ones from trades.

    `fetched` hears of every day of trades that was fetched for them.
    """

    def __init__(
        self,
        candles: Collector,
        trades: TradesCollector,
        store: DataStore,
        fetched: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self._candles, self._trades, self._store = candles, trades, store
        self._exchange = candles.exchange
        self._fetched = fetched

    def plan(self, cells: Sequence[Cell]) -> list[Plan]:
        """What the cells lack. Trades that several of them need are counted once."""
        boundary = self._boundaries(cells)
        asked: set[Cell] = set()
        return [self._plan(cell, boundary[cell.series], asked) for cell in cells]

    def _plan(self, cell: Cell, boundary: int, asked: set[Cell]) -> Plan:
        new, old = _cut(cell, boundary)
        plans = self._candles.plan([new] if new else [])
        whole = plans[0] if plans else Plan(cell, [], [])
        if not old or whole.problem:
            return replace(whole, cell=cell)
        try:
            missing = self._lacking(old)
        except (*TROUBLE, Cancelled) as error:
            return Plan(cell, [old.window], [], problem=str(error))
        days = [day for day in self._days(cell.series, missing) if day not in asked]
        asked.update(days)
        others = [plan.others for plan in self._trades.plan(days)]
        known = [one for one in others if one is not None]
        return replace(
            whole,
            cell=cell,
            missing=union([*whole.missing, *missing]),
            listed=self._store.read_listing(cell.series),
            others=sum(known) if len(known) == len(others) else None,
        )

    def collect(self, cells: Sequence[Cell]) -> Generator[Outcome]:
        """Fetch and store the cells; one outcome each. The newest candles come first, since they
        will not be served for long."""
        boundary = self._boundaries(cells)
        newer = [new for cell in cells if (new := _cut(cell, boundary[cell.series])[0])]
        found = {(o.cell.series, o.cell.period): o for o in self._candles.collect(newer)}
        waiting: dict[str, list[_Old]] = defaultdict(list)
        # what has left the newest candles before its page was asked for is built as well
        boundary = self._boundaries(cells)
        for cell in cells:
            work = self._begin(cell, _cut(cell, boundary[cell.series])[1])
            waiting[cell.period].append(work)
        for _, works in sorted(waiting.items()):
            self._fetch(works)
            for work in works:
                self._build(work)
                yield self._outcome(work, found.get((work.cell.series, work.cell.period)))

    def _begin(self, cell: Cell, old: Cell | None) -> _Old:
        work = _Old(cell, [], began=time.monotonic())
        try:
            work.missing = self._lacking(old) if old else []
        except Cancelled:
            work.stored.failed.append((cell.window, CANCELLED))
        except TROUBLE as error:
            work.stored.failed.append((cell.window, str(error)))
        return work

    def _boundaries(self, cells: Sequence[Cell]) -> dict[Series, int]:
        """From when on the exchange serves the candles of each series."""
        depth = (self._exchange.candles_depth or 0) - MARGIN
        now = self._candles.client.clock()
        return {
            series: series.floor(now) - depth * series.span * SECOND
            for series in {cell.series for cell in cells}
        }

    def _lacking(self, cell: Cell) -> list[Window]:
        """What an older cell lacks, once it is known when the series begins."""
        grid = cell.series.grid(cell.window)
        missing = self._store.missing_windows(cell.series, grid)
        if missing and self._store.read_listing(cell.series) is None:
            first = self._trades.listing(derived_from(cell.series))
            self._store.write_listing(cell.series, cell.series.floor(first))
            missing = self._store.missing_windows(cell.series, grid)
        return missing

    def _days(self, series: Series, missing: Sequence[Window]) -> list[Cell]:
        """The days of trades that missing candles are built from: whole ones, so that the newest
        overlaps with what the exchange serves as candles."""
        source, now = derived_from(series), self._candles.client.clock()
        days = Window(0, now)
        wanted = union(
            clip((source.period_window(day) for w in missing for day, _ in source.periods(w)), days)
        )
        return [cell for window in wanted for cell in cells(source, window)]

    def _fetch(self, works: Sequence[_Old]) -> None:
        """Collect the trades that the works need; what failed is told to those that need it."""
        needs = {id(work): self._days(work.cell.series, work.missing) for work in works}
        days = sorted({day for some in needs.values() for day in some})
        for outcome in self._trades.collect(days):
            self._fetched(outcome)
            users = [work for work in works if outcome.cell in needs[id(work)]]
            for number, work in enumerate(users):
                work.requests += 0 if number else outcome.requests
                for window, why in outcome.failed:
                    lost = clip(work.missing, window)
                    said = why if why == CANCELLED else f"trades: {why}"
                    work.stored.failed += [(gap, said) for gap in lost]

    def _build(self, work: _Old) -> None:
        """Build and store what the stored trades settle of the missing windows."""
        series = work.cell.series
        source = derived_from(series)
        try:
            for hole in work.missing:
                have = subtract([hole], self._store.missing_windows(source, hole, here=True))
                for window in aligned(series, have):
                    self._build_window(work, source, window)
        except TROUBLE as error:
            work.stored.failed.append((work.cell.window, str(error)))

    def _build_window(self, work: _Old, source: Series, window: Window) -> None:
        series = work.cell.series
        step = max(1, PIECE // series.span) * series.span * SECOND
        close: float | None = None
        pieces = [no_candles()]
        for start in range(window.start, window.end, step):
            piece = Window(start, min(start + step, window.end))
            built = candles_from(self._store, source, series.span, piece)
            if self._exchange.fills_empty:
                if close is None and (not len(built) or built.time[0] > piece.start):
                    close = self._close_before(series, source, piece.start)
                built = fill(built, series.span, piece, close)
            close = float(built.close[-1]) if len(built) else close
            pieces.append(as_served(built, self._exchange.candle_columns))
        whole = concatenate(pieces[1:] or pieces)
        work.stored.merge(self._store, work.cell, whole, window, "trades")

    def _close_before(self, series: Series, source: Series, time: int) -> float | None:
        """The last price before a time, from the candle before it or from trades, which are
        fetched day by day; None where nothing was traded before."""
        before = self._store.load(series, time - series.span * SECOND, time)
        if before.height:
            return float(before["close"][-1])
        listed = self._store.read_listing(source)
        end = time
        while listed is not None and end > listed:
            day = Cell(source, source.period(end - 1), Window(end - DAY * SECOND, end))
            for outcome in self._trades.collect(cells(source, day.window)):
                self._fetched(outcome)
                if outcome.error:
                    raise ExchangeError(f"the price before {series} begins: {outcome.error}")
            rows = self._store.load(source, *day.window)
            if rows.height:
                return float(rows["price"][-1])
            end = day.window.start
        return None

    def _outcome(self, work: _Old, newer: Outcome | None) -> Outcome:
        stored = work.stored
        mine = Outcome(
            cell=work.cell,
            merged=stored.merged,
            added=stored.added,
            revised=stored.revised,
            requests=work.requests,
            seconds=time.monotonic() - work.began,
            failed=joined(stored.failed),
            note=note_of(Plan(work.cell, work.missing, [], self._listed(work.cell.series))),
        )
        if newer is None:
            return mine
        return replace(
            mine,
            merged=mine.merged or newer.merged,
            added=mine.added + newer.added,
            revised=mine.revised + newer.revised,
            requests=mine.requests + newer.requests,
            failed=joined([*mine.failed, *newer.failed]),
            note=mine.note if work.missing else newer.note,
        )

    def _listed(self, series: Series) -> int | None:
        return self._store.read_listing(series)


def candles_from(store: DataStore, source: Series, span: int, window: Window) -> Candles:
    """The candles that open in a window, built from the stored trades of a series."""
    rows = store.scan(source, *window).select("time", "price", "amount", "side").collect()
    return build_candles(
        rows["time"].dt.timestamp("us").to_numpy(),
        rows["price"].to_numpy(),
        rows["amount"].to_numpy(),
        (rows["side"].cast(pl.String) == "buy").to_numpy(),
        span,
        window,
        None,
        fill_empty=False,
    )


def as_served(candles: Candles, names: frozenset[str]) -> Candles:
    """Built candles with those optional columns that the exchange's own have."""
    required = columns(candles)[:REQUIRED]
    optional = zip(OHLC.names[REQUIRED:], columns(candles)[REQUIRED:], strict=True)
    return Candles(*required, *(column if name in names else None for name, column in optional))


def _cut(cell: Cell, boundary: int) -> tuple[Cell | None, Cell | None]:
    """The part of a cell from a time on, and the part before it; None where there is none."""
    start, end = cell.series.grid(cell.window)
    middle = min(max(boundary, start), end)
    newer = replace(cell, window=Window(middle, end)) if middle < end else None
    older = replace(cell, window=Window(start, middle)) if start < middle else None
    return newer, older
