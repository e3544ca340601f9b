"""The one paging loop: cells in, stored files out.

Pages of all cells are fetched by a few threads, since their windows are known beforehand; the
calling thread stores a cell as soon as it has all of its pages.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from threading import Event

import pyarrow as pa

from dccd_core.exchanges.base import Exchange, ExchangeError, Instrument, Limits
from dccd_core.intervals import union
from dccd_core.limits import Cancelled
from dccd_core.models import Series, Window, iso
from dccd_core.pages import Page
from dccd_core.plan import Cell, Plan, after_listing, plan_years
from dccd_core.questions import Questions
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore
from dccd_core.store.period import Merged
from dccd_core.store.schemas import OHLC, SchemaError, candles_table

THREADS = 8
# A slow cell is stored in steps, so that a crash costs at most this much work.
FLUSH_SECONDS = 30.0
CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one series is, in pages; the rows that came; the requests of the whole run.

    `failed` pages will not come; `cancelled` if that is so for some since nobody wants them.
    """

    series: Series
    done: int
    total: int
    rows: int
    requests: int
    failed: int = 0
    cancelled: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more of the series will come."""
        return self.done + self.failed == self.total


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell; it is good unless `failed` names windows with their reasons.

    `merged` is None where nothing was written: the cell was complete, holds nothing (`note` says
    which), or failed altogether. `requests` counts questions answered, `seconds` is the time from
    the first question.
    """

    cell: Cell
    merged: Merged | None
    added: int
    revised: int
    requests: int
    seconds: float
    failed: list[tuple[Window, str]]
    note: str

    @property
    def error(self) -> str | None:
        """What failed in one text: each window with its reason; None if nothing did."""
        return "; ".join(f"{window}: {reason}" for window, reason in self.failed) or None


@dataclass(slots=True, eq=False)
class _Work:
    """A cell in progress: pages that wait to be stored, and what became of the others."""

    plan: Plan
    left: int
    started: float = 0.0
    flushed: float = 0.0
    pages: list[Page] = field(default_factory=list)
    failed: list[tuple[Window, str]] = field(default_factory=list)
    merged: Merged | None = None
    added: int = 0
    revised: int = 0
    requests: int = 0


def _begin(plan: Plan) -> _Work:
    failed = [(plan.cell.window, plan.problem)] if plan.problem else []
    return _Work(plan, 0 if plan.problem else len(plan.pages), failed=failed)


class Collector:
    """Fetches cells of one exchange into the store."""

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
        self._questions = Questions(exchange, client, store, retries)
        self._progress = progress
        self._cancel = cancel or Event()

    def plan(self, cells: Sequence[Cell]) -> list[Plan]:
        """What the cells take. Asks when a series begins where that is unknown; a series whose
        beginning cannot be had is a problem, since asking from the year dot would not end."""
        limits = self.exchange.limits
        plans = plan_years(self.store, cells, limits)
        asked = [plan for plan in plans if plan.pages and not plan.problem]
        unknown = {plan.cell.series for plan in asked if plan.listed is None}
        with ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(unknown, pool.map(self._listing, unknown), strict=True))
        return [settle(plan, found.get(plan.cell.series), limits) for plan in plans]

    def instrument(self, series: Series) -> Instrument:
        """The exchange's market of a series; ExchangeError if it cannot be had."""
        return self._questions.instrument(series)

    def _listing(self, series: Series) -> int | str:
        """When a series begins, or why that cannot be had."""
        try:
            return self._questions.listing(series)
        except ExchangeError as error:
            return str(error)
        except Cancelled:
            return CANCELLED

    def collect(self, cells: Sequence[Cell]) -> Generator[Outcome]:
        """Fetch and store the cells; one outcome each, as soon as it is known.

        Closing the iterator, or an exception thrown into it, stores the pages that are there.
        """
        works = [_begin(plan) for plan in self.plan(cells)]
        running: dict[Future[Page], tuple[_Work, Window]] = {}
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix=self.exchange.name)
        try:
            yield from (self._finish(work) for work in works if not work.left)
            yield from self._drive(pool, works, running)
        except BaseException:
            self._cancel.set()
            pool.shutdown(cancel_futures=True)
            for future, (work, window) in running.items():
                self._take(work, window, future)
            for work in works:
                self._flush(work)
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _drive(
        self,
        pool: ThreadPoolExecutor,
        works: list[_Work],
        running: dict[Future[Page], tuple[_Work, Window]],
    ) -> Iterator[Outcome]:
        queue = deque((work, page) for work in works if work.left for page in work.plan.pages)
        tally = _Tally(works)
        while queue or running:
            while queue and len(running) < self._depth():
                work, window = queue.popleft()
                work.started = work.started or time.monotonic()
                running[pool.submit(self._page, work.plan.cell.series, window)] = (work, window)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                work, window = running.pop(future)
                taken = self._take(work, window, future)
                self._progress(tally.count(work, taken, self.client.requests))
                if not work.left:
                    yield self._finish(work)
                elif time.monotonic() - max(work.flushed, work.started) > FLUSH_SECONDS:
                    self._flush(work)

    def _depth(self) -> int:
        """How many questions may be under way."""
        limits = self.exchange.limits
        return depth(limits, limits.page_weight, self.client)

    def _page(self, series: Series, window: Window) -> Page:
        if self._cancel.is_set():
            raise Cancelled
        return self._questions.page(series, window)

    def _take(self, work: _Work, window: Window, future: Future[Page]) -> Page | str:
        """Keep the page, or note why it did not come; the one or the other."""
        work.left -= 1
        try:
            page = future.result()
        except (ExchangeError, Cancelled, CancelledError) as error:
            why = str(error) if isinstance(error, ExchangeError) else CANCELLED
            work.failed.append((window, why))
            return why
        work.pages.append(page)
        return page

    def _flush(self, work: _Work) -> None:
        """Store the pages that wait."""
        pages, work.pages = sorted(work.pages, key=_start), []
        work.flushed = time.monotonic()
        if not any(page.covered for page in pages):
            return
        cell = work.plan.cell
        rows = pa.concat_tables(
            [pa.Table.from_batches([], schema=OHLC), *(candles_table(p.candles) for p in pages)]
        )
        covered = [window for page in pages for window in page.covered]
        try:
            work.merged = self.store.merge(cell.series, cell.period, rows, covered, "rest")
        except (SchemaError, OSError) as error:
            work.failed.append((cell.window, f"not stored: {error}"))
            return
        work.added += work.merged.added
        work.revised += work.merged.revised
        work.requests += sum(page.asks for page in pages)

    def _finish(self, work: _Work) -> Outcome:
        self._flush(work)
        return Outcome(
            cell=work.plan.cell,
            merged=work.merged,
            added=work.added,
            revised=work.revised,
            requests=work.requests,
            seconds=time.monotonic() - work.started if work.started else 0.0,
            failed=joined(work.failed),
            note=note_of(work.plan),
        )


def depth(limits: Limits, weight: float, client: RestClient) -> int:
    """How many questions of a weight may be under way: twice what the budget can use at this
    latency, and no more than hide the waiting behind our own work.

    More would wait for the budget or for the interpreter, and cost each other's time.
    """
    rate = limits.weight / weight / limits.seconds
    by_budget = 1 + math.ceil(2 * rate * client.latency)
    return min(THREADS, by_budget, 1 + int(client.latency / client.work))


def settle(plan: Plan, listed: int | str | None, limits: Limits) -> Plan:
    """A plan with what was found about the beginning of its series."""
    if isinstance(listed, int):
        return after_listing(plan, listed, limits)
    return plan if listed is None else replace(plan, problem=listed)


def joined(failed: list[tuple[Window, str]]) -> list[tuple[Window, str]]:
    """The windows that failed, those with the same reason joined where they touch."""
    reasons: dict[str, list[Window]] = defaultdict(list)
    for window, reason in failed:
        reasons[reason].append(window)
    return sorted((window, why) for why, all_of in reasons.items() for window in union(all_of))


class _Tally:
    """Counts pages and rows per series, for progress."""

    def __init__(self, works: list[_Work]) -> None:
        self._counts: dict[Series, Progress] = {}
        for work in works:
            series = work.plan.cell.series
            before = self._counts.get(series, Progress(series, 0, 0, 0, 0))
            self._counts[series] = replace(before, total=before.total + work.left)

    def count(self, work: _Work, taken: Page | str, requests: int) -> Progress:
        """How far a series is after a page came, or why it did not."""
        now = replace(self._counts[work.plan.cell.series], requests=requests)
        if isinstance(taken, str):
            gone = now.cancelled or taken == CANCELLED
            now = replace(now, failed=now.failed + 1, cancelled=gone)
        else:
            now = replace(now, done=now.done + 1, rows=now.rows + len(taken.candles))
        self._counts[now.series] = now
        return now


def _start(page: Page) -> int:
    return page.covered[0].start if page.covered else 0


def note_of(plan: Plan) -> str:
    """Why nothing was asked, if nothing was."""
    if plan.listed is not None and plan.before_listing:
        first = "candle opens" if plan.cell.series.span else "trade was made"
        return f"before listing: the first {first} at {iso(plan.listed)}"
    return plan.note or ("" if plan.missing else "complete: nothing was asked")
