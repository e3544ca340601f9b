"""The order book of one market on one connection, kept by the exchange's own rules."""

from collections.abc import Callable, Iterable, MutableMapping
from heapq import nsmallest
from itertools import islice
from math import inf
from operator import eq

from sortedcontainers import SortedDict

from dccd_core.exchanges.live import BookChange
from dccd_core.exchanges.trades import Book, Levels

MOST_WAITING = 20_000
"""Changes that may wait for a first book; at ten a second they are half an hour's."""
FETCHED = 1_000
"""How many levels a side of a book are fetched at least. What is behind the last of them is known
only where it has changed since: a book that has fewer is whole."""
KNOWN = 100
"""Levels a side that are sure in a book whose changes are stored: who rebuilds it may want them."""

Checksum = Callable[[Levels, Levels], int]
_Side = MutableMapping[float, float]


class Broken(Exception):
    """The book is not what the exchange has any more; the message says why."""


class OrderBook:
    """Applies changes in order. `valid` is whether it is known to be the exchange's book.

    `from_rest`: changes come without a first book, and wait until `start` brings it. `checksum`
    gives the exchange's checksum of the best `checksum_depth` levels a side. Both sides are kept by
    price, bids by minus the price so that the best is the smallest key. They are kept sorted only
    where each change asks for the best levels; else they are sorted when a row is written.
    """

    def __init__(
        self, *, from_rest: bool, checksum: Checksum | None = None, checksum_depth: int = 0
    ) -> None:
        self.valid = False
        self.number: int | None = None
        self._from_rest = from_rest
        self._fresh = False  # as it came from REST: a change may begin before its number
        self._checksum, self._depth = checksum, checksum_depth
        self._edges = (-inf, inf)  # the prices up to which the book is known
        self._bids: _Side = SortedDict() if checksum else {}
        self._asks: _Side = SortedDict() if checksum else {}
        self._waiting: list[BookChange] = []

    def apply(self, change: BookChange) -> list[BookChange]:
        """Apply a change; what was really applied, empty if it waits or was known already.

        Raises Broken, and is invalid then, where it does not follow what is there.
        """
        if change.snapshot:
            self._replace(change.bids, change.asks, change.last)
        elif not self.valid:
            if self._from_rest:
                self._wait(change)
            return []
        elif not self._follows(change):
            return []
        else:
            self._set(change)
        self._check(change)
        return [change]

    def start(self, book: Book, received: int) -> list[BookChange] | None:
        """Begin with a book fetched by REST and the changes that waited; all of it as changes.

        `received` is when the book came. None if the book is older than the changes: fetch another.
        Raises Broken where the changes themselves have a gap.
        """
        later = [c for c in self._waiting if _is_later(c, book.sequence)]
        if later and not _joins(later[0], book.sequence):
            return None
        self._waiting = []
        self._replace(book.bids, book.asks, book.sequence)
        self._edges = (_edge(book.bids, -inf), _edge(book.asks, inf))
        self._fresh = True
        time = book.time or (later[0].time if later else None)
        whole = BookChange(True, book.bids, book.asks, received, time=time, last=book.sequence)
        return [whole, *(done for change in later for done in self.apply(change))]

    def invalidate(self) -> None:
        """Forget everything: the next book must be a new one."""
        self.valid, self.number = False, None
        self._bids.clear()
        self._asks.clear()
        self._waiting = []

    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask."""
        if not self._bids or not self._asks:
            return False
        if isinstance(self._bids, SortedDict) and isinstance(self._asks, SortedDict):
            return bool(-self._bids.peekitem(0)[0] >= self._asks.peekitem(0)[0])
        return -min(self._bids) >= min(self._asks)

    def levels(self, depth: int = 0) -> tuple[Levels, Levels]:
        """Bids and asks, best first; `depth` of them a side, 0 for all."""
        bids, asks = _best(self._bids, depth), _best(self._asks, depth)
        return [(-price, amount) for price, amount in bids], asks

    def best(self, depth: int, known: int = 0) -> tuple[Levels, Levels]:
        """The best levels of each side, none of which may lack one before it. Broken where the
        market has left what was fetched: fewer than `depth`, and than half of FETCHED, or than
        `known` are sure."""
        bids, asks = self.levels(max(depth, known, 1))
        low, high = self._edges
        bids = [level for level in bids if level[0] >= low]
        asks = [level for level in asks if level[0] <= high]
        least = max(min(depth, FETCHED // 2), known)
        if (len(bids) < least and low > -inf) or (len(asks) < least and high < inf):
            raise self._break("the market has left the levels that were fetched")
        return bids[:depth], asks[:depth]

    def agrees(self, other: Book) -> bool:
        """Whether the best levels of another book are those of this one, as many as both have."""
        sides = zip(self.levels(), (other.bids, other.asks), strict=True)
        return self.valid and all(
            bool(mine) == bool(others) and all(map(eq, mine, others)) for mine, others in sides
        )

    def _wait(self, change: BookChange) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise self._break(f"{MOST_WAITING} changes came and no first book")
        self._waiting.append(change)

    def _follows(self, change: BookChange) -> bool:
        """Whether a change continues the book; False if it is in it already; Broken if neither."""
        number, last = self.number, change.last
        if last is None or number is None or change.previous == number:
            return True
        if (change.previous is None or self._fresh) and _holds_next(change, number):
            return True
        if last <= number:
            return False
        came = change.previous if change.previous is not None else change.first
        raise self._break(f"changes are missing: after number {number} came one from {came}")

    def _set(self, change: BookChange) -> None:
        bids, asks = self._bids, self._asks
        for price, amount in change.bids:
            if amount:
                bids[-price] = amount
            else:
                bids.pop(-price, None)
        for price, amount in change.asks:
            if amount:
                asks[price] = amount
            else:
                asks.pop(price, None)
        if change.last is not None:
            self.number = change.last
        self._fresh = False

    def _replace(self, bids: Levels, asks: Levels, number: int | None) -> None:
        self._bids.clear()
        self._asks.clear()
        self._bids.update((-price, amount) for price, amount in bids if amount)
        self._asks.update((price, amount) for price, amount in asks if amount)
        self.number, self.valid, self._fresh = number, True, False
        self._edges = (-inf, inf)

    def _check(self, change: BookChange) -> None:
        if change.keep is not None:
            _cut(self._bids, change.keep)
            _cut(self._asks, change.keep)
        if change.checksum is not None and self._checksum is not None:
            bids, asks = self.levels(self._depth)
            found = self._checksum(bids, asks)
            if found != change.checksum:
                raise self._break(f"checksum {found}, the exchange says {change.checksum}")

    def _break(self, why: str) -> Broken:
        self.invalidate()
        return Broken(why)


def _edge(side: Levels, end: float) -> float:
    """Up to which price a side is known that was fetched; `end` if that is all of it."""
    return side[-1][0] if len(side) >= FETCHED else end


def _is_later(change: BookChange, number: int | None) -> bool:
    return number is None or change.last is None or change.last > number


def _joins(change: BookChange, number: int | None) -> bool:
    """Whether a change may be the first on a book of this number."""
    if number is None or change.last is None:
        return True
    return change.previous == number or _holds_next(change, number)


def _holds_next(change: BookChange, number: int) -> bool:
    """Whether what follows a number is inside a change."""
    if change.first is None or change.last is None:
        return True
    return change.first <= number + 1 <= change.last


def _best(side: _Side, depth: int) -> Levels:
    if isinstance(side, SortedDict):
        found: Iterable[tuple[float, float]] = side.items()
        return list(islice(found, depth)) if depth else list(found)
    if depth and depth * 8 < len(side):
        return [(price, side[price]) for price in nsmallest(depth, side)]
    return [(price, side[price]) for price in sorted(side)[: depth or None]]


def _cut(side: _Side, depth: int) -> None:
    if len(side) > depth:
        for price, _ in _best(side, 0)[depth:]:
            del side[price]
