"""How long does it take to say what is stored, of 2,000 series?

Each has a year of 1h candles. The files of all series are copies of one; what names a series is the
place of its file. Cold: a new process, and the files dropped from the page cache.
"""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import polars as pl
from lab import (
    YEAR,
    Aim,
    Options,
    Result,
    client,
    expect,
    in_turn,
    main,
    middle,
    print_table,
    print_title,
    scratch,
)

from dccd_core.models import Channel, Series, Symbol, Window, microseconds
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import OHLC
from dccd_sandbox import Sandbox, Settings

AIM = 0.3
OURS, READING, DCCD = "ours", "reading everything", "dccd 3.8.1"
SERIES = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 3_600)
YEAR_WINDOW = Window(*map(microseconds, YEAR))


def measure(options: Options) -> list[Aim]:
    """Ours and dccd's in turn, and reading all of it once."""
    print_title(__doc__)
    count = 200 if options.small else 2_000
    with scratch() as folder:
        ours, theirs = folder / "ours", folder / "dccd"
        one, other = _write(folder)
        _copy(one, ours, count)
        _copy(other, theirs, count)
        results = in_turn(
            options.rounds,
            {
                OURS: partial(_ask, ours, "ours_inventory", read=False),
                DCCD: partial(_ask, theirs, "dccd_inventory", "dccd"),
            },
            warm_up=False,
        )
        results[READING] = [_ask(ours, "ours_inventory", read=True)]
    for name, many in results.items():
        for one_result in many:
            expect(one_result["rows"], count, name)
    _print(results, count)
    warm = middle(results[OURS], "again")
    return [Aim(f"inventory of {count:,} series, warm", "<= 0.3 s", f"{warm:.2f} s", warm <= AIM)]


def _write(folder: Path) -> tuple[Path, Path]:
    """A year of candles as a file of ours and as one of dccd 3.8.1 (its columns and codec)."""
    with Sandbox(Settings(weight_limit=0), process=True) as box:
        frame = box.truth("BTCUSDT", "1h", *YEAR)
    store = DataStore(folder / "one")
    rows = frame.to_arrow().select(OHLC.names).cast(OHLC)
    path = store.merge(SERIES, "2025", rows, [YEAR_WINDOW], "rest").path
    nanoseconds = (pl.col("time").dt.epoch("us") * 1_000).alias("TS")
    other = folder / "other.parquet"
    frame.select(
        nanoseconds, "open", "high", "low", "close", "volume", "quote_volume", "trades"
    ).write_parquet(other, compression="snappy")
    return path, other


def _copy(file: Path, root: Path, count: int) -> None:
    for number in range(count):
        folder = root / "binance" / "ohlc" / f"N{number:04}-USDT" / "1h"
        folder.mkdir(parents=True)
        shutil.copyfile(file, folder / "2025.parquet")
    os.sync()  # only clean pages can be dropped


def _ask(root: Path, script: str, peer: str | None = None, **given: object) -> Result:
    for path in root.rglob("*.parquet"):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
    return client(script, peer, folder=str(root), **given)


def _print(results: dict[str, list[Result]], count: int) -> None:
    table = []
    for name, many in results.items():
        known = "again" in many[0]
        warm = [f"{middle(many, key):.2f}" if known else "" for key in ("again", "cpu_again")]
        each = f"{middle(many, 'again') / count * 1e6:.0f}" if known else ""
        cold = (f"{middle(many, 'wall'):.2f}", f"{middle(many, 'cpu'):.2f}")
        table.append((name, *cold, *warm, each))
    head = ("way", "cold wall s", "cold CPU s", "warm wall s", "warm CPU s", "warm µs a series")
    print_table(head, table)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
