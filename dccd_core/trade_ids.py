"""Holes in the ids of stored trades, where an exchange numbers them without one."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from dccd_core.exchanges.base import BadAnswer
from dccd_core.models import Series, Window
from dccd_core.store.datastore import DataStore


@dataclass(frozen=True, slots=True)
class IdHole:
    """Ids that are missing, and the times of the trades around them; `window` holds these too."""

    first: int
    last: int
    window: Window

    def __str__(self) -> str:
        count = self.last - self.first + 1
        return f"{count:,} trades are missing: ids {self.first} … {self.last}, {self.window}"


def id_holes(store: DataStore, series: Series, period: str) -> list[IdHole]:
    """The holes between the first and the last stored id of a day, in order.

    BadAnswer if an id is no number. Raises what reading a damaged file raises.
    """
    window = series.period_window(period)
    rows = store.scan(series, *window).select("time", "trade_id").collect()
    return holes_between(rows)


def holes_between(rows: pl.DataFrame) -> list[IdHole]:
    """The holes in the ids of some rows with their times."""
    try:
        ids = rows["trade_id"].cast(pl.Int64).to_numpy()
    except pl.exceptions.InvalidOperationError as error:
        raise BadAnswer(f"an id of a trade is no number: {error}") from error
    times = rows["time"].dt.timestamp("us").to_numpy()
    order = np.argsort(ids, kind="stable")
    ids, times = ids[order], times[order]
    found = []
    for place in np.flatnonzero(np.diff(ids) > 1):
        around = sorted((int(times[place]), int(times[place + 1])))
        first, last = int(ids[place]) + 1, int(ids[place + 1]) - 1
        found.append(IdHole(first, last, Window(around[0], around[1] + 1)))
    return found
