"""One connection and its thread: it subscribes, listens, notices silence and connects again."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from dccd_core.exchanges.base import Banned
from dccd_core.exchanges.live import Frame, Live, Session
from dccd_core.exchanges.trades import Book
from dccd_core.limits import Cancelled
from dccd_streams.feed import Feed
from dccd_streams.link import Link
from dccd_streams.links import Links
from dccd_streams.pacing import Pacing
from dccd_streams.timing import Timing
from dccd_streams.transport import Disconnected, Refused, Transport

log = logging.getLogger(__name__)


class Owner(Protocol):
    """Who a connection works for."""

    live: Live
    timing: Timing
    stopping: threading.Event

    def url(self, path: str) -> str:
        """Where to connect."""

    def proxy(self) -> str | None:
        """Through which proxy."""

    def await_turn(self) -> None:
        """Wait until a connection may be made; Cancelled, or Banned while none may be."""

    def refused(self, status: int, retry_after: float | None) -> None:
        """The exchange refused a connection."""

    def may_write(self) -> bool:
        """Whether there is room for what comes."""

    def make_transport(self) -> Transport:
        """A new client."""

    def fetch_book(self, connection: "Connection", link: Link) -> None:
        """Fetch a book, and post it with `Connection.post`."""

    def probe(self, connection: "Connection", link: Link) -> bool:
        """Ask whether a silent market is just quiet; False where nobody can tell."""

    def replace(self, connection: "Connection", why: str) -> None:
        """Make another connection for the same feeds, and retire this one when that works."""

    def leave(self, connection: "Connection") -> bool:
        """Whether the connection, which has no feed, may end."""


class Connection:
    """Carries feeds of one path, for ever: each life ends with a reason, and the next follows.

    `post` hands work to its thread, from any other. It ends when it is stopped, retired by a
    successor, or has no feed left.
    """

    def __init__(self, owner: Owner, path: str, name: str) -> None:
        self.path, self.name = path, name
        self.ready = threading.Event()
        self.connected = False
        self.connects = 0
        self.problem: str | None = None
        self._owner, self._timing = owner, owner.timing
        self._work: deque[Callable[[], None]] = deque()
        self._feeds: dict[Feed, None] = {}
        self._ending = threading.Event()
        self._cause = "the stream was stopped"
        self._transport = owner.make_transport()
        self._links: Links | None = None
        self._session: Session | None = None
        self._pacing = Pacing(1, 1.0)
        self._rotated = False
        self._born = self._seen_to = self._ping_due = 0.0
        self._over: str | None = None
        self.thread = threading.Thread(target=self._run, name=f"stream-{name}", daemon=True)

    def post(self, work: Callable[[], None]) -> None:
        """Run this in the connection's thread, soon."""
        self._work.append(work)

    def add(self, feed: Feed) -> None:
        """Carry a feed."""
        self.post(lambda: self._add(feed))

    def drop(self, feed: Feed) -> None:
        """Carry it no more."""
        self.post(lambda: self._drop(feed))

    def end(self, cause: str) -> None:
        """End, soon."""
        self._cause = cause
        self._ending.set()

    @property
    def ended(self) -> bool:
        """Whether it was told to end."""
        return self._ending.is_set()

    @property
    def hangs(self) -> bool:
        """Whether it is connected and nothing is done for it: it cannot even tell of silence."""
        return self.connected and time.monotonic() - self._seen_to > self._timing.down

    def begin_book(self, link: Link, found: Book | None, received: int) -> None:
        """In its thread: a book was fetched for a link."""
        if self._links is not None:
            self._links.begin_book(link, found, received)

    def judge(self, link: Link, missed: int | None) -> None:
        """In its thread: how many trades a silent link has missed; None: nobody could tell."""
        if missed == 0:
            link.was_quiet()
        elif self._links is not None and link.probing:
            self._links.stall(link)

    def compare(self, link: Link, found: Book | None) -> None:
        """In its thread: the book of a silent link as REST has it; None: nobody could tell."""
        if not link.silent(time.monotonic()):
            link.probing = False  # it has changed meanwhile
            return
        same = found is not None and link.book is not None and link.book.agrees(found)
        self.judge(link, 0 if same else None)

    def _run(self) -> None:
        failures = 0
        while not self._ending.is_set():
            self._do_work()
            if not self._feeds and self._owner.leave(self):
                break
            began = time.monotonic()
            try:
                cause = self._live()
            except Exception as error:
                # a mistake of ours must not end the stream: it is told, counted and begun again
                log.exception("%s: the connection failed", self.name)
                cause = f"{type(error).__name__}: {error}"
            self._down(cause)
            if self._rotated or self._ending.is_set():
                break
            # one that is refused again and again is tried ever more seldom
            held = time.monotonic() - began
            failures = 0 if held > self._timing.steady else failures + 1
            self._wait(failures)
        self._down(self._cause)
        self._owner.leave(self)

    def _wait(self, failures: int) -> None:
        """Longer after each failure, never the same for all."""
        timing = self._timing
        most = min(timing.backoff_most, timing.backoff_first * 2.0 ** min(failures, 16))
        self._ending.wait(random.uniform(0.5, 1.0) * most)

    def _down(self, cause: str) -> None:
        self._transport.close()
        self.connected = False
        links, self._links, self._session = self._links, None, None
        if not self._ending.is_set():
            log.warning("%s: %s", self.name, cause)
            self.problem = cause
        for link in links.all() if links else []:
            link.feed.closed(link, cause)
        for feed in self._feeds:
            if not feed.live and not feed.tally.refused:
                feed.tally.problem = cause

    def _live(self) -> str:
        """One life: connect, subscribe, listen; why it ended."""
        while not self._owner.may_write():
            if self._ending.wait(self._timing.tick):
                return self._cause
        try:
            self._owner.await_turn()
            self._transport.connect(self._owner.url(self.path), self._owner.proxy())
            self._begin()
            return self._listen()
        except Refused as error:
            self._owner.refused(error.status, error.retry_after)
            return str(error)
        except (Disconnected, Banned) as error:
            return str(error)
        except Cancelled:
            return self._cause

    def _begin(self) -> None:
        self._seen_to = time.monotonic()
        self.connected, self.problem = True, None
        self.connects += 1
        limits = self._owner.live.live_limits
        self._session = self._owner.live.session()
        self._pacing = Pacing(limits.messages, limits.seconds)
        self._pacing.put(self._session.opening())
        self._links = Links(self._owner, self, self._session, self._pacing)
        self._links.add(list(self._feeds))

    def _listen(self) -> str:
        """Listen, and say what is to be said; why it ended."""
        self._born = self._ping_due = time.monotonic()
        self._over = None
        while self._over is None and not self._ending.is_set():
            while (message := self._pacing.due()) is not None:
                self._transport.send(message)
            self._transport.listen(self._take, self._timing.tick)
        return self._over or self._cause

    def _take(self, frames: list[Frame]) -> bool:
        """Decode what came and see to what is due; whether to go on listening."""
        links, now = self._opened(), time.monotonic()
        self._seen_to = now
        self._over = links.take(frames) or links.check(now) or self._look_after(now)
        return not (self._over or self._ending.is_set() or self._pacing.waiting)

    def _look_after(self, now: float) -> str | None:
        """What is to be done now and then; why the connection must end, if it must."""
        self._ping(now)
        self._rotate_in_time(now - self._born)
        self._do_work()
        if self._links is not None and self._links.all_live():
            self.ready.set()
        if not self._owner.may_write():
            return "there is no room to write"
        if self._pacing.waited(now) > self._timing.down:
            # nobody would notice a silence meanwhile; a new connection may say as much again
            return "as many messages were sent as one connection may send"
        return None if self._feeds else "no feed is left"

    def _ping(self, now: float) -> None:
        """Send the exchange's own ping if it is time."""
        every = self._owner.live.live_limits.ping
        if every is None or now < self._ping_due or self._session is None:
            return
        self._ping_due = now + every
        text = self._session.ping()
        if text is not None:
            self._pacing.put([text])

    def _rotate_in_time(self, age: float) -> None:
        """Let another take over before the exchange ends this connection, which it does by age."""
        lifetime = self._owner.live.live_limits.lifetime
        if lifetime is not None and age > lifetime * self._timing.lifetime_part:
            self.rotate("it is near the end of its lifetime")

    def rotate(self, why: str) -> None:
        """Let another connection take over; this one goes on until that works."""
        if not self._rotated:
            self._rotated = True
            self._owner.replace(self, why)

    def _do_work(self) -> None:
        while self._work:
            self._work.popleft()()

    def _add(self, feed: Feed) -> None:
        self._feeds[feed] = None
        if self._links is not None:
            self._links.add([feed])

    def _drop(self, feed: Feed) -> None:
        self._feeds.pop(feed, None)
        if self._links is not None:
            self._links.drop(feed)

    def _opened(self) -> Links:
        if self._links is None:
            raise Disconnected("not connected")
        return self._links
