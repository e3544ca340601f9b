"""The store needs no pandas: its import costs more than thirty candles, in every new process."""

import os
import subprocess
import sys
from pathlib import Path

STEPS = """
import sys, tempfile
from pathlib import Path
import numpy as np
from dccd_core.exchanges.base import Candles
from dccd_core.exchanges.trades import Trade
from dccd_core.models import Channel, Series, Symbol, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.fold import fold
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import BookRow, candles_table, trades_table

DAY = 1_767_225_600_000_000
MINUTE = 60_000_000
SYMBOL = Symbol("BTC", "USDT")
store = DataStore(Path(sys.argv[1]))
candles = Series("binance", Channel.OHLC, SYMBOL, 60)
for count, price in ((5, 1.0), (6, 1.0), (6, 2.0)):
    column = np.full(count, price)
    page = Candles(DAY + np.arange(count) * MINUTE, column, column, column, column, column)
    found = store.merge(
        candles, "2026", candles_table(page), [Window(DAY, DAY + count * MINUTE)], "rest"
    )
assert (found.rows, found.revised) == (6, 6)
books = Series("binance", Channel.BOOK, SYMBOL)
writer = JournalWriter(store.journal)
for name, prefix in (("binance", ""), ("bitmex", "x")):
    trades = Series(name, Channel.TRADES, SYMBOL)
    for received in (None, DAY):
        rows = [Trade(DAY + n, received, f"{prefix}{n}", 1.0, 1.0, True) for n in range(5)]
        table = trades_table(rows)
        found = store.merge(trades, "2026-01-01", table, [Window(DAY, DAY + 5)], "rest")
    assert found.rows == 5
    writer.append_trades(trades, rows)
for n in range(2):
    writer.append_books(books, [BookRow(DAY + n, DAY, [(1.0, 1.0)], [(2.0, 1.0)], True)])
    writer.rotate()
    assert not fold(store).failed
assert store.load(candles).height == 6 and store.load(trades).height == 5
assert store.inventory().height == 4
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = loaded & {"pandas", "dagster", "requests"}
assert not heavy, heavy
"""


def test_merging_folding_and_reading_import_no_pandas(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
