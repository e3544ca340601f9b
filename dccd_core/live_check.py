"""Whether live candles are those that the exchange serves later, to the last digit."""

from datetime import UTC, datetime

import numpy as np
import polars as pl

from dccd_core.intervals import clip
from dccd_core.models import DAY, SECOND, Channel, Series, Window, iso, microseconds
from dccd_core.overlap import Overlap
from dccd_core.store.datastore import DataStore

# Enough to find the hole of a night, and of a weekend.
NEWEST = 3 * DAY
_COMPARED = ("open", "high", "low", "close", "volume")


def candles_beside(series: Series) -> Series:
    """The candles of REST that a live series is compared with."""
    return Series(series.exchange, Channel.OHLC, series.symbol, series.span)


def compare_live(store: DataStore, series: Series, now: datetime | None = None) -> Overlap:
    """Hold live candles against the exchange's own, wherever both are known of the last days.

    A live candle that is absent where its stream was whole and the exchange traded is a difference
    as well as one with other prices or another volume.
    """
    end = microseconds(now or datetime.now(UTC))
    recent, other = Window(end - NEWEST * SECOND, end), candles_beside(series)
    both = [
        Window(series.ceil(part.start), series.floor(part.end))
        for live in store.covered(series, recent)
        for part in clip(store.covered(other, recent), live)
    ]
    compared = 0
    for window in (one for one in both if one.start < one.end):
        live, own = (store.load(one, *window).select("time", *_COMPARED) for one in (series, other))
        own, live = own.filter(pl.col("volume") > 0), live.filter(pl.col("volume") > 0)
        compared += own.height
        if difference := _difference(live, own):
            return Overlap(window, compared, difference)
    return Overlap(both[-1] if both else None, compared, "")


def _difference(live: pl.DataFrame, own: pl.DataFrame) -> str:
    """The first difference of two sets of candles that should be equal, or nothing."""
    ours, theirs = (one["time"].dt.timestamp("us").to_numpy() for one in (live, own))
    if not np.array_equal(ours, theirs):
        first = int(np.setxor1d(ours, theirs)[0])
        which = "the stream has none" if first in theirs else "the exchange has none"
        return f"{iso(first)}: {which}"
    for name in _COMPARED:
        one, two = live[name].to_numpy(), own[name].to_numpy()
        if len(where := np.flatnonzero(one != two)):
            place = where[0]
            return f"{iso(int(ours[place]))}: {name} {one[place]}, the exchange has {two[place]}"
    return ""
