"""Holes in trade ids, where the exchange numbers its trades without any."""

import numpy as np
import polars as pl

from dccd_core.models import Series


def missing_ranges(series: Series, ids: pl.DataFrame, start: int) -> list[tuple[int, int]]:
    """The ranges of ids that are absent in a day that begins at `start`.

    `ids` has time and trade_id, in order of time, of the day and perhaps of the one before.
    """
    before = ids.filter(pl.col("time").to_physical() < start)
    day = _numbers(series, ids.slice(before.height))
    last = _numbers(series, before).max(initial=-1)
    numbers = np.unique(day if last < 0 or not len(day) else np.append(day, last))
    where = np.flatnonzero(np.diff(numbers) > 1)
    return [(int(numbers[at]) + 1, int(numbers[at + 1]) - 1) for at in where]


def _numbers(series: Series, ids: pl.DataFrame) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    found = ids["trade_id"].cast(pl.Int64, strict=False)
    if wrong := ids.filter(found.is_null())["trade_id"].to_list()[:1]:
        raise ValueError(f"{series}: trade id {wrong[0]!r} is no number, so none can be missing")
    return found.to_numpy()
