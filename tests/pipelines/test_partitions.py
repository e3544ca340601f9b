"""Years: which there are, and which a scheduled run looks at."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from helpers import BTC_1H

from dccd_core.config import Config, parse_config
from dccd_core.models import DAY, Channel, Series, Symbol
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


@pytest.fixture
def known(tmp_path: Path) -> Config:
    """A configuration that begins in 2020, with its data in a folder of its own."""
    text = (
        "settings: {data_path: ., timezone: UTC}\nhisto_jobs:\n"
        "  - {exchange: binance, pairs: [BTC/USDT, ETH/USDT], span: 1h, start: 2020-01-01}\n"
    )
    return parse_config(text, tmp_path / "config.yml")


@pytest.mark.parametrize(
    ("now", "years"),
    [
        ("2026-06-01T01:00", ["2026"]),
        ("2026-01-01T00:00", ["2025", "2026"]),
        ("2026-01-01T03:30", ["2025", "2026"]),
        ("2026-01-01T04:00", ["2026"]),
        ("2020-01-01T00:00", ["2020"]),
        ("2019-06-01", []),
    ],
)
def test_a_scheduled_run_looks_at_the_year_and_for_a_while_at_the_one_before(
    known: Config, now: str, years: list[str]
) -> None:
    assert due_periods(known, [BTC_1H], datetime.fromisoformat(now).replace(tzinfo=UTC)) == years


def test_the_newest_weeks_are_read_again_also_those_of_last_year(known: Config) -> None:
    weekly = replace(BTC_1H, span=7 * DAY)
    assert due_periods(known, [weekly], datetime(2026, 1, 26, tzinfo=UTC)) == ["2025", "2026"]
    assert due_periods(known, [weekly], datetime(2026, 2, 2, tzinfo=UTC)) == ["2026"]


@pytest.mark.parametrize(
    ("now", "days"),
    [
        ("2026-06-01T02:05", ["2026-05-31", "2026-06-01"]),
        ("2026-06-01T03:05", ["2026-06-01"]),
        ("2026-05-30T00:05", ["2026-05-30"]),
        ("2026-05-29T00:05", []),
    ],
)
def test_a_scheduled_run_looks_at_the_day_and_for_a_while_at_yesterday(
    tmp_path: Path, now: str, days: list[str]
) -> None:
    text = (
        "settings: {data_path: ., timezone: UTC}\ntrades_jobs:\n"
        "  - {exchange: binance, pairs: [BTC/USDT], start: 2026-05-30}\n"
    )
    config = parse_config(text, tmp_path / "config.yml")
    series = Series("binance", Channel.TRADES, BTC_1H.symbol)
    assert due_periods(config, [series], datetime.fromisoformat(now).replace(tzinfo=UTC)) == days


def test_the_year_is_that_of_utc(known: Config) -> None:
    tokyo = timezone(timedelta(hours=9))
    assert due_periods(known, [BTC_1H], datetime(2026, 1, 1, 3, tzinfo=tokyo)) == ["2025"]
