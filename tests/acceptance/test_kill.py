"""kill -9 at fifty moments: nothing stored is lost, doubled or torn, no lock stays."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import polars as pl
import pytest
import workers
from helpers import (
    BTC_1H,
    KLINES,
    NOW,
    assert_sound,
    assert_whole,
    at,
    collect,
    plain,
    table,
    truth,
    window,
)

from dccd_core.intervals import subtract
from dccd_core.models import Series, Symbol, Window
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings

SERIES = [BTC_1H, replace(BTC_1H, symbol=Symbol("ETH", "USDT")), replace(BTC_1H, span=900)]
WANTED = window("2024-12-10", "2025-01-12")
BACKFILLS, MERGES = 35, 15


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0, latency=0.002)) as running:
        yield running


def begin(data: Path, *arguments: object) -> ForkServerProcess:
    """A backfill that has begun its work."""
    process = workers.start(workers.backfill, data, *arguments)
    mark = workers.mark_of(data)
    while process.exitcode is None and not mark.exists():
        time.sleep(0.001)
    mark.unlink()
    return process


def kill_after(process: ForkServerProcess, seconds: float) -> bool:
    """Whether it was still at work when the signal came."""
    process.join(seconds)
    assert process.pid is not None
    if process.exitcode is None:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def stored(data: Path, series: Series, expected: pl.DataFrame) -> int:
    """How many rows are there, once it is sure that they are right and the ledger does not lie."""
    store = DataStore(data)
    if not store.existing_periods(series):
        return 0
    rows = store.load(series)
    assert rows.equals(expected.filter(pl.col("time").is_in(rows["time"].implode())))
    missing = subtract([WANTED], store.covered(series))
    for gap in missing:
        expected = expected.filter(~pl.col("time").to_physical().is_between(*gap, closed="left"))
    assert rows.equals(expected), "the ledger says that rows are there which are not, or hides some"
    seen = plain(store.folder(series))
    assert seen.equals(rows.filter(pl.col("time").is_in(seen["time"].implode())))
    return rows.height


@pytest.mark.parametrize("kills", [BACKFILLS, pytest.param(500, marks=pytest.mark.soak)])
def test_a_backfill_killed_at_random_moments_goes_on_and_ends_complete(
    kills: int, box: Sandbox, tmp_path: Path
) -> None:
    rng = random.Random(20_261_122)
    expected = {series: truth(box, series, WANTED) for series in SERIES}
    arguments = (box.binance_url, SERIES, WANTED, 200)
    undisturbed = begin(tmp_path / "calm", *arguments)
    begun = time.monotonic()
    undisturbed.join()
    whole = time.monotonic() - begun
    assert undisturbed.exitcode == 0

    killed, partial, attempt, data = 0, 0, 0, tmp_path / "0"
    before = dict.fromkeys(SERIES, 0)
    tries = 0
    # On a busy machine kills come before the work has begun: then there are more of them.
    while tries < kills or (tries < 5 * kills and (partial < 5 or killed < kills // 2)):
        tries += 1
        killed += kill_after(begin(data, *arguments), rng.uniform(0, min(whole, 1.0) * 0.8))
        if data.exists():
            assert_sound(data)
        now = {series: stored(data, series, expected[series]) for series in SERIES}
        assert all(now[series] >= before[series] for series in SERIES), "stored rows are gone"
        done = all(now[series] == expected[series].height for series in SERIES)
        partial += any(now.values()) and not done
        before = now
        if done:  # begin again elsewhere
            attempt += 1
            data, before = tmp_path / str(attempt), dict.fromkeys(SERIES, 0)
    assert killed >= kills // 2
    assert partial >= 5, "the kills came too early or too late to say anything"

    for folder in {data, tmp_path / "0"}:
        last = begin(folder, *arguments)
        last.join()
        assert last.exitcode == 0
        assert_sound(folder)
        for series in SERIES:
            assert_whole(DataStore(folder), series, expected[series])
            assert DataStore(tmp_path / "calm").load(series).equals(expected[series])
            assert DataStore(folder).missing_windows(series, WANTED) == []


def test_a_writer_killed_while_it_merges_and_folds_leaves_a_state_that_goes_on(
    tmp_path: Path,
) -> None:
    rng = random.Random(42)
    store = DataStore(tmp_path)
    first = at("2024-01-01")
    reached = 0
    for _ in range(MERGES):
        process = workers.start(workers.merge, tmp_path, first)
        while not store.existing_periods(BTC_1H):
            time.sleep(0.005)
        assert kill_after(process, rng.uniform(0.02, 0.25))
        assert_sound(tmp_path)
        rows = store.load(BTC_1H)
        assert rows["time"].is_sorted()
        assert rows["time"].is_unique().all()
        minutes = rows["time"].to_physical() // 60_000_000
        assert rows["close"].to_list() == [workers.value(minute) for minute in minutes]
        asked = [time for gap in store.covered(BTC_1H) for time in range(*gap, workers.HOUR)]
        assert rows["time"].to_physical().to_list() == asked
        assert rows.height >= reached, "stored rows are gone"
        reached = rows.height
    # a later writer ends in the same rows as one that was never disturbed
    again = table(rows["time"].to_physical().to_list(), workers.value)
    merged = store.merge(BTC_1H, "2024", again, [], "test")
    assert (merged.added, merged.revised, merged.rows) == (0, 0, reached)
    assert plain(store.folder(BTC_1H)).equals(store.load(BTC_1H))
    leftovers = [path.name for path in store.folder(BTC_1H).iterdir() if path.name[0] == "."]
    assert leftovers == []


def test_a_run_after_kills_asks_for_what_is_missing_only(box: Sandbox, tmp_path: Path) -> None:
    # some pages never come, so that it is at work however late the kill is
    box.set_faults(Rule("slow", path=KLINES, rate=0.1, seed=1, seconds=600))
    process = begin(tmp_path, box.binance_url, SERIES[:1], WANTED, 24)
    store = DataStore(tmp_path)
    while not store.existing_periods(BTC_1H):
        time.sleep(0.001)
    assert kill_after(process, 0)
    box.set_faults()
    missing = sum(BTC_1H.count(gap) for gap in store.missing_windows(BTC_1H, WANTED))
    assert 0 < missing < BTC_1H.count(Window(*WANTED))
    outcomes = collect(box.binance_url, tmp_path, BTC_1H, WANTED)
    assert sum(outcome.added for outcome in outcomes) == missing
    assert_whole(store, BTC_1H, truth(box, BTC_1H, WANTED))
