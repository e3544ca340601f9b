"""A market's trades by time and by id, and how Binance would aggregate them."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dccd_sandbox.candles import Trades
from dccd_sandbox.spans import DAY_MS

Ids = NDArray[np.int64]
GROUP = 5
"""Trades number 5k+3 and 5k+4 are two fills of one order: same time, price and side."""
NO_IDS: Ids = np.zeros(1, dtype=np.int64)


def no_trades(_: int = 0) -> Trades:
    """What a market without trades has of every day."""
    nothing = np.empty(0, dtype=np.int64)
    return Trades(0, nothing, nothing, nothing, np.empty(0, dtype=np.bool_))


class Tape:
    """Trades in order of their ids, which have no holes and begin at 0.

    `ids[n]` is the id of the first trade of day `day0 + n` (days since 1970), the last one what
    would be next; `day` gives the trades of a day. The future is on the tape, too: pass the
    clock's time as `now` or as `stop`.
    """

    def __init__(self, day0: int, ids: Ids, day: Callable[[int], Trades]) -> None:
        self._day0 = day0
        self._ids = ids
        self._day = day

    def between(self, start: int, stop: int) -> Trades:
        """Trades of [start, stop), in milliseconds."""
        days = range(max(start // DAY_MS, self._day0), min((stop - 1) // DAY_MS, self._last) + 1)
        parts = [self._day(day) for day in days]
        found = _joined(parts)
        first, end = np.searchsorted(found.time, (start, max(start, stop)))
        return found.between(int(first), int(end))

    def from_id(self, first: int, limit: int, now: int) -> Trades:
        """At most `limit` trades from an id on, that have happened at `now`."""
        first = max(first, int(self._ids[0]))
        stop = min(first + limit, self.next_id(now))
        if stop <= first:
            return no_trades()
        low, high = np.searchsorted(self._ids, (first, stop - 1), side="right") - 1
        found = _joined([self._day(self._day0 + index) for index in range(low, high + 1)])
        return found.between(first - found.first_id, stop - found.first_id)

    def newest(self, limit: int, now: int) -> Trades:
        """The last `limit` trades that have happened at `now`, oldest first."""
        return self.from_id(self.next_id(now) - limit, limit, now)

    def next_id(self, now: int) -> int:
        """Id of the first trade after `now`: how many trades there have been."""
        day = now // DAY_MS
        if day < self._day0 or day > self._last:
            return int(self._ids[0 if day < self._day0 else -1])
        trades = self._day(day)
        # Not trades.first_id: a day without trades has none.
        return int(self._ids[day - self._day0] + np.searchsorted(trades.time, now, side="right"))

    def prices_at(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ticks of the last trade at each of these ascending times; 0 before the first one."""
        before = self.newest(1, int(times[0]))
        since = self.between(int(times[0]) + 1, int(times[-1]) + 1)
        ticks = np.concatenate((before.ticks if len(before) else [0], since.ticks))
        found: NDArray[np.int64] = ticks[np.searchsorted(since.time, times, side="right")]
        return found.astype(np.int64)

    def raised(self, ticks: int) -> "Tape":
        """The same trades at prices that are `ticks` higher."""

        @lru_cache(maxsize=1)  # streams look at one day many times a second
        def day(number: int) -> Trades:
            found = self._day(number)
            return replace(found, ticks=found.ticks + ticks)

        return Tape(self._day0, self._ids, day)

    def within(self, start: int, stop: int) -> "Tape":
        """The trades of [start, stop) ms as if there were no other. Their ids begin below GROUP, so
        that the fills of an order stay such."""
        first, last = self.next_id(start - 1), self.next_id(stop - 1)
        gone = first // GROUP * GROUP

        def day(number: int) -> Trades:
            found = self.between(max(number * DAY_MS, start), min((number + 1) * DAY_MS, stop))
            return replace(found, first_id=found.first_id - gone)

        return Tape(self._day0, np.clip(self._ids, first, last) - gone, day)

    @property
    def _last(self) -> int:
        return self._day0 + len(self._ids) - 2


NO_TAPE = Tape(0, NO_IDS, no_trades)


def aggregate_id(trade_id: int) -> int:
    """Id of the aggregate trade that a trade is part of; they have no holes either."""
    return trade_id // GROUP * (GROUP - 1) + min(trade_id % GROUP, GROUP - 2)


def first_trade_of(aggregate: int) -> int:
    """Id of the first trade in an aggregate trade."""
    return aggregate // (GROUP - 1) * GROUP + aggregate % (GROUP - 1)


def aggregated(trades: Trades) -> tuple[Trades, Ids]:
    """The same trading with the fills of an order as one, and the number of trades in each.

    The ids of the result are those of the aggregates.
    """
    if len(trades) == 0:
        return trades, NO_IDS[:0]
    ids = np.arange(trades.first_id, trades.first_id + len(trades))
    second = ids % GROUP == GROUP - 1
    second[0] = False
    firsts = np.flatnonzero(~second)
    lots = np.add.reduceat(trades.lots, firsts)
    counts = np.diff(np.append(firsts, len(trades)))
    columns = (trades.time[firsts], trades.ticks[firsts], lots, trades.buy[firsts])
    return Trades(aggregate_id(trades.first_id), *columns), counts


def _joined(parts: list[Trades]) -> Trades:
    parts = [part for part in parts if len(part)] or [no_trades()]
    if len(parts) == 1:
        return parts[0]
    columns = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("time", "ticks", "lots", "buy")
    )
    return Trades(parts[0].first_id, *columns)
