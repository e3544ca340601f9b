"""Recorded candles through an exchange into Parquet: each digit arrives, each hole is explained."""

import csv
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from helpers import COLUMNS, at, collecting, plain, window

from dccd_core.config import Config
from dccd_core.models import SECOND, Series, Window
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_core.store.gaps import GapKind
from dccd_core.store.quality import judge
from dccd_pipelines.backfill import run_backfill
from dccd_sandbox import Sandbox, Settings

FOLDER = Path(__file__).parents[2].parent / "shared" / "market_data"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is not here")

MINUTE = 60 * SECOND
UNITTEST = "UNITTEST/BTC"
START, END = "2017-01-01", "2022-03-01"
# open time, open, high, low, close, volume of each recorded candle, read without our code
Recorded = dict[str, list[list[float]]]


def series_of(pair: str) -> Series:
    return Series.parse(f"binance/ohlc/1m/{pair.replace('/', '-')}")


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    unittest = json.loads((FOLDER / "UNITTEST_BTC-1m.json").read_text())
    with (FOLDER / "binance_vision_ADABTC-1m-2021-11-27.csv").open() as file:
        ada = [[float(cell) for cell in line[:6]] for line in csv.reader(file)]
    with (FOLDER / "btc-perp-20211231-20220201_1m.csv").open() as file:
        perp = [
            [at(line["timestamp"]) / 1_000, *(float(line[name]) for name in COLUMNS[1:6])]
            for line in csv.DictReader(file)
        ]
    kraken = json.loads((FOLDER / "kraken_ohlc_XXBTZUSD_1m_720rows.json").read_text())
    xbt = [
        [float(row[0]) * 1_000, *(float(row[n]) for n in (1, 2, 3, 4, 6))]
        for row in kraken["result"]["XXBTZUSD"]
    ]
    return {UNITTEST: unittest, "ADA/BTC": ada, "BTC/PERP": perp, "XBT/USD": xbt}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    converted = tmp_path_factory.mktemp("kraken") / "kraken.csv"
    rows = json.loads((FOLDER / "kraken_ohlc_XXBTZUSD_1m_720rows.json").read_text())
    with converted.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "open", "high", "low", "close", "volume", "trades"])
        for time, o, h, low, c, _, volume, count in rows["result"]["XXBTZUSD"]:
            writer.writerow([time, o, h, low, c, volume, count])
    files = {
        "UNITTESTBTC:UNITTEST:BTC": FOLDER / "UNITTEST_BTC-1m.json",
        "ADABTC:ADA:BTC": FOLDER / "binance_vision_ADABTC-1m-2021-11-27.csv",
        "BTCPERP:BTC:PERP": FOLDER / "btc-perp-20211231-20220201_1m.csv",
        "XBTUSD:XBT:USD": converted,
    }
    words = tuple(f"{symbol}:1m:{path}" for symbol, path in files.items())
    with Sandbox(Settings(symbols=(), candles=words, weight_limit=0)) as running:
        yield running


def assert_as_recorded(store: DataStore, recorded: Recorded) -> None:
    for pair, rows in recorded.items():
        found = plain(store.folder(series_of(pair)))
        assert found["time"].to_physical().to_list() == [round(row[0] * 1_000) for row in rows]
        for column, name in enumerate(COLUMNS[1:6], 1):
            assert found[name].to_list() == [row[column] for row in rows], (pair, name)


def holes(rows: list[list[float]]) -> list[Window]:
    """The holes of recorded candles, found without our code."""
    times = [round(row[0] * 1_000) for row in rows]
    return [Window(a + MINUTE, b) for a, b in pairwise(times) if b - a > MINUTE]


def test_files_through_dagster_runs_and_read_back_with_duckdb(
    box: Sandbox, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    job = {"exchange": "binance", "pairs": list(recorded), "span": "1m", "start": START}
    config = Config.model_validate(
        {
            "settings": {"data_path": str(tmp_path), "timezone": "UTC"},
            "histo_jobs": [job],
            "exchanges": {"binance": {"rest_url": box.binance_url}},
        }
    )
    box.reset()
    report = run_backfill(config, end=END)
    assert report.failed == []
    assert report.rows == sum(map(len, recorded.values()))
    store = DataStore(tmp_path)
    assert_as_recorded(store, recorded)
    asked = box.stats()["requests"]
    # The recordings take 63 pages, those with holes are asked four times. What came after the end
    # of a market, 5,000 pages, is known as soon as one page of the few in flight was found empty.
    assert asked < 400

    gaps = store.gaps(series_of(UNITTEST))
    assert [gap.window for gap in gaps] == holes(recorded[UNITTEST])
    assert {gap.kind for gap in gaps} == {GapKind.CONFIRMED_EMPTY}
    assert (len(gaps), sum(gap.candles for gap in gaps)) == (538, 717)
    for pair in recorded:
        assert store.missing_windows(series_of(pair), window(START, END)) == []
        if pair != UNITTEST:
            assert store.gaps(series_of(pair)) == []
    row = store.inventory().filter(pl.col("pair") == UNITTEST).row(0, named=True)
    assert (row["rows"], row["gaps"], row["missing"], row["error"]) == (13_681, 717, 0, None)
    quality = judge(store, series_of(UNITTEST), at(END))
    assert (quality.problems, quality.missing, quality.duplicates) == ([], [], 0)

    box.reset()
    again = run_backfill(config, end=END)
    assert (again.failed, again.rows, again.runs) == ([], 0, [])
    assert box.stats()["requests"] == 0


def test_files_through_the_core_alone_with_pages_of_another_length(
    box: Sandbox, recorded: Recorded, tmp_path: Path
) -> None:
    todo = [cell for pair in recorded for cell in cells(series_of(pair), window(START, END))]
    with collecting(box.binance_url, tmp_path, page=333) as collector:
        outcomes = list(collector.collect(todo))
    assert [outcome.error for outcome in outcomes] == [None] * len(todo)
    assert_as_recorded(DataStore(tmp_path), recorded)
    box.reset()
    with collecting(box.binance_url, tmp_path, page=333) as collector:
        again = list(collector.collect(todo))
    assert {outcome.merged for outcome in again} == {None}
    assert box.stats()["requests"] == 0


def test_holes_of_the_recording_are_told_apart_from_what_was_not_asked(
    box: Sandbox, recorded: Recorded, tmp_path: Path
) -> None:
    series = series_of(UNITTEST)
    first = holes(recorded[UNITTEST])[0]
    half = Window(at("2017-11-04T23:00"), first.start + 200 * MINUTE)
    with collecting(box.binance_url, tmp_path) as collector:
        assert [o.error for o in collector.collect(cells(series, half))] == [None]
    store = DataStore(tmp_path)
    until = half.end + 300 * MINUTE
    kinds = {gap.kind for gap in store.gaps(series, half.start, until)}
    assert kinds == {GapKind.CONFIRMED_EMPTY, GapKind.MISSING, GapKind.BEFORE_LISTING}
    gaps = store.gaps(series, half.start, until)
    assert [gap.window for gap in gaps if gap.kind is GapKind.MISSING] == [Window(half.end, until)]
    rows = store.load(series)
    expected = [row for row in recorded[UNITTEST] if row[0] * 1_000 < half.end]
    assert np.array_equal(rows["close"].to_numpy(), [row[4] for row in expected])
