"""What lacks before the first row, after the last one, or altogether, is told without a network."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers import BTC_1H, at, table, window

from dccd_core.config import Config, load_config
from dccd_core.incidents import State as Incidents
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.gaps import GapKind
from dccd_core.store.inventory import InventoryRow
from dccd_pipelines.health_run import daily_word
from dccd_pipelines.overview import overview
from dccd_pipelines.owed import owed

NOW = datetime(2026, 3, 1, 12, 20, tzinfo=UTC).timestamp()
TRADES = Series("binance", Channel.TRADES, BTC_1H.symbol)


def configured(folder: Path, text: str) -> Config:
    path = folder / "config.yml"
    path.write_text(f"settings: {{data_path: ./data, timezone: UTC}}\n{text}\n")
    return load_config(path)


def candles(folder: Path, start: str | None = "2026-01-01", more: str = "") -> Config:
    begins = f", start: {start}" if start else ""
    job = f"{{exchange: binance, pairs: [BTC/USDT], span: 1h{begins}{more}}}"
    return configured(folder, f"histo_jobs:\n  - {job}")


def put(config: Config, first: str, end: str) -> DataStore:
    store = DataStore(config.settings.data_path)
    for year, part in BTC_1H.periods(window(first, end)):
        store.merge(BTC_1H, year, table(list(range(*part, 3_600 * SECOND))), [part], "test")
    return store


def row(config: Config) -> InventoryRow:
    store = DataStore(config.settings.data_path)
    (found,) = store.inventory_rows(owed(config, NOW))
    return found


def test_what_lacks_before_the_first_row_and_after_the_last_one(tmp_path: Path) -> None:
    config = candles(tmp_path)
    store = put(config, "2026-01-11", "2026-02-01")
    missing = (10 + 28) * 24 + 12
    assert (row(config).rows, row(config).gaps, row(config).missing) == (504, missing, missing)
    holes = store.gaps(BTC_1H, owed=owed(config, NOW)[BTC_1H])
    assert [(gap.window, gap.kind) for gap in holes] == [
        (window("2026-01-01", "2026-01-11"), GapKind.MISSING),
        (window("2026-02-01", "2026-03-01T12:00"), GapKind.MISSING),
    ]
    assert (store.gaps(BTC_1H), store.inventory_rows()[0].missing) == ([], 0)
    told = daily_word(config, [], Incidents(), NOW)
    assert "No incident is open*" in told
    assert f"504 rows, {missing} gaps to fetch" in told
    assert overview(config, NOW)["gaps_to_fetch"].value == missing


def test_a_series_that_has_nothing_yet_lacks_all_of_it(tmp_path: Path) -> None:
    config = candles(tmp_path)
    assert (row(config).rows, row(config).missing) == (0, 59 * 24 + 12)
    store = DataStore(config.settings.data_path)
    (hole,) = store.gaps(BTC_1H, owed=owed(config, NOW)[BTC_1H])
    assert hole.window == window("2026-01-01", "2026-03-01T12:00")


def test_before_the_listing_nothing_is_owed_and_without_it_nobody_knows(tmp_path: Path) -> None:
    config = candles(tmp_path, start=None)
    assert (row(config).gaps, row(config).missing) == (None, None)
    store = put(config, "2026-02-01", "2026-02-02")
    assert row(config).missing == 27 * 24 + 12
    store.write_listing(BTC_1H, at("2026-01-31T22:30"))
    assert row(config).missing == 27 * 24 + 12 + 2


def test_nothing_is_owed_of_a_start_that_has_not_come(tmp_path: Path) -> None:
    assert owed(candles(tmp_path, start="2027-01-01"), NOW) == {}


@pytest.mark.parametrize(
    ("schedule", "until"),
    [
        ("", "2026-03-01T12:00"),
        (", schedule: '10 * * * *'", "2026-03-01T11:00"),  # it has had ten minutes
        (", schedule: '0 6 * * *'", "2026-03-01T06:00"),
        (", schedule: 'off'", "2026-03-01T12:00"),
    ],
)
def test_a_schedule_has_a_while_for_what_it_began(
    schedule: str, until: str, tmp_path: Path
) -> None:
    config = candles(tmp_path, more=schedule)
    assert owed(config, NOW) == {BTC_1H: window("2026-01-01", until)}


def test_trades_are_owed_to_a_while_before_they_were_asked_for(tmp_path: Path) -> None:
    config = configured(
        tmp_path, "trades_jobs:\n  - {exchange: binance, pairs: [BTC/USDT], start: 2026-02-27}"
    )
    until = at("2026-03-01T12:05") - 15 * 60 * SECOND
    assert owed(config, NOW) == {TRADES: Window(at("2026-02-27"), until)}
    assert (row(config).gaps, row(config).missing) == (1, 1)
