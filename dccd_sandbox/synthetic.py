"""Markets made of seeded random trades: any day at once, always the same, without jumps."""

import zlib
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from dccd_sandbox import spans
from dccd_sandbox.book import Look, OrderBook
from dccd_sandbox.cache import Cache
from dccd_sandbox.candles import Digits, Rows, Trades, filled, joined_traded, of_trades
from dccd_sandbox.market import Market
from dccd_sandbox.spans import DAY_MS, HOUR, MINUTE
from dccd_sandbox.tape import GROUP, Tape

_HORIZON_DAY = 47_847
"""2101-01-01 as days since 1970: the walk of day prices is drawn to here in one go."""
_BURST = 300
"""At most so many trades of a day share one chosen millisecond, to try page borders."""


@dataclass(frozen=True, slots=True)
class Nature:
    """How a synthetic market looks: mean price, size of a trade, digits, trades per minute."""

    price: float
    amount: float
    price_digits: int
    amount_digits: int
    rate: float = 5.0


class SyntheticMarket(Market):
    """One pair from its listing (ms) on. The trades are the truth; candles are made of them."""

    def __init__(self, pair: tuple[str, str, str], listing: int, nature: Nature, seed: int) -> None:
        places = nature.price_digits + nature.amount_digits
        super().__init__(*pair, Digits(nature.price_digits, nature.amount_digits, places))
        self._listing = spans.open_of(listing, MINUTE)
        self._day0 = self._listing // DAY_MS
        self._nature = nature
        self._entropy = (seed, zlib.crc32(self.symbol.encode()))
        self._trades: Cache[int, Trades] = Cache(1_000_000, len)
        self._rows: Cache[tuple[int, int], Rows] = Cache(64_000_000, lambda rows: rows.nbytes)
        self._ids, self._anchors = self._life()

    @cached_property
    def tape(self) -> Tape:
        """Its trades."""
        return Tape(self._day0, self._ids, self.trades)

    @cached_property
    def book(self) -> OrderBook:
        """Its order book."""
        nature = self._nature
        mean = nature.price * 10.0**nature.price_digits
        lots = nature.amount * 10.0**nature.amount_digits
        return OrderBook(self.tape, self._listing, Look(mean, lots, self._entropy))

    @property
    def first_ms(self) -> int:
        """The listing."""
        return self._listing

    @property
    def last_ms(self) -> None:
        """It goes on."""
        return None

    def source_span(self, span: int, shift_ms: int = 0) -> int | None:
        """1 s, 1 m and 1 h are stored; every whole number of seconds is built from them."""
        if span % HOUR == 0 and shift_ms % (HOUR * 1_000) == 0:
            return HOUR
        return MINUTE if span % MINUTE == 0 and shift_ms % (MINUTE * 1_000) == 0 else 1

    def join(self, rows: Rows, span: int, shift_ms: int) -> Rows:
        """As if made of the trades."""
        return joined_traded(rows, span, shift_ms)

    def source(self, span: int, start: int, stop: int, now: int) -> Rows:
        """Rows of 1 s, 1 m or 1 h that open in [start, stop); flat where nothing was traded."""
        first = max(start, spans.open_of(self._listing, span))
        last = min(stop - 1, now)
        days = range(first // DAY_MS, last // DAY_MS + 1)
        rows = np.concatenate([self._day_rows(day, span, now) for day in days])
        times = rows[:, 0]
        return rows[np.searchsorted(times, first) : np.searchsorted(times, stop)]

    def trades(self, day: int) -> Trades:
        """All trades of a UTC day (days since 1970)."""
        known = self._trades.get(day)
        return known if known is not None else self._trades.put(day, self._draw(day))

    def trades_before(self, day: int) -> int:
        """How many trades there were before a day: the id of its first trade."""
        return int(self._ids[day - self._day0])

    def _life(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """First id and log price of each day: both known without drawing a trade."""
        rng = np.random.default_rng([*self._entropy])
        days = _HORIZON_DAY - self._day0
        wobble = rng.standard_normal((days, 2))
        counts = self._nature.rate * 1_440 * np.exp(0.2 * wobble[:, 0])
        counts[0] *= 1 - self._listing % DAY_MS / DAY_MS
        # Whole groups, so that no order is filled in two days.
        whole = np.maximum(counts.astype(np.int64) // GROUP, 1) * GROUP
        ids = np.concatenate(([0], np.cumsum(whole)))
        # It is pulled back to its mean, so that decades stay within a plausible price.
        walk = accumulate(
            (0.03 * wobble[:, 1]).tolist(), lambda x, step: 0.999 * x + step, initial=0.0
        )
        return ids, np.log(self._nature.price * 10**self._nature.price_digits) + np.array(
            list(walk)
        )

    def _draw(self, day: int) -> Trades:
        index = day - self._day0
        count = int(self._ids[index + 1] - self._ids[index])
        rng = np.random.default_rng([*self._entropy, day])
        start = max(day * DAY_MS, self._listing)
        time = self._times(rng, count, start, (day + 1) * DAY_MS)
        if index == 0:
            time[0] = start  # so that every flat candle has a close before it
        buy = rng.random(count) < 0.5
        ticks = np.maximum(np.floor(self._path(rng, index, count)).astype(np.int64) + buy, 1)
        for column in (time, buy, ticks):
            column[GROUP - 1 :: GROUP] = column[GROUP - 2 :: GROUP]
        ticks[-2:] = self._close(day)
        mean = np.log(self._nature.amount * 10**self._nature.amount_digits)
        lots = np.maximum(np.exp(mean + 1.2 * rng.standard_normal(count)).astype(np.int64), 1)
        return Trades(int(self._ids[index]), time, ticks, lots, buy)

    @staticmethod
    def _times(rng: np.random.Generator, count: int, start: int, stop: int) -> NDArray[np.int64]:
        """Sorted times; one in seven is that of the trade before it, one burst shares one."""
        time = rng.integers(start, stop, count)
        time[: min(count // 24, _BURST)] = time[0]
        time.sort()
        shares = rng.random(count) < 1 / 7
        shares[0] = False
        return np.maximum.accumulate(np.where(shares, 0, time))

    def _path(self, rng: np.random.Generator, index: int, count: int) -> NDArray[np.float64]:
        """Prices in ticks: a random bridge from the price at midnight to the next midnight's."""
        here, there = self._anchors[index], self._anchors[index + 1]
        noise = np.cumsum(rng.standard_normal(count)) * (0.025 / np.sqrt(count))
        along = np.arange(1, count + 1) / count
        path: NDArray[np.float64] = np.exp(here + (there - here - noise[-1]) * along + noise)
        return path

    def _close(self, day: int) -> int:
        """Price in ticks of a day's last trade."""
        return max(round(float(np.exp(self._anchors[day - self._day0 + 1]))), 1)

    def _day_rows(self, day: int, span: int, now: int) -> Rows:
        if now >= (day + 1) * DAY_MS:
            key = (day, span)
            known = self._rows.get(key)
            return known if known is not None else self._rows.put(key, self._build(day, span, now))
        return self._build(day, span, now)

    def _build(self, day: int, span: int, now: int) -> Rows:
        if span == HOUR:
            return joined_traded(self._day_rows(day, MINUTE, now), HOUR)
        first = max(day * DAY_MS, spans.open_of(self._listing, span))
        stop = min((day + 1) * DAY_MS, spans.open_of(now, span) + span * 1_000)
        rows = of_trades(self.trades(day).until(now), span)
        return filled(rows, first, stop, span, self._close(day - 1) if day > self._day0 else 0)
