"""Candles as rows of integers: made from trades, joined to longer spans, printed as decimals.

A `Rows` table has one candle a line, columns TIME … TAKER_QUOTE. Prices count ticks, amounts count
lots and quote amounts count tick·lots, so that every sum is exact. The integers are int64, or
Python's own where a file has more digits than int64 holds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dccd_sandbox import spans

Rows = NDArray[Any]
"""Shape (n, 10), columns as the constants below; TIME is the open time in milliseconds."""
TIME, OPEN, HIGH, LOW, CLOSE, VOLUME, QUOTE, COUNT, TAKER, TAKER_QUOTE = range(10)
WIDTH = 10
NAMES = (
    "time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)


@dataclass(frozen=True, slots=True)
class Digits:
    """Decimal places that the integers of a market stand for."""

    price: int
    amount: int
    quote: int


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades in order; ids run on from first_id. Times in ms, `buy` where the taker bought."""

    first_id: int
    time: NDArray[np.int64]
    ticks: NDArray[np.int64]
    lots: NDArray[np.int64]
    buy: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time)

    def between(self, start: int, stop: int) -> "Trades":
        """Trades number start..stop-1 of these."""
        part = slice(start, stop)
        return Trades(
            self.first_id + start,
            self.time[part],
            self.ticks[part],
            self.lots[part],
            self.buy[part],
        )

    def until(self, now: int) -> "Trades":
        """Trades that have happened at `now` (ms, inclusive)."""
        return self.between(0, int(np.searchsorted(self.time, now, side="right")))


def empty() -> Rows:
    """No candles."""
    return np.empty((0, WIDTH), dtype=np.int64)


def times(rows: Rows) -> NDArray[np.int64]:
    """Open times in milliseconds."""
    return rows[:, TIME].astype(np.int64, copy=False)


def of_trades(trades: Trades, span: int) -> Rows:
    """Candles of the buckets that have trades."""
    if len(trades) == 0:
        return empty()
    bucket = spans.opens(trades.time, span)
    first = _starts(bucket)
    last = np.append(first[1:], len(trades)) - 1
    rows = np.empty((len(first), WIDTH), dtype=np.int64)
    rows[:, TIME] = bucket[first]
    rows[:, OPEN] = trades.ticks[first]
    rows[:, HIGH] = np.maximum.reduceat(trades.ticks, first)
    rows[:, LOW] = np.minimum.reduceat(trades.ticks, first)
    rows[:, CLOSE] = trades.ticks[last]
    quote = trades.ticks * trades.lots
    rows[:, VOLUME] = np.add.reduceat(trades.lots, first)
    rows[:, QUOTE] = np.add.reduceat(quote, first)
    rows[:, COUNT] = last - first + 1
    rows[:, TAKER] = np.add.reduceat(np.where(trades.buy, trades.lots, 0), first)
    rows[:, TAKER_QUOTE] = np.add.reduceat(np.where(trades.buy, quote, 0), first)
    return rows


def filled(rows: Rows, first: int, stop: int, span: int, close_before: int) -> Rows:
    """Every bucket from `first` to before `stop`; without a trade it is flat at the last close."""
    step = span * 1_000
    grid = np.arange(first, stop, step, dtype=np.int64)
    full = np.zeros((len(grid), WIDTH), dtype=np.int64)
    place = (rows[:, TIME] - first) // step
    origin = np.zeros(len(grid), dtype=np.int64)
    origin[place] = np.arange(1, len(rows) + 1)
    closes = np.append(close_before, rows[:, CLOSE])[np.maximum.accumulate(origin)]
    full[:, OPEN : CLOSE + 1] = closes[:, None]
    full[place] = rows
    full[:, TIME] = grid
    return full


def joined(rows: Rows, span: int, shift_ms: int = 0) -> Rows:
    """Candles of a longer span; buckets without any row stay absent."""
    if len(rows) == 0:
        return rows
    bucket = spans.opens(times(rows), span, shift_ms)
    first = _starts(bucket)
    last = np.append(first[1:], len(rows)) - 1
    longer = np.empty((len(first), WIDTH), dtype=rows.dtype)
    longer[:, TIME] = bucket[first]
    longer[:, OPEN] = rows[first, OPEN]
    longer[:, HIGH] = np.maximum.reduceat(rows[:, HIGH], first)
    longer[:, LOW] = np.minimum.reduceat(rows[:, LOW], first)
    longer[:, CLOSE] = rows[last, CLOSE]
    longer[:, VOLUME:] = np.add.reduceat(rows[:, VOLUME:], first, axis=0)
    return longer


def joined_traded(rows: Rows, span: int, shift_ms: int = 0) -> Rows:
    """As joined(), of rows where COUNT is known: as if made of the trades themselves.

    A flat row has the price of an earlier trade, which is not of this bucket; only a bucket without
    any trade is flat itself.
    """
    traded = rows[:, COUNT] > 0
    longer = joined(rows, span, shift_ms)
    exact = joined(rows[traded], span, shift_ms)
    longer[np.searchsorted(times(longer), times(exact))] = exact
    return longer


def raised(rows: Rows, ticks: int) -> Rows:
    """The same trading at prices that are `ticks` higher."""
    higher = rows.copy()
    higher[:, OPEN : CLOSE + 1] += ticks
    higher[:, QUOTE] += ticks * rows[:, VOLUME]
    higher[:, TAKER_QUOTE] += ticks * rows[:, TAKER]
    return higher


def texts(rows: Rows, digits: Digits, places: int | None = None) -> list[list[Any]]:
    """Columns in the order of NAMES: times and counts as int, decimals as text. `places` pads these
    with zeros where it is given."""
    return [
        values.tolist() if scale is None else _texts(values.tolist(), scale, places)
        for values, scale in zip(rows.T, _scales(digits), strict=True)
    ]


def numbers(rows: Rows, digits: Digits) -> list[list[Any]]:
    """Columns in the order of NAMES: times and counts as int, decimals as the nearest float."""
    # Python divides integers of any size with one correct rounding.
    return [
        values.tolist() if scale is None else [value / 10**scale for value in values.tolist()]
        for values, scale in zip(rows.T, _scales(digits), strict=True)
    ]


def decimal(value: int, scale: int, places: int | None = None) -> str:
    """value / 10**scale as text, padded with zeros to `places` where they are given."""
    pad = "0" * ((scale if places is None else places) - scale)
    if scale == 0:
        return f"{value}.{pad}" if pad else str(value)
    text = str(value).zfill(scale + 1)
    return f"{text[:-scale]}.{text[-scale:]}{pad}"


def _scales(digits: Digits) -> tuple[int | None, ...]:
    amount, quote = digits.amount, digits.quote
    return (None, *[digits.price] * 4, amount, quote, None, amount, quote)


def _texts(values: list[int], scale: int, places: int | None) -> list[str]:
    pad = "0" * ((scale if places is None else places) - scale)
    if scale == 0:
        pad = f".{pad}" if pad else ""
        return [f"{value}{pad}" for value in values]
    whole = (str(value).zfill(scale + 1) for value in values)
    return [f"{text[:-scale]}.{text[-scale:]}{pad}" for text in whole]


def _starts(bucket: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
