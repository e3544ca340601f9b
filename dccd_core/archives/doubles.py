"""Trades of a file that are stored already, where the file gives them ids of its own.

What tells them apart is then when, at what price, how much and on which side; several alike may
have been made, so they are counted.
"""

import polars as pl
import pyarrow as pa

from dccd_core.archives.rows import kept
from dccd_core.models import Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import table_times

# Stands in every id that a file's day has made unique, and in none of an exchange's own.
NUMBERED = "/"
_MILLISECOND = 1_000
# A stream tells milliseconds, whatever a file does.
_KEYS = (
    pl.col("time").dt.truncate("1ms"),
    pl.col("price", "amount"),
    pl.col("side").cast(pl.String),
)
_NAMES = ("time", "price", "amount", "side")


def without_stored(store: DataStore, series: Series, rows: pa.Table) -> pa.Table:
    """The rows of a file, in order of time, that are not stored with an id of the exchange's own.

    Raises what reading a damaged file raises.
    """
    if not rows.num_rows:
        return rows
    times = table_times(rows)
    first, last = (int(time) // _MILLISECOND for time in (times[0], times[-1]))
    reach = Window(first * _MILLISECOND, (last + 1) * _MILLISECOND)
    own = store.scan(series, *reach).filter(
        ~pl.col("trade_id").str.contains(NUMBERED, literal=True)
    )
    stored = own.select(*_KEYS).group_by(_NAMES).len("stored").collect()
    if stored.is_empty():
        return rows
    frame = pl.DataFrame(pl.from_arrow(rows.select(_NAMES))).select(*_KEYS)
    number = pl.int_range(1, pl.len() + 1).over(_NAMES).alias("number")
    counted = frame.with_columns(number).join(stored, on=_NAMES, how="left", maintain_order="left")
    new = counted["number"] > counted["stored"].fill_null(0)
    return kept(rows, new.to_numpy())
