"""One walk through past trades: how far it is, what is not stored yet, and when it is done."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from dccd_core.exchanges.base import BadAnswer, Request
from dccd_core.exchanges.trades import Trade
from dccd_core.history import CANCELLED, Progress
from dccd_core.intervals import clip
from dccd_core.models import SECOND, Series, Window
from dccd_core.plan import Plan
from dccd_core.store.period import Merged
from dccd_core.trade_ids import IdHole
from dccd_core.trades_questions import AskedTrades

# A trade may be published this much after it was made: the newest moments stay open.
PUBLISHED = 30 * SECOND
# That nothing came for longer than the market pauses, as the answer itself shows it, is believed
# when it was said so often: empty and cut answers do come by mistake, and a run is often about one
# hour only. Without trades to tell, and at least, a pause is so long; at most so long.
QUIET, LONGEST_QUIET = 60 * SECOND, 600 * SECOND
AGREEMENTS = 3
# Pages without a new trade, one after the other.
IDLE = 20


@dataclass(slots=True, eq=False)
class Day:
    """A cell in progress: how many walks go through it, and what became of it."""

    plan: Plan
    left: int = 0
    started: float = 0.0
    failed: list[tuple[Window, str]] = field(default_factory=list)
    merged: Merged | None = None
    added: int = 0
    revised: int = 0
    requests: int = 0
    repairs: int = 0
    holes: list[IdHole] = field(default_factory=list)

    @property
    def window(self) -> Window:
        """The wanted part of the day."""
        return self.plan.cell.window


@dataclass(slots=True, eq=False)
class Walk:
    """A stretch that is walked from its start to its end.

    `reached`: before this time every trade is known; `stored`: before this one they are stored.
    `since` is what is asked next, `said` what came last: how many trades, and the newest of them.
    `quiet` counts answers that end alike and that nothing follows, `idle` pages without news;
    `failed` says why the rest cannot be had.
    """

    series: Series
    window: Window
    days: list[Day]
    reached: int
    since: Request | int
    stored: int
    flushed: float = 0.0
    pages: int = 0
    added: int = 0
    idle: int = 0
    quiet: int = 0
    said: tuple[int, str] = (0, "")
    failed: str = ""
    rows: dict[str, Trade] = field(default_factory=dict)

    def advance(self, asked: AskedTrades) -> bool:
        """Take a page; whether the walk has come to its end. BadAnswer if it does not go on."""
        if asked.page.served is not None and asked.page.served > self.reached:
            self._skip(min(asked.page.served, self.window.end))
        trades, before = asked.page.trades, self.reached
        news = [t for t in trades if t.time >= self.window.start and t.trade_id not in self.rows]
        self.rows.update((t.trade_id, t) for t in news if t.time < self.window.end)
        if trades:
            self.reached = max(before, max(trade.time for trade in trades))
        if self.reached >= self.window.end:
            self.reached = self.window.end
            return True
        said = (len(trades), trades[-1].trade_id if trades else "")
        same, same_end, self.said = said == self.said, said[1] == self.said[1], said
        if asked.page.next is None:
            self.quiet = self.quiet + 1 if same_end else 1
            # the same question again would bring the same page, if that was cut short
            self.since = asked.page.again or self.since
            return self._newest(asked)
        self.since, self.quiet = asked.page.next, 0
        self.idle = 0 if news and not same else self.idle + 1
        if self.idle > IDLE:
            raise BadAnswer(f"{self.series}: {IDLE} pages of trades, none of them new")
        return False

    @property
    def found(self) -> int:
        """The trades that were stored, those that were there already not counted, or wait."""
        return self.added + len(self.rows)

    def _newest(self, asked: AskedTrades) -> bool:
        """Whether it is to be believed that there are no more trades."""
        published = asked.time - PUBLISHED
        newest = min(self.window.end, published)
        quiet = min(LONGEST_QUIET, max(QUIET, _longest_pause(asked.page.trades)))
        # a page that is merely short says nothing, be its end ever so near to that of the walk
        silent_until = newest if asked.page.again is None else published
        if silent_until - self.reached > quiet and self.quiet < AGREEMENTS:
            return False
        self.reached = max(self.reached, newest)
        return True

    def _skip(self, served: int) -> None:
        """Leave uncovered what the exchange does not serve any more, and say so."""
        gone = Window(self.reached, served)
        for day in self.days:
            day.failed += [
                (part, "these trades are not served any more") for part in clip([day.window], gone)
            ]
        self.reached = self.stored = served

    def fail(self, reason: str) -> None:
        """Note why the rest of the stretch cannot be had."""
        rest, self.failed = Window(self.reached, self.window.end), reason
        for day in self.days:
            day.failed += [(part, reason) for part in clip([day.window], rest)]


def _longest_pause(trades: Sequence[Trade]) -> int:
    times = sorted(trade.time for trade in trades)
    return max((after - before for before, after in pairwise(times)), default=0)


def start(plan: Plan) -> Day:
    """A day of which nothing was asked yet; a failed one if that is known already."""
    return Day(plan, failed=[(plan.cell.window, plan.problem)] if plan.problem else [])


def begin(series: Series, window: Window, days: Sequence[Day]) -> Walk:
    """A walk over the stretch of a series, which goes through some of these days."""
    mine = [day for day in days if clip([day.window], window)]
    for day in mine:
        day.left += 1
    return Walk(series, window, mine, window.start, window.start, window.start)


class Tally:
    """Counts the seconds of history that were walked, and the trades, for progress."""

    def __init__(self, walks: Iterable[Walk]) -> None:
        self._counts: dict[Series, Progress] = {}
        self._seen: dict[Walk, tuple[int, int]] = {}
        for walk in walks:
            before = self._of(walk.series)
            self._counts[walk.series] = replace(before, total=before.total + _seconds(walk.window))

    def count(self, walk: Walk, ended: bool, requests: int) -> Progress:
        """How far a series is after a page of one of its walks."""
        before, whole = self._of(walk.series), _seconds(walk.window)
        done = (walk.reached - walk.window.start) // SECOND
        lost = whole - done if walk.failed else 0
        walked, found = (whole - lost if ended else done, walk.found)
        seen = self._seen.get(walk, (0, 0))
        self._seen[walk] = (walked, found)
        # a second walk through the same days, for holes in the ids, is no part of the total
        failed = min(before.total - before.done, before.failed + lost)
        now = replace(
            before,
            done=min(before.total - failed, before.done + walked - seen[0]),
            rows=before.rows + found - seen[1],
            requests=requests,
            failed=failed,
            cancelled=before.cancelled or walk.failed == CANCELLED,
        )
        self._counts[walk.series] = now
        return now

    def _of(self, series: Series) -> Progress:
        return self._counts.get(series, Progress(series, 0, 0, 0, 0))


def _seconds(window: Window) -> int:
    return max(1, (window.end - window.start) // SECOND)
