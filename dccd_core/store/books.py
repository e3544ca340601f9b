"""Order books out of their stored changes: as they were at a moment, or one after the other."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import polars as pl

from dccd_core.exchanges.trades import Book, Levels
from dccd_core.models import DAY, SECOND, Series, Window, iso
from dccd_core.store.datastore import DataStore, Time, as_series, as_time
from dccd_core.store.gaps import GapKind

# how far the exchange's clock, which says in what file a change is, may be from ours
_SKEW = 60 * SECOND
# the ledger is written once in a while: what is so short is no hole
_SLACK = 5 * SECOND
_FUTURE = 2**61


class Ladder:
    """A book that changes are applied to; all of the newest change's numbers are kept."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.sequence: int | None = None
        self.time: int | None = None

    def apply(self, row: dict[str, Any]) -> None:
        """Apply one row of book_deltas, its times as integers."""
        if row["snapshot"]:
            self.bids, self.asks = {}, {}
        for side, name in ((self.bids, "bid"), (self.asks, "ask")):
            for price, amount in zip(row[f"{name}_price"], row[f"{name}_amount"], strict=True):
                if amount:
                    side[price] = amount
                else:
                    side.pop(price, None)
        if row["depth"] is not None:
            self.bids = dict(_best(self.bids, row["depth"], reverse=True))
            self.asks = dict(_best(self.asks, row["depth"], reverse=False))
        if row["sequence"] is not None:
            self.sequence = row["sequence"]
        self.time = row["time"]

    def book(self, depth: int | None = None) -> Book:
        """The best levels, of each side as many as asked for."""
        return Book(
            bids=_best(self.bids, depth, reverse=True),
            asks=_best(self.asks, depth, reverse=False),
            sequence=self.sequence,
            time=self.time,
        )


def _best(side: dict[float, float], depth: int | None, *, reverse: bool) -> Levels:
    return list(islice(sorted(side.items(), reverse=reverse), depth))


def rebuild(store: DataStore, series: Series | str, moment: Time) -> Book:
    """The whole book as it was known here at a moment; its `time` is that of the newest change.

    LookupError if it was not known then: no book before it, or changes were missed since.
    """
    series, at = as_series(series), as_time(moment, 0)
    start = _snapshot(store, series, at)
    if start is None:
        raise LookupError(f"{series}: no whole book is stored before {iso(at)}")
    for gap in store.gaps(series, start, at):
        # the end of a loss before the book may seem to be after it, as the clocks are not one
        lost = gap.kind is GapKind.LOST and gap.window.start > start
        if lost or gap.window.end - gap.window.start > _SLACK:
            raise LookupError(f"{series}: the book of {iso(at)} is not known: {gap}")
    ladder = Ladder()
    for row in _changes(store, series, Window(start, at + 1)):
        ladder.apply(row)
    return ladder.book()


def replay(
    store: DataStore, series: Series | str, start: Time = None, end: Time = None
) -> Iterator[tuple[int, Ladder]]:
    """The book after each change that was received in a window, and when that was.

    It is one and the same ladder, which goes on changing. What precedes the first whole book of
    the window is left out if there is none before it; the ledger says where changes are missing.
    """
    series = as_series(series)
    window = Window(as_time(start, 0), as_time(end, _FUTURE))
    first = _snapshot(store, series, window.start)
    ladder: Ladder | None = None
    for row in _changes(
        store, series, Window(window.start if first is None else first, window.end)
    ):
        if row["snapshot"] and ladder is None:
            ladder = Ladder()
        if ladder is not None:
            ladder.apply(row)
            if row["received"] >= window.start:
                yield row["received"], ladder


def _snapshot(store: DataStore, series: Series, at: int) -> int | None:
    """When the newest whole book was received, at a moment or before it."""
    for day in reversed(_days(store, series, Window(0, at + 1))):
        rows = store.scan(series, *day).select(_ticks("received"), "snapshot")
        found = rows.filter(pl.col("snapshot") & (pl.col("received") <= at)).collect()
        if found.height:
            return int(found["received"].to_numpy().max())
    return None


def _changes(store: DataStore, series: Series, window: Window) -> Iterator[dict[str, Any]]:
    """The changes received in a window, in the order of their application."""
    carried: list[pl.DataFrame] = []
    for day in _days(store, series, window):
        rows = store.load(series, *day).with_columns(_ticks("time", "received"))
        found = pl.concat([*carried, rows]).filter(pl.col("received").is_between(*window, "left"))
        settled = pl.col("received") < day.end - _SKEW
        yield from _applied(found.filter(settled))
        carried = [found.filter(~settled)]
    for rows in carried:
        yield from _applied(rows)


def _applied(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    return rows.sort("received", maintain_order=True).iter_rows(named=True)


def _days(store: DataStore, series: Series, window: Window) -> list[Window]:
    """The days that may hold changes received in a window, oldest first."""
    first, last = store.first_timestamp(series), store.last_timestamp(series)
    if first is None or last is None:
        return []
    ends = as_time(first, 0), as_time(last, 0) + 1
    start = max(window.start - _SKEW, ends[0]) // (DAY * SECOND) * DAY * SECOND
    end = min(window.end + _SKEW, ends[1])
    wanted = Window(start, end)
    return [series.period_window(period) for period, _ in series.periods(wanted)]


def _ticks(*names: str) -> pl.Expr:
    return pl.col(*names).to_physical()
