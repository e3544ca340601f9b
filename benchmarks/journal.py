"""What does it cost to keep a thousand trades, on a day of none and on a day of a million?

The journal makes them durable at each tick, the fold puts them into the day's file once in a
while. Beside them: writing the day's file anew at each tick, and a file for each of 200 series.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import polars as pl
from lab import Aim, Options, main, print_table, print_title, scratch

from dccd_core.exchanges.trades import Trade
from dccd_core.models import Channel, Series, Symbol, Window
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.store.fold import fold
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import trades_table

BTC = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
DAY, START = "2026-01-01", 1_767_225_600_000_000
BATCH, SERIES, TICKS, MOST_MS = 1_000, 200, 5, 5.0
JOURNAL, FOLDED, REWRITTEN = (
    "journal, synced",
    "fold of 5 ticks into the day",
    "the day's file anew (polars)",
)
DISK = "as many bytes to this disk, synced"
Costs = dict[str, list[tuple[float, float]]]


def measure(options: Options) -> list[Aim]:
    """Both sizes of day in turn; medians."""
    print_title(__doc__)
    many = 100_000 if options.small else 1_000_000
    found = _days((0, many), options.rounds)
    lines = [
        (way, f"{rows:,}", f"{_cpu(costs[way]):.2f}", f"{_wall(costs[way]):.2f}")
        for way in (JOURNAL, DISK, FOLDED, REWRITTEN)
        for rows, costs in found.items()
    ]
    print_table((f"{BATCH:,} trades", "trades of the day", "CPU ms", "wall ms"), lines)
    shared, apart, syncs = _tick(options.rounds)
    print_table(
        (f"{SERIES} series, 5 trades each", "wall ms a tick"),
        [("one journal", f"{shared:.2f}"), ("a file each", f"{apart:.2f}")],
    )
    empty, full = (
        _cpu(found[rows][JOURNAL]) + _cpu(found[rows][FOLDED]) / TICKS for rows in (0, many)
    )
    durable = _wall(found[many][JOURNAL])
    what = f"{BATCH:,} trades, day of {many:,}"
    wanted = f"<= {MOST_MS:.0f} ms"
    return [
        Aim(f"{what}: durable", wanted, f"{durable:.2f} ms", durable <= MOST_MS),
        Aim(f"{what}: and folded, CPU", wanted, f"{full:.2f} ms", full <= MOST_MS),
        Aim("the same against an empty day", "<= 2x", f"{full / empty:.2f}x", full <= 2 * empty),
        Aim(f"fdatasyncs of a tick of {SERIES} series", "1", str(syncs), syncs == 1),
    ]


def _cpu(costs: list[tuple[float, float]]) -> float:
    return median(cpu for cpu, _ in costs)


def _wall(costs: list[tuple[float, float]]) -> float:
    return median(wall for _, wall in costs)


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    return (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3


def _trades(first: int, count: int) -> list[Trade]:
    return [
        Trade(time, time + 900, str(n), 67_000 + n % 997 / 100, 1e-5 * (n % 89), n % 3 == 0)
        for n in range(first, first + count)
        for time in [START + n * 60]
    ]


def _days(sizes: tuple[int, ...], rounds: int) -> dict[int, Costs]:
    """Ticks of a thousand trades on days that have so many, in turn."""
    ways = (JOURNAL, DISK, FOLDED, REWRITTEN)
    found: dict[int, Costs] = {rows: {way: [] for way in ways} for rows in sizes}
    with scratch() as folder:
        stores = {rows: _begin(folder / str(rows), rows) for rows in sizes}
        writers = {rows: JournalWriter(store.journal) for rows, store in stores.items()}
        beside = files.Appender(folder / "beside")
        os.sync()  # what was written above must not be waited for below
        for tick in range(10 * rounds):
            for rows, costs in found.items():
                batch, writer = _trades(rows + tick * BATCH, BATCH), writers[rows]
                costs[JOURNAL].append(_timed(partial(_append, writer, batch)))
                costs[DISK].append(_timed(partial(beside.append, bytes(50 * BATCH))))
                if tick % TICKS == TICKS - 1:
                    writer.rotate()
                    costs[FOLDED].append(_timed(partial(fold, stores[rows])))
        for rows, costs in found.items():
            writers[rows].close()
            if stores[rows].load(BTC).height != rows + 10 * rounds * BATCH:
                raise RuntimeError("trades are missing")
            for tick in range(3 * rounds):
                batch = _trades(rows + tick * BATCH, BATCH)
                costs[REWRITTEN].append(
                    _timed(partial(_rewrite, folder / f"{rows}.parquet", batch))
                )
        beside.close()
    return found


def _begin(folder: Path, rows: int) -> DataStore:
    """A day with so many trades, in our store and as one file beside it."""
    store = DataStore(folder)
    if rows:
        table = trades_table(_trades(0, rows))
        store.merge(BTC, DAY, table, [Window(START, START + rows * 60)], "rest")
        _frame(table).write_parquet(folder.with_suffix(".parquet"))
    return store


def _append(writer: JournalWriter, batch: list[Trade]) -> None:
    writer.append_trades(BTC, batch)
    writer.mark(BTC, Window(batch[0].time, batch[-1].time))
    writer.sync()


def _rewrite(path: Path, batch: list[Trade]) -> None:
    """As collectors do that keep a day in one file; not even durable."""
    frame = _frame(trades_table(batch))
    if path.exists():
        frame = pl.concat([pl.read_parquet(path).cast(dict(frame.schema)), frame])
        frame = frame.unique("trade_id", keep="last", maintain_order=True).sort("time")
    frame.write_parquet(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _frame(table: object) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def _tick(rounds: int) -> tuple[float, float, int]:
    """A tick of many series into one journal and into a file each, and its fdatasyncs."""
    many = [Series("binance", Channel.TRADES, Symbol(f"N{n}", "USDT")) for n in range(SERIES)]
    shared, apart, batch = [], [], _trades(0, 5)
    counted: list[int] = []
    real = os.fdatasync
    with scratch() as folder:
        writer = JournalWriter(folder / "journal")
        writers = [files.Appender(folder / f"{n}.bin") for n in range(SERIES)]
        content = repr(batch).encode()
        os.fdatasync = lambda file: (counted.append(file), real(file))[1]  # type: ignore[assignment,func-returns-value]
        try:
            for _ in range(5 * rounds):
                counted.clear()
                shared.append(_timed(lambda: _append_all(writer, many, batch))[1])
                syncs = len(counted)
                apart.append(_timed(lambda: [one.append(content) for one in writers])[1])
        finally:
            os.fdatasync = real
        writer.close()
        for one in writers:
            one.close()
        shutil.rmtree(folder / "journal")
    return median(shared), median(apart), syncs


def _append_all(writer: JournalWriter, many: list[Series], batch: list[Trade]) -> None:
    for series in many:
        writer.append_trades(series, batch)
    writer.sync()


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
