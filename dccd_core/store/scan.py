"""Reading a series as a polars LazyFrame whose filters reach the row groups."""

from collections.abc import Iterator

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from dccd_core.models import Series, Window
from dccd_core.store.period import Part, Period
from dccd_core.store.schemas import SCHEMAS


def scan_periods(series: Series, periods: list[Period], window: Window) -> pl.LazyFrame:
    """The rows of a window over several periods, oldest first.

    polars opens a path more than once, which mixes two states of a file that is replaced at that
    moment; here each file is opened once.
    """
    empty = pl.DataFrame(pl.from_arrow(SCHEMAS[series.channel].empty_table()))

    def frames(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - part of polars' signature
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for part in (part for period in periods for part in period.open()):
            for frame in _read(part, window, with_columns, predicate):
                taken = frame if left is None else frame.head(left)
                left = None if left is None else left - taken.height
                yield taken
                if left == 0:
                    return

    return register_io_source(frames, schema=empty.schema, is_pure=False)


def _read(
    part: Part, window: Window, columns: list[str] | None, predicate: pl.Expr | None
) -> Iterator[pl.DataFrame]:
    wanted = columns and [*columns, *(["time"] if "time" not in columns else [])]
    for index in part.groups(window):
        frame = _frame(part.read_groups([index], wanted)).filter(
            pl.col("time").to_physical().is_between(*window, closed="left")
        )
        if predicate is not None:
            frame = frame.filter(predicate)
        yield frame if columns is None else frame.select(columns)


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))
