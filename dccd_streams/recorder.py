"""Makes durable what the feeds brought: the journal each tick, daily files a few times an hour."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from dccd_core.models import DAY
from dccd_core.store import memory
from dccd_core.store.datastore import DataStore
from dccd_core.store.fold import fold
from dccd_core.store.journal import JournalWriter
from dccd_streams.feed import Feed
from dccd_streams.timing import Timing

log = logging.getLogger(__name__)

MOST_PENDING = 64 << 20
"""Bytes that may wait for a disk that is full or slow; then nothing more is received."""
LARGEST_SEGMENT = 32 << 20
"""Bytes after which is folded before its time: a fold holds them in memory."""
_RETRY = 5.0
_LAST_WRITE = 1.0  # seconds that the end of the journal has, though there is no time left


class Recorder:
    """The journal's writer and its two threads: the tick, and the fold beside it.

    `failed` is set if a thread has ended that must not. `day_closed` is called with the last UTC
    day that is over, after the fold that ends it.
    """

    def __init__(
        self,
        store: DataStore,
        timing: Timing,
        feeds: Callable[[], Iterable[Feed]],
        day_closed: Callable[[str], None],
    ) -> None:
        self.journal = JournalWriter(store.journal)
        self.failed = threading.Event()
        self.ready = threading.Event()
        self.disk_problem: str | None = None
        self.fold_problem: str | None = None
        self.last_fold: float | None = None
        self._store, self._timing = store, timing
        self._feeds, self._day_closed = feeds, day_closed
        self._stopping = threading.Event()
        self._fold_now = threading.Event()
        self._closed, self._durable = threading.Event(), False
        self._written = 0
        # yesterday: a service that did not run may not have closed it
        self._day = _today(timing.day_grace + DAY)
        self._threads = [
            threading.Thread(target=self._guard, args=(run,), name=name, daemon=True)
            for run, name in ((self._tick_loop, "stream-journal"), (self._fold_loop, "stream-fold"))
        ]
        found = self.journal.recovered
        if found.cut or found.damage:
            log.warning("the journal of a crash: %d bytes cut, %s", found.cut, found.damage)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def may_write(self) -> bool:
        """Whether there is room for what comes."""
        return self.journal.pending < MOST_PENDING

    def stop(self, deadline: float) -> bool:
        """Make all durable and fold it if there is time; whether all was made durable."""
        self._stopping.set()
        self._fold_now.set()
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        last = threading.Thread(target=self._finish, name="stream-end", daemon=True)
        last.start()
        # in a thread: nobody knows when a disk that hangs lets go of who writes
        self._closed.wait(max(_LAST_WRITE, deadline - time.monotonic()))
        # what is not folded now is folded at the next start: it is durable in the journal
        last.join(max(0.0, deadline - time.monotonic()))
        return self._durable

    def _finish(self) -> None:
        try:
            self.journal.close()
            self._durable = True
        except OSError as error:
            log.error("%d bytes could not be written: %s", self.journal.pending, error)
            return
        finally:
            self._closed.set()
        with suppress(OSError):
            self._fold_closed()

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException:
            log.exception("the service cannot go on")
            self.failed.set()

    # --- the tick ------------------------------------------------------------------------------

    def _tick_loop(self) -> None:
        mark_due = time.monotonic() + self._timing.mark
        while not self._stopping.wait(self._timing.tick):
            now = time.monotonic()
            mark = now >= mark_due
            if mark:
                mark_due = now + self._timing.mark
            self._tick_feeds(mark)
            self._sync()
            if self.disk_problem:
                self._stopping.wait(_RETRY if self._timing.tick >= 0.2 else self._timing.tick)
        self._tick_feeds(True)
        self._sync()

    def _tick_feeds(self, mark: bool) -> None:
        for feed in self._feeds():
            try:
                feed.tick(mark)
            except Exception as error:
                # one market's mistake must not end the others
                log.exception("%s: its tick failed", feed.name)
                feed.tally.problem = f"{type(error).__name__}: {error}"

    def _sync(self) -> None:
        try:
            self._written += self.journal.sync()
        except OSError as error:
            if self.disk_problem is None:
                log.error("the journal cannot be written: %s", error)
            self.disk_problem = f"the journal cannot be written: {error}"
            return
        if self.disk_problem is not None:
            log.warning("the journal is written again")
        self.disk_problem = None
        if self._written > LARGEST_SEGMENT:
            self._fold_now.set()

    # --- the fold ------------------------------------------------------------------------------

    def fold_soon(self) -> None:
        """Fold without waiting for the time to come."""
        self._fold_now.set()

    def _fold_loop(self) -> None:
        self._fold()
        self.ready.set()
        soon = self._timing.first_fold
        while not self._stopping.is_set():
            if self._fold_now.wait(min(soon, self._until_fold())):
                self._fold_now.clear()
            soon = self._timing.fold
            if not self._stopping.is_set():
                self._fold()

    def _until_fold(self) -> float:
        """Seconds to the next fold: after the usual time, and just after a UTC day."""
        now = datetime.now(UTC)
        grace = timedelta(seconds=self._timing.day_grace)
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + grace
        next_end = midnight if midnight > now else midnight + timedelta(days=1)
        return max(0.05, min(self._timing.fold, (next_end - now).total_seconds() + 0.05))

    def _fold(self) -> None:
        try:
            self._written = 0
            self.journal.rotate()
            self._fold_closed()
        except OSError as error:
            log.error("folding failed: %s", error)
            self.fold_problem = f"folding failed: {error}"

    def _fold_closed(self) -> None:
        folded = fold(self._store)
        memory.release()
        self.last_fold = time.time()
        for damage in folded.damage:
            log.error("the journal was damaged: %s", damage)
        for failed in folded.failed:
            log.error("%s was not folded: %s", failed.series, failed.error)
        self.fold_problem = (
            f"not folded: {folded.failed[0].series}: {folded.failed[0].error}"
            if folded.failed
            else None
        )
        self._close_days()

    def _close_days(self) -> None:
        """Close what is over when a day has ended, once; a clock that is set back closes nothing.

        Not before the streams are there, who are asked what belongs to it.
        """
        day = _today(self._timing.day_grace)
        if self.ready.is_set() and day != self._day:
            later, self._day = day > self._day, day
            if later:
                self._day_closed(_today(self._timing.day_grace + DAY))


def _today(grace: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=grace)).strftime("%Y-%m-%d")
