"""The order book of one market: a row each time step, and every change.

A book that is known to be wrong is never written. Where it breaks there is one row that says so
(`valid` false, no levels), so that a reader who carries rows forward stops there.
"""

import time
from typing import TYPE_CHECKING

from dccd_core.exchanges.live import BookChange, Subscription
from dccd_core.exchanges.trades import Levels
from dccd_core.models import SECOND, Series, Window
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import BookRow, Loss
from dccd_streams.book import KNOWN, Broken, OrderBook
from dccd_streams.coverage import Coverage
from dccd_streams.feed import Feed

if TYPE_CHECKING:
    from dccd_streams.link import Link

WHOLE_EVERY = 3_600 * SECOND
"""How often the changes of a market begin anew with a whole book, so that any moment is near."""
CROSSED = 2.0
"""Seconds for which bids may reach asks: an exchange may send the two halves one by one."""
_MOST_ROWS = 10_000


class BookFeed(Feed):
    """Writes what the valid book of one link gives; another takes over where that link ends."""

    def __init__(self, subscription: Subscription, journal: JournalWriter) -> None:
        super().__init__(subscription)
        self.rows: Series | None = None
        self.changes: Series | None = None
        self._journal = journal
        self._step = SECOND
        self._depth = 0
        self._active: Link | None = None
        self._coverage = Coverage()
        self._due: int | None = None
        self._received = 0
        self._broken: tuple[int, str] | None = None
        self._whole_due = 0
        self._crossed: float | None = None
        self._undated = False  # the first book had no time: it begins with the next change's

    @property
    def series(self) -> list[Series]:
        return [series for series in (self.rows, self.changes) if series]

    @property
    def synchronised(self) -> bool:
        """Whether there is a valid book."""
        return self._active is not None

    def write_rows(self, series: Series, step: int, depth: int) -> None:
        """Write a row each `step` seconds, of `depth` levels a side."""
        with self.lock:
            known = self._tell_whole()
            self.rows, self._step, self._depth = series, step * SECOND, depth
            self._due = None if known is None else -(-known // self._step) * self._step

    def write_changes(self, series: Series) -> None:
        """Write every change, beginning with the whole book."""
        with self.lock:
            known = self._tell_whole()
            self.changes, self._whole_due = series, 0
            if known is not None and self._active is not None and self._active.book is not None:
                self._write_whole(self._active.book)  # without it the next time is not known

    def resume_from(self, series: Series, moment: int, cause: str) -> None:
        """What is stored of a series ends here: what follows is lost until the book is there."""
        with self.lock:
            if (known := self._tell_whole()) is not None:
                self._journal.mark(series, Loss(moment, known, cause))
            else:
                self._broken = min(self._broken or (moment, cause), (moment, cause))

    def _tell_whole(self) -> int | None:
        """Tell what is whole; up to where that is, None if no book runs: all begin with the next.

        Who joins has none of that, so it is told before.
        """
        if self._active is None or self._undated:
            return None
        self._mark(self._coverage.extend())
        return self._coverage.until

    def on_live(self, link: "Link") -> None: ...

    def on_gone(self, link: "Link", cause: str) -> None:
        if link is self._active:
            self._hand_over(cause)

    def gap(self, link: "Link", cause: str) -> None:
        """What is numbered notices itself what it misses; what is not must begin anew."""
        with self.lock:
            book = link.book
            if book is not None and book.valid and book.number is None:
                raise self.broken(link, cause)

    def broken(self, link: "Link", cause: str) -> Broken:
        """The book of a link is wrong; the Broken to raise, so that it is made anew."""
        with self.lock:
            if link.book is not None:
                link.book.invalidate()
            if link is self._active:
                self._hand_over(cause)
            return Broken(cause)

    def take(self, link: "Link", changes: list[BookChange]) -> None:
        """Changes of a connection in order. Raises Broken where the book must be made anew."""
        book = link.book
        if book is None:
            return
        with self.lock:
            done: list[BookChange] = []
            try:
                for change in changes:
                    self._apply(link, book, link.dated(change), done)
            except Broken as error:
                self._write(link, done)
                if link is self._active:
                    self._hand_over(str(error))
                raise
            self._write(link, done)
            self._check_crossed(link, book)

    def start(self, link: "Link", whole: list[BookChange]) -> None:
        """The book of a link has begun from REST, and these changes made it what it is."""
        with self.lock:
            link.seen = whole[-1].time or 0
            if self._active is None:
                self._activate(link, whole[-1])

    def _may_follow(self, link: "Link") -> bool:
        """Whether the book of another link has no change yet that the next row must not have."""
        if link is self._active or self._due is None:
            return False
        return 0 < link.seen <= self._due

    def _apply(
        self, link: "Link", book: OrderBook, change: BookChange, done: list[BookChange]
    ) -> None:
        moment = change.time or change.received
        if self._active is not None and book.valid and self._may_follow(link):
            self._active, self._whole_due = link, 0
        active = link is self._active
        row = self._due_levels(book, moment) if active else None
        applied = book.apply(change)
        if not applied:
            return
        if row is not None:
            self._write_rows(*row, moment)  # only now: a change that does not follow proves nothing
        link.seen = 0 if change.snapshot and change.time is None else moment
        if not active:
            if self._active is None:
                self._activate(link, change)
            return
        self._received = change.received
        if self._undated:
            self._begin(moment)
            return
        self._coverage.see(moment)
        if self._whole_due:
            done += applied
        else:
            self._write_whole(book)

    def _activate(self, link: "Link", change: BookChange) -> None:
        """Write what this link's book gives from now on; `change` made it what it is."""
        self._active, self._undated = link, True
        self._received = change.received
        self._whole_due = 0
        if change.time is not None:
            self._begin(change.time)

    def _begin(self, moment: int) -> None:
        """The book is known from this time of the exchange on."""
        self._undated = False
        self._coverage.see(moment)
        self._coverage.begin(moment)
        self._due = -(-moment // self._step) * self._step
        if self._broken is not None:
            (start, cause), self._broken = self._broken, None
            self._mark(Loss(start, max(start + 1, moment), cause))
            self.tally.gaps += 1
            self.tally.lost += 1
        if self._active is not None and self._active.book is not None:
            # at once: a row that is due in the same batch is of a book that the changes lead to
            self._write_whole(self._active.book)

    def _hand_over(self, cause: str) -> None:
        """The active link's book is gone: another link has one, or there is none now."""
        other = next((link for link in self.links if link.book and link.book.valid), None)
        if other is not None and self._may_follow(other):
            self._active, self._whole_due = other, 0
            return
        self._mark(self._coverage.end())
        if not self._undated:
            self._broken = self._broken or (self._write_end(), cause)
        self._active, self._due, self._crossed = None, None, None
        if other is not None:  # it begins with its next change
            self._active, self._undated, self._whole_due = other, True, 0

    def _write_end(self) -> int:
        """Write the row that says that no book is known from here on; its time."""
        end = self._coverage.until or self._received
        if self._due is not None:
            end = max(end, self._due - self._step + 1)  # behind the last row of a quiet market
        if self.rows:
            self._journal.append_books(self.rows, [BookRow(end, self._received, [], [], False)])
        return end

    def _due_levels(self, book: OrderBook, moment: int) -> tuple[Levels, Levels] | None:
        due = self._due is not None and moment > self._due
        return book.best(self._depth, KNOWN if self.changes else 0) if due else None

    def _write_rows(self, bids: Levels, asks: Levels, before: int) -> None:
        """Write the rows that are due before a time, at which these levels have changed.

        Not before a message proves it: what is quiet may be a stall.
        """
        if self._due is None:
            return
        if self.rows is None:
            self._due = max(self._due, -(-before // self._step) * self._step)
            return
        if before - self._due > _MOST_ROWS * self._step:
            self._due = before // self._step * self._step  # the exchange's clock has jumped
        rows = []
        crossed = bool(bids and asks and bids[0][0] >= asks[0][0])
        while self._due < before:
            if not crossed:
                rows.append(BookRow(self._due, self._received, bids, asks, True))
            self._due += self._step
        if rows:
            self._journal.append_books(self.rows, rows)
            self.tally.count(len(rows), rows[-1].time, None)

    def _write(self, link: "Link", done: list[BookChange]) -> None:
        """Write changes, with the whole book first where that is due."""
        if link is not self._active or link.book is None:
            return
        if self._received and self._coverage.newest:
            self.tally.lag = (self._received - self._coverage.newest) / SECOND
        if self.changes is None or self._undated:
            return
        if done:
            self._journal.append_deltas(self.changes, done)
            self.tally.count(len(done), done[-1].time or done[-1].received, done[-1].received)
        if self._whole_due <= (self._coverage.newest or 0):
            self._write_whole(link.book)

    def _write_whole(self, book: OrderBook) -> None:
        """The book as it is, in place of the changes that led to it: days and hours begin so."""
        moment = self._coverage.newest
        if self.changes is None or moment is None or not book.valid:
            return
        bids, asks = book.levels()
        whole = BookChange(True, bids, asks, self._received, time=moment, last=book.number)
        self._journal.append_deltas(self.changes, [whole])
        self.tally.count(1, moment, self._received)
        self._whole_due = moment // WHOLE_EVERY * WHOLE_EVERY + WHOLE_EVERY

    def _check_crossed(self, link: "Link", book: OrderBook) -> None:
        if link is not self._active or not book.valid:
            return
        if not book.crossed():
            self._crossed = None
            return
        now = time.monotonic()
        self._crossed = self._crossed or now
        if now - self._crossed > CROSSED:
            raise self.broken(link, "bids and asks are crossed")

    def tick(self, mark: bool) -> None:
        with self.lock:
            link = self._active
            if link is None or link.book is None or link.stalled or self._undated:
                return
            if self.changes and self._whole_due <= (self._coverage.newest or 0):
                self._write_whole(link.book)
            if mark:
                self._tell_whole()

    def _mark(self, what: Window | Loss | None) -> None:
        if what:
            for series in self.series:
                self._journal.mark(series, what)

    def stop_writing(self, series: Series) -> None:
        with self.lock:
            self._tell_whole()
            if series == self.rows:
                if self._active is not None and not self._undated:
                    self._write_end()
                self.rows = None
            self.changes = None if series == self.changes else self.changes
