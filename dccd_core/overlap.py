"""Whether candles that were built from trades are those that the exchange would have served."""

from dataclasses import dataclass

import numpy as np

from dccd_core.build import fill
from dccd_core.deep import as_served, candles_from
from dccd_core.derived import aligned, derived_from, stored_candles
from dccd_core.exchanges import load
from dccd_core.intervals import clip
from dccd_core.models import DAY, SECOND, Series, Window, iso
from dccd_core.pages import columns
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import OHLC

# The newest trades are compared: a year of them would be read at every check.
NEWEST = 2 * DAY
LEAST = 10


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many candles were compared, in which window, and the first difference, if any."""

    window: Window | None
    candles: int
    difference: str


def compare_overlap(store: DataStore, series: Series) -> Overlap:
    """Hold the stored candles of a series against its stored trades, where both cover a time."""
    source, exchange = derived_from(series), load(series.exchange)
    both = [
        window
        for trades in store.covered(source)
        for window in aligned(series, clip(store.covered(series), trades))
    ]
    if not both:
        return Overlap(None, 0, "")
    start, end = both[-1]
    length = max(NEWEST // series.span, LEAST) * series.span * SECOND
    window = Window(max(start, end - length), end)
    stored = stored_candles(store, series, window)
    before = store.load(series, window.start - series.span * SECOND, window.start)
    close = float(before["close"][-1]) if before.height else None
    built = candles_from(store, source, series.span, window)
    if exchange.fills_empty:
        built = fill(built, series.span, window, close)
    served = as_served(built, exchange.candle_columns)
    if not np.array_equal(stored.time, served.time):
        times = np.setxor1d(stored.time, served.time)
        missing = "trades" if times[0] in stored.time else "candles"
        return Overlap(window, len(stored), f"{iso(int(times[0]))}: the {missing} have no such one")
    for name, one, two in zip(OHLC.names, columns(stored), columns(served), strict=True):
        if one is None or two is None:
            continue
        if len(where := np.flatnonzero(one != two)):
            place = where[0]
            said = f"{name} {one[place]}, from trades {two[place]}"
            return Overlap(window, len(stored), f"{iso(int(stored.time[place]))}: {said}")
    return Overlap(window, len(stored), "")
