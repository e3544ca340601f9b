"""Asks REST whether a silent market is just quiet: then its feed is no alarm."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dccd_core.exchanges.base import Exchange, ExchangeError
from dccd_core.exchanges.trades import Book, Depth
from dccd_core.limits import Cancelled
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.pages import fetch_page
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.heal import Ask, Healer, Walked
from dccd_streams.jobs import Jobs
from dccd_streams.trade_feed import TradeFeed

if TYPE_CHECKING:
    from dccd_streams.connection import Connection
    from dccd_streams.link import Link

log = logging.getLogger(__name__)

_LEVELS = 10  # so many that agree are no chance


class Quiet:
    """Answers through `Connection.judge` and `Connection.compare`."""

    def __init__(self, exchange: Exchange, ask: Ask, jobs: Jobs, healer: Healer) -> None:
        self._exchange, self._ask, self._jobs, self._healer = exchange, ask, jobs, healer
        self._settle = int(healer.timing.settle * SECOND)

    def probe(self, connection: "Connection", link: "Link") -> bool:
        """Ask about a silent link; False where nobody can tell."""
        feed = link.feed
        if isinstance(feed, TradeFeed) and self._healer.has_trades:
            self._healer.newer(feed, partial(self._tell_trades, connection, link, feed))
        elif isinstance(feed, CandleFeed) and not feed.gapless:
            self._jobs.submit(partial(self._look_for_candles, connection, link, feed))
        elif isinstance(self._exchange, Depth) and link.book is not None and link.book.valid:
            self.ask_book(link, _LEVELS, partial(_tell_book, connection, link))
        else:
            return False
        link.probing = True
        return True

    def ask_book(self, link: "Link", depth: int, tell: Callable[[Book | None], None]) -> None:
        """Ask for a book of so many levels at least, 0 for all; None: it did not come."""
        exchange, instrument = self._exchange, link.feed.subscription.instrument
        if not isinstance(exchange, Depth):
            raise ValueError(f"{exchange.title}: a book from REST, which serves none")
        enough = [one for one in exchange.depths if one >= depth > 0]
        levels = min(enough, default=max(exchange.depths))

        def fetch() -> None:
            book: Book | None = None
            try:
                request = exchange.book_request(instrument, levels)
                book = self._ask(request, lambda answer: exchange.book(answer, instrument))
            except (ExchangeError, Cancelled) as error:
                log.warning("%s: %s: no book: %s", exchange.name, link.feed.name, error)
            except Exception:
                # whatever it is, the link waits for an answer and asks only then again
                log.exception("%s: %s: no book", exchange.name, link.feed.name)
            tell(book)

        self._jobs.submit(fetch)

    def _tell_trades(
        self, connection: "Connection", link: "Link", feed: TradeFeed, walked: Walked | None
    ) -> None:
        connection.post(lambda: connection.judge(link, None if walked is None else walked.late))
        if walked is not None and not walked.late:
            feed.was_quiet(walked.clock - self._settle)

    def _look_for_candles(self, connection: "Connection", link: "Link", feed: CandleFeed) -> None:
        """Of an exchange that sends no candle where nobody trades."""
        missed: int | None = None
        try:
            missed = self._closed(feed, link.last)
        except (ExchangeError, Cancelled) as error:
            log.info("%s: cannot tell whether the market is quiet: %s", feed.name, error)
        except Exception:
            log.exception("%s: cannot tell whether the market is quiet", feed.name)
        connection.post(lambda: connection.judge(link, missed))

    def _closed(self, feed: CandleFeed, last: float) -> int | None:
        """How many candles with trades have closed since a feed's newest, or since `last`."""
        exchange, subscription = self._exchange, feed.subscription
        if subscription.span not in exchange.spans:
            return None
        instrument, span = subscription.instrument, subscription.span
        series = Series(exchange.name, Channel.OHLC, instrument.symbol, span)
        now = time.time_ns() // 1_000
        end = series.floor(now - self._settle)
        heard = series.floor(now - int((time.monotonic() - last) * SECOND))
        start = max(feed.newest or heard, end - exchange.limits.page * span * SECOND)
        if start >= end:
            return 0
        found = fetch_page(self._ask, exchange, instrument, series, Window(start, end))
        return int((found.candles.volume > 0).sum())


def _tell_book(connection: "Connection", link: "Link", book: Book | None) -> None:
    connection.post(lambda: connection.compare(link, book))
