"""An exchange that fails one answer in ten in every way: complete, or each missing window named."""

from pathlib import Path

import polars as pl
import pytest
from helpers import (
    BTC_1H,
    KLINES,
    NOW,
    assert_sound,
    assert_whole,
    collect,
    failed_windows,
    page_questions,
    plain,
    truth,
    window,
)

from dccd_core.intervals import subtract, union
from dccd_core.models import Series, Window
from dccd_core.rest import Retries
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings

WANTED = window("2024-11-01", "2025-02-01")
KINDS = ("429", "5xx", "slow", "cut", "truncated", "wrong", "empty", "missing_hour", "revised")


def every_fault(seed: int, rate: float = 0.1) -> list[Rule]:
    """All kinds but the ban, which ends a run; a page may be hit by the next if not by the one."""
    return [Rule(k, rate=rate, seed=seed, retry_after=0, seconds=0.02) for k in KINDS]


def assert_complete_or_named(
    data: Path, series: Series, expected: pl.DataFrame, failed: list[Window]
) -> None:
    """Every stored row is one that the exchange has, or a version that it gave out and revised;
    every row that is not stored lies in a window that was named."""
    store = DataStore(data)
    rows = store.load(series)
    assert plain(store.folder(series)).equals(rows)
    others = rows.join(expected, on=rows.columns, how="anti", nulls_equal=True)
    known = others.join(expected, on=["time", "open", "low", "trades"], how="semi")
    assert known.height == others.height, "rows that the exchange never had"
    absent = expected.join(rows, on="time", how="anti")["time"].to_physical()
    for time in absent:
        assert any(start <= time < end for start, end in failed), f"{time} is absent, not named"
    missing = store.missing_windows(series, WANTED)
    assert subtract(missing, failed) == []


@pytest.mark.parametrize("seed", range(4))
def test_all_faults_at_a_tenth_each_end_complete_or_named(seed: int, tmp_path: Path) -> None:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as box:
        box.set_faults(*every_fault(seed))
        outcomes = collect(box.binance_url, tmp_path, BTC_1H, WANTED, page=100)
        hits = box.stats()["faults"]
        expected = truth(box, BTC_1H, WANTED)
        assert sum(hits.values()) > 10
        assert_sound(tmp_path)
        assert_complete_or_named(tmp_path, BTC_1H, expected, failed_windows(outcomes))

        # a revised answer is the only fault that one good answer later cannot tell from the truth:
        # without it, what failed is fetched by the next run and nothing else is asked for
        box.set_faults()
        box.reset()
        rest = collect(box.binance_url, tmp_path, BTC_1H, WANTED, page=100)
        assert failed_windows(rest) == []
        asked = {question["startTime"] for question in page_questions(box)}
        assert bool(asked) == bool(failed_windows(outcomes))
        assert DataStore(tmp_path).load(BTC_1H)["time"].equals(expected["time"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "revised"])
def test_each_fault_alone_ends_equal_to_the_truth(kind: str, tmp_path: Path) -> None:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as box:
        box.set_faults(Rule(kind, rate=0.1, seed=3, retry_after=0, seconds=0.02))
        outcomes = collect(box.binance_url, tmp_path, BTC_1H, WANTED, page=25)
        assert box.stats()["faults"][kind] > 5
        assert failed_windows(outcomes) == []
        assert_whole(DataStore(tmp_path), BTC_1H, truth(box, BTC_1H, WANTED))


def test_what_cannot_be_had_is_named_with_its_reason_and_the_rest_is_stored(
    tmp_path: Path,
) -> None:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as box:
        bad = window("2024-12-04T08:00", "2024-12-05T04:00")
        box.set_faults(
            Rule("5xx", path=KLINES, query={"startTime": str(bad.start // 1_000)}),
        )
        found = collect(box.binance_url, tmp_path, BTC_1H, WANTED, page=20, retries=Retries(2, 0.0))
        errors = [outcome.error for outcome in found if outcome.error]
        (error,) = errors
        assert error.startswith(f"{bad}: ")
        assert "HTTP 50" in error
        assert failed_windows(found) == [bad]
        expected = truth(box, BTC_1H, WANTED)
        inside = pl.col("time").to_physical().is_between(*bad, closed="left")
        assert_whole(DataStore(tmp_path), BTC_1H, expected.filter(~inside))
        assert DataStore(tmp_path).missing_windows(BTC_1H, WANTED) == [bad]

        box.reset()
        again = collect(box.binance_url, tmp_path, BTC_1H, WANTED, page=20)
        assert failed_windows(again) == []
        assert sum(outcome.added for outcome in again) == 20
        # the hole and the three candles before it, and no page more
        asked = page_questions(box)
        assert len(asked) == 2
        first = min(int(question["startTime"]) for question in asked)
        assert first * 1_000 == bad.start - 3 * 3_600_000_000
        assert_whole(DataStore(tmp_path), BTC_1H, expected)


def test_a_ban_ends_the_run_with_few_requests_and_names_everything_that_is_missing(
    tmp_path: Path,
) -> None:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0, latency=0.01)) as box:
        box.set_faults(Rule("418", rate=0.2, seed=1, retry_after=120))
        found = collect(box.binance_url, tmp_path, BTC_1H, WANTED, page=20)
        total = -(-BTC_1H.count(WANTED) // 20)
        assert box.stats()["faults"]["418"] <= 8, "more than were under way in the eight threads"
        assert box.stats()["requests"] < total / 2
        failed = failed_windows(found)
        rows = DataStore(tmp_path).load(BTC_1H)
        assert rows.height + sum(map(BTC_1H.count, union(failed))) == BTC_1H.count(WANTED)
        assert all("ban" in (outcome.error or "ban") for outcome in found)
        assert any(outcome.error for outcome in found)
