"""What is missing of the past, and the runs that fetch it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from helpers import at, table, window
from projects import Project, load_location

from dccd_core.config import Config, parse_config
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import trades_table
from dccd_pipelines.foreground import held
from dccd_pipelines.keys import asset_key
from dccd_pipelines.partitions import RANGE_START, range_tags
from dccd_pipelines.past import AGAIN, LOOK, due_runs, missing_past
from dccd_sandbox import Sandbox

HOUR = 3_600
BTC = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), HOUR)
ETH = Series("binance", Channel.OHLC, Symbol("ETH", "USDT"), HOUR)
DAYS = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 86_400)
TRADES = Series("kraken", Channel.TRADES, Symbol("BTC", "USD"))
JOBS = """\
histo_jobs:
  - {exchange: binance, pairs: [BTC/USDT, ETH/USDT], span: 1h, start: 2023-06-01}
  - {exchange: binance, pairs: [BTC/USDT], span: 1d, start: 2025-01-01}
  - {exchange: bybit, pairs: [BTC/USDT], span: 1d, start: 2020-01-01, schedule: off}
trades_jobs:
  - {exchange: kraken, pairs: [BTC/USD], start: 2026-05-30}
"""
NOW = at("2026-06-01T12:00") / SECOND


def store(config: Config, series: Series, *covered: Window) -> None:
    """Cover windows, each with a row at its start."""
    found = DataStore(config.settings.data_path)
    for wanted in covered:
        for period, part in series.periods(wanted):
            rows = (
                table([series.ceil(part.start)])
                if series.span
                else trades_table([Trade(part.start, None, str(part.start), 1.0, 1.0, buy=True)])
            )
            found.merge(series, period, rows, [part], "test")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration whose schedules have done their part: the running periods are there."""
    text = f"settings: {{data_path: ., timezone: UTC}}\n{JOBS}"
    found = parse_config(text, tmp_path / "config.yml")
    for series in (BTC, ETH, DAYS):
        store(found, series, window("2026-01-01", "2026-06-01T12:00"))
    store(found, TRADES, window("2026-06-01", "2026-06-01T12:00"))
    return found


def asked(requests: list[dg.RunRequest]) -> dict[str | None, dict[str, str]]:
    return {one.job_name: dict(one.tags) for one in requests}


def test_what_the_configured_start_lacks_is_asked_for_an_exchange_at_a_time(
    config: Config,
) -> None:
    requests, cursor = due_runs(config, (), None, NOW)
    assert asked(requests) == {
        "binance_ohlc_1d_past_job": range_tags(["2025", "2025"]),
        "kraken_trades_past_job": range_tags(["2026-05-30", "2026-05-31"]),
    }
    running = ["binance_ohlc_1d_past_job", "kraken_trades_past_job"]
    requests, cursor = due_runs(config, running, cursor, NOW + 60)
    assert requests == []

    store(config, DAYS, window("2025-01-01", "2026-01-01"))
    store(config, TRADES, window("2026-05-30", "2026-06-01"))
    requests, cursor = due_runs(config, (), cursor, NOW + 120)
    assert asked(requests) == {"binance_ohlc_1h_past_job": range_tags(["2023", "2025"])}
    assert requests[0].asset_selection == [asset_key(BTC), asset_key(ETH)]


def test_what_no_schedule_has_begun_yet_is_fetched_too(tmp_path: Path) -> None:
    """A schedule of days comes at midnight; after a start at noon nobody wants to wait for it."""
    config = parse_config(f"settings: {{data_path: .}}\n{JOBS}", tmp_path / "config.yml")
    requests, cursor = due_runs(config, (), None, NOW)
    assert asked(requests) == {
        "binance_ohlc_1d_past_job": range_tags(["2025", "2026"]),
        "kraken_trades_past_job": range_tags(["2026-06-01", "2026-06-01"]),
    }
    store(config, TRADES, window("2026-06-01", "2026-06-01T12:00"))
    requests, cursor = due_runs(config, (), cursor, NOW + 60)
    assert asked(requests) == {
        "binance_ohlc_1h_past_job": range_tags(["2023", "2026"]),
        "kraken_trades_past_job": range_tags(["2026-05-30", "2026-05-31"]),
    }
    assert missing_past(config, DAYS, at("2026-01-01T22:00") / SECOND) == [
        window("2025-01-01", "2026-01-01")
    ], "no candle of the new year has closed"


def test_a_run_is_about_nothing_that_is_complete(config: Config) -> None:
    """Dagster marks what a failed run was to make as failed."""
    store(config, DAYS, window("2025-01-01", "2026-01-01"))
    store(config, BTC, window("2023-06-01", "2026-01-01"))
    store(config, ETH, window("2024-01-01", "2025-01-01"))
    runs, cursor = list[dg.RunRequest](), None
    for minute in range(3):
        requests, cursor = due_runs(config, ["kraken_trades_past_job"], cursor, NOW + 60 * minute)
        runs += requests
        store(config, ETH, window("2025-01-01", "2026-01-01"))
    assert [(one.asset_selection, dict(one.tags)) for one in runs] == [
        ([asset_key(ETH)], range_tags(["2025", "2025"])),
        ([asset_key(ETH)], range_tags(["2023", "2023"])),
    ]


def test_older_than_what_gave_nothing_at_all_nothing_is_tried(tmp_path: Path) -> None:
    text = JOBS.replace("2026-05-30", "2026-03-20")
    config = parse_config(f"settings: {{data_path: .}}\n{text}", tmp_path / "config.yml")
    others = ["binance_ohlc_1h_past_job"]
    store(config, TRADES, window("2026-06-01", "2026-06-01T12:00"))

    def look(after: float, cursor: str | None) -> tuple[list[dict[str, str]], str]:
        requests, cursor = due_runs(config, others, cursor, NOW + after)
        return [dict(one.tags) for one in requests], cursor

    may, april = range_tags(["2026-05-01", "2026-05-31"]), range_tags(["2026-04-01", "2026-04-30"])
    runs, cursor = look(0, None)
    assert runs == [may]
    assert look(60, cursor)[0] == []
    store(config, TRADES, window("2026-05-01", "2026-05-31T23:00"))
    left = range_tags(["2026-05-31", "2026-05-31"])
    for after, wanted in ((60, [left]), (120, [april]), (180, []), (60 + AGAIN, [left])):
        runs, cursor = look(after, cursor)
        assert runs == wanted, after


def test_what_cannot_be_had_is_no_run_each_minute(config: Config) -> None:
    store(config, TRADES, window("2026-05-30", "2026-06-01T23:05"))
    others, cursor, runs = ["binance_ohlc_1h_past_job"], None, 0
    for minute in range(0, 12 * 60, 5):
        requests, cursor = due_runs(config, others, cursor, NOW + 6 * 3_600 + 60 * minute)
        runs += len(requests)
    assert runs == 2, "yesterday's end at two o'clock, and today, of which nothing is there"


def test_what_could_not_be_had_is_tried_again_later(config: Config) -> None:
    _, cursor = due_runs(config, (), None, NOW)
    store(config, DAYS, window("2025-01-01", "2025-06-01"))
    requests, cursor = due_runs(config, (), cursor, NOW + 60)
    assert set(asked(requests)) == {"binance_ohlc_1d_past_job"}, "there was progress"
    for after, names in (
        (120, {"binance_ohlc_1h_past_job"}),
        (180, set()),
        (180 + LOOK, set()),
        (180 + AGAIN, {"binance_ohlc_1d_past_job", "kraken_trades_past_job"}),
    ):
        requests, cursor = due_runs(config, (), cursor, NOW + after)
        assert set(asked(requests)) == names, after


def test_an_exchange_that_lacks_nothing_is_looked_at_once_an_hour(config: Config) -> None:
    for series in (BTC, ETH, DAYS):
        store(config, series, window("2023-06-01", "2026-06-01"))
    requests, cursor = due_runs(config, ["kraken_trades_past_job"], None, NOW)
    assert requests == []
    hole = DataStore(config.settings.data_path).folder(DAYS) / "2025.parquet"
    hole.unlink()
    requests, cursor = due_runs(config, ["kraken_trades_past_job"], cursor, NOW + LOOK - 1)
    assert requests == []
    requests, cursor = due_runs(config, ["kraken_trades_past_job"], cursor, NOW + LOOK)
    assert asked(requests) == {"binance_ohlc_1d_past_job": range_tags(["2025", "2025"])}


@pytest.mark.parametrize(
    ("hole", "found"),
    [
        (("2026-05-31T23:30", "2026-05-31T23:40"), [("2026-05-31T23:30", "2026-05-31T23:40")]),
        (("2026-06-01T01:00", "2026-06-01T02:00"), []),
        (("2026-05-29T01:00", "2026-05-29T02:00"), []),
        (("2026-05-30T23:00", "2026-05-31T01:00"), [("2026-05-30T23:00", "2026-05-31T01:00")]),
    ],
)
def test_a_hole_is_found_though_something_newer_is_stored(
    config: Config, hole: tuple[str, str], found: list[tuple[str, str]]
) -> None:
    """A stream's first row of today must not hide what yesterday lacks."""
    first, last = map(at, hole)
    store(config, TRADES, Window(at("2026-05-28"), first), Window(last, at("2026-06-01T12:00")))
    assert missing_past(config, TRADES, NOW) == [window(*one) for one in found]


def test_the_end_of_a_period_is_left_to_the_schedule_for_two_hours(config: Config) -> None:
    store(config, TRADES, window("2026-05-30", "2026-05-31T23:05"))
    midnight = at("2026-06-01") / SECOND
    for after, end in ((0, None), (3_600, None), (2 * 3_600, "2026-06-01")):
        missing = missing_past(config, TRADES, midnight + after)
        assert missing == ([window("2026-05-31T23:05", end)] if end else [])


def test_a_damaged_file_is_for_its_check(config: Config) -> None:
    store(config, TRADES, window("2026-05-30", "2026-06-01"))
    folder = DataStore(config.settings.data_path).folder(TRADES)
    (folder / "2026-05-31.parquet").write_bytes(b"x" * 100)
    assert missing_past(config, TRADES, NOW) == [window("2026-05-31", "2026-06-01")]
    table([0]).to_pandas().to_parquet(folder / "2026-05-31.parquet")
    assert missing_past(config, TRADES, NOW) == []


def test_the_sensor_brings_the_past_in_without_a_backfill(
    project: Project, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    year = datetime.now(UTC).year
    start = datetime(year - 1, 11, 1, tzinfo=UTC)
    project.write(f"pairs: [BTC/USDT], span: 1d, start: {start:%Y-%m-%d}")
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    location = load_location()

    def tick(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
        context = dg.build_sensor_context(
            instance, cursor, repository_def=location.get_repository_def()
        )
        return location.resolve_sensor_def("past").evaluate_tick(context)

    with project.instance() as instance:
        with held(project.store.root) as tags:
            job = location.resolve_job_def("binance_ohlc_1d_past_job")
            run = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
            ticked = tick(instance, None)
            assert ticked.run_requests == []
            assert ticked.skip_message == "dccd backfill runs, which fetches the same"
            instance.report_run_failed(run)
        ticked = tick(instance, None)
        assert ticked.run_requests is not None
        [request] = ticked.run_requests
        assert request.tags[RANGE_START] == str(year - 1)
        result = job.execute_in_process(
            instance=instance, tags=request.tags, asset_selection=request.asset_selection
        )
        assert result.success
        assert all(check.passed for check in result.get_asset_check_evaluations())
        late = datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=3)
        if datetime.now(UTC) > late:
            days = (datetime.now(UTC) - start).days
            assert days - 1 <= project.store.load(DAYS).height <= days
            assert tick(instance, ticked.cursor).run_requests == []
