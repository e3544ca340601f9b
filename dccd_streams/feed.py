"""What all feeds have in common: what they heard, what they wrote, and what is wrong."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dccd_core.exchanges.live import Subscription
from dccd_core.models import DAY, SECOND, Series

if TYPE_CHECKING:
    from dccd_streams.link import Link

log = logging.getLogger(__name__)

FUTURE = "the exchange gave a time far in the future"


@dataclass(slots=True)
class Tally:
    """What status tells of a feed. Times in microseconds, `lag` in seconds.

    Since a connection last carried it: `unanswered` counts those on which nobody answered, and
    `refusals` how often it was put aside.
    """

    last_message: int | None = None
    last_row: int | None = None
    day: int = 0
    rows_today: int = 0
    rows: int = 0
    reconnects: int = 0
    gaps: int = 0
    healed: int = 0
    lost: int = 0
    lag: float | None = None
    problem: str | None = None
    silent_since: float | None = None
    refused: bool = False
    unanswered: int = 0
    refusals: int = 0

    def recall(self, rows: int) -> None:
        """Rows of today that an earlier service, or stream, has written."""
        self.day, self.rows_today = _today(), self.rows_today + rows

    def count(self, rows: int, newest: int, received: int | None) -> None:
        """Note rows that were written."""
        if (today := _today()) != self.day:
            self.day, self.rows_today = today, 0
        self.rows += rows
        self.rows_today += rows
        self.last_row = newest if self.last_row is None else max(self.last_row, newest)
        if received is not None:
            self.lag = (received - newest) / SECOND


def _today() -> int:
    return time.time_ns() // 1_000 // (DAY * SECOND)


@dataclass(slots=True)
class Rhythm:
    """How often a feed has something to say: seconds between two ticks with data, averaged.

    `stalls` counts how often it was silent though it should not be, since data came last.
    """

    pause: float | None = None
    stalls: int = 0
    _last: float | None = field(default=None)

    def beat(self, now: float) -> None:
        """Data came."""
        if self._last is not None:
            pause = now - self._last
            self.pause = pause if self.pause is None else self.pause + (pause - self.pause) / 16
        self._last = now

    def restart(self) -> None:
        """The pause that a break made does not count."""
        self._last = None


class Feed(ABC):
    """One subscription, and the series that are made of it. It outlives connections.

    Connections tell it what came; `lock` guards it, for two connections may carry it while one
    takes the place of the other. Links are what it is on each connection.
    """

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.lock = threading.RLock()
        self.tally = Tally()
        self.rhythm = Rhythm()
        self.links: list[Link] = []

    @property
    @abstractmethod
    def series(self) -> list[Series]:
        """The series that are written."""

    @property
    def live(self) -> bool:
        """Whether a connection carries it now."""
        return any(link.live for link in self.links)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.subscription.instrument.symbol} {self.subscription.channel}"

    def opened(self, link: "Link") -> None:
        """A connection has been told that the subscription stands, or sends its data."""
        with self.lock:
            if link not in self.links:
                self.links.append(link)
                self.tally.problem, self.tally.refused = None, False
                self.tally.unanswered = self.tally.refusals = 0
                if len(self.links) == 1:
                    self.rhythm.restart()
                    self.on_live(link)

    def closed(self, link: "Link", cause: str) -> None:
        """A connection carries it no more."""
        with self.lock:
            if link not in self.links:
                return
            self.links.remove(link)
            self.on_gone(link, cause)
            if not self.links:
                self.tally.reconnects += 1

    def put_aside(self, why: str) -> None:
        """It is not asked for, for a while."""
        with self.lock:
            self.tally.problem, self.tally.refused = why, True
            self.tally.refusals += 1

    def complain(self, why: str) -> None:
        """Tell of what is wrong with it, once, until it is opened anew."""
        if self.tally.problem != why:
            log.warning("%s: %s", self.name, why)
        self.tally.problem = why

    @abstractmethod
    def on_live(self, link: "Link") -> None:
        """The first connection carries it."""

    @abstractmethod
    def on_gone(self, link: "Link", cause: str) -> None:
        """A connection ended; `links` are those that are left."""

    @abstractmethod
    def gap(self, link: "Link", cause: str) -> None:
        """Messages of this connection could not be read: some may be missing."""

    @abstractmethod
    def tick(self, mark: bool) -> None:
        """Write what is due on a quiet market; `mark`: tell the ledger what is whole."""

    @abstractmethod
    def stop_writing(self, series: Series) -> None:
        """Tell the ledger what is whole of a series, and write no more of it."""
