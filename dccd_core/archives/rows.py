"""From the columns of a file to rows of the frozen schemas; and how both are checked."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dccd_core.archives.base import ArchiveError
from dccd_core.exchanges.base import Instrument
from dccd_core.models import SECOND, Channel, Series, Window, iso
from dccd_core.store.schemas import SCHEMAS, array, bits, integers, numbers, table_times

# Milliseconds have thirteen digits until 2286, microseconds have sixteen since 2001.
MICROSECONDS_FROM = 10**14
# pa.array would import pandas
SIDES = pa.StringArray.from_buffers(
    2, pa.py_buffer(np.array([0, 3, 7], np.int32)), pa.py_buffer(b"buysell")
)
_FLOAT = pa.float64()


def scaled_times(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Milliseconds or microseconds, told apart by their size, as microseconds."""
    times = integers(column)
    micro = times >= MICROSECONDS_FROM
    if micro.all():
        return times
    if micro.any():
        raise ArchiveError("it has times in milliseconds and in microseconds")
    return times * 1_000


def candle_rows(time: NDArray[np.int64], columns: dict[str, Any]) -> pa.Table:
    """Candles of the frozen schema; optional columns that are not given are null."""
    schema = SCHEMAS[Channel.OHLC]
    given = {"time": array(time), **columns}
    arrays = [
        _cast(given[field.name], field.type)
        if field.name in given
        else pa.nulls(len(time), field.type)
        for field in schema
    ]
    return _finite(pa.Table.from_arrays(arrays, schema=schema))


def trade_rows(
    time: NDArray[np.int64], ids: Any, price: Any, amount: Any, buy: pa.ChunkedArray
) -> pa.Table:
    """Trades of the frozen schema, which nobody received live."""
    schema = SCHEMAS[Channel.TRADES]
    # booleans become numbers in Arrow: taking them out to numpy would import pandas
    code = pc.invert(buy).combine_chunks().cast(pa.int8())
    side = pa.DictionaryArray.from_arrays(code, SIDES)
    given = {
        "time": array(time),
        "received": pa.nulls(len(time), pa.int64()),
        "trade_id": ids,
        "price": price,
        "amount": amount,
        "side": side,
    }
    arrays = [_cast(given[field.name], field.type) for field in schema]
    return _finite(pa.Table.from_arrays(arrays, schema=schema))


def word(text: str) -> pa.StringScalar:
    """A text for a comparison; pa.scalar would import pandas."""
    raw = text.encode()
    ends = pa.py_buffer(np.array([0, len(raw)], np.int32))
    return pa.StringArray.from_buffers(1, ends, pa.py_buffer(raw))[0]


def bought(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether the taker bought, from the words buy and sell in any case."""
    words = pc.utf8_lower(column)
    if not pc.all(pc.is_in(words, SIDES), min_count=0).as_py():
        raise ArchiveError("a side that is neither buy nor sell")
    return pc.equal(words, SIDES[0])


def base_units(
    sizes: pa.ChunkedArray, prices: pa.ChunkedArray, market: Instrument
) -> pa.ChunkedArray:
    """Sizes in contracts as amounts in base units; where a contract is one, as they are."""
    if market.inverse:
        return pc.divide(
            pc.multiply(sizes, array(np.array([market.size], np.float64), _FLOAT)[0]), prices
        )
    if market.size == 1:
        return sizes
    # 7 contracts of 0.01 are not 0.07000000000000001
    amounts = [round(size * market.size, 12) for size in numbers(sizes, np.float64).tolist()]
    return array(np.array(amounts, np.float64), _FLOAT)


def _cast(column: Any, kind: pa.DataType) -> Any:
    return column if column.type == kind else column.cast(kind)


def _finite(rows: pa.Table) -> pa.Table:
    for field in rows.schema:
        if pa.types.is_floating(field.type) and not (
            pc.all(pc.is_finite(rows.column(field.name)), min_count=0).as_py()
        ):
            raise ArchiveError(f"a {field.name} that is not finite")
    return rows


def in_order(rows: pa.Table) -> pa.Table:
    """Rows by time; those of the same time stay as they were."""
    times = table_times(rows)
    if (np.diff(times) >= 0).all():
        return rows
    newest_first = (np.diff(times) <= 0).all()
    order = np.argsort(times[::-1], kind="stable") if newest_first else None
    if order is not None:
        return rows.take(array(len(times) - 1 - order))
    return rows.take(array(np.argsort(times, kind="stable")))


def kept(rows: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    """The rows where the mask is set; all of them as they are where that is so."""
    if mask.all():
        return rows
    return rows.filter(pa.Array.from_buffers(pa.bool_(), len(rows), [None, bits(mask)]))


def check_times(rows: pa.Table, window: Window) -> None:
    """ArchiveError if a row lies outside the time that its file is of: another unit, or day."""
    times = table_times(rows)
    if len(times) and not (window.start <= times.min() and times.max() < window.end):
        strange = int(times.min() if times.min() < window.start else times.max())
        raise ArchiveError(f"a row of {_named(strange)}, outside {window}")


def _named(time: int) -> str:
    try:
        return iso(time)
    except OverflowError:
        return f"{time} µs"


def check_grid(rows: pa.Table, series: Series) -> None:
    """ArchiveError if candles are doubled, or do not open on the grid of their series."""
    times = table_times(rows)
    if (np.diff(times) <= 0).any():
        raise ArchiveError("a candle is there twice")
    if len(times):
        anchor = series.floor(int(times[0]))
        if ((times - anchor) % (series.span * SECOND)).any():
            raise ArchiveError(f"a candle does not open on the {series} grid")


def runs(times: NDArray[np.int64], step: int) -> list[Window]:
    """The stretches of time that candles cover without a hole between them."""
    if not len(times):
        return []
    breaks = np.flatnonzero(np.diff(times) != step)
    starts = times[np.concatenate(([0], breaks + 1))]
    ends = times[np.concatenate((breaks, [len(times) - 1]))] + step
    return [Window(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]


def flat_filled(rows: pa.Table, before: pa.Table | None, series: Series) -> pa.Table:
    """Candles with a flat one at the last close, of no volume, wherever there is none.

    They are in order on the grid; `before` is the last candle of those that came before.
    """
    known = rows if before is None else pa.concat_tables([before, rows])
    times, step = table_times(known), series.span * SECOND
    grid = np.arange(times[0], times[-1] + step, step)
    place = np.searchsorted(times, grid, side="right") - 1
    flat = grid != times[place]
    close = numbers(known.column("close"), np.float64)[place]
    columns: dict[str, Any] = {}
    for name in ("open", "high", "low", "close"):
        own = numbers(known.column(name), np.float64)[place]
        columns[name] = array(np.where(flat, close, own), _FLOAT)
    volume, count = numbers(known.column("volume"), np.float64), integers(known.column("trades"))
    columns["volume"] = array(np.where(flat, 0.0, volume[place]), _FLOAT)
    columns["trades"] = array(np.where(flat, 0, count[place]))
    return candle_rows(grid, columns).slice(0 if before is None else 1)
