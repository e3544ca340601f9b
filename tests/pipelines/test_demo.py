"""`dccd demo`: the whole way, as the README's first command shows it."""

import os
import re
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from projects import DCCD, REPOSITORY

from dccd_core.config import load_config
from dccd_core.store.datastore import DataStore


def test_the_demo_shows_the_main_job_offline(tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    result = subprocess.run(
        [*DCCD, "demo", "--folder", str(folder)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    said = result.stdout
    steps = [int(number) for number in re.findall(r"^(\d)\. ", said, re.MULTILINE)]
    assert steps == [1, 2, 3, 4, 5, 6]

    config = load_config(folder / "config.yml")
    store = DataStore(config.settings.data_path)
    rows = {str(row.series): row for row in store.inventory_rows()}
    assert rows.keys() == {
        "binance/ohlc/1h/BTC-USDT", "binance/ohlc/1h/ETH-USDT", "binance/ohlc/1m/BTC-USDT",
    }  # fmt: skip
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for series in config.series():
        row = rows[str(series)]
        start = datetime.fromtimestamp((config.start_of(series) or 0) / 1e6, UTC)
        least = (today - timedelta(days=1) - start) // timedelta(seconds=series.span)
        assert row.rows > least
        assert (row.gaps, row.missing, row.error) == (0, 0, None)
        assert f"{row.rows:,}" in said
    total = sum(row.rows for row in rows.values())
    assert f"{total:,} candles in 2 Dagster runs" in said
    chart = [line for line in said.splitlines() if "█" in line or "│" in line]
    assert len(chart) > 5
    assert str(folder / "data") in "".join(said.split())
    found = re.search(r"a sandbox at http://127\.0\.0\.1:(\d+)", said)
    assert found
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(found[1]))) != 0, "the sandbox is gone"
