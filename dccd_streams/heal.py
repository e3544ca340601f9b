"""Fetches by REST what a stream has missed, and gives up with a cause where that cannot be."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Blocked,
    Exchange,
    ExchangeError,
    Rejected,
    Request,
    UnknownSymbol,
)
from dccd_core.exchanges.live import LiveCandle
from dccd_core.exchanges.trades import OutOfReach, Trade, TradesHistory, TradesPage
from dccd_core.limits import Cancelled
from dccd_core.models import DAY, SECOND, Channel, Series, Window, iso
from dccd_core.pages import columns, fetch_page
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.feed import FUTURE
from dccd_streams.heal_plan import Hole
from dccd_streams.jobs import Jobs
from dccd_streams.timing import Timing
from dccd_streams.trade_feed import TradeFeed

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_PAGES = 20_000  # of one hole; a day of Binance's busiest market has half as many
_PROBE_PAGES = 3


class Ask(Protocol):
    """Asks an exchange's REST interface; raises ExchangeError or Cancelled."""

    def __call__(self, request: Request, read: Callable[[Answer], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Walked:
    """How far a walk came: everything before `until` has been seen. `late` counts trades after the
    start that are older than a stream may be late; `clock` is the exchange's."""

    until: int
    late: int
    clock: int


class Healer:
    """Fills the holes of one exchange's streams, in the background."""

    def __init__(self, exchange: Exchange, ask: Ask, jobs: Jobs, timing: Timing) -> None:
        self.exchange, self.ask, self.jobs, self.timing = exchange, ask, jobs, timing

    @property
    def has_trades(self) -> bool:
        """Whether the exchange serves past trades."""
        return isinstance(self.exchange, TradesHistory)

    def trades(self, feed: TradeFeed, hole: Hole) -> None:
        """Fill a hole of trades as soon as REST may know the newest of them."""
        if self.has_trades:
            self.jobs.submit(FillTrades(self, feed, hole).run, self.timing.settle)
        elif hole.end is not None:
            why = f"{hole.cause}; {self.exchange.title} serves no past trades"
            feed.given_up(hole, Window(hole.start, hole.end), why)

    def candles(self, feed: CandleFeed, hole: Hole) -> None:
        """Fill a hole of candles."""
        self.jobs.submit(FillCandles(self, feed, hole).run, self.timing.settle)

    def newer(self, feed: TradeFeed, tell: Callable[[Walked | None], None]) -> None:
        """Ask for trades after a feed's newest, and tell what there was; None: no answer."""

        def probe() -> None:
            since = feed.newest or time.time_ns() // 1_000 - int(self.timing.quiet_least * SECOND)
            try:
                found: Walked | None = self.walk(feed, Hole(since, None, ""), _PROBE_PAGES)
            except (ExchangeError, Cancelled) as error:
                log.info("%s: cannot tell whether the market is quiet: %s", feed.name, error)
                found = None
            tell(found)

        self.jobs.submit(probe)

    def walk(self, feed: TradeFeed, hole: Hole, pages: int = _MOST_PAGES) -> Walked:
        """Fetch page by page from the start of a hole, and hand the trades to the feed."""
        exchange, settle = self.exchange, int(self.timing.settle * SECOND)
        if not isinstance(exchange, TradesHistory):
            raise Rejected(f"{self.exchange.title} serves no past trades")
        instrument = feed.subscription.instrument
        request: Request | None = exchange.trades_request(instrument, hole.start)
        until, late, clock, shown = hole.start, 0, 0, hole.before is None
        for _ in range(pages):
            page, clock = self._page(exchange, feed, request)
            self._check_times(page, clock)
            feed.fetched(hole, [trade for trade in page.trades if _inside(trade, hole)])
            late += sum(hole.start < trade.time < clock - settle for trade in page.trades)
            shown = shown or _shows(page.trades, hole)
            until = max(until, self._reached(page, clock, hole if shown else None))
            if hole.end is not None and until >= hole.end:
                return Walked(hole.end, late, clock)
            if page.next is None:
                return Walked(until, late, clock)
            if page.next == request:
                raise BadAnswer(f"{exchange.title}: a page of trades that continues with itself")
            request = page.next
        return Walked(until, late, clock)

    def _reached(self, page: TradesPage, clock: int, shown: Hole | None) -> int:
        """Before when all is seen after a page, as far as it tells.

        `shown`: the hole, where the exchange serves what the stream has brought at its end. One
        that lags does not, and its last page does not tell that there is no more.
        """
        reached = page.trades[-1].time if page.trades else 0
        if reached > clock + int(self.timing.ahead * SECOND):
            reached = 0
        if page.next is None and shown is not None:
            # what happened just now may not be published yet
            reached = max(reached, clock - int(self.timing.settle * SECOND))
            if shown.before is not None:
                reached = max(reached, shown.end or 0)
        return reached

    def _check_times(self, page: TradesPage, clock: int) -> None:
        latest = clock + int(max(float(DAY), self.timing.ahead) * SECOND)
        if any(trade.time > latest for trade in page.trades):
            raise BadAnswer(f"{self.exchange.title}: {FUTURE}")

    def _page(
        self, exchange: TradesHistory, feed: TradeFeed, request: Request | None
    ) -> tuple[TradesPage, int]:
        if request is None:
            raise BadAnswer("no page to ask for")
        asked, instrument = request, feed.subscription.instrument

        def read(answer: Answer) -> tuple[TradesPage, int]:
            latest = time.time_ns() // 1_000 + int(self.timing.ahead * SECOND)
            return exchange.trades(answer, instrument, asked), min(answer.time, latest)

        return self.ask(asked, read)


def _shows(trades: list[Trade], hole: Hole) -> bool:
    """Whether the trade of the stream at the end of a hole is among these."""
    return any(trade.trade_id == hole.before for trade in trades)


def _inside(trade: Trade, hole: Hole) -> bool:
    return trade.time >= hole.start and (hole.end is None or trade.time <= hole.end)


class Fill(ABC):
    """One hole that is being filled, tried again until it is or cannot be."""

    def __init__(self, healer: Healer, hole: Hole, name: str) -> None:
        self.healer, self.hole, self.name = healer, hole, name
        self.start, self.tries = hole.start, 0

    def run(self) -> None:
        """One attempt."""
        try:
            if self.attempt():
                log.info("%s: filled from %s on (%s)", self.name, iso(self.start), self.hole.cause)
            else:
                self._again("REST does not know the newest yet")
        except Cancelled:
            return  # the hole stays missing in the ledger, and the next start finds it
        except (Blocked, UnknownSymbol, Rejected) as error:
            self._give_up(str(error))
        except ExchangeError as error:
            self._again(str(error))

    def _again(self, why: str) -> None:
        timing = self.healer.timing
        self.tries += 1
        if self.tries >= timing.heal_tries:
            self._give_up(f"{why}, {self.tries} times")
            return
        delay = min(timing.heal_most, timing.heal_first * 2 ** (self.tries - 1))
        log.info("%s: not filled yet: %s; again in %.0f s", self.name, why, delay)
        self.healer.jobs.submit(self.run, delay)

    def _give_up(self, why: str) -> None:
        log.warning("%s: lost from %s on: %s; %s", self.name, iso(self.start), self.hole.cause, why)
        if self.hole.end is not None and self.start < self.hole.end:
            self.lost(Window(self.start, self.hole.end), f"{self.hole.cause}; {why}")

    @abstractmethod
    def attempt(self) -> bool:
        """Fetch from `start` on, and move it; whether all is there."""

    @abstractmethod
    def lost(self, window: Window, cause: str) -> None:
        """Tell the feed."""


class FillTrades(Fill):
    """A hole of trades."""

    def __init__(self, healer: Healer, feed: TradeFeed, hole: Hole) -> None:
        super().__init__(healer, hole, feed.name)
        self._feed = feed

    def _give_up_old(self) -> None:
        """What is out of the exchange's reach is lost."""
        exchange, now = self.healer.exchange, self.hole.end or time.time_ns() // 1_000
        if not isinstance(exchange, TradesHistory) or exchange.reach is None:
            return
        reached = now - exchange.reach * SECOND
        if self.start < reached:
            why = f"{self.hole.cause}; {exchange.title} serves no older trades"
            self.lost(Window(self.start, reached), why)
            self.start = reached

    def attempt(self) -> bool:
        self._give_up_old()
        rest = replace(self.hole, start=self.start)
        try:
            until = self.healer.walk(self._feed, rest).until
        except OutOfReach as error:
            until = self._take_newest(rest, error)
        if until > self.start:
            self._feed.settled(self.hole, Window(self.start, until))
            self.start = until
        return self.hole.end is None or until >= self.hole.end

    def _take_newest(self, rest: Hole, error: OutOfReach) -> int:
        """Give up what is older than what is served, and keep that; up to where it reaches."""
        served, end = error.served, rest.end
        # of its time there may be older ones
        first = served[0].time + 1 if end is None else min(end, served[0].time + 1)
        self.lost(Window(self.start, first), f"{rest.cause}; {error}")
        self.start = first
        self._feed.fetched(rest, [trade for trade in served if _inside(trade, rest)])
        if end is not None and _shows(served, rest):
            return end
        return max(first, served[-1].time if end is None else min(end, served[-1].time))

    def lost(self, window: Window, cause: str) -> None:
        self._feed.given_up(self.hole, window, cause)


class FillCandles(Fill):
    """A hole of candles."""

    def __init__(self, healer: Healer, feed: CandleFeed, hole: Hole) -> None:
        super().__init__(healer, hole, feed.name)
        self._feed = feed

    def attempt(self) -> bool:
        exchange, subscription = self.healer.exchange, self._feed.subscription
        end = self.hole.end
        if end is None or subscription.span not in exchange.spans:
            raise Rejected(f"{exchange.title} serves no such candles")
        symbol = subscription.instrument.symbol
        series = Series(exchange.name, Channel.OHLC, symbol, subscription.span)
        size = exchange.limits.page * series.span * SECOND
        while self.start < end:
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
            self.start = reached
        return True

    def lost(self, window: Window, cause: str) -> None:
        self._feed.given_up(window, cause)


def _listed(column: NDArray[Any] | None, length: int) -> list[Any]:
    """A column as plain numbers; of one that the exchange does not have, None for each row."""
    return [None] * length if column is None else column.tolist()
