"""The order book of a market: any moment and every change of it, computed and not remembered.

Prices lie on a grid of cells, one level in each, at a place of its own. What a level holds is a
hash of its cell and of a version that moves on now and then, quickly near the last trade; below
the last trade's price levels are bids, from it on asks. So every state follows from its number
alone, and a change is the difference between two of them.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dccd_sandbox.cache import Cache
from dccd_sandbox.tape import Tape

Level = tuple[int, int]
"""Price in ticks, amount in lots; in a change 0 lots remove the level."""
_STEP = 125
"""A change every so many milliseconds in the mean, never two in one millisecond."""
_JITTER = 100
_SIDE = 300
"""Cells a side; one in eight is empty."""
_LIVELY = 10
"""Cells around the last trade that change once in four steps, the others once in 256."""
_CELLS = 20_000
"""Cells between price 0 and the market's mean price."""
_CHUNK = 64
_AMOUNTS = 4_096
_ALL = 2**64 - 1
_Hashes = NDArray[np.uint64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Book:
    """The whole book, best levels first, after change number `sequence` at `time` (ms)."""

    sequence: int
    time: int
    bids: list[Level]
    asks: list[Level]

    def top(self, depth: int) -> "Book":
        """The best levels of each side."""
        return Book(self.sequence, self.time, self.bids[:depth], self.asks[:depth])


@dataclass(frozen=True, slots=True)
class Change:
    """What change number `sequence` at `time` (ms) sets, best first; several ones when merged:
    those from `first` to `sequence`."""

    first: int
    sequence: int
    time: int
    bids: list[Level]
    asks: list[Level]


def merged(changes: Sequence[Change]) -> Change:
    """Several changes as one: the last amount of each price."""
    bids = {price: lots for change in changes for price, lots in change.bids}
    asks = {price: lots for change in changes for price, lots in change.asks}
    last = changes[-1]
    return Change(
        changes[0].first,
        last.sequence,
        last.time,
        sorted(bids.items(), reverse=True),
        sorted(asks.items()),
    )


@dataclass(frozen=True, slots=True)
class Look:
    """How a book looks: the market's mean price in ticks, a usual amount in lots, and what makes it
    this market's own."""

    mean: float
    lots: float
    entropy: tuple[int, ...]


class OrderBook:
    """Book of one market. Changes are numbered from 1 without holes; each sets a level at least.

    `tape` leads the prices, `first_ms` is when the book opens.
    """

    def __init__(self, tape: Tape, first_ms: int, look: Look) -> None:
        self._tape = tape
        self._first = first_ms
        self._look = look
        self._grid = max(int(look.mean) // _CELLS, 1)
        rng = np.random.default_rng([*look.entropy, 77])
        spread = np.exp(np.log(look.lots) + rng.standard_normal(_AMOUNTS))
        self._amounts = np.clip(spread, 1, 2**29).astype(np.int64)
        self._salt = np.uint64(rng.integers(2**63))
        self._states: Cache[int, _States] = Cache(64_000_000, lambda one: one.lots.nbytes)
        self._changes: Cache[tuple[int, int, bool], list[Change]] = Cache(1_000, lambda _: 1)

    def beside(self, tape: Tape, symbol: str) -> "OrderBook":
        """Another book that looks like this one, around other trades."""
        entropy = (*self._look.entropy, zlib.crc32(symbol.encode()))
        return OrderBook(tape, self._first, replace(self._look, entropy=entropy))

    def sequence_at(self, moment: int) -> int:
        """Number of the last change at a moment (ms, inclusive); 0 before the first."""
        guess = (moment - self._first) // _STEP
        if guess <= 0:
            return 0
        jitter = _mixed(guess ^ int(self._salt)) % _JITTER
        return guess if self._first + guess * _STEP + jitter <= moment else guess - 1

    def at(self, moment: int) -> Book:
        """The book as it is at a moment (ms), after the changes of that millisecond."""
        return self.after(self.sequence_at(moment))

    def after(self, sequence: int) -> Book:
        """The book after a change."""
        if sequence < 1:
            return Book(0, self._first, [], [])
        states = self._chunk(sequence // _CHUNK)
        row = sequence % _CHUNK + 1
        bids, asks = states.levels(states.lots[row])
        return Book(sequence, int(states.times[row]), bids[::-1], asks)

    def changes(self, after: int, until: int, depth: int = 0, dropped: bool = True) -> list[Change]:
        """All changes with a number above `after` that have happened at `until` (ms).

        With a `depth`, of the best levels only: a level that comes among them is set, one that
        goes is removed, and changes may be empty. Without `dropped` those are not removed that
        are still in the book, only too deep: a client cuts its copy at the depth.
        """
        last = self.sequence_at(until)
        found: list[Change] = []
        for number in range((after + 1) // _CHUNK, last // _CHUNK + 1):
            found += self._chunk_changes(number, depth, dropped)
        return [one for one in found if after < one.sequence <= last]

    def _times(self, start: int, stop: int) -> _Ints:
        steps = np.arange(start, stop, dtype=np.int64)
        jitter = (_hashed(steps.astype(np.uint64) ^ self._salt) % np.uint64(_JITTER)).astype(
            np.int64
        )
        return self._first + steps * _STEP + jitter

    def _chunk_changes(self, number: int, depth: int, dropped: bool) -> list[Change]:
        key = (number, depth, dropped)
        known = self._changes.get(key)
        if known is None:
            known = self._changes.put(key, self._chunk(number).changes(depth, dropped))
        return known

    def _chunk(self, number: int) -> "_States":
        known = self._states.get(number)
        return known if known is not None else self._states.put(number, self._computed(number))

    def _computed(self, number: int) -> "_States":
        """States before the chunk's first change and after each one of it."""
        first = number * _CHUNK - 1
        steps = np.arange(first, first + _CHUNK + 1)
        times = self._times(first, first + _CHUNK + 1)
        last = self._tape.prices_at(times)
        middle = last // self._grid
        cells = np.arange(max(int(middle.min()) - _SIDE, 0), int(middle.max()) + _SIDE + 1)
        place = _hashed(cells.astype(np.uint64) ^ self._salt)
        prices = cells * self._grid + (place % np.uint64(self._grid)).astype(np.int64)
        lots = self._lots(steps[:, None], cells[None, :], middle[:, None], place[None, :])
        there = (prices > 0) & (np.abs(cells[None, :] - middle[:, None]) <= _SIDE)
        there &= (last > 0)[:, None] & (steps > 0)[:, None]
        signed = np.where(prices[None, :] < last[:, None], lots, -lots)
        return _States(first, times, prices, np.where(there, signed, 0).astype(np.int32))

    def _lots(self, steps: _Ints, cells: _Ints, middle: _Ints, place: _Hashes) -> _Ints:
        age = steps + (place >> np.uint64(32) & np.uint64(255)).astype(np.int64)
        near = np.abs(cells - middle) <= _LIVELY
        version = np.where(near, age >> 2, age >> 8).astype(np.uint64)
        drawn = _hashed(place ^ _hashed(version + self._salt + near.astype(np.uint64)))
        lots = self._amounts[(drawn >> np.uint64(8)).astype(np.int64) & (_AMOUNTS - 1)]
        some = np.where((drawn & np.uint64(7)) == 0, 0, lots)
        # The cell of the last trade is never empty and odd at every other step: so each step is
        # a change, and the best prices are close to the last trade.
        return np.where(cells == middle, 2 * lots + steps % 2, some)


@dataclass(frozen=True, slots=True)
class _States:
    """Amounts of each level (bids above 0, asks below) after changes `first`, `first` + 1, …

    Shape of `lots`: (changes, prices); prices ascend.
    """

    first: int
    times: _Ints
    prices: _Ints
    lots: NDArray[np.int32]

    def levels(self, row: NDArray[np.int32]) -> tuple[list[Level], list[Level]]:
        """Both sides of a state, in order of price."""
        sides = []
        for sign in (1, -1):
            places = np.flatnonzero(row * sign > 0)
            sides.append(
                list(zip(self.prices[places].tolist(), (row[places] * sign).tolist(), strict=True))
            )
        return sides[0], sides[1]

    def changes(self, depth: int, dropped: bool) -> list[Change]:
        """What each change sets; of the best `depth` levels only, if it is not 0."""
        lots = self._top(depth) if depth else self.lots
        columns = []
        for sign in (1, -1):
            side = np.maximum(lots * sign, 0)
            differs = side[1:] != side[:-1]
            if not dropped:
                differs &= (side[1:] > 0) | (self.lots[1:] * sign <= 0)
            columns.append(self._by_row(side[1:], differs))
        numbers = range(self.first + 1, self.first + len(self.times))
        times = self.times[1:].tolist()
        return [
            Change(number, number, time, bids[::-1], asks)
            for number, time, bids, asks in zip(numbers, times, *columns, strict=True)
            if number > 0
        ]

    def _by_row(self, side: NDArray[np.int32], differs: NDArray[np.bool_]) -> list[list[Level]]:
        rows, places = np.nonzero(differs)
        prices, lots = self.prices[places].tolist(), side[rows, places].tolist()
        levels = list(zip(prices, lots, strict=True))
        ends = np.searchsorted(rows, np.arange(len(side) + 1)).tolist()
        return [levels[start:end] for start, end in pairwise(ends)]

    def _top(self, depth: int) -> NDArray[np.int32]:
        bids, asks = self.lots > 0, self.lots < 0
        bid_rank = np.cumsum(bids[:, ::-1], axis=1)[:, ::-1]
        ask_rank = np.cumsum(asks, axis=1)
        kept = (bids & (bid_rank <= depth)) | (asks & (ask_rank <= depth))
        return np.where(kept, self.lots, 0).astype(np.int32)


def _mixed(value: int) -> int:
    """As _hashed, of one number: asked for all the time."""
    mixed = (value + 0x9E3779B97F4A7C15) & _ALL
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _ALL
    return mixed ^ (mixed >> 31)


def _hashed(values: _Hashes) -> _Hashes:
    """Each number well mixed (the finalizer of SplitMix64)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
