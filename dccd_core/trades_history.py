"""The walk through past trades: days in, stored files out.

Trades have no grid: where a page ends is known when it came. So a stretch of days is one walk, page
after page, and several stretches are walked at the same time. The calling thread stores; an
interrupted walk is resumed from where the ledger ends.
"""

import math
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from statistics import fmean
from threading import Event

from dccd_core.exchanges.base import Exchange, ExchangeError
from dccd_core.exchanges.trades import Trade, TradesHistory
from dccd_core.history import CANCELLED, THREADS, Outcome, Progress, depth, joined, note_of, settle
from dccd_core.intervals import clip, union
from dccd_core.limits import Cancelled
from dccd_core.models import Series, Window
from dccd_core.plan import Cell, Plan, plan_days
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError, trades_table
from dccd_core.trade_ids import id_holes
from dccd_core.trades_questions import AskedTrades, TradesQuestions
from dccd_core.trades_walk import Day, Tally, Walk, begin, start

# Stored so often: a slow exchange's page is stored before the next one is there.
FLUSH_SECONDS = 1.0
SAMPLES = (0.2, 0.5, 0.8)
"""Where amid the missing days it is looked how many trades there are."""
REPEATED = 3  # times that a hole in the ids is asked about


class TradesCollector:
    """Fetches days of trades of one exchange into the store."""

    def __init__(
        self,
        exchange: Exchange,
        client: RestClient,
        store: DataStore,
        *,
        retries: Callable[[Series], Retries] = lambda _: Retries(),
        progress: Callable[[Progress], None] = lambda _: None,
        cancel: Event | None = None,
    ) -> None:
        self.exchange, self.client, self.store = exchange, client, store
        self._questions = TradesQuestions(exchange, client, store, retries)
        self._history: TradesHistory = self._questions.history
        self._sampled: dict[Series, float] = {}
        self._progress = progress
        self._cancel = cancel or Event()

    def plan(self, cells: Sequence[Cell]) -> list[Plan]:
        """What the cells lack. Asks when a series begins where that is unknown."""
        history, now = self._history, self.client.clock()
        by_series: dict[Series, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_series[cell.series].append(cell)
        plans = [
            plan
            for some in by_series.values()
            for plan in plan_days(
                self.store,
                sorted(some),
                history.reach,
                history.trades_page,
                now,
                self._sampled.get(some[0].series),
            )
        ]
        asked = [plan for plan in plans if plan.missing and not plan.problem]
        unknown = {plan.cell.series for plan in asked if plan.listed is None}
        if self._history.reach is not None:
            return plans  # its oldest trades are not the first ones
        with ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(unknown, pool.map(self._listing, unknown), strict=True))
        return [settle(plan, found.get(plan.cell.series), self.exchange.limits) for plan in plans]

    def sample(self, missing: Mapping[Series, Sequence[Window]]) -> None:
        """Ask for some pages amid what is missing, so that plans can tell how many there are.
        Nothing is stored; what cannot be had is left unknown."""
        todo = [
            (series, windows, part)
            for series, windows in missing.items()
            if windows
            for part in SAMPLES
        ]
        found: dict[Series, list[float]] = defaultdict(list)
        with ThreadPoolExecutor(THREADS) as pool:
            for (series, _, _), rate in zip(
                todo, pool.map(lambda one: self._rate(*one), todo), strict=True
            ):
                found[series] += [] if rate is None else [rate]
        self._sampled |= {series: fmean(rates) for series, rates in found.items() if rates}

    def _rate(self, series: Series, windows: Sequence[Window], part: float) -> float | None:
        start, end = windows[int(part * len(windows))]
        try:
            return self._questions.rate(series, start + int(part * (end - start)))
        except (ExchangeError, Cancelled):
            return None

    def listing(self, series: Series) -> int:
        """When the first trade of a series was made, in microseconds; ExchangeError, Cancelled."""
        return self._questions.listing(series)

    def _listing(self, series: Series) -> int | str:
        try:
            return self._questions.listing(series)
        except ExchangeError as error:
            return str(error)
        except Cancelled:
            return CANCELLED

    def collect(self, cells: Sequence[Cell]) -> Generator[Outcome]:
        """Fetch and store the days; one outcome each, as soon as it is known.

        Closing the iterator, or an exception thrown into it, stores the pages that are there.
        """
        days = [start(plan) for plan in self.plan(cells)]
        walks = self._walks([day for day in days if day.plan.missing and not day.plan.problem])
        running: dict[Future[AskedTrades], Walk] = {}
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix=self.exchange.name)
        try:
            yield from (self._outcome(day) for day in days if not day.left)
            yield from self._drive(pool, deque(walks), running)
        except BaseException:
            self._cancel.set()
            pool.shutdown(cancel_futures=True)
            for walk in walks:
                self._flush(walk)
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _walks(self, days: Sequence[Day]) -> list[Walk]:
        """The missing stretches, cut at midnights so that all threads have work."""
        by_series: dict[Series, list[Day]] = defaultdict(list)
        for day in days:
            by_series[day.plan.cell.series].append(day)
        found = []
        for series, mine in by_series.items():
            longest = max(1, math.ceil(len(days) / THREADS))
            for stretch in union(window for day in mine for window in day.plan.missing):
                parts = list(series.periods(stretch))
                for first in range(0, len(parts), longest):
                    some = parts[first : first + longest]
                    window = Window(some[0][1].start, some[-1][1].end)
                    found.append(begin(series, window, mine))
        return found

    def _drive(
        self,
        pool: ThreadPoolExecutor,
        queue: deque[Walk],
        running: dict[Future[AskedTrades], Walk],
    ) -> Iterator[Outcome]:
        tally = Tally(queue)
        while queue or running:
            self._ask(pool, queue, running)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                walk = running.pop(future)
                ended = self._take(walk, future)
                queue.extendleft([] if ended else [walk])
                self._ask(pool, queue, running)  # what came is stored while the next is on its way
                if ended or time.monotonic() - walk.flushed > FLUSH_SECONDS:
                    self._flush(walk)
                self._progress(tally.count(walk, ended, self.client.requests))
                repairs = {day: self._repairs(day) for day in self._passed(walk, ended)}
                yield from (self._outcome(day) for day, walks in repairs.items() if not walks)
                queue.extendleft(one for walks in repairs.values() for one in walks)

    def _ask(
        self,
        pool: ThreadPoolExecutor,
        queue: deque[Walk],
        running: dict[Future[AskedTrades], Walk],
    ) -> None:
        while queue and len(running) < self._depth():
            walk = queue.popleft()
            for day in walk.days:
                day.started = day.started or time.monotonic()
            running[pool.submit(self._page, walk)] = walk

    def _depth(self) -> int:
        """How many questions may be under way."""
        return depth(self.exchange.limits, self._history.trades_weight, self.client)

    def _page(self, walk: Walk) -> AskedTrades:
        if self._cancel.is_set():
            raise Cancelled
        return self._questions.trades(walk.series, walk.since)

    def _take(self, walk: Walk, future: Future[AskedTrades]) -> bool:
        """Take what came of a question; whether the walk has come to its end."""
        walk.pages += 1
        try:
            return walk.advance(future.result())
        except ExchangeError as error:
            walk.fail(str(error))
        except (Cancelled, CancelledError):
            walk.fail(CANCELLED)
        return True

    def _flush(self, walk: Walk) -> None:
        """Store the trades that wait, and how far the walk has come."""
        rows, walk.rows = sorted(walk.rows.values(), key=_time), {}
        done, walk.stored = Window(walk.stored, walk.reached), walk.reached
        walk.flushed = time.monotonic()
        times = [trade.time for trade in rows]
        touched = []
        for day in walk.days:
            window = day.window
            mine = rows[bisect_left(times, window.start) : bisect_left(times, window.end)]
            if mine or clip([window], done):
                touched.append(day)
                walk.added += self._merge(day, mine, clip([window], done))
        if touched:
            touched[-1].requests += walk.pages
            walk.pages = 0

    def _merge(self, day: Day, trades: list[Trade], covered: list[Window]) -> int:
        """How many trades were not there yet."""
        cell = day.plan.cell
        try:
            table = trades_table(trades)
            merged = self.store.merge(cell.series, cell.period, table, covered, "rest")
        except (SchemaError, OSError) as error:
            day.failed.append((cell.window, f"not stored: {error}"))
            return 0
        day.merged = merged
        day.added += merged.added
        day.revised += merged.revised
        return merged.added

    def _passed(self, walk: Walk, ended: bool) -> list[Day]:
        """The days that the walk has come through, and no other walk has to."""
        passed = [day for day in walk.days if ended or day.window.end <= walk.reached]
        if passed:
            self._flush(walk)
        walk.days = [day for day in walk.days if day not in passed]
        for day in passed:
            day.left -= 1
        return [day for day in passed if not day.left]

    def _repairs(self, day: Day) -> list[Walk]:
        """Walks through the holes in a day's ids, which would be losses."""
        if not self._history.contiguous or day.failed or day.merged is None:
            return []
        cell = day.plan.cell
        try:
            day.holes = id_holes(self.store, cell.series, cell.period)
        except (ExchangeError, SchemaError, UnreadableError) as error:
            day.failed.append((cell.window, str(error)))
            return []
        if day.repairs == REPEATED:
            return []
        day.repairs += 1
        windows = union(part for hole in day.holes for part in clip([hole.window], cell.window))
        return [begin(cell.series, window, [day]) for window in windows]

    def _outcome(self, day: Day) -> Outcome:
        return Outcome(
            cell=day.plan.cell,
            merged=day.merged,
            added=day.added,
            revised=day.revised,
            requests=day.requests,
            seconds=time.monotonic() - day.started if day.started else 0.0,
            failed=joined(day.failed),
            note="; ".join(str(hole) for hole in day.holes[:20]) or note_of(day.plan),
        )


def _time(trade: Trade) -> int:
    return trade.time
