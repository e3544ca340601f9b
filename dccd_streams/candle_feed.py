"""The candles of an exchange's own feed."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dccd_core.exchanges.live import LiveCandle, Subscription
from dccd_core.models import SECOND, Series, Window
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import Loss
from dccd_streams.feed import FUTURE, Feed
from dccd_streams.heal_plan import Hole

if TYPE_CHECKING:
    from dccd_streams.link import Link

_DOUBTFUL = 2
"""How many batches of candles are not believed after a message that could not be read: the first
may have come with it, before it, and the next may be of what the session knew before it."""


class CandleFeed(Feed):
    """Writes closed candles. Those that closed while no connection was there are asked for.

    `heal` is told of each hole, and answers through `fetched`, `settled` or `given_up`. `gapless`:
    the exchange sends a candle of each interval, also where nobody traded.
    """

    def __init__(
        self,
        subscription: Subscription,
        journal: JournalWriter,
        heal: Callable[["CandleFeed", Hole], None],
        target: Series,
        *,
        gapless: bool,
    ) -> None:
        super().__init__(subscription)
        self.gapless = gapless
        self._journal, self._heal = journal, heal
        self._target: Series | None = target
        self._given: dict[int, LiveCandle] = {}
        self._until: int | None = None
        self._cause: str | None = None
        self._giver: Link | None = None
        self._doubtful: dict[Link, int] = {}

    @property
    def series(self) -> list[Series]:
        return [self._target] if self._target else []

    @property
    def newest(self) -> int | None:
        """Where the newest candle ends."""
        return self._until

    def resume_from(self, moment: int, cause: str) -> None:
        """What is stored ends here."""
        with self.lock:
            self._until, self._cause = moment, cause

    def on_live(self, link: "Link") -> None:
        pass

    def on_gone(self, link: "Link", cause: str) -> None:
        self._cause = cause
        self._doubtful.pop(link, None)

    def gap(self, link: "Link", cause: str) -> None:
        """Where a candle is closed by the next one, its last change may be what is missing."""
        with self.lock:
            self._cause = cause
            self._doubtful[link] = _DOUBTFUL

    def take(self, link: "Link", candles: list[LiveCandle]) -> None:
        """Closed candles of a connection, with repeats."""
        with self.lock:
            if link is not self._giver and self._giver is not None:
                self._cause = self._cause or "another connection took over"
            self._giver = link
            news = [c for c in candles if self._values(c) != self._given.get(c.time)]
            if news and link in self._doubtful:
                self._doubt(link, news)
                return
            for candle in sorted(news, key=lambda candle: candle.time):
                # our clock may be late by a candle, but none is closed before it begins
                if candle.time > candle.received + link.ahead:
                    self._cause = FUTURE
                    self.complain(FUTURE)
                else:
                    self._take(candle)

    def _doubt(self, link: "Link", candles: list[LiveCandle]) -> None:
        """Have candles fetched that may not be what the exchange closed."""
        span = self._target.span * SECOND if self._target else 0
        first, last = min(c.time for c in candles), max(c.time for c in candles)
        start = first if self._until is None else self._until
        cause = self._cause or "another candle was doubtful"
        if last < start:
            return  # changes of what is told already
        self.fill(Hole(start, last + span, cause))
        # up to the next one, all that is between may be missing as well
        self._until, self._cause = last + span, cause
        self._doubtful[link] -= 1
        if not self._doubtful[link]:
            del self._doubtful[link]

    def _values(self, candle: LiveCandle) -> LiveCandle:
        return candle._replace(received=0)

    def _take(self, candle: LiveCandle) -> None:
        if not self._target:
            return
        self._given[candle.time] = self._values(candle)
        while len(self._given) > 8:
            del self._given[min(self._given)]
        end = candle.time + self._target.span * SECOND
        self._journal.append_candles(self._target, [candle])
        self._journal.mark(self._target, Window(candle.time, end))
        until, cause = self._until, self._cause
        if until is not None and candle.time > until:
            if cause is None and not self.gapless:
                # the exchange sent nothing between: it has no candle where nobody traded
                self._journal.mark(self._target, Window(until, candle.time))
            else:
                self.fill(Hole(until, candle.time, cause or "a candle was not sent"))
        if until is None or end > until:
            self._until, self._cause = end, None
        self.tally.count(1, candle.time, candle.received)
        self.tally.lag = max(0.0, (candle.received - end) / SECOND)

    def fill(self, hole: Hole) -> None:
        """Have a hole filled. It counts as lost until it is: a crash does not forget it."""
        with self.lock:
            self.tally.gaps += 1
            if self._target and hole.end is not None:
                self._journal.mark(self._target, Loss(hole.start, hole.end, hole.cause))
            self._heal(self, hole)

    def fetched(self, candles: list[LiveCandle]) -> None:
        """Candles that REST gave for a hole."""
        with self.lock:
            if self._target and candles:
                self._journal.append_candles(self._target, candles)
                self.tally.healed += len(candles)
                self.tally.count(len(candles), candles[-1].time, None)

    def settled(self, whole: Window) -> None:
        """REST gave all of a window."""
        with self.lock:
            if self._target:
                self._journal.mark(self._target, whole)

    def given_up(self, window: Window, cause: str) -> None:
        """A window that nothing can fill any more."""
        with self.lock:
            if self._target:
                self.tally.lost += 1
                self._journal.mark(self._target, Loss(window.start, window.end, cause))

    def tick(self, mark: bool) -> None:
        pass

    def stop_writing(self, series: Series) -> None:
        with self.lock:
            self._target = None if series == self._target else self._target
