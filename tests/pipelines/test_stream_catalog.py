"""Live series in the catalog: assets, lineage, what the sensor reports, and their checks."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from projects import Project, load_location

from dccd_core.config import Config, load_config
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import SCHEMAS, Loss, trades_table
from dccd_pipelines.column_schemas import COLUMNS
from dccd_pipelines.keys import asset_key
from dccd_pipelines.stream_catalog import tell_days

TRADES = Series.parse("binance/trades/ETH-USDT")
TODAY = datetime.now(UTC).date()
DAYS = [(TODAY - timedelta(days=back)).isoformat() for back in (3, 2, 1, 0)]
STREAMS = """
stream_jobs:
  - {exchange: binance, pairs: [ETH/USDT], channels: [trades, book, ohlc]}
  - {exchange: coinbase, pairs: [BTC/USD], channels: [trades, ohlc]}
  - {exchange: binance, pairs: [BTC/USDT], channels: [ohlc]}
"""


@pytest.fixture
def config(project: Project, monkeypatch: pytest.MonkeyPatch) -> Config:
    config = project.write("pairs: [BTC/USDT, ETH/USDT], span: 1m, start: 2026-01-01")
    with project.path.open("a") as file:
        file.write(STREAMS)
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    return load_config(config.path)


def add(config: Config, day: str, number: int, lost: tuple[Loss, ...] = ()) -> None:
    start = TRADES.period_window(day).start + number * SECOND
    trade = Trade(start, start, str(number), 1.0, 1.0, True)
    store = DataStore(config.settings.data_path)
    window = Window(start, start + SECOND)
    store.merge(TRADES, day, trades_table([trade]), [window], "stream", lost)


def test_the_columns_that_the_catalog_shows_are_those_of_the_files() -> None:
    assert set(COLUMNS) == set(Channel)
    for channel, shown in COLUMNS.items():
        assert [one.name for one in shown.columns] == SCHEMAS[channel].names
        assert all(one.description for one in shown.columns)


def test_assets_lineage_and_checks(config: Config) -> None:
    add(config, DAYS[0], 1)
    location = load_location()
    graph = location.resolve_asset_graph()
    live = {
        key.to_user_string(): graph.get(key)
        for key in graph.get_all_asset_keys()
        if graph.get(key).tags.get("live")
    }
    assert sorted(live) == [
        "binance/book/ETH-USDT",
        "binance/live_ohlc/1m/BTC-USDT",
        "binance/live_ohlc/1m/ETH-USDT",
        "binance/trades/ETH-USDT",
        "coinbase/live_ohlc/1m/BTC-USD",
        "coinbase/trades/BTC-USD",
    ]
    trades = live["binance/trades/ETH-USDT"]
    assert (trades.is_executable, trades.group_name) == (False, "binance/trades")
    assert live["binance/live_ohlc/1m/ETH-USDT"].group_name == "binance/live_ohlc_1m"
    assert trades.tags["channel"] == "trades"
    assert isinstance(trades.partitions_def, dg.TimeWindowPartitionsDefinition)
    today = datetime.now(UTC).date().isoformat()  # it may have begun since
    assert trades.partitions_def.get_partition_keys() == sorted({*DAYS, today})
    built = live["coinbase/live_ohlc/1m/BTC-USD"]
    assert [key.to_user_string() for key in built.parent_keys] == ["coinbase/trades/BTC-USD"]
    assert built.description.endswith("built from its trades")
    assert not live["binance/live_ohlc/1m/ETH-USDT"].parent_keys, "Binance sends candles"
    checks = {name: sorted(key.name for key in node.check_keys) for name, node in live.items()}
    assert checks["binance/live_ohlc/1m/ETH-USDT"] == ["agrees", "fresh", "quality"]
    assert checks["coinbase/live_ohlc/1m/BTC-USD"] == ["fresh", "quality"], "it has no 1m history"
    assert checks["binance/trades/ETH-USDT"] == ["contiguous", "fresh", "quality"]
    assert {one.name for one in location.sensors or []} == {
        "health", "past", "stream_catalog",
    }  # fmt: skip


def test_without_streams_there_is_no_sensor_of_theirs(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2026-01-01")
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    assert [one.name for one in load_location().sensors or []] == ["health", "past"]


def test_the_sensor_catches_up_from_the_files_and_repeats_nothing(
    config: Config, project: Project
) -> None:
    for number, day in enumerate(DAYS):
        add(config, day, number)
    repository = load_location().get_repository_def()
    sensor = repository.get_sensor_def("stream_catalog")
    with project.instance() as instance:

        def tick(cursor: str | None) -> tuple[list[tuple[str, bool]], str]:
            context = dg.build_sensor_context(instance, cursor=cursor, repository_def=repository)
            result = sensor.evaluate_tick(context)
            found: list[Any] = list(result.asset_events)
            assert {event.asset_key for event in found} <= {asset_key(TRADES)}
            told = [(e.partition, "day_closed" in e.metadata) for e in found]
            for event in found:
                instance.report_runless_asset_event(event)
            return told, str(result.cursor)

        told, cursor = tick(None)
        assert told == [(day, day != DAYS[-1]) for day in DAYS] or time.gmtime().tm_hour == 0
        assert tick(cursor)[0] == []
        keys = instance.get_materialized_partitions(asset_key(TRADES))
        assert keys == set(DAYS)


def test_what_an_event_says(config: Config) -> None:
    start = TRADES.period_window(DAYS[1]).start
    add(config, DAYS[1], 5, (Loss(start + 20 * SECOND, start + 30 * SECOND, "cut"),))
    [event], _ = tell_days(config, None, time.time())
    told = {name: value.value for name, value in event.metadata.items()}
    assert (told["dagster/row_count"], told["lost_windows"]) == (1, 1)
    assert (told["reconnects"], told["healed_rows"]) == (0, 0)
    assert told["first"] == told["last"] == start / SECOND + 5
    assert told["day_closed"] is True


def test_many_days_are_told_of_over_several_ticks(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, day in enumerate(DAYS):
        add(config, day, number)
    monkeypatch.setattr("dccd_pipelines.stream_catalog.MOST_EVENTS", 3)
    first, cursor = tell_days(config, None, time.time())
    second, cursor = tell_days(config, cursor, time.time())
    third, _ = tell_days(config, cursor, time.time())
    assert [event.partition for event in [*first, *second]] == DAYS
    assert third == []
    assert len(tell_days(config, "a cursor of another kind", time.time())[0]) == 3


def test_the_checks_of_live_series_run(config: Config, project: Project) -> None:
    start = TRADES.period_window(DAYS[2]).start
    add(config, DAYS[2], 5, (Loss(start + 20 * SECOND, start + 30 * SECOND, "cut by the test"),))
    job = load_location().resolve_job_def("live_quality_job")
    with project.instance() as instance:
        result = job.execute_in_process(instance=instance)
        found = {
            (e.asset_key.to_user_string(), e.check_name): e
            for e in result.get_asset_check_evaluations()
        }
    lost = found["binance/trades/ETH-USDT", "quality"]
    assert (lost.passed, lost.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert lost.description == "lost: cut by the test"
    agrees = found["binance/live_ohlc/1m/BTC-USDT", "agrees"]
    assert (agrees.passed, agrees.description) == (True, "nothing to compare yet")
    assert found["binance/trades/ETH-USDT", "contiguous"].passed
