"""How large is a candle on disk, and which encodings make it small?

Ten columns. Two data sets: the sandbox's year, and a year with the digits of BTC/USDT (tick 0.01,
lot 0.00001, so that quote volumes have seven decimals). Sizes on real data will differ.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from lab import YEAR, Aim, Options, main, print_table, print_title, scratch

from dccd_core.models import microseconds
from dccd_core.store import files
from dccd_core.store.schemas import OHLC
from dccd_sandbox import Sandbox, Settings

AIM = 41.0
TIMES, QUOTES = ("time", "trades"), ("quote_volume", "taker_buy_quote_volume")
PRICES = ("open", "high", "low", "close")
VOLUMES = ("volume", "taker_buy_volume")
OURS = "ours: DELTA times, split quote volumes, zstd 3"
Write = Callable[[Path, pa.Table], None]


def measure(options: Options) -> list[Aim]:
    """Each writer on each data set; every file is read back and compared."""
    print_title(__doc__)
    days = 30 if options.small else 365
    aims = []
    for name, table in (("sandbox", _sandbox(days)), ("BTC/USDT-like", _synthetic(days))):
        size = _compare(name, table, options.rounds)
        aims.append(Aim(f"bytes a candle, {name}", f"<= {AIM:.0f}", f"{size:.1f}", size <= AIM))
    return aims


def _writers() -> dict[str, Write]:
    split, delta = "BYTE_STREAM_SPLIT", "DELTA_BINARY_PACKED"
    times = dict.fromkeys(TIMES, delta)
    return {
        OURS: lambda path, table: void(files.write_table(path, table, {})),
        "the same without splitting": partial(_arrow, columns=times),
        "the same, every float split": partial(
            _arrow, columns=times | dict.fromkeys((*PRICES, *VOLUMES, *QUOTES), split)
        ),
        "the same, all volumes split": partial(
            _arrow, columns=times | dict.fromkeys((*VOLUMES, *QUOTES), split)
        ),
        "zstd 3, dictionaries": partial(_arrow, columns=None),
        "pyarrow as shipped (snappy)": lambda path, table: pq.write_table(table, path),
        "polars as shipped (zstd)": lambda path, table: _frame(table).write_parquet(path),
        "polars snappy (dccd 3.8.1's)": lambda path, table: _frame(table).write_parquet(
            path, compression="snappy"
        ),
    }


def void(_: object) -> None:
    """Drop a result."""


def _arrow(path: Path, table: pa.Table, columns: dict[str, str] | None) -> None:
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=3,
        use_dictionary=columns is None,
        column_encoding=columns,
        row_group_size=50_000,
    )


def _compare(name: str, table: pa.Table, rounds: int) -> float:
    """Print the writers beside each other; our bytes a candle."""
    rows: dict[str, list[tuple[float, float]]] = {}
    sizes: dict[str, float] = {}
    with scratch() as folder:
        for _ in range(rounds):
            for writer, write in _writers().items():
                path = folder / "candles.parquet"
                before = time.process_time()
                write(path, table)
                middle = time.process_time()
                back = pq.read_table(path, use_threads=False)
                rows.setdefault(writer, []).append(
                    ((middle - before) * 1e3, (time.process_time() - middle) * 1e3)
                )
                sizes[writer] = path.stat().st_size / table.num_rows
                if not back.cast(table.schema).equals(table):
                    raise RuntimeError(f"{writer}: what is read is not what was written")
    print(f"{name}: {table.num_rows:,} candles")
    lines = [
        (
            writer,
            f"{sizes[writer]:.1f}",
            f"{sizes[writer] / sizes[OURS]:.2f}x",
            *(f"{np.median(figures):.0f}" for figures in zip(*rows[writer], strict=True)),
        )
        for writer in rows
    ]
    print_table(("writer", "B/candle", "vs ours", "write CPU ms", "read CPU ms"), lines)
    return sizes[OURS]


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def _sandbox(days: int) -> pa.Table:
    start = microseconds(YEAR[0]) // 1_000
    with Sandbox(Settings(weight_limit=0), process=True) as box:
        truth = box.truth("BTCUSDT", "1m", start, start + days * 86_400_000)
    return truth.to_arrow().select(OHLC.names).cast(OHLC)


def _synthetic(days: int) -> pa.Table:
    """A random walk with volatility of a day's clusters, in whole ticks and lots."""
    rng = np.random.default_rng(7)
    n = days * 1_440
    calm = np.exp(np.repeat(rng.normal(0, 0.5, n // 60), 60))
    ticks = np.round(3e6 * np.exp(np.cumsum(rng.normal(0, 5e-4, n) * calm))).astype(np.int64)
    opened = np.roll(ticks, 1) + rng.integers(-1, 2, n)
    reach = np.abs(rng.normal(0, 3e-4, (2, n)) * calm) * ticks
    high = np.maximum(opened, ticks) + np.round(reach[0]).astype(np.int64)
    low = np.minimum(opened, ticks) - np.round(reach[1]).astype(np.int64)
    trades = np.maximum(1, np.round(600 * calm * rng.lognormal(0, 0.6, n))).astype(np.int64)
    lots = np.round(trades * rng.lognormal(0, 0.5, n) * 1_500).astype(np.int64)
    taken = np.round(lots * rng.beta(8, 8, n)).astype(np.int64)
    # what trades of several prices sum to ends in any digit
    worth, taken_worth = (
        np.round(amount * (ticks + rng.normal(0, 100, n))) / 1e7 for amount in (lots, taken)
    )
    columns: dict[str, Any] = {
        "time": microseconds(YEAR[0]) + np.arange(n) * 60_000_000,
        **{k: v / 100 for k, v in zip(PRICES, (opened, high, low, ticks), strict=True)},
        "volume": lots / 1e5,
        "quote_volume": worth,
        "trades": trades,
        "taker_buy_volume": taken / 1e5,
        "taker_buy_quote_volume": taken_worth,
    }
    return pa.table(columns).cast(OHLC)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
