"""The frozen schemas, and the footer that every data file carries under the key `dccd`."""

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import Candles
from dccd_core.models import Channel, Series, Window

VERSION = 1
KEY = b"dccd"

TIME = pa.timestamp("us", tz="UTC")
OHLC = pa.schema(
    [
        pa.field("time", TIME, nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("open", "high", "low")),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("close", "volume")),
        pa.field("quote_volume", pa.float64()),
        pa.field("trades", pa.int64()),
        pa.field("taker_buy_volume", pa.float64()),
        pa.field("taker_buy_quote_volume", pa.float64()),
    ]
)
SCHEMAS = {Channel.OHLC: OHLC}
UNITS = {"time": "open time, UTC", "price": "quote per base", "volume": "base"}


class SchemaError(Exception):
    """A Parquet file that is not of this version of ours: it is neither read nor touched."""


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself.

    `covered` is the ledger: the windows, in microseconds, that the exchange was asked about and
    answered. A candle missing inside them is confirmed empty, outside them it is yet to be
    fetched. `first` and `last` are open times of rows. `insane` counts candles whose prices
    contradict each other, `revised` those that the exchange has changed since they were stored.
    `base` is, in a tail, the last time of the file that it continues.
    """

    version: int = VERSION
    exchange: str
    channel: str
    pair: str
    span: int
    source: str
    units: dict[str, str]
    covered: tuple[tuple[int, int], ...]
    first: int | None
    last: int | None
    insane: int
    revised: int
    base: int | None = None

    @property
    def windows(self) -> list[Window]:
        """The covered windows."""
        return [Window(*window) for window in self.covered]

    def encode(self) -> dict[bytes, bytes]:
        """The footer as Parquet key-value metadata."""
        return {KEY: msgspec.json.encode(self)}


_FOOTER = msgspec.json.Decoder(Footer)


def read_footer(metadata: pq.FileMetaData, path: object) -> Footer:
    """The footer of a file; SchemaError if it is not one of ours, or of another version."""
    raw = (metadata.metadata or {}).get(KEY)
    if raw is None:
        raise SchemaError(f"{path} was not written by this program: move it away or migrate it")
    try:
        footer = _FOOTER.decode(raw)
    except msgspec.MsgspecError as error:
        raise SchemaError(f"{path} has a footer of another version: {error}") from error
    if footer.version != VERSION:
        raise SchemaError(f"{path} has schema version {footer.version}, this program {VERSION}")
    return footer


def make_footer(
    series: Series,
    table: pa.Table,
    covered: list[Window],
    source: str,
    revised: int,
) -> Footer:
    """The footer for a table that is about to be written."""
    times = table_times(table)
    return Footer(
        exchange=series.exchange,
        channel=str(series.channel),
        pair=str(series.symbol),
        span=series.span,
        source=source,
        units=UNITS,
        covered=tuple((window.start, window.end) for window in covered),
        first=int(times[0]) if len(times) else None,
        last=int(times[-1]) if len(times) else None,
        insane=count_insane(table, with_open=not _opens_at_last_close(series.exchange)),
        revised=revised,
    )


def candles_table(candles: Candles) -> pa.Table:
    """Parsed candles as a table of the frozen schema."""
    columns = (getattr(candles, name) for name in OHLC.names)
    arrays = [
        pa.nulls(len(candles), field.type) if column is None else _array(column, field.type)
        for field, column in zip(OHLC, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=OHLC)


def _array(column: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A column of 64-bit numbers as it lies in memory; pa.array would import pandas for it."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(column))]
    return pa.Array.from_buffers(kind, len(column), buffers)


def table_times(table: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """The time column as microseconds."""
    return table.column("time").cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]


def count_insane(table: pa.Table, *, with_open: bool) -> int:
    """How many candles have a low above, or a high below, another of their prices, or a
    negative volume."""
    o, h, low, c, v = (
        table.column(name).to_numpy() for name in ("open", "high", "low", "close", "volume")
    )
    sane = (low <= c) & (c <= h) & (low <= h) & (v >= 0)
    if with_open:
        sane &= (low <= o) & (o <= h)
    return int(np.count_nonzero(~sane))


def _opens_at_last_close(exchange: str) -> bool:
    known = load_all().get(exchange)
    return known is not None and known.opens_at_last_close
