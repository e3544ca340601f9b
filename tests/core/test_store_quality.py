"""The verdict on a whole series: what spoils it, and what does not."""

import shutil
from pathlib import Path

import pytest
from helpers import BTC_1H, at, candles, table, window

from dccd_core.models import SECOND, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.quality import Quality, judge
from dccd_core.store.schemas import candles_table

HOUR = 3_600 * SECOND
DAY = window("2024-01-01", "2024-01-02")
NOW = at("2024-01-02T00:30")


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    return DataStore(tmp_path)


def put(store: DataStore, wanted: Window, covered: Window | None = None) -> None:
    year = BTC_1H.period(wanted.start)
    store.merge(BTC_1H, year, table(list(range(*wanted, HOUR))), [covered or wanted], "test")


def verdict(store: DataStore) -> Quality:
    return judge(store, BTC_1H, NOW)


def test_a_whole_series_has_no_problem(store: DataStore) -> None:
    put(store, DAY)
    found = verdict(store)
    assert (found.rows, found.first, found.last) == (24, DAY.start, DAY.end - HOUR)
    assert (found.problems, found.missing, found.empty, found.duplicates) == ([], [], 0, 0)
    assert found.age == 1_800
    assert found.bytes == sum(path.stat().st_size for path in store.folder(BTC_1H).iterdir())


def test_confirmed_empty_is_counted_and_no_problem(store: DataStore) -> None:
    put(store, Window(DAY.start, DAY.start + 20 * HOUR), covered=DAY)
    found = verdict(store)
    assert (found.empty, found.problems) == (4, [])


def test_what_was_not_asked_between_two_things_that_were_is_missing(store: DataStore) -> None:
    put(store, DAY)
    put(store, window("2024-01-03", "2024-01-04"))
    found = verdict(store)
    assert found.missing == [window("2024-01-02", "2024-01-03")]
    assert found.problems == ["missing 24 candles: 2024-01-02T00:00:00Z … 2024-01-03T00:00:00Z"]


def test_many_holes_are_named_twenty_at_a_time(store: DataStore) -> None:
    times = [DAY.start + n * 2 * HOUR for n in range(30)]
    covered = [Window(time, time + HOUR) for time in times]
    store.merge(BTC_1H, "2024", table(times), covered, "test")
    assert len(verdict(store).problems) == 21
    assert verdict(store).problems[-1] == "9 more windows are missing"


def test_contradicting_prices_are_a_problem(store: DataStore) -> None:
    wrong = candles(list(range(*DAY, HOUR)))
    wrong.high[3] = wrong.low[3] - 1
    store.merge(BTC_1H, "2024", candles_table(wrong), [DAY], "test")
    assert verdict(store).insane == 1
    assert verdict(store).problems == ["1 candles with contradicting prices"]


def test_rows_twice_are_a_problem(store: DataStore) -> None:
    """As a file that somebody copied into the folder under another year makes them."""
    put(store, DAY)
    folder = store.folder(BTC_1H)
    shutil.copy(folder / "2024.parquet", folder / "2025.parquet")
    found = verdict(store)
    assert found.duplicates == 24
    assert "24 duplicated candles" in found.problems


def test_rows_that_the_ledger_does_not_cover_are_a_problem(store: DataStore) -> None:
    put(store, DAY, covered=Window(DAY.start, DAY.start + HOUR))
    assert "23 more rows than the ledger covers" in verdict(store).problems


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_damaged_file_is_the_problem(store: DataStore, content: bytes) -> None:
    put(store, DAY)
    path = store.folder(BTC_1H) / "2024.parquet"
    path.write_bytes(content)
    (problem,) = verdict(store).problems
    assert str(path) in problem


def test_nothing_stored_is_no_problem_by_itself(store: DataStore) -> None:
    found = verdict(store)
    assert (found.rows, found.age, found.problems) == (0, None, [])


def test_what_is_missing_before_the_configured_start_is_no_problem(store: DataStore) -> None:
    put(store, window("2025-01-01", "2025-01-02"))
    put(store, window("2025-02-01", "2025-02-02"))
    assert len(judge(store, BTC_1H, NOW).problems) == 1
    assert judge(store, BTC_1H, NOW, since=at("2025-02-01")).problems == []
    late = judge(store, BTC_1H, NOW, since=at("2025-01-31"))
    assert late.missing == [window("2025-01-31", "2025-02-01")]
