"""Candles from trades, and longer candles from shorter ones.

Sums are those of the decimal numbers that the exchange wrote, so that they are the exchange's own
to the last digit: floats are added as whole numbers of their last place where that is exact.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dccd_core.exchanges.base import Candles
from dccd_core.models import DAY, SECOND, WEEK, Window

# More decimal places than exchanges write; and sums beyond it would not fit 64 bits.
PLACES = 12
LARGEST = 2.0**62

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


def open_times(times: Times, span: int) -> Times:
    """The open time of the candle that holds each time, all in microseconds; weeks on Monday."""
    size = span * SECOND
    anchor = 4 * DAY * SECOND if span % WEEK == 0 else 0
    return (times - anchor) // size * size + anchor


def build_candles(  # noqa: PLR0913 - four columns of trades and how they become candles
    times: Times,
    prices: Floats,
    amounts: Floats,
    buys: NDArray[np.bool_],
    span: int,
    window: Window,
    previous_close: float | None,
    fill_empty: bool,
) -> Candles:
    """The candles that open in a window, from its trades in order of time.

    `span` is in seconds, times are microseconds, amounts base units; the window begins and ends on
    the span's grid. With `fill_empty` an interval without trades is a flat candle at the last
    close, from `previous_close` (None: from the first trade) on; otherwise it has none. ValueError
    if the trades are not in order.
    """
    if (np.diff(times) < 0).any():
        raise ValueError("trades are not in order of time")
    inside = slice(*np.searchsorted(times, window))
    times, prices, amounts, buys = times[inside], prices[inside], amounts[inside], buys[inside]
    opens, first, counts = np.unique(open_times(times, span), return_index=True, return_counts=True)
    bought = np.where(buys, amounts, 0.0)
    built = Candles(
        time=opens,
        open=prices[first],
        high=_reduce(np.maximum, prices, first),
        low=_reduce(np.minimum, prices, first),
        close=prices[first + counts - 1],
        volume=exact_sums(amounts, first),
        quote_volume=exact_sums(prices, first, amounts),
        trades=counts.astype(np.int64),
        taker_buy_volume=exact_sums(bought, first),
        taker_buy_quote_volume=exact_sums(prices, first, bought),
    )
    return fill(built, span, window, previous_close) if fill_empty else built


def fill(candles: Candles, span: int, window: Window, previous_close: float | None) -> Candles:
    """The same candles with a flat one, of no volume, wherever the window's grid has none."""
    start = window.start
    if previous_close is None:
        start = int(candles.time[0]) if len(candles) else window.end
    grid = np.arange(start, window.end, span * SECOND, dtype=np.int64)
    place = np.searchsorted(candles.time, grid, side="right") - 1
    there = (place >= 0) & (candles.time[np.maximum(place, 0)] == grid if len(candles) else False)
    last = previous_close if previous_close is not None else np.nan
    flat = np.where(place >= 0, candles.close[np.maximum(place, 0)] if len(candles) else last, last)

    def spread(column: Any, empty: Any) -> Any:
        if column is None:
            return None
        found = np.array(np.broadcast_to(empty, grid.shape), dtype=column.dtype)
        found[there] = column
        return found

    prices = (candles.open, candles.high, candles.low, candles.close)
    rest = (candles.volume, candles.quote_volume, candles.trades)
    taken = (candles.taker_buy_volume, candles.taker_buy_quote_volume)
    return Candles(
        grid, *(spread(one, flat) for one in prices), *(spread(one, 0) for one in (*rest, *taken))
    )


def merge_candles(candles: Candles, span: int, *, opens_at_last_close: bool = False) -> Candles:
    """Candles of a longer span from those that fill it, in order of time.

    A candle without trades repeats the last close, which is no price of its time: it counts only
    where nothing was traded in the whole interval, or for the open where the exchange opens candles
    at the last close. An interval of which a part is absent becomes a candle of the rest: leave it
    out, or know that the part is empty. A column that the short candles lack is None.
    """
    opens, first, groups = np.unique(
        open_times(candles.time, span), return_index=True, return_inverse=True
    )
    traded = candles.volume > 0
    some = np.bincount(groups, weights=traded, minlength=len(opens)) > 0
    kept = np.flatnonzero(traded | ~some[groups])
    start = np.searchsorted(groups[kept], np.arange(len(opens)))
    last = np.append(start[1:], len(kept))[: len(opens)] - 1

    def total(column: Any) -> Any:
        if column is None or column.dtype != np.float64:
            return None if column is None else _reduce(np.add, column, first)
        return exact_sums(column, first)

    return Candles(
        time=opens,
        open=candles.open[first] if opens_at_last_close else candles.open[kept[start]],
        high=_reduce(np.maximum, candles.high[kept], start),
        low=_reduce(np.minimum, candles.low[kept], start),
        close=candles.close[kept[last]],
        volume=total(candles.volume),
        quote_volume=total(candles.quote_volume),
        trades=total(candles.trades),
        taker_buy_volume=total(candles.taker_buy_volume),
        taker_buy_quote_volume=total(candles.taker_buy_quote_volume),
    )


def exact_sums(values: Floats, first: NDArray[np.int64], times: Floats | None = None) -> Floats:
    """The sum of each group that begins at an index of `first`; of products if `times` is given.

    The nearest float to the sum of the decimals; the sum of the floats where there are too many
    places for that.
    """
    columns = [values] if times is None else [values, times]
    found = [_decimals(column) for column in columns]
    product = values if times is None else values * times
    most = float(np.abs(product).max(initial=0.0)) * len(values)
    places = sum(digits for _, digits in found)
    if any(digits < 0 for _, digits in found) or most * 10.0**places >= LARGEST:
        return _sums(product, first)
    whole = found[0][0]
    for column, _ in found[1:]:
        whole = whole * column
    totals = _reduce(np.add, whole, first)
    # numpy would round twice where a whole number has no float; Python rounds once
    return np.array([total / 10**places for total in totals.tolist()])


def _decimals(values: Floats) -> tuple[NDArray[np.int64], int]:
    """Numbers as whole ones and how many decimal places they have; -1 if that is not exact."""
    most = float(np.abs(values).max(initial=0.0))
    for places in range(PLACES + 1):
        scale = 10.0**places
        if most * scale >= 2.0**53:
            break
        whole = np.rint(values * scale)
        if np.array_equal(whole / scale, values):
            return whole.astype(np.int64), places
    return np.empty(0, np.int64), -1


def _sums(column: Any, first: NDArray[np.int64]) -> Floats:
    sums: Floats = _reduce(np.add, column, first)
    return sums


def _reduce(how: Any, column: Any, first: NDArray[np.int64]) -> Any:
    """A function over each group; `reduceat` does not take an empty column."""
    return how.reduceat(column, first) if len(column) else column[:0]
