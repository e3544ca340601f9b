"""Reading a series as a polars LazyFrame whose filters reach the row groups."""

from collections.abc import Callable, Iterator

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from dccd_core.models import Channel, Series, Window
from dccd_core.store.period import Part
from dccd_core.store.rows import combine, margin
from dccd_core.store.schemas import empty_table, table_times

_FUTURE = 2**62
Sources = Callable[[], Iterator[tuple[list[Part], pa.Table | None]]]
"""The open files of each period, oldest first, and the rows that wait to be folded into them."""


def scan_series(series: Series, sources: Sources, window: Window) -> pl.LazyFrame:
    """The rows of a window over several periods, oldest first; `sources` is called by each read.

    polars opens a path more than once, which mixes two states of a file that is replaced at that
    moment; here each file is opened once.
    """
    empty = pl.DataFrame(pl.from_arrow(empty_table(series.channel)))

    def frames(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - part of polars' signature
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for table in _tables(series.channel, sources, window, with_columns):
            frame = _frame(table, window, with_columns, predicate)
            taken = frame if left is None else frame.head(left)
            left = None if left is None else left - taken.height
            yield taken
            if left == 0:
                return

    return register_io_source(frames, schema=empty.schema, is_pure=False)


def _tables(
    channel: Channel, sources: Sources, window: Window, columns: list[str] | None
) -> Iterator[pa.Table]:
    """One row group at a time; those that waiting rows reach into are put together with them."""
    wanted = columns and [*columns, *(["time"] if "time" not in columns else [])]
    for parts, waiting in sources():
        if waiting is None:
            for part in parts:
                yield from (part.read_groups([group], wanted) for group in part.groups(window))
        else:
            yield from _with_waiting(channel, parts, waiting, window, wanted)


def _with_waiting(
    channel: Channel,
    parts: list[Part],
    waiting: pa.Table,
    window: Window,
    wanted: list[str] | None,
) -> Iterator[pa.Table]:
    """What comes before the waiting rows, then those and what they reach into, then the rest."""
    reach = _reach(channel, waiting)
    held, later = [waiting.slice(0, 0)], list[tuple[Part, int]]()
    for part in parts:
        reached, earlier = part.groups(reach), part.groups(Window(-_FUTURE, reach.start))
        held += [part.read_groups(reached)] if reached else []
        for group in sorted(set(part.groups(window)).difference(reached)):
            if group in earlier:
                yield part.read_groups([group], wanted)
            else:
                later.append((part, group))
    yield combine(channel, pa.concat_tables(held), waiting).table
    yield from (part.read_groups([group], wanted) for part, group in later)


def _reach(channel: Channel, rows: pa.Table) -> Window:
    times, reach = table_times(rows), margin(channel)
    return Window(int(times[0]) - reach, int(times[-1]) + reach + 1)


def _frame(
    table: pa.Table, window: Window, columns: list[str] | None, predicate: pl.Expr | None
) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(table)).filter(
        pl.col("time").to_physical().is_between(*window, closed="left")
    )
    if predicate is not None:
        frame = frame.filter(predicate)
    return frame if columns is None else frame.select(columns)
