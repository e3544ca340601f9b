"""Looks now and then whether markets are still what they were when their feeds began.

A service runs for months. Meanwhile an exchange gives a pair other digits, of which checksums are
made, or a contract another size, of which amounts are made.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from dccd_core.exchanges.base import ExchangeError, Instrument
from dccd_core.limits import Cancelled
from dccd_core.models import DAY
from dccd_streams.book_feed import BookFeed
from dccd_streams.feed import Feed
from dccd_streams.jobs import Jobs
from dccd_streams.timing import Timing
from dccd_streams.venue import Venue

log = logging.getLogger(__name__)


class Review:
    """`carried` gives the feeds of each exchange, `anew` ends some of them and begins them again.

    The list of markets is asked for once a day; at each look where a book is not to be had.
    """

    def __init__(
        self,
        jobs: Jobs,
        timing: Timing,
        carried: Callable[[], list[tuple[Venue, list[Feed]]]],
        anew: Callable[[Venue, list[Feed]], None],
    ) -> None:
        self._jobs, self._timing = jobs, timing
        self._carried, self._anew = carried, anew
        self._later()

    def _later(self) -> None:
        self._jobs.submit(self._run, self._timing.quarantine)

    def _run(self) -> None:
        try:
            for venue, feeds in self._carried():
                self._look(venue, feeds)
        finally:
            self._later()

    def _look(self, venue: Venue, feeds: list[Feed]) -> None:
        broken = any(isinstance(feed, BookFeed) and not feed.synchronised for feed in feeds)
        try:
            venue.renew_markets(self._timing.quarantine / 2 if broken else DAY)
            changed = [feed for feed in feeds if _is_another(venue, feed)]
        except (ExchangeError, Cancelled, OSError) as error:
            log.warning("%s: cannot tell whether its markets have changed: %s", venue.name, error)
            return
        for feed in changed:
            log.warning("%s %s: its market has changed: begun anew", venue.name, feed.name)
        if changed:
            self._anew(venue, changed)


def _is_another(venue: Venue, feed: Feed) -> bool:
    known = feed.subscription.instrument
    return _made_of(venue.instrument(known.symbol)) != _made_of(known)


def _made_of(instrument: Instrument) -> Instrument:
    """What rows are made of."""
    return replace(instrument, trading=True, listed=None)
