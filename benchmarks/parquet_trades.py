"""How large is a trade on disk, and which encodings make it small?

A day of BTC/USDT-like trades: one order fills against several others, so that trades share a
millisecond and a receipt; prices in ticks, amounts in lots, some of them round. Ids ascend by one
as Binance's do, or are random as BitMEX's are. dccd keeps no time of receipt, so it is compared
with what history has in ours: no receipts. Sizes on real data will differ.
"""

import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from lab import Aim, Options, main, print_table, print_title, scratch

from dccd_core.store import files
from dccd_core.store.schemas import TRADES, frozen

DAY = 1_767_225_600_000_000
TIMES = dict.fromkeys(("time", "received"), "DELTA_BINARY_PACKED")
OURS, HISTORY, THEIRS = "ours", "ours, without receipts", "dccd 3.8.1's schema (5 columns, snappy)"
Write = Callable[[Path, pa.Table], Any]


def measure(options: Options) -> list[Aim]:
    """Each writer on each kind of ids; every file is read back and compared."""
    print_title(__doc__)
    rows = 100_000 if options.small else 1_000_000
    sizes = _compare("ids that are numbers", _trades(rows, numbers=True), options.rounds)
    _compare("ids that are UUIDs", _trades(rows, numbers=False), options.rounds)
    size, theirs = sizes[HISTORY], sizes[THEIRS]
    wanted = f"<= 1/3 of {theirs:.1f}"
    return [Aim("bytes a trade, the columns of both", wanted, f"{size:.1f}", size <= theirs / 3)]


def _writers() -> dict[str, Write]:
    text = {"trade_id": "DELTA_BYTE_ARRAY"}
    lengths = {"trade_id": "DELTA_LENGTH_BYTE_ARRAY"}
    plain = {"trade_id": "PLAIN", "price": "PLAIN", "amount": "PLAIN"}
    return {
        OURS: lambda path, table: files.write_table(path, table, {}),
        HISTORY: lambda path, table: files.write_table(path, _without_receipts(table), {}),
        "front-coded ids, plain amounts": partial(
            _arrow, encodings=TIMES | text | {"price": "PLAIN", "amount": "PLAIN"}, dictionary=[]
        ),
        "front-coded ids, dictionaries of prices too": partial(
            _arrow, encodings=TIMES | text, dictionary=["amount", "price", "side"]
        ),
        "ids by length": partial(
            _arrow, encodings=TIMES | lengths | {"price": "PLAIN"}, dictionary=["amount", "side"]
        ),
        "plain ids": partial(
            _arrow,
            encodings=TIMES | {"trade_id": "PLAIN", "price": "PLAIN"},
            dictionary=["amount", "side"],
        ),
        "split floats": partial(
            _arrow,
            encodings=TIMES | text | dict.fromkeys(("price", "amount"), "BYTE_STREAM_SPLIT"),
            dictionary=["side"],
        ),
        "plain everything": partial(_arrow, encodings=plain, dictionary=[]),
        "pyarrow as shipped (snappy, dictionaries)": lambda p, t: pq.write_table(t, p),
        "polars as shipped (zstd)": lambda path, table: _frame(table).write_parquet(path),
        THEIRS: _dccd,
    }


def _arrow(path: Path, table: pa.Table, encodings: dict[str, str], dictionary: list[str]) -> None:
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=3,
        use_dictionary=dictionary,
        column_encoding=encodings,
        row_group_size=50_000,
        store_schema=False,
    )


def _dccd(path: Path, table: pa.Table) -> None:
    frame = _frame(table).select(
        (pl.col("time").dt.epoch("us") * 1_000).alias("TS"),
        pl.col("trade_id").alias("tid"),
        "price",
        "amount",
        pl.col("side").cast(pl.String),
    )
    frame.write_parquet(path, compression="snappy")


def _compare(name: str, table: pa.Table, rounds: int) -> dict[str, float]:
    """Print the writers beside each other; bytes a trade of each."""
    rows: dict[str, list[tuple[float, float]]] = {}
    sizes: dict[str, float] = {}
    with scratch() as folder:
        path = folder / "trades.parquet"
        for _ in range(rounds):
            for writer, write in _writers().items():
                before = time.process_time()
                write(path, table)
                middle = time.process_time()
                back = pq.read_table(path, use_threads=False)
                took = (middle - before) * 1e3, (time.process_time() - middle) * 1e3
                rows.setdefault(writer, []).append(took)
                sizes[writer] = path.stat().st_size / table.num_rows
                if writer not in (HISTORY, THEIRS) and not _same(back, table):
                    raise RuntimeError(f"{writer}: what is read is not what was written")
        files.write_table(path, table, {})
        columns = _columns(path)
    print(f"{name}: {table.num_rows:,} trades; ours by column: {columns}")
    lines = [
        (
            writer,
            f"{sizes[writer]:.2f}",
            f"{sizes[writer] / sizes[OURS]:.2f}x",
            *(f"{np.median(figures):.0f}" for figures in zip(*rows[writer], strict=True)),
        )
        for writer in rows
    ]
    print_table(("writer", "B/trade", "vs ours", "write CPU ms", "read CPU ms"), lines)
    return sizes


def _without_receipts(table: pa.Table) -> pa.Table:
    empty = pa.nulls(table.num_rows, table.column("received").type)
    return table.set_column(1, TRADES.field("received"), empty)


def _same(back: pa.Table, table: pa.Table) -> bool:
    plain = back.set_column(5, "side", back.column("side").cast(pa.string()))
    return bool(frozen(plain).cast(TRADES).equals(table))


def _columns(path: Path) -> str:
    data = pq.read_metadata(path)
    sizes = dict.fromkeys(TRADES.names, 0)
    for group in range(data.num_row_groups):
        for index, name in enumerate(sizes):
            sizes[name] += data.row_group(group).column(index).total_compressed_size
    return ", ".join(f"{name} {size / data.num_rows:.2f}" for name, size in sizes.items())


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def _trades(rows: int, *, numbers: bool) -> pa.Table:
    """Orders arrive in bursts; each fills against one to many others at rising or falling ticks."""
    rng = np.random.default_rng(7)
    fills = np.minimum(rng.geometric(0.45, rows), 40)
    order = np.repeat(np.arange(rows), fills)[:rows]
    inside = np.arange(rows) - np.searchsorted(order, order)
    buy = (rng.random(rows) < 0.5)[order]
    gaps = rng.exponential(1.0, rows) * np.where(rng.random(rows) < 0.3, 0.02, 1.0)
    when = (np.cumsum(gaps) / gaps.sum() * 86_399_000).astype(np.int64)[order]
    latency = np.maximum(800, rng.lognormal(8.5, 0.7, rows)).astype(np.int64)[order]
    walk = 6_700_000 + np.cumsum(np.round(rng.normal(0, 0.8, rows) * 3)).astype(np.int64)
    ticks = walk[order] + np.where(buy, 1, -1) * (inside * (rng.random(rows) < 0.3))
    lots = np.maximum(1, rng.lognormal(5, 2, rows)).astype(np.int64)
    lots = np.where(rng.random(rows) < 0.35, rng.choice([8, 10, 100, 500, 1000, 7463], rows), lots)
    first = 5_400_000_000
    ids = [str(first + n) if numbers else _uuid(rng.bytes(16)) for n in range(rows)]
    received = DAY + when * 1_000 + latency
    columns = {
        "time": DAY + when * 1_000,
        "received": np.maximum.accumulate(received),
        "trade_id": ids,
        "price": ticks / 100,
        "amount": lots / 1e5,
        "side": np.where(buy, "buy", "sell"),
    }
    return frozen(pa.table(columns)).cast(TRADES)


def _uuid(content: bytes) -> str:
    return str(uuid.UUID(bytes=content))


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
