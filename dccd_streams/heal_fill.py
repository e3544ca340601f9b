"""A hole that is being filled: tried again until it is, or given up with a cause."""

import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dccd_core.exchanges.base import (
    Blocked,
    ExchangeError,
    RateLimited,
    Rejected,
    UnknownSymbol,
)
from dccd_core.exchanges.live import LiveCandle
from dccd_core.exchanges.trades import OutOfReach, TradesHistory
from dccd_core.limits import Cancelled
from dccd_core.models import SECOND, Channel, Series, Window, iso
from dccd_core.pages import columns, fetch_page
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.heal_plan import Hole, NoRoom
from dccd_streams.trade_feed import TradeFeed

if TYPE_CHECKING:
    from dccd_streams.heal import Healer, Walked

log = logging.getLogger(__name__)

_AGREEMENTS = 3  # empty and cut answers do come by mistake


class Fill(ABC):
    """One hole that is being filled, tried again until it is or cannot be."""

    def __init__(self, healer: "Healer", hole: Hole, name: str) -> None:
        self.healer, self.hole, self.name = healer, hole, name
        self.start, self.tries = hole.start, 0

    def run(self) -> None:
        """One attempt."""
        try:
            self.check_wanted()
            if self.attempt():
                begin, cause = iso(self.hole.start), self.hole.cause
                log.info("%s: filled from %s on (%s)", self.name, begin, cause)
            else:
                self._again("REST does not know the newest yet")
        except Cancelled:
            return  # the hole stays missing in the ledger, and the next start finds it
        except (UnknownSymbol, Rejected) as error:
            self._give_up(str(error))
        except Blocked as error:
            # a firewall may let us in again, but not one that is asked every few seconds
            self._again(str(error), self.healer.timing.heal_most)
        except NoRoom as error:
            self._later(self.healer.timing.heal_first, str(error))
        except ExchangeError as error:
            self._no_answer(error)
        except Exception as error:
            log.exception("%s: an attempt to fill it failed", self.name)
            self._again(str(error) or type(error).__name__)

    def _no_answer(self, error: ExchangeError) -> None:
        """A ban is no try: it is waited for."""
        wait = error.retry_after if isinstance(error, RateLimited) else None
        if wait:
            self._later(wait, str(error))
        else:
            self._again(str(error))

    def _again(self, why: str, delay: float | None = None) -> None:
        timing = self.healer.timing
        self.tries += 1
        if self.tries >= timing.heal_tries:
            self._give_up(f"{why}, {self.tries} times")
            return
        usual = min(timing.heal_most, timing.heal_first * 2 ** (self.tries - 1))
        self._later(usual if delay is None else delay, why)

    def _later(self, delay: float, why: str) -> None:
        log.info("%s: not filled yet: %s; again in %.0f s", self.name, why, delay)
        self.healer.fills.submit(self.run, delay)

    def _give_up(self, why: str) -> None:
        log.warning("%s: lost from %s on: %s; %s", self.name, iso(self.start), self.hole.cause, why)
        if self.hole.end is not None and self.start < self.hole.end:
            self.lost(Window(self.start, self.hole.end), f"{self.hole.cause}; {why}")

    def move(self, start: int) -> None:
        """What is before this is done with: who gets on has not tried in vain."""
        self.start, self.tries = start, 0

    def check_wanted(self) -> None:
        """Cancelled once nobody writes any more what is to be filled."""
        if not self.wanted():
            raise Cancelled(f"{self.name}: nobody writes it any more")

    @abstractmethod
    def wanted(self) -> bool:
        """Whether somebody lacks it still."""

    @abstractmethod
    def attempt(self) -> bool:
        """Fetch from `start` on, and move it; whether all is there."""

    @abstractmethod
    def lost(self, window: Window, cause: str) -> None:
        """Tell the feed."""


class FillTrades(Fill):
    """A hole of trades."""

    def __init__(self, healer: "Healer", feed: TradeFeed, hole: Hole) -> None:
        super().__init__(healer, hole, feed.name)
        self._feed = feed
        self._ends: list[Walked] = []

    def wanted(self) -> bool:
        with self._feed.lock:
            return bool(self._feed.written.lacking(self.hole))

    def _give_up_old(self) -> None:
        """What is out of the exchange's reach is lost."""
        exchange, now = self.healer.exchange, self.hole.end or time.time_ns() // 1_000
        if not isinstance(exchange, TradesHistory) or exchange.reach is None:
            return
        self._give_up_before(now - exchange.reach * SECOND)

    def _give_up_before(self, served: int) -> None:
        end = served if self.hole.end is None else min(served, self.hole.end)
        if self.start >= end:
            return
        why = f"{self.hole.cause}; {self.healer.exchange.title} serves no older trades"
        log.warning("%s: lost from %s to %s: %s", self.name, iso(self.start), iso(end), why)
        self.lost(Window(self.start, end), why)
        self.move(end)

    def attempt(self) -> bool:
        self._give_up_old()
        begin = self.start
        try:
            for walked in self.healer.walk(self._feed, self.hole, begin):
                self.check_wanted()
                self._give_up_before(walked.served)
                self._settle(walked.until)
                if walked.quiet is not None:
                    self._believe(walked)
        except OutOfReach as error:
            self._settle(self._take_newest(error))
        # an open hole has told what it can: the stream goes on from there
        return self.start >= self.hole.end if self.hole.end is not None else self.start > begin

    def _believe(self, end: "Walked") -> None:
        """That no trade follows is believed when it was said often enough."""
        if self._ends and self._ends[0].last != end.last:
            self._ends.clear()
        self._ends.append(end)
        if len(self._ends) == _AGREEMENTS:
            quiet = min(one.quiet or 0 for one in self._ends)
            self._ends.clear()
            self._settle(quiet if self.hole.end is None else min(quiet, self.hole.end))

    def _settle(self, until: int) -> None:
        """After each page: what fails later costs only what comes later."""
        if until > self.start:
            self._feed.settled(self.hole, Window(self.start, until))
            self.move(until)

    def _take_newest(self, error: OutOfReach) -> int:
        """Give up what is older than what is served, and keep that; up to where it reaches."""
        served, end = error.served, self.hole.end
        # of its time there may be older ones
        first = served[0].time + 1 if end is None else min(end, served[0].time + 1)
        self.lost(Window(self.start, first), f"{self.hole.cause}; {error}")
        self.move(first)
        self._feed.fetched(self.hole, [trade for trade in served if self.hole.holds(trade)])
        if end is not None and self.hole.is_shown(served):
            return end
        return max(first, served[-1].time if end is None else min(end, served[-1].time))

    def lost(self, window: Window, cause: str) -> None:
        self._feed.given_up(self.hole, window, cause)


class FillCandles(Fill):
    """A hole of candles."""

    def __init__(self, healer: "Healer", feed: CandleFeed, hole: Hole) -> None:
        super().__init__(healer, hole, feed.name)
        self._feed = feed

    def wanted(self) -> bool:
        return bool(self._feed.series)

    def attempt(self) -> bool:
        exchange, subscription = self.healer.exchange, self._feed.subscription
        end = self.hole.end
        if end is None or subscription.span not in exchange.spans:
            raise Rejected(f"{exchange.title} serves no such candles")
        symbol = subscription.instrument.symbol
        series = Series(exchange.name, Channel.OHLC, symbol, subscription.span)
        size = exchange.limits.page * series.span * SECOND
        while self.start < end:
            self.healer.check_room()
            self.check_wanted()
            window = Window(self.start, min(end, self.start + size))
            page = fetch_page(self.healer.ask, exchange, subscription.instrument, series, window)
            now = time.time_ns() // 1_000
            count = len(page.candles)
            listed = [_listed(column, count) for column in columns(page.candles)]
            rows = zip(*listed, [now] * count, strict=True)
            self._feed.fetched([LiveCandle(*row) for row in rows])
            for covered in page.covered:
                self._feed.settled(covered)
            reached = max((w.end for w in page.covered), default=window.start)
            if reached <= self.start:
                return False
            self.move(reached)
        return True

    def lost(self, window: Window, cause: str) -> None:
        self._feed.given_up(window, cause)


def _listed(column: NDArray[Any] | None, length: int) -> list[Any]:
    """A column as plain numbers; of one that the exchange does not have, None for each row."""
    return [None] * length if column is None else column.tolist()
