"""Fetches by REST what a stream has missed, and gives up with a cause where that cannot be."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Exchange,
    ExchangeError,
    Rejected,
    Request,
)
from dccd_core.exchanges.trades import TradesHistory, TradesPage
from dccd_core.limits import Cancelled
from dccd_core.models import DAY, SECOND, Window
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.feed import FUTURE
from dccd_streams.heal_fill import FillCandles, FillTrades
from dccd_streams.heal_plan import Hole, NoRoom
from dccd_streams.jobs import Jobs
from dccd_streams.timing import Timing
from dccd_streams.trade_feed import TradeFeed

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_PAGES = 20_000  # of one hole; a day of Binance's busiest market has half as many
_PROBE_PAGES = 3
FILLS = 2
"""How many holes of an exchange are filled at once."""


class Ask(Protocol):
    """Asks an exchange's REST interface; raises ExchangeError or Cancelled."""

    def __call__(self, request: Request, read: Callable[[Answer], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Walked:
    """How far a walk is: everything before `until` has been seen. `late` counts trades after the
    start that are older than a stream may be late; `clock` is the exchange's, `last` the last
    trade. `served`: what is older than this is gone. `quiet`, at the end: the last answer says that
    there are no more trades before this time.
    """

    until: int
    late: int
    clock: int
    last: str
    served: int = 0
    quiet: int | None = None


class Healer:
    """Fills the holes of one exchange's streams, in the background."""

    def __init__(
        self,
        exchange: Exchange,
        ask: Ask,
        jobs: Jobs,
        timing: Timing,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self.exchange, self.ask, self.jobs, self.timing = exchange, ask, jobs, timing
        self._may_write = may_write
        # a long hole keeps a thread for hours
        self.fills = jobs.beside(f"heal-{exchange.name}", FILLS)

    @property
    def has_trades(self) -> bool:
        """Whether the exchange serves past trades."""
        return isinstance(self.exchange, TradesHistory)

    def trades(self, feed: TradeFeed, hole: Hole) -> None:
        """Fill a hole of trades as soon as REST may know the newest of them."""
        if self.has_trades:
            self.fills.submit(FillTrades(self, feed, hole).run, self.timing.settle)
        elif hole.end is not None:
            why = f"{hole.cause}; {self.exchange.title} serves no past trades"
            feed.given_up(hole, Window(hole.start, hole.end), why)

    def candles(self, feed: CandleFeed, hole: Hole) -> None:
        """Fill a hole of candles."""
        self.fills.submit(FillCandles(self, feed, hole).run, self.timing.settle)

    def newer(self, feed: TradeFeed, tell: Callable[[Walked | None], None]) -> None:
        """Ask for trades after a feed's newest, and tell what there was; None: no answer."""

        def probe() -> None:
            since = feed.newest or time.time_ns() // 1_000 - int(self.timing.quiet_least * SECOND)
            found: Walked | None = None
            try:
                *_, found = self.walk(feed, Hole(since, None, ""), since, _PROBE_PAGES)
            except (ExchangeError, Cancelled, NoRoom) as error:
                log.info("%s: cannot tell whether the market is quiet: %s", feed.name, error)
            except Exception:
                log.exception("%s: cannot tell whether the market is quiet", feed.name)
            tell(found)  # in any case: who asked watches nothing meanwhile

        self.jobs.submit(probe)

    def check_room(self) -> None:
        """NoRoom while the journal cannot take what is fetched: it waits in memory."""
        if not self._may_write():
            raise NoRoom("there is no room to write")

    def walk(
        self, feed: TradeFeed, hole: Hole, start: int, pages: int = _MOST_PAGES
    ) -> Iterator[Walked]:
        """Fetch page by page from a time in a hole on, and hand the trades to the feed."""
        exchange, settle = self.exchange, int(self.timing.settle * SECOND)
        if not isinstance(exchange, TradesHistory):
            raise Rejected(f"{self.exchange.title} serves no past trades")
        request = exchange.trades_request(feed.subscription.instrument, start)
        until, late, last, shown, known = start, 0, "", False, set[str]()
        for _ in range(pages):
            self.check_room()
            page, clock = self._page(exchange, feed, request)
            self._check_times(page, clock)
            feed.fetched(hole, [trade for trade in page.trades if hole.holds(trade)])
            news = [trade for trade in page.trades if trade.trade_id not in known]
            late += sum(hole.start < trade.time < clock - settle for trade in news)
            last = page.trades[-1].trade_id if page.trades else last
            known = {trade.trade_id for trade in page.trades}
            shown = shown or hole.is_shown(page.trades)
            until, served = max(until, self._reached(page, clock)), page.served or 0
            following = page.next
            if following is None and news and page.again != request:
                following = page.again
            if following is None and shown:
                until = max(until, hole.end or 0)
            if hole.end is not None and max(until, served) >= hole.end:
                yield Walked(hole.end, late, clock, last, served)
                return
            # what happened just now may not be published yet
            quiet = None if following or hole.before else clock - settle
            yield Walked(max(until, served), late, clock, last, served, quiet)
            if following is None:
                return
            if following == request:
                raise BadAnswer(f"{exchange.title}: a page of trades that continues with itself")
            request = following

    def _reached(self, page: TradesPage, clock: int) -> int:
        """Before when all is seen after a page, as its trades tell."""
        reached = page.trades[-1].time if page.trades else 0
        return 0 if reached > clock + int(self.timing.ahead * SECOND) else reached

    def _check_times(self, page: TradesPage, clock: int) -> None:
        latest = clock + int(max(float(DAY), self.timing.ahead) * SECOND)
        if any(trade.time > latest for trade in page.trades):
            raise BadAnswer(f"{self.exchange.title}: {FUTURE}")

    def _page(
        self, exchange: TradesHistory, feed: TradeFeed, asked: Request
    ) -> tuple[TradesPage, int]:
        instrument = feed.subscription.instrument

        def read(answer: Answer) -> tuple[TradesPage, int]:
            latest = time.time_ns() // 1_000 + int(self.timing.ahead * SECOND)
            return exchange.trades(answer, instrument, asked), min(answer.time, latest)

        return self.ask(asked, read)
