"""`dccd demo`: the whole way, offline, against the sandbox."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from rich.console import Console

from dccd_core.config import Config, load_config
from dccd_core.messages import many
from dccd_core.store.datastore import DataStore
from dccd_pipelines.backfill import run_backfill
from dccd_pipelines.ports import free_port, is_free
from dccd_pipelines.progress import LiveProgress
from dccd_pipelines.tables import candle_chart, inventory_table, short_moment

PORT = 8765
CONFIG = """\
# Written by `dccd demo`. The exchange is a sandbox on this machine:
#   python -m dccd_sandbox --port {port}
settings:
  data_path: ./data
  timezone: UTC
histo_jobs:
  - exchange: binance
    pairs: [BTC/USDT, ETH/USDT]
    span: 1h
    start: {hours}
  - exchange: binance
    pairs: [BTC/USDT]
    span: 1m
    start: {minutes}
exchanges:
  binance:
    rest_url: {url}/binance
"""


def run_demo(folder: Path, out: Console) -> int:
    """Backfill two pairs over years and show the result; 0 if all of it came."""
    port = PORT if is_free("127.0.0.1", PORT) else free_port()
    with _sandbox(port) as url:
        config = _configure(folder, url, port)
        out.print(
            f"[bold]1. The configuration[/] {config.path}: valid, {len(config.series())} series"
        )
        out.print(f"[bold]2. The exchange[/] is a sandbox at {url}")
        out.print("[bold]3. The backfill[/], run by Dagster")
        with LiveProgress(out) as progress:
            report = run_backfill(config, progress=progress)
    for line in report.failed:
        out.print(line, style="red", markup=False)
    store = DataStore(config.settings.data_path)
    out.print(f"{report.rows:,} candles in {many(len(report.runs), 'Dagster run')}\n")
    out.print("[bold]4. The inventory[/]")
    out.print(inventory_table(store.inventory_rows(), short_moment(config)))
    _read_back(store, out)
    data = config.settings.data_path.absolute()
    out.print(f"[bold]6. Your turn.[/] The files are in {data}; any program reads them:")
    out.print(
        f"   duckdb.sql(\"FROM '{data}/binance/ohlc/BTC-USDT/1h/*.parquet'\")", highlight=False
    )
    out.print(f"   The UI: python -m dccd_sandbox --port {port} &  dccd start -c {config.path}")
    out.print("   Your own: cp config.example.yml config.yml, then dccd start")
    return 0 if report.ok else 1


def _configure(folder: Path, url: str, port: int) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    today = datetime.now(UTC).date()
    minutes = (today - timedelta(days=365)).isoformat()
    text = CONFIG.format(port=port, url=url, hours=f"{today.year - 5}-01-01", minutes=minutes)
    (folder / "config.yml").write_text(text)
    return load_config(folder / "config.yml")


def _read_back(store: DataStore, out: Console) -> None:
    out.print(
        "\n[bold]5. Read back with polars[/]: daily candles of the last weeks, from the 1 h ones"
    )
    hours = store.scan("binance/ohlc/1h/BTC-USDT")
    days = (
        hours.group_by_dynamic("time", every="1d")
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
        .tail(60)
        .collect()
    )
    out.print(candle_chart(days))


@contextmanager
def _sandbox(port: int) -> Iterator[str]:
    """The sandbox as a process of its own; its address."""
    command = [sys.executable, "-m", "dccd_sandbox", "--quiet", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://\S+", line)
            if not found:
                raise ValueError(f"the sandbox did not start: {line}")
            yield found[0]
        finally:
            process.terminate()
