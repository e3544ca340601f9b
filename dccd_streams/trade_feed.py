"""The trades of one market: written, told apart from those that came before, holes noticed."""

import time
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

from dccd_core.exchanges.live import Subscription
from dccd_core.exchanges.trades import Trade
from dccd_core.models import Series, Window
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import Loss
from dccd_streams.coverage import Coverage
from dccd_streams.feed import FUTURE, Feed
from dccd_streams.heal_plan import Hole
from dccd_streams.seen_trades import SeenTrades
from dccd_streams.trade_series import TradeSeries

if TYPE_CHECKING:
    from dccd_streams.link import Link

_TIME, _ID = attrgetter("time"), attrgetter("trade_id")


class TradeFeed(Feed):
    """Writes the trades themselves, if wanted, and candles built from them.

    `heal` is told of each hole, and answers through `fetched`, `settled` or `given_up`.
    `contiguous`: ids are numbers without a hole, so that one in the stream is noticed at once.
    `healable`: the exchange serves past trades.
    """

    def __init__(
        self,
        subscription: Subscription,
        journal: JournalWriter,
        heal: Callable[["TradeFeed", Hole], None],
        *,
        contiguous: bool,
        healable: bool,
        settle: float,
    ) -> None:
        super().__init__(subscription)
        self.contiguous = contiguous
        self.healable = healable
        self.written = TradeSeries(journal)
        self._heal = heal
        self._coverage = Coverage()
        self._seen = SeenTrades()
        self._last: Trade | None = None
        self._resume: tuple[int, str] | None = None
        self._live_at: float | None = None
        self._doubtful: set[Link] = set()
        self._settle = settle

    @property
    def series(self) -> list[Series]:
        return self.written.all()

    @property
    def newest(self) -> int | None:
        """The newest time known, of the exchange's clock."""
        return self._coverage.newest

    def write(self, series: Series, end: int | None, cause: str) -> None:
        """Write a series that is stored up to `end`. What it lacks since then is fetched.

        Those that are written already go on: nothing of them is missing.
        """
        with self.lock:
            newest = self._tell_whole()
            since = None if newest is None else newest + 1  # of that time some came before it
            self.written.add(series, since)
            if since is not None:
                if end is not None and end < since:
                    self._ask_heal(Hole(end, since, cause, series=(series,)))
            elif end is not None:
                self.resume_from(end, cause)
                self._live_at = time.monotonic()

    def resume_from(self, moment: int, cause: str) -> None:
        """What is stored ends here: the hole up to the first live trade is to be healed."""
        with self.lock:
            self._resume = min(self._resume or (moment, cause), (moment, cause))

    def _tell_whole(self) -> int | None:
        """Tell what is whole; the newest time of a stream that is whole now, None of another."""
        whole = self._coverage.extend()
        if whole:
            self.written.mark_streamed(whole)
        return self._coverage.newest if self._coverage.open else None

    def opened(self, link: "Link") -> None:
        """A connection carries it. Nobody tells what the one that carried it before has missed: it
        may have been mute for a while."""
        with self.lock:
            joins = bool(self.links) and link not in self.links
            super().opened(link)
            if joins and self._coverage.open and self.healable and not self.contiguous:
                self._break("another connection took over")
                self._live_at = None  # its next trade tells, or a probe

    def on_live(self, link: "Link") -> None:
        self._live_at = time.monotonic()

    def on_gone(self, link: "Link", cause: str) -> None:
        self._doubtful.discard(link)
        if not self.links:
            self._break(cause)

    def gap(self, link: "Link", cause: str) -> None:
        with self.lock:
            # where ids are contiguous the next trade tells just what is missing
            # and another connection may carry it only since a moment ago
            if self.contiguous:
                return
            if link in self.links:
                self._doubtful.add(link)
            if self._coverage.open:
                self._break(cause)
                self._live_at = time.monotonic()

    def take(self, link: "Link", trades: list[Trade]) -> None:
        """Trades of a connection, in any order, with repeats."""
        with self.lock:
            news = self._seen.news(trades)
            if not news:
                return
            newest, latest = max(map(_TIME, news)), (news[-1].received or 0) + link.ahead
            if newest > latest:
                news = self._refuse(link, news)
                if not news:
                    return
                newest = min(latest, max(map(_TIME, news)))
            self._coverage.see(newest)
            if link in self._doubtful:
                # what could not be read may be newer than what came with it
                self._doubtful.discard(link)
            elif not self._coverage.open:
                if link in self.links and not self._doubtful:
                    self._anchor(newest, news)
            elif self.contiguous:
                self._check_ids(news)
            self.written.store(news)
            last = news[-1]
            self.tally.count(len(news), last.time, last.received)

    def _refuse(self, link: "Link", news: list[Trade]) -> list[Trade]:
        """Leave out trades whose time no exchange can mean; REST may have them with theirs."""
        bad = {trade.trade_id for trade in news if link.absurd(trade.time, trade.received or 0)}
        if not bad:
            return news
        self._seen.forget(bad)
        self.complain(FUTURE)
        self.gap(link, FUTURE)
        return [trade for trade in news if trade.trade_id not in bad]

    def _anchor(self, moment: int, news: list[Trade]) -> None:
        """The stream runs again: from the newest of its first trades on it is whole.

        Among the first may be some from before the subscription, and not all of them.
        """
        self._last = _highest(news) if self.contiguous else None
        start, cause = self._resume or (min(moment, *map(_TIME, news)), None)
        self._resume = None
        if cause is None and self._joined(news):
            moment = start
        elif start < moment:
            last = max(news, key=_TIME).trade_id
            # both ends inside: more trades may share the time of the first that came
            moment += 1
            self._ask_heal(Hole(start, moment, cause or "the first trades", last))
        self._coverage.begin(moment)

    def _joined(self, news: list[Trade]) -> bool:
        """Whether no trade can be missing among the first, or nobody could tell."""
        if not self.contiguous:
            return not self.healable
        return int(_highest(news).trade_id) - int(_lowest(news).trade_id) == len(news) - 1

    def _check_ids(self, news: list[Trade]) -> None:
        """Look for ids that are missing between the last batch and this one, and inside it."""
        ids = list(map(int, map(_ID, news)))
        lowest, highest = min(ids), max(ids)
        last = self._last
        follows = last is not None and lowest == int(last.trade_id) + 1
        if follows and highest - lowest + 1 == len(news):
            self._last = news[ids.index(highest)]
            return
        for trade in sorted(news, key=lambda trade: int(trade.trade_id)):
            if last is not None and int(trade.trade_id) > int(last.trade_id) + 1:
                self._jump(last, trade)
            if last is None or int(trade.trade_id) > int(last.trade_id):
                last = trade
        self._last = last

    def _jump(self, before: Trade, after: Trade) -> None:
        missing = int(after.trade_id) - int(before.trade_id) - 1
        # no later than is believed of the exchange's times, which may step back between two ids
        newest = self._coverage.newest or after.time
        start, end = sorted((min(before.time, newest), min(after.time, newest)))
        whole = self._coverage.jump(start, end + 1)
        if whole:
            self.written.mark_streamed(whole)
        # both ends inside: what is missing may share their microsecond
        self._ask_heal(Hole(start, end + 1, f"{missing} trades were not sent", after.trade_id))

    def _break(self, cause: str) -> None:
        whole = self._coverage.end()
        if whole:
            self.written.mark_streamed(whole)
        if self._resume is None and self._coverage.until is not None:
            self._resume = (self._coverage.until, cause)

    def fill(self, hole: Hole) -> None:
        """Have a hole filled that somebody else has found."""
        with self.lock:
            self._ask_heal(hole)

    def _ask_heal(self, hole: Hole) -> None:
        """Have a hole filled. It counts as lost until it is: a crash does not forget it."""
        self.tally.gaps += 1
        series = tuple(self.series) if hole.series is None else hole.series
        hole = replace(hole, series=series, joins=self.written.joins)
        if hole.end is not None and self.healable:
            self.written.tell_lost(series, Loss(hole.start, hole.end, hole.cause))
        self._heal(self, hole)

    def tick(self, mark: bool) -> None:
        if not mark:
            return
        with self.lock:
            self._tell_whole()
            for series, window in self.written.spoilt():
                self._ask_heal(Hole(*window, "a trade came late", series=(series,)))
            quiet = self._live_at is not None and not self._coverage.open and self.live
            if quiet and self._resume and time.monotonic() - (self._live_at or 0) > self._settle:
                start, cause = self._resume
                self._live_at = None
                self._ask_heal(Hole(start, None, cause))

    def fetched(self, hole: Hole, trades: list[Trade]) -> None:
        """Trades that REST gave for a hole: for who lacks them, though others have seen them."""
        with self.lock:
            lacking = self.written.lacking(hole)
            # what only some have got is still news to the others, if the stream brings it late
            news = self._seen.news(trades) if len(lacking) == len(self.series) else trades
            self.written.store_for(lacking, news if hole.series is None else trades)
            if news:
                self.tally.healed += len(news)
                self.tally.count(len(news), news[-1].time, None)

    def was_quiet(self, until: int) -> None:
        """REST has no trade that the stream has not: nothing is missing up to its clock."""
        with self.lock:
            if self._coverage.open:
                self._coverage.see(until)
            elif self._resume is not None and (self.newest or until) <= self._resume[0] < until:
                # not what a series lacks from before the newest trade: nobody asked for that
                self.written.mark(self.series, Window(self._resume[0], until))
                self._resume = until, self._resume[1]

    def settled(self, hole: Hole, whole: Window) -> None:
        """REST gave all of a window that a hole begins with; of an open hole, up to its clock.

        That the stream carries on from there is not known before its first trade: it may be mute.
        """
        with self.lock:
            lacking = self.written.lacking(hole)
            self.written.mark(lacking, whole)
            # a series that joined meanwhile has got nothing of it
            if hole.end is None and len(lacking) == len(self.series):
                self._coverage.see(whole.end)
                if self._resume is not None and whole.start <= self._resume[0]:
                    self._resume = max(self._resume[0], whole.end), self._resume[1]

    def given_up(self, hole: Hole, window: Window, cause: str) -> None:
        """A window of a hole that nothing can fill any more."""
        with self.lock:
            self.tally.lost += 1
            loss = Loss(window.start, window.end, cause)
            self.written.give_up(self.written.lacking(hole), loss)

    def stop_writing(self, series: Series) -> None:
        with self.lock:
            self._tell_whole()
            self.written.remove(series)


def _lowest(trades: list[Trade]) -> Trade:
    return min(trades, key=lambda trade: int(trade.trade_id))


def _highest(trades: list[Trade]) -> Trade:
    return max(trades, key=lambda trade: int(trade.trade_id))
