"""Years: which there are, and which a scheduled run looks at."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from helpers import BTC_1H, at, table, window

from dccd_core.config import Config, parse_config
from dccd_core.models import DAY, SECOND, Series, Symbol
from dccd_core.store.datastore import DataStore
from dccd_pipelines.partitions import FIRST_YEAR, due_periods, range_tags, yearly

ETH_1H = replace(BTC_1H, symbol=Symbol("ETH", "USDT"))


def config(*starts: str) -> Config:
    """One job for each start; each has a pair of its own."""
    jobs = "\n".join(
        f"  - {{exchange: binance, pairs: [A{n}/USDT], span: 1h, start: {start}}}"
        for n, start in enumerate(starts)
    )
    text = f"settings: {{data_path: ./data, timezone: UTC}}\nhisto_jobs:\n{jobs}\n"
    return parse_config(text, Path("/here/config.yml"))


@pytest.mark.parametrize(
    ("starts", "first", "begins"),
    [
        (["2020-01-01"], None, 2020),
        (["2024-06-01", "2021-12-31", "2023-01-01"], None, 2021),
        (["2024-06-01", "null"], None, FIRST_YEAR),
        (["2020-01-01T01:00:00+02:00"], None, 2019),
        (["2020-01-01"], "2018", 2018),
        (["2020-01-01"], "2022", 2020),
    ],
)
def test_years_begin_with_the_earliest_start(
    starts: list[str], first: str | None, begins: int
) -> None:
    years = yearly(config(*starts), first)
    now = datetime.now(UTC).year
    assert years.get_partition_keys() == [str(year) for year in range(begins, now + 1)]
    window = years.time_window_for_partition_key("2024")
    assert (window.start, window.end) == (
        datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def test_the_tags_of_a_range_are_those_of_dagster() -> None:
    assert range_tags(["2024", "2025", "2026"]) == {
        "dagster/asset_partition_range_start": "2024",
        "dagster/asset_partition_range_end": "2026",
    }
    assert set(range_tags(["2024"]).values()) == {"2024"}


def stored_until(data: Path, series: Series, end: str) -> None:
    """Store a day of rows that ends there."""
    last = at(end)
    first = last - DAY * SECOND
    times = list(range(first, last, series.span * SECOND))
    for period, part in series.periods(window("2018-01-01", end)):
        rows = [time for time in times if part.start <= time < part.end]
        if rows:
            covered = [part._replace(start=max(part.start, first))]
            DataStore(data).merge(series, period, table(rows), covered, "test")


@pytest.fixture
def known(tmp_path: Path) -> Config:
    """A configuration that begins in 2020, with its data in a folder of its own."""
    text = (
        "settings: {data_path: ., timezone: UTC}\nhisto_jobs:\n"
        "  - {exchange: binance, pairs: [BTC/USDT, ETH/USDT], span: 1h, start: 2020-01-01}\n"
    )
    return parse_config(text, tmp_path / "config.yml")


@pytest.mark.parametrize(
    ("newest", "now", "years"),
    [
        ("2026-06-01", "2026-06-01T01:00", ["2026"]),
        ("2025-12-31T23:00", "2026-01-01T00:00", ["2025", "2026"]),
        ("2026-01-01", "2026-01-01T01:00", ["2025", "2026"]),
        ("2026-01-01T03:00", "2026-01-01T03:30", ["2025", "2026"]),
        ("2026-01-01T04:00", "2026-01-01T05:00", ["2026"]),
        ("2023-05-05", "2026-06-01", ["2023", "2024", "2025", "2026"]),
        ("2018-05-05", "2021-06-01", ["2020", "2021"]),
        ("2018-05-05", "2019-06-01", []),
        (None, "2026-06-01", ["2026"]),
        ("2026-06-01", "2025-06-01", ["2025"]),
    ],
)
def test_a_scheduled_run_looks_at_the_years_since_the_newest_row(
    known: Config, tmp_path: Path, newest: str | None, now: str, years: list[str]
) -> None:
    if newest:
        stored_until(tmp_path, BTC_1H, newest)
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert due_periods(known, [BTC_1H], moment) == years


def test_the_series_that_is_furthest_behind_decides(known: Config, tmp_path: Path) -> None:
    stored_until(tmp_path, BTC_1H, "2026-06-01")
    stored_until(tmp_path, ETH_1H, "2024-06-01")
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    assert due_periods(known, [BTC_1H, ETH_1H], moment) == ["2024", "2025", "2026"]
    empty = replace(BTC_1H, symbol=Symbol("NEW", "USDT"))
    assert due_periods(known, [BTC_1H, empty], moment) == ["2026"]


def test_the_year_is_that_of_utc(known: Config) -> None:
    tokyo = timezone(timedelta(hours=9))
    assert due_periods(known, [BTC_1H], datetime(2026, 1, 1, 3, tzinfo=tokyo)) == ["2025"]


@pytest.mark.parametrize("damage", [b"no parquet", None])
def test_a_file_that_cannot_be_read_is_due(
    known: Config, tmp_path: Path, damage: bytes | None
) -> None:
    stored_until(tmp_path, BTC_1H, "2025-06-01")
    [file] = DataStore(tmp_path).folder(BTC_1H).glob("*.parquet")
    if damage is None:
        pl.DataFrame({"what": [1]}).write_parquet(file)
    else:
        file.write_bytes(damage)
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    assert due_periods(known, [BTC_1H], moment) == ["2025", "2026"]
