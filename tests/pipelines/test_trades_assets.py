"""Trades, derived spans and candles from trades as Dagster sees them, against the sandbox."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import polars as pl
import pytest
from projects import Project, load_location, materialized

from dccd_core.config import Config, load_config
from dccd_core.exchanges.kraken import Kraken
from dccd_core.models import Channel, Series
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import TRADES
from dccd_pipelines.assets import series_assets
from dccd_pipelines.backfill import run_backfill, run_once
from dccd_pipelines.checks import check_names, verdict
from dccd_pipelines.partitions import daily, due_periods, range_tags
from dccd_pipelines.resources import Collectors
from dccd_sandbox import Sandbox

BTC = Series.parse("binance/trades/BTC-USDT")
TODAY = datetime.now(UTC).date()
START = (TODAY - timedelta(days=2)).isoformat()
TRADES_JOB = f"{{exchange: binance, pairs: [BTC/USDT], start: {START}}}"


def write(project: Project, text: str) -> Config:
    base = project.url.rsplit("/", 1)[0]
    urls = "".join(f"  {name}: {{rest_url: {base}/{name}}}\n" for name in ("binance", "kraken"))
    project.write("pairs: [BTC/USDT], span: 1d")  # makes the Dagster home
    project.path.write_text(
        f"settings: {{data_path: ./data, timezone: UTC}}\n{text}\nexchanges:\n{urls}"
    )
    return load_config(project.path)


@pytest.fixture
def trades(project: Project, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    return write(project, f"trades_jobs:\n  - {TRADES_JOB}")


def truth(box: Sandbox, rows: pl.DataFrame) -> list[str]:
    first, last = (int(rows["time"][place].timestamp() * 1_000) for place in (0, -1))
    found = box.trades_truth("BTCUSDT", first, last + 1)
    return [str(one) for one in found["trade_id"].to_list()]


def test_what_could_not_be_fetched_is_told_by_one_check_only(tmp_path: Path) -> None:
    store, daily = DataStore(tmp_path), Series.parse("kraken/ohlc/1d/BTC-USDT")
    for series in (BTC, daily):
        told = {
            name: (found.passed, found.description)
            for name in check_names(series)
            for found in [verdict(store, series, name, "2026: no such pair")]
        }
        assert told.pop("quality") == (False, "2026: no such pair")
        assert [passed for passed, _ in told.values()] == [True]


def test_days_of_trades_are_stored_and_told(trades: Config, project: Project, box: Sandbox) -> None:
    days = [START, (TODAY - timedelta(days=1)).isoformat()]
    with project.instance() as instance:
        result = dg.materialize(
            [series_assets([BTC], daily(trades))],
            instance=instance,
            resources={"collectors": Collectors(trades)},
            tags=range_tags(days),
        )
        assert result.success
        told = materialized(instance, BTC)
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert sorted(told) == days
    store = DataStore(trades.settings.data_path)
    rows = store.load(BTC)
    assert rows["trade_id"].to_list() == truth(box, rows)
    assert sum(one["dagster/row_count"] for one in told.values()) == rows.height
    assert [one["gaps"] for one in told.values()] == [0, 0]
    assert "| trade_id | price |" in told[days[-1]]["preview"]
    assert "preview" not in told[days[0]]
    assert set(checks) == {"quality", "contiguous"}
    assert all(check.passed for check in checks.values())
    assert checks["contiguous"].metadata["trades"].value == rows.height


def test_run_once_goes_on_to_now_and_the_schedule_looks_at_the_open_days(
    trades: Config, box: Sandbox
) -> None:
    before = datetime.now(UTC) - timedelta(minutes=5)  # a day that has just begun has no trades
    report = run_once(trades)
    assert report.ok, report.failed
    store = DataStore(trades.settings.data_path)
    rows = store.load(BTC)
    assert rows["trade_id"].to_list() == truth(box, rows)
    assert store.existing_periods(BTC)[-1] >= f"{before:%Y-%m-%d}"
    now = datetime.now(UTC)
    assert due_periods(trades, [BTC], now)[-1] == now.date().isoformat()
    plan = run_backfill(trades, dry_run=True).plans[0]
    assert plan.requests is not None
    assert plan.requests < 5


def test_a_backfill_takes_files_of_days_that_the_exchange_does_not_serve(
    project: Project, box: Sandbox
) -> None:
    """Bybit itself has the last hour only: what a plan leaves out for that reason is still work."""
    write(project, f"trades_jobs:\n  - {{exchange: bybit, pairs: [BTC/USDT], start: {START}}}")
    base = project.url.rsplit("/", 1)[0]
    with project.path.open("a") as file:
        file.write(f"  bybit: {{rest_url: {base}/bybit, archive_url: {base}/archives/bybit}}\n")
    config, series = load_config(project.path), Series.parse("bybit/trades/BTC-USDT")
    day = series.period_window(START)
    (plan,) = run_backfill(config, end=day.end, dry_run=True).plans
    assert (plan.missing, plan.requests) == ([day], 2)
    report = run_backfill(config, end=day.end)
    assert report.ok, report.failed
    store = DataStore(config.settings.data_path)
    real = box.trades_truth("BTCUSDT", day.start // 1_000, day.end // 1_000)
    assert store.load(series).height == report.rows == real.height > 1_000
    (plan,) = run_backfill(config, end=day.end, dry_run=True).plans
    assert (plan.missing, plan.requests) == ([], 0)

    start = datetime.now(UTC).date().isoformat()
    today = project.dccd("backfill", "--start", start)  # has no file yet
    assert "BTC-USDT: only published files have it: trades are served for 1h" in today.stdout
    assert "up to date" not in today.stdout


def test_a_hole_in_the_ids_is_found_by_the_check(trades: Config, project: Project) -> None:
    assert run_backfill(trades, end=(TODAY - timedelta(days=1)).isoformat()).ok
    store = DataStore(trades.settings.data_path)
    assert verdict(store, BTC, "contiguous", None).passed
    rows = store.load(BTC)
    for path in store.folder(BTC).glob("*.parquet"):  # a slow machine has a tail beside the day
        path.unlink()
    covered = [BTC.period_window(START)]
    table = rows.filter(pl.int_range(pl.len()) != 1_000).to_arrow().select(TRADES.names)
    store.merge(BTC, START, table.cast(TRADES), covered, "test")
    found = verdict(store, BTC, "contiguous", None)
    assert not found.passed
    assert "1 trades are missing: ids" in str(found.description)


LINEAGE = """
histo_jobs:
  - {exchange: binance, pairs: [BTC/USDT], span: 10h, start: 2026-10-01}
  - {exchange: kraken, pairs: [BTC/USDT], span: 1w, start: 2026-10-01}
trades_jobs:
  - {exchange: binance, pairs: [ETH/USDT], start: 2026-11-01, schedule: off}
  - {exchange: binance, pairs: [BTC/USDT], start: 2026-11-10}
"""


def test_the_lineage_shows_what_is_built_from_what(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, LINEAGE)
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    location = load_location()
    graph = location.resolve_asset_graph()
    parents = {
        key.to_user_string(): sorted(one.to_user_string() for one in graph.get(key).parent_keys)
        for key in graph.get_all_asset_keys()
    }
    assert parents.pop("health/overview") == parents.pop("health/old_runs") == []
    assert parents == {
        "binance/ohlc/10h/BTC-USDT": ["binance/ohlc/2h/BTC-USDT"],
        "binance/ohlc/2h/BTC-USDT": [],
        "binance/trades/BTC-USDT": [],
        "binance/trades/ETH-USDT": [],
        "kraken/ohlc/1w/BTC-USDT": ["kraken/ohlc/1d/BTC-USDT"],
        "kraken/ohlc/1d/BTC-USDT": ["kraken/trades/BTC-USDT"],
        "kraken/trades/BTC-USDT": [],
    }
    jobs = {}
    for schedule in location.schedules or []:
        assert isinstance(schedule, dg.ScheduleDefinition)
        job = location.resolve_job_def(schedule.job_name)
        keys = sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
        jobs[schedule.name] = (schedule.cron_schedule, keys)
    assert jobs.pop("quality_schedule")[0] == "30 0 * * *"
    assert jobs.pop("health_overview_schedule") == ("50 0 * * *", ["health/overview"])
    assert jobs.pop("old_runs_schedule") == ("10 1 * * *", ["health/old_runs"])
    assert jobs == {
        "binance_ohlc_10h_schedule": (
            "0 */2 * * *",
            ["binance/ohlc/10h/BTC-USDT", "binance/ohlc/2h/BTC-USDT"],
        ),
        "kraken_ohlc_1w_schedule": (
            "0 0 * * 1",
            ["kraken/ohlc/1d/BTC-USDT", "kraken/ohlc/1w/BTC-USDT"],
        ),
        "binance_trades_schedule": ("5 * * * *", ["binance/trades/BTC-USDT"]),
    }
    checks = {key.to_user_string() for key in graph.asset_check_keys}
    assert "kraken/ohlc/1d/BTC-USDT:overlap" in checks
    assert "binance/trades/BTC-USDT:contiguous" in checks
    assert "kraken/trades/BTC-USDT:contiguous" not in checks
    days = graph.get(dg.AssetKey(["binance", "trades", "BTC-USDT"])).partitions_def
    assert isinstance(days, dg.TimeWindowPartitionsDefinition)
    keys = days.get_partition_keys()
    assert (keys[0], keys[-1]) == ("2026-10-01", datetime.now(UTC).date().isoformat())
    texts = {key.path[-2]: graph.get(key).description for key in graph.get_all_asset_keys()}
    assert texts["10h"] == "BTC/USDT 10h candles of Binance spot, built from 2h candles"
    assert texts["1d"] == "BTC/USDT 1d candles of Kraken, the older ones from its trades"


def test_derived_and_deep_candles_equal_the_truth_and_their_trades_are_told(
    project: Project, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kraken, "limits", replace(Kraken.limits, weight=1e6, burst=1e6))
    start = (TODAY - timedelta(days=31)).isoformat()
    config = write(
        project,
        "histo_jobs:\n"
        f"  - {{exchange: kraken, pairs: [BTC/USDT], span: 1h, start: {start}}}\n"
        f"  - {{exchange: kraken, pairs: [BTC/USDT], span: 3h, start: {start}}}\n"
        f"  - {{exchange: binance, pairs: [BTC/USDT], span: 10h, start: {start}}}",
    )
    report = run_backfill(config)
    assert report.ok, report.failed
    store = DataStore(config.settings.data_path)
    for key, span in (("kraken/ohlc/1h", 3_600), ("kraken/ohlc/3h", 10_800)):
        rows = store.load(f"{key}/BTC-USDT")
        assert rows.height > 300 // (span // 3_600)
        expected = served(box, rows, span)
        for name in ("time", "open", "high", "low", "close", "volume", "trades"):
            assert rows[name].to_list() == expected[name].to_list(), (key, name)
    assert store.load("binance/ohlc/10h/BTC-USDT").height >= 72
    fetched = Series.parse("kraken/trades/BTC-USDT")
    with project.instance() as instance:
        told = materialized(instance, fetched)
    assert sorted(told) == store.existing_periods(fetched)
    again = run_backfill(config)
    assert again.ok
    assert (again.rows, again.revised) == (0, 0)


def served(box: Sandbox, rows: pl.DataFrame, span: int) -> pl.DataFrame:
    """The sandbox's candles in the window of some rows."""
    first, last = (int(rows["time"][place].timestamp() * 1_000) for place in (0, -1))
    found: pl.DataFrame = box.truth("BTCUSDT", span, first, last + 1)
    return found


def test_all_groups_at_once_are_one_run_of_candles_and_one_of_trades(
    project: Project, box: Sandbox
) -> None:
    config = write(
        project,
        f"histo_jobs:\n  - {{exchange: binance, pairs: [BTC/USDT], span: 10h, start: {START}}}\n"
        f"trades_jobs:\n  - {{exchange: binance, pairs: [BTC/USDT], start: {START}}}",
    )
    report = run_backfill(config, parallel=True)
    assert report.ok, report.failed
    assert len(report.runs) == 2
    assert {s.channel for s in config.series()} == {Channel.OHLC, Channel.TRADES}
    store = DataStore(config.settings.data_path)
    assert store.load("binance/ohlc/10h/BTC-USDT").height >= 4
    seen: dict[str, Any] = box.stats()
    assert seen["requests"] > 2


def test_validate_online_tells_what_can_be_had_and_what_not(project: Project, box: Sandbox) -> None:
    write(
        project,
        "histo_jobs:\n"
        f"  - {{exchange: binance, pairs: [BTC/USDT, BTC/USDTT], span: 1h, start: {START}}}\n"
        f"trades_jobs:\n  - {TRADES_JOB}\n"
        "stream_jobs:\n  - {exchange: binance, pairs: [BTC/USDT, XXX/USDT], channels: [trades]}",
    )
    assert project.dccd("validate").returncode == 0
    found = project.dccd("validate", "--online")
    said = found.stdout
    assert found.returncode == 1
    assert "BTC/USDTT: Binance spot has no such pair; did you mean BTC/USDT" in said
    assert "XXX/USDT: Binance spot has no such pair" in said
    trades = [one for one in said.splitlines() if one.startswith("binance/trades/BTC-USDT")][-1]
    needed = box.trades_truth("BTCUSDT", f"{START}T00:00", datetime.now(UTC).isoformat()).height
    assert int(trades.split()[-3]) == pytest.approx(needed / 1_000, rel=0.3, abs=2)
    assert "not known" not in said
    paths = box.stats()["paths"]
    assert not any("klines" in path and sum(n.values()) > 4 for path, n in paths.items())
    assert not project.folder.joinpath("data", "binance").exists() or not list(
        project.folder.joinpath("data", "binance").rglob("*.parquet")
    )


class Refusing(BaseHTTPRequestHandler):
    """An exchange that refuses this address."""

    status = 451

    def do_GET(self) -> None:  # http.server's name
        body = b"Service unavailable from a restricted location"
        self.send_response(self.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("status", [451, 403])
def test_validate_online_tells_of_a_refused_address(
    project: Project, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refusing, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        project.url = f"http://127.0.0.1:{server.server_port}/binance"
        write(
            project,
            f"histo_jobs:\n  - {{exchange: binance, pairs: [BTC/USDT], span: 1h, start: {START}}}\n"
            f"trades_jobs:\n  - {TRADES_JOB}\n"
            "stream_jobs:\n  - {exchange: kraken, pairs: [BTC/USD], channels: [book]}",
        )
        found = project.dccd("validate", "--online")
        server.shutdown()
    said = " ".join(found.stdout.split())
    assert found.returncode == 1
    assert said.count(f"Binance refuses this address (HTTP {status})") == 2
    assert said.count(f"Kraken: HTTP {status}") == 1
    assert "0 requests" in said


def test_validate_tells_of_a_channel_that_needs_a_key(project: Project) -> None:
    write(project, "histo_jobs: [{exchange: binance, pairs: [BTC/USDT], span: 1h}]")
    jobs = "stream_jobs: [{exchange: coinbase, pairs: [BTC/USD], channels: [level3]}]\n"
    project.path.write_text(f"settings: {{data_path: ./data}}\n{jobs}")
    found = project.dccd("validate", "--online")
    assert found.returncode == 1
    assert "level3: no such channel; without a key there are: book," in found.stderr
