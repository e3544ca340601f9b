"""All feeds of one connection: who gets which message, and what is to be said to the exchange."""

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dccd_core.exchanges.live import Frame, Inbox, Session, Subscription
from dccd_core.exchanges.trades import Book
from dccd_core.models import Channel
from dccd_streams.book import Broken
from dccd_streams.book_feed import BookFeed
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.feed import Feed
from dccd_streams.link import Link, make_link
from dccd_streams.pacing import Pacing
from dccd_streams.trade_feed import TradeFeed

if TYPE_CHECKING:
    from dccd_streams.connection import Connection, Owner

log = logging.getLogger(__name__)

_TRIES = 3  # subscriptions without an answer, before the feed is put aside
_MOVES = {2**n for n in range(1, 32)}  # stalls in a row: a dead market moves the others seldom
_BAD = 5  # messages in a row that cannot be read


class Links:
    """The links of one life of a connection; used by its thread."""

    def __init__(
        self, owner: "Owner", connection: "Connection", session: Session, pacing: Pacing
    ) -> None:
        self._owner, self._connection = owner, connection
        self._session, self._pacing = session, pacing
        self._timing = owner.timing
        self._links: dict[Subscription, Link] = {}
        self._trades: dict[str, Link] = {}
        self._books: dict[str, Link] = {}
        self._candles: dict[tuple[str, int], Link] = {}
        self._alone, self._dropped = set[Subscription](), set[Subscription]()
        self._bad, self._came = 0, 0.0

    def all(self) -> list[Link]:
        """Every link."""
        return list(self._links.values())

    def all_live(self) -> bool:
        """Whether every feed is carried, books with what they begin with."""
        return all(
            link.feed.tally.refused or (link.live and (link.book is None or link.book.valid))
            for link in self._links.values()
        )

    def add(self, feeds: list[Feed]) -> None:
        """Subscribe feeds."""
        live, session = self._owner.live, self._session
        links = [make_link(feed, live, session, self._timing) for feed in feeds]
        for link in links:
            subscription = link.feed.subscription
            name = subscription.instrument.name
            self._links[subscription] = link
            link.renewed = time.monotonic() if subscription in self._dropped else None
            match subscription.channel:
                case Channel.TRADES:
                    self._trades[name] = link
                case Channel.OHLC:
                    self._candles[name, subscription.span] = link
                case _:
                    self._books[name] = link
        self._subscribe(links)

    def drop(self, feed: Feed) -> None:
        """Unsubscribe a feed; what still comes of it goes nowhere."""
        if (link := self._links.pop(feed.subscription, None)) is None:
            return
        self._dropped.add(feed.subscription)
        self._pacing.put(self._session.unsubscribe([feed.subscription]))
        self._trades = {key: other for key, other in self._trades.items() if other is not link}
        self._books = {key: other for key, other in self._books.items() if other is not link}
        self._candles = {key: other for key, other in self._candles.items() if other is not link}
        feed.closed(link, "the stream was stopped")

    def _subscribe(self, links: list[Link]) -> None:
        for link in links:
            link.ask()
        if links:
            self._pacing.put(self._session.subscribe([link.feed.subscription for link in links]))

    def _renew(self, link: Link, why: str) -> None:
        """Subscribe one feed anew."""
        log.warning("%s: %s: %s; subscribing anew", self._connection.name, link.feed.name, why)
        link.live = link.fetching = False
        link.feed.closed(link, why)
        link.renew()
        self._pacing.put(self._session.unsubscribe([link.feed.subscription]))
        self._subscribe([link])

    # --- what came -----------------------------------------------------------------------------

    def take(self, frames: Sequence[Frame]) -> str | None:
        """Decode frames and hand on what is in them; why the connection must end, if it must."""
        if not frames:
            return None
        inbox = Inbox()
        self._session.read_all(frames, inbox)
        self._came = now = time.monotonic()
        for subscription in inbox.accepted:
            self._accepted(subscription)
        for subscription, reason in inbox.refused:
            self._refused(subscription, reason)
        end = self._unreadable(inbox.bad, len(frames))  # before what came after it is believed
        self._take_rows(inbox, now)
        for name, reason in inbox.lost:
            if link := self._books.get(name):
                self._lost(link, reason)
        for notice in inbox.notices:
            log.info("%s: %s", self._connection.name, notice)
        if inbox.reconnect is not None:
            self._connection.rotate(inbox.reconnect)
        return end

    def _take_rows(self, inbox: Inbox, now: float) -> None:
        for name, trades in inbox.trades.items():
            link = self._heard(self._trades.get(name), now)
            if link and isinstance(link.feed, TradeFeed):
                link.feed.take(link, trades)
        for key, candles in inbox.candles.items():
            link = self._heard(self._candles.get(key), now)
            if link and isinstance(link.feed, CandleFeed):
                link.feed.take(link, candles)
        for name, changes in inbox.books.items():
            link = self._heard(self._books.get(name), now)
            if link and isinstance(link.feed, BookFeed):
                try:
                    link.feed.take(link, changes)
                except Broken as broken:
                    self._lost(link, str(broken))
                self._need_book(link)

    def _heard(self, link: Link | None, now: float) -> Link | None:
        if link:
            link.heard(now)
            if not link.is_over(now):
                self._open(link)
        return link

    def _accepted(self, subscription: Subscription) -> None:
        if (link := self._links.get(subscription)) is not None:
            self._alone.discard(subscription)
            link.renewed = None
            self._open(link)

    def _open(self, link: Link) -> None:
        if not link.live:
            link.live = True
            link.feed.opened(link)
            self._need_book(link)

    def _refused(self, subscription: Subscription, reason: str) -> None:
        """Of several that were refused together each is tried alone; one alone is put aside."""
        if (link := self._links.get(subscription)) is None:
            return
        if subscription not in self._alone and len(self._links) > 1:
            self._alone.add(subscription)
            self._subscribe([link])
            return
        self._put_aside(link, f"the exchange refused it: {reason}")

    def _put_aside(self, link: Link, why: str) -> None:
        """Nothing is asked for this feed for a while; the others go on."""
        log.error("%s: %s: %s", self._connection.name, link.feed.name, why)
        link.asked, link.live = None, False
        link.feed.closed(link, why)
        link.feed.put_aside(why)
        link.last = time.monotonic()

    def _lost(self, link: Link, why: str) -> None:
        """A book must be made anew: from REST, or by what a subscription begins with."""
        log.warning("%s: %s: %s", self._connection.name, link.feed.name, why)
        if isinstance(link.feed, BookFeed):
            link.feed.broken(link, why)
            link.book_broke()

    def _need_book(self, link: Link) -> None:
        """Fetch the book that changes are to be applied to, if the exchange wants it so."""
        book = link.book
        if not self._owner.live.book_from_rest or book is None or book.valid:
            return
        if not link.fetching and link.renew_at is None:
            link.fetching = True
            self._owner.fetch_book(self._connection, link)

    def begin_book(self, link: Link, found: Book | None, received: int) -> None:
        """A book came by REST (None: it did not)."""
        if link not in self._links.values() or link.book is None or not link.fetching:
            return
        link.fetching = False
        if link.book.valid or not isinstance(link.feed, BookFeed):
            return
        try:
            whole = link.book.start(found, received) if found else None
        except Broken as broken:
            self._lost(link, str(broken))
            return
        if whole is None:
            link.book_broke()  # older than the changes, or not there
        else:
            link.feed.start(link, whole)

    def _renew_books(self, now: float) -> None:
        for link in self.all():
            if link.renew_at is not None and now >= link.renew_at:
                link.renew_at = None
                if self._owner.live.book_from_rest:
                    self._need_book(link)
                else:
                    self._renew(link, "its book is made anew")

    def _unreadable(self, bad: list[tuple[bytes, str]], frames: int) -> str | None:
        """Tell of messages that could not be read; why the connection must end, if it must."""
        self._bad = self._bad + len(bad) if bad else 0
        if not bad:
            return None
        payload, reason = bad[0]
        text = "%s: %d of %d messages unreadable, the first: %s; it begins with %r"
        log.warning(text, self._connection.name, len(bad), frames, reason, payload[:80])
        why = f"an unreadable message: {reason}"
        for link in self.all():
            if link.live:
                try:
                    link.feed.gap(link, why)
                except Broken:
                    self._lost(link, why)
        return why if self._bad >= _BAD else None

    # --- what did not come ---------------------------------------------------------------------

    def check(self, now: float) -> str | None:
        """Look for missing answers and silence; why the connection must end, if it must."""
        self._renew_books(now)
        if self._pacing.waiting:
            for link in self._links.values():
                link.wait_turn(now)
            return None
        links = [link for link in self._links.values() if link.asked is not None]
        self._try_put_aside(now)
        for link in links:
            if link.unanswered(now) and (cause := self._ask_again(link, links)):
                return cause
            if link.silent(now):
                self._silent(link)
            if link.lacks_book(now):
                self._lost(link, "what its book begins with did not come")
        return self._wake_stalled(links, now)

    def _try_put_aside(self, now: float) -> None:
        """Subscribe now and then what was refused."""
        for link in self._links.values():
            if link.asked is None and now - link.last > link.exile():
                link.tries = 0
                self._subscribe([link])

    def _wake_stalled(self, links: list[Link], now: float) -> str | None:
        stalled = [link for link in links if link.stalled]
        if stalled and len(stalled) == len(links):
            return f"no data for {now - max(link.last for link in links):.0f} s"
        for link in stalled:
            self._wake(link, now)
        return None

    def _ask_again(self, link: Link, links: list[Link]) -> str | None:
        if link.tries < _TRIES:
            self._subscribe([link])
            return None
        why = f"{_TRIES} subscriptions were not acknowledged"
        if not link.is_at_fault(self._came, any(other.live for other in links)):
            return why
        self._put_aside(link, why)
        return None

    def _silent(self, link: Link) -> None:
        """Silence is a stall unless the exchange says that there was nothing to send."""
        if not (link.probing or link.stalled or self._owner.probe(self._connection, link)):
            self.stall(link)

    def stall(self, link: Link) -> None:
        """The feed should have sent something."""
        if link in self._links.values():
            link.stall()

    def _wake(self, link: Link, now: float) -> None:
        """Subscribe a stalled feed anew; if that does not help, move all to a new connection."""
        silence = f"no data for {now - link.last:.0f} s"
        link.patience = min(link.patience * 2, 64.0)
        if link.feed.rhythm.stalls in _MOVES:
            self._connection.rotate(f"{link.feed.name}: {silence}")
        self._renew(link, silence)
