"""The frozen schemas, and how what exchanges say becomes tables of them.

Columns go into Arrow and come out of it as they lie in memory: its own ways import pandas.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dccd_core.exchanges.base import Candles
from dccd_core.exchanges.live import BookChange, LiveCandle
from dccd_core.exchanges.trades import Levels, Trade
from dccd_core.models import Channel
from dccd_core.store.packed import UNKNOWN, PackedTrades

Number = TypeVar("Number", bound=np.generic)

TIME = pa.timestamp("us", tz="UTC")
SIDE = pa.dictionary(pa.int8(), pa.string())
NUMBERS = pa.list_(pa.field("element", pa.float64(), nullable=False))


def _required(kind: pa.DataType, *names: str) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=False) for name in names]


_LEVELS = _required(NUMBERS, "bid_price", "bid_amount", "ask_price", "ask_amount")

OHLC = pa.schema(
    [
        *_required(TIME, "time"),
        *_required(pa.float64(), "open", "high", "low", "close", "volume"),
        pa.field("quote_volume", pa.float64()),
        pa.field("trades", pa.int64()),
        pa.field("taker_buy_volume", pa.float64()),
        pa.field("taker_buy_quote_volume", pa.float64()),
    ]
)
LIVE_OHLC = pa.schema([*OHLC, *_required(TIME, "received")])
TRADES = pa.schema(
    [
        *_required(TIME, "time"),
        pa.field("received", TIME),
        *_required(pa.string(), "trade_id"),
        *_required(pa.float64(), "price", "amount"),
        *_required(SIDE, "side"),
    ]
)
BOOK = pa.schema([*_required(TIME, "time", "received"), *_LEVELS, *_required(pa.bool_(), "valid")])
BOOK_DELTAS = pa.schema(
    [
        *_required(TIME, "time", "received"),
        pa.field("sequence", pa.int64()),
        *_required(pa.bool_(), "snapshot"),
        pa.field("depth", pa.int64()),
        *_LEVELS,
    ]
)
SCHEMAS = {
    Channel.OHLC: OHLC,
    Channel.TRADES: TRADES,
    Channel.BOOK: BOOK,
    Channel.BOOK_DELTAS: BOOK_DELTAS,
    Channel.LIVE_OHLC: LIVE_OHLC,
}
CANDLES = frozenset({Channel.OHLC, Channel.LIVE_OHLC})
_CANDLE_UNITS = {"time": "open time, UTC", "price": "quote per base", "volume": "base"}
_UNITS = {"time": "UTC", "price": "quote per base", "amount": "base"}
UNITS = {channel: _CANDLE_UNITS if channel in CANDLES else _UNITS for channel in Channel}


class SchemaError(Exception):
    """A Parquet file that is not of this version of ours: it is neither read nor touched."""


class BookRow(NamedTuple):
    """A book as it was at `time`, best levels first; times in microseconds.

    `received` is when the newest change in it came. `valid` is false where the book is known to
    be out of step with the exchange; then it should have no levels.
    """

    time: int
    received: int
    bids: Levels
    asks: Levels
    valid: bool


class Loss(NamedTuple):
    """Times for which a stream's data is lost, and why; half open, in microseconds."""

    start: int
    end: int
    cause: str


def empty_table(channel: Channel) -> pa.Table:
    """No rows."""
    return pa.Table.from_batches([], SCHEMAS[channel])


def candles_table(candles: Candles) -> pa.Table:
    """Parsed candles as a table of the frozen schema."""
    columns = (getattr(candles, name) for name in OHLC.names)
    arrays = [
        pa.nulls(len(candles), field.type) if column is None else array(column, field.type)
        for field, column in zip(OHLC, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=OHLC)


def trades_table(trades: Sequence[Trade]) -> pa.Table:
    """Trades as a table, in their order."""
    return packed_table([PackedTrades.of(trades)] if trades else [])


def packed_table(parts: Sequence[PackedTrades]) -> pa.Table:
    """Packed trades, one after the other, as a table."""
    received = _joined(parts, "received", "<i8")
    ids = b"".join(part.ids for part in parts)
    arrays = [
        array(_joined(parts, "time", "<i8"), TIME),
        array(received, TIME, received == UNKNOWN),
        _strings(_joined(parts, "lengths", "<i4"), ids),
        array(_joined(parts, "price", "<f8"), pa.float64()),
        array(_joined(parts, "amount", "<f8"), pa.float64()),
        pa.DictionaryArray.from_arrays(array(_joined(parts, "sides", "i1"), pa.int8()), _SIDES),
    ]
    return pa.Table.from_arrays(arrays, schema=TRADES)


def _joined(parts: Sequence[PackedTrades], column: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(b"".join([getattr(part, column) for part in parts]), kind)


def live_candles_table(candles: Sequence[LiveCandle]) -> pa.Table:
    """Candles of a stream as a table, in their order."""
    if not candles:
        return empty_table(Channel.LIVE_OHLC)
    columns = zip(*candles, strict=True)
    arrays = [_numbers(c, field.type) for field, c in zip(LIVE_OHLC, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=LIVE_OHLC)


def books_table(rows: Sequence[BookRow]) -> pa.Table:
    """Books as a table, in their order."""
    if not rows:
        return empty_table(Channel.BOOK)
    time, received, bids, asks, valid = zip(*rows, strict=True)
    arrays = [
        _numbers(time, TIME),
        _numbers(received, TIME),
        *_sides(bids, asks),
        _booleans(valid),
    ]
    return pa.Table.from_arrays(arrays, schema=BOOK)


def deltas_table(changes: Sequence[BookChange]) -> pa.Table:
    """Changes of a book as a table, in their order.

    `time` is the exchange's, the receipt where it has none; `received` is the order in which they
    were applied; `sequence` is the number of the book after the change, `depth` how many levels a
    side are left of it.
    """
    if not changes:
        return empty_table(Channel.BOOK_DELTAS)
    times = [change.received if change.time is None else change.time for change in changes]
    arrays = [
        _numbers(times, TIME),
        _numbers([change.received for change in changes], TIME),
        _numbers([change.last for change in changes], pa.int64()),
        _booleans([change.snapshot for change in changes]),
        _numbers([change.keep for change in changes], pa.int64()),
        *_sides([change.bids for change in changes], [change.asks for change in changes]),
    ]
    return pa.Table.from_arrays(arrays, schema=BOOK_DELTAS)


TABLES: dict[Channel, Callable[[Any], pa.Table]] = {
    Channel.TRADES: trades_table,
    Channel.LIVE_OHLC: live_candles_table,
    Channel.BOOK: books_table,
    Channel.BOOK_DELTAS: deltas_table,
}
"""What makes a table of the rows of a stream."""


def array(
    column: NDArray[Any], kind: pa.DataType | None = None, mask: NDArray[np.bool_] | None = None
) -> Any:
    """A column of numbers as it lies in memory, 64-bit integers by default; null where the mask
    is set."""
    valid = None if mask is None or not mask.any() else bits(~mask)
    buffers = [valid, pa.py_buffer(np.ascontiguousarray(column))]
    return pa.Array.from_buffers(kind or pa.int64(), len(column), buffers)


def bits(values: NDArray[np.bool_]) -> pa.Buffer:
    """Booleans as Arrow keeps them."""
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def _numbers(values: Sequence[Any], kind: pa.DataType) -> Any:
    """Integers, times or floats, some of them None."""
    dtype = np.float64 if pa.types.is_floating(kind) else np.int64
    if None not in values:
        return array(np.fromiter(values, dtype, len(values)), kind)
    mask = np.fromiter((value is None for value in values), np.bool_, len(values))
    filled = (0 if value is None else value for value in values)
    return array(np.fromiter(filled, dtype, len(values)), kind, mask)


def _booleans(values: Sequence[bool]) -> Any:
    column = np.fromiter(values, np.bool_, len(values))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits(column)])


def _strings(lengths: NDArray[np.int32], joined: bytes) -> Any:
    """Texts by their lengths in bytes."""
    buffers = [None, pa.py_buffer(_offsets(lengths)), pa.py_buffer(joined)]
    return pa.Array.from_buffers(pa.string(), len(lengths), buffers)


def _offsets(lengths: NDArray[np.int32]) -> NDArray[np.int32]:
    ends = np.cumsum(lengths, dtype=np.int64)
    if len(ends) and ends[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"{len(lengths)} rows are too many for one table: build it in parts")
    return np.concatenate([[0], ends]).astype(np.int32)


def _sides(bids: Sequence[Levels], asks: Sequence[Levels]) -> list[Any]:
    """Bid prices, bid amounts, ask prices and ask amounts as columns of lists."""
    return [column for side in (bids, asks) for column in _levels(side)]


def _levels(side: Sequence[Levels]) -> list[Any]:
    lengths = np.fromiter(map(len, side), np.int32, len(side))
    offsets = pa.py_buffer(_offsets(lengths))
    flat = np.fromiter(
        chain.from_iterable(chain.from_iterable(side)), np.float64, 2 * int(lengths.sum())
    )
    children = (array(flat[first::2], pa.float64()) for first in (0, 1))
    return [
        pa.Array.from_buffers(NUMBERS, len(side), [None, offsets], children=[child])
        for child in children
    ]


_SIDES = _strings(np.array([3, 4], np.int32), b"buysell")


def frozen(table: pa.Table) -> pa.Table:
    """A table read from a file, with sides as the schema has them: Parquet gives text."""
    place = table.schema.get_field_index("side")
    if place < 0:
        return table
    chunks = [
        pa.DictionaryArray.from_arrays(pc.index_in(chunk, value_set=_SIDES).cast(pa.int8()), _SIDES)
        for chunk in table.column(place).chunks
    ]
    field = TRADES.field("side")
    return table.set_column(place, field, pa.chunked_array(chunks, SIDE))


def table_times(table: pa.Table) -> NDArray[np.int64]:
    """The time column as microseconds."""
    return integers(table.column("time"))


def integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """A column of integers or times without nulls."""
    return numbers(column.cast(pa.int64()), np.int64)


def numbers(column: pa.ChunkedArray, kind: type[Number]) -> NDArray[Number]:
    """A column of `kind` without nulls, as it lies in memory; to_numpy would import pandas."""
    parts: list[NDArray[Any]] = [np.from_dlpack(chunk) for chunk in column.chunks if len(chunk)]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, kind), *parts])
