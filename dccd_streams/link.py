"""A feed on one connection: whether it was acknowledged, and whether it has fallen silent."""

import time
from dataclasses import dataclass, field
from functools import partial

from dccd_core.exchanges.live import BookChange, Live, Session
from dccd_core.models import DAY, SECOND, Channel
from dccd_streams.book import OrderBook
from dccd_streams.book_feed import BookFeed
from dccd_streams.feed import FUTURE, Feed
from dccd_streams.timing import Timing

_PATIENT = 16.0  # a new connection's, with a feed that was mute on those before it


@dataclass(slots=True, eq=False)
class Link:
    """Times are of the monotonic clock; `asked` None: not subscribed yet. `began` is when it was
    asked for the first of its `tries`, `renewed` when it was asked for after it was given up.

    `probing`: REST is being asked whether the market is just quiet. `patience` grows with each time
    that it was, and with each stall of its feed in a row, on whichever connection.
    `breaks` counts how often its book broke of late; it is made anew at `renew_at`. `fetching`: it
    is being fetched. `bookless` is since when it waits for its book though it is carried. `seen` is
    the newest time of the exchange that its book has, 0: none yet. `ahead`: a time of the exchange
    so many microseconds after its receipt is not believed, for no message tells of the future.
    """

    feed: Feed
    timing: Timing
    book: OrderBook | None = None
    asked: float | None = None
    renewed: float | None = None
    began: float = 0.0
    tries: int = 0
    live: bool = False
    last: float = field(default_factory=time.monotonic)
    patience: float = field(init=False)
    probing: bool = False
    stalled: bool = False
    fetching: bool = False
    bookless: float | None = None
    breaks: int = 0
    broke: float = 0.0
    renew_at: float | None = None
    seen: int = 0
    ahead: int = field(init=False)

    def ask(self) -> None:
        """The subscription is on its way."""
        self.asked = self.last = time.monotonic()
        if not self.tries:
            self.began = self.asked
        self.tries += 1
        self.stalled = self.probing = False

    def renew(self) -> None:
        """It is given up, and asked for anew."""
        self.renewed = time.monotonic()
        if self.book is not None:
            self.book.invalidate()

    def wait_turn(self, now: float) -> None:
        """Its subscription may not have been sent yet: nobody can have answered."""
        if self.asked is not None and not self.live:
            self.asked = now
        if self.renewed is not None:
            self.renewed = now

    def is_over(self, now: float) -> bool:
        """Whether trades that come may be those of a subscription that was given up: between its
        end and the new one some are missing."""
        trades = self.feed.subscription.channel is Channel.TRADES
        waits = self.renewed is not None and now - self.renewed <= self.timing.acknowledge
        return trades and waits

    def heard(self, now: float) -> None:
        """Data came: that is as good as an acknowledgement."""
        self.last = now
        self.patience, self.feed.rhythm.stalls, self.tries = 1.0, 0, 0
        self.stalled = False
        self.feed.tally.silent_since = None
        self.feed.tally.last_message = time.time_ns() // 1_000
        self.feed.rhythm.beat(now)

    def __post_init__(self) -> None:
        self.ahead = int(self.timing.ahead * SECOND)
        self.patience = min(_PATIENT, 2.0**self.feed.rhythm.stalls)

    def absurd(self, moment: int, received: int) -> bool:
        """Whether a time of the exchange is none at all, as one in another unit."""
        return moment - received > max(DAY * SECOND, self.ahead)

    def dated(self, change: BookChange) -> BookChange:
        """A change of a book; one whose time cannot be true has none."""
        if change.time is None or change.time <= change.received + self.ahead:
            return change
        if self.absurd(change.time, change.received):
            self.feed.complain(FUTURE)
        return change._replace(time=None)

    def was_quiet(self) -> None:
        """The exchange says that there was nothing to send."""
        self.last = time.monotonic()
        self.patience = min(self.patience * 2, 64.0)
        self.probing, self.feed.rhythm.stalls = False, 0
        if self.live:
            # asked for anew and acknowledged since, if it has stalled
            self.stalled, self.feed.tally.silent_since = False, None

    def stall(self) -> None:
        """It should have sent something."""
        self.probing, self.stalled = False, True
        self.feed.rhythm.stalls += 1
        if self.feed.tally.silent_since is None:
            self.feed.tally.silent_since = time.time() - (time.monotonic() - self.last)

    def book_broke(self) -> None:
        """Make the book anew: at once the first time, later and later if that does not help."""
        now = time.monotonic()
        if now - self.broke > self.timing.steady:
            self.breaks = 0
        wait = self.timing.backoff_first * 2.0**self.breaks if self.breaks else 0.0
        self.breaks, self.broke = self.breaks + 1, now
        self.fetching = False
        self.renew_at = now + min(wait, self.timing.backoff_most)

    def lacks_book(self, now: float) -> bool:
        """Whether what its book begins with should have come by now, since changes do come; where
        nothing does, it is silent."""
        begun, mute = self.book is None or self.book.valid, self.tries > 0
        if begun or mute or self.fetching or self.renew_at is not None or not self.live:
            self.bookless = None
            return False
        self.bookless = self.bookless or now
        return now - self.bookless > self.timing.acknowledge

    def unanswered(self, now: float) -> bool:
        """Whether the subscription should have been acknowledged by now."""
        return self.asked is not None and not self.live and self._waited(now)

    def is_at_fault(self, came: float, others: bool) -> bool:
        """Whether nobody answers because of the feed, and not of the connection.

        `came` is when anything was heard, `others` whether other feeds are live. What worked before
        is tried on one more connection.
        """
        if came < self.began or not others:
            return False
        tally = self.feed.tally
        tally.unanswered += 1
        return tally.last_message is None or tally.unanswered > 1

    def _waited(self, now: float) -> bool:
        return self.asked is not None and now - self.asked > self.timing.acknowledge

    def limit(self) -> float:
        """After how many seconds without data it counts as silent."""
        timing, pause = self.timing, self.feed.rhythm.pause
        least = timing.quiet_least
        if self.feed.subscription.channel is Channel.OHLC:
            least = max(least, 3.0 * self.feed.subscription.span)
        usual = least if pause is None else max(least, pause * timing.factor)
        return min(usual * self.patience, max(timing.quiet_most, least))

    def exile(self) -> float:
        """For how many seconds it is put aside: what worked before may soon work again."""
        first = self.timing.backoff_most * 2.0 ** min(self.feed.tally.refusals - 1, 16)
        return min(self.timing.quarantine, first)

    def silent(self, now: float) -> bool:
        """Whether data should have come by now."""
        return self.live and now - self.last > self.limit()


def make_link(feed: Feed, live: Live, session: Session, timing: Timing) -> Link:
    """A feed on a new connection, with a new book if it is one."""
    if not isinstance(feed, BookFeed):
        return Link(feed, timing)
    depth = live.checksum_depth
    checksum = partial(session.checksum, feed.subscription.instrument) if depth else None
    book = OrderBook(from_rest=live.book_from_rest, checksum=checksum, checksum_depth=depth)
    return Link(feed, timing, book)
