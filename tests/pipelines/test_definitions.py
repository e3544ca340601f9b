"""The code location: what it makes of a configuration, and of a broken one."""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from helpers import at
from projects import REPOSITORY, Project, load_location

from dccd_core.config import ConfigError, load_config
from dccd_pipelines.location import load_location_config
from dccd_pipelines.resources import Collectors

HEALTH = {dg.AssetKey(["health", name]) for name in ("overview", "old_runs")}
# Every asset: key | group | first year | check | pool | kinds | tags. Every schedule: name |
# cron | zone | status | job: its assets and checks.
SMALL = """
binance/ohlc/1d/1INCH-USDT | binance/ohlc_1d | 2017 | fresh | quality | binance | parquet | channel=ohlc exchange=binance pair=1INCH-USDT span=1d
binance/ohlc/1d/BTC-USDT | binance/ohlc_1d | 2017 | fresh | quality | binance | parquet | channel=ohlc exchange=binance pair=BTC-USDT span=1d
binance/ohlc/1w/BTC-USDT | binance/ohlc_1w | 2017 | fresh | quality | binance | parquet | channel=ohlc exchange=binance pair=BTC-USDT span=1w
binance/ohlc/4h/BTC-USDT | binance/ohlc_4h | 2017 | fresh | quality | binance | parquet | channel=ohlc exchange=binance pair=BTC-USDT span=4h
binance/ohlc/4h/ETH-USDT | binance/ohlc_4h | 2017 | fresh | quality | binance | parquet | channel=ohlc exchange=binance pair=ETH-USDT span=4h
binance_ohlc_1d_schedule | 0 0 * * * | UTC | RUNNING | binance_ohlc_1d_job: 1INCH-USDT BTC-USDT
binance_ohlc_4h_BTC_USDT_schedule | 7 */4 * * * | UTC | RUNNING | binance_ohlc_4h_BTC_USDT_job: BTC-USDT
binance_ohlc_4h_schedule | 0 */4 * * * | UTC | RUNNING | binance_ohlc_4h_job: ETH-USDT
health_overview_schedule | 50 0 * * * | UTC | RUNNING | health_overview_job: overview
old_runs_schedule | 10 1 * * * | UTC | RUNNING | old_runs_job: old_runs
quality_schedule | 30 0 * * * | UTC | RUNNING | quality_job: 1INCH-USDT:quality BTC-USDT:quality BTC-USDT:quality BTC-USDT:quality ETH-USDT:quality
"""  # noqa: E501
SMALL_JOBS = (
    "pairs: [BTC/USDT, 1INCH/USDT], span: 1d, start: 2019-01-01",
    "pairs: [ETH/USDT], span: 4h, start: 2020-01-01",
    "pairs: [BTC/USDT], span: 4h, start: 2017-06-01, schedule: '7 */4 * * *'",
    "pairs: [BTC/USDT], span: 1w, start: 2019-01-01, schedule: off",
)
EXAMPLE = """
binance/ohlc/1h/BTC-USDT | binance/ohlc_1h | 2020 | fresh | quality | binance | parquet | channel=ohlc exchange=binance pair=BTC-USDT span=1h
binance/ohlc/1h/ETH-USDT | binance/ohlc_1h | 2020 | fresh | quality | binance | parquet | channel=ohlc exchange=binance pair=ETH-USDT span=1h
binance/ohlc/1m/BTC-USDT | binance/ohlc_1m | 2020 | fresh | quality | binance | parquet | channel=ohlc exchange=binance pair=BTC-USDT span=1m
binance_ohlc_1h_schedule | 0 * * * * | UTC | RUNNING | binance_ohlc_1h_job: BTC-USDT ETH-USDT
binance_ohlc_1m_schedule | * * * * * | UTC | RUNNING | binance_ohlc_1m_job: BTC-USDT
health_overview_schedule | 50 0 * * * | UTC | RUNNING | health_overview_job: overview
old_runs_schedule | 10 1 * * * | UTC | RUNNING | old_runs_job: old_runs
quality_schedule | 30 0 * * * | UTC | RUNNING | quality_job: BTC-USDT:quality BTC-USDT:quality ETH-USDT:quality
"""  # noqa: E501


def snapshot(location: dg.Definitions) -> str:
    """All that a user of the catalog chooses by."""
    graph = location.resolve_asset_graph()
    lines = []
    for key in graph.get_all_asset_keys() - HEALTH:
        node = graph.get(key)
        years = node.partitions_def
        assert isinstance(years, dg.TimeWindowPartitionsDefinition)
        keys = years.get_partition_keys()
        assert keys[-1] == str(datetime.now(UTC).year), "the running year is a partition"
        assert keys == [str(year) for year in range(int(keys[0]), int(keys[-1]) + 1)]
        tags = [f"{k}={v}" for k, v in sorted(node.tags.items()) if not k.startswith("dagster/")]
        checks = sorted(check.name for check in node.check_keys)
        columns = [key.to_user_string(), node.group_name, keys[0], *checks]
        columns += [*(node.pools or ()), *node.kinds, " ".join(tags)]
        lines.append(" | ".join(columns))
    for schedule in location.schedules or []:
        assert isinstance(schedule, dg.ScheduleDefinition)
        job = location.resolve_job_def(schedule.job_name)
        layer = job.asset_layer
        keys = [key.path[-1] for key in layer.executable_asset_keys]
        checks = [
            f"{key.asset_key.path[-1]}:{key.name}" for key in layer.asset_graph.asset_check_keys
        ]
        pairs = " ".join(sorted(keys + checks))
        status = schedule.default_status.value
        columns = [schedule.name, str(schedule.cron_schedule), str(schedule.execution_timezone)]
        lines.append(" | ".join([*columns, status, f"{schedule.job_name}: {pairs}"]))
    return "\n" + "\n".join(sorted(lines)) + "\n"


def test_assets_and_schedules_of_a_small_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(*SMALL_JOBS)
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    location = load_location()
    assert snapshot(location) == SMALL
    steps = [
        one
        for one in location.assets or []
        if isinstance(one, dg.AssetsDefinition) and not one.keys <= HEALTH
    ]
    assert sorted((one.op.name, one.can_subset) for one in steps) == [
        ("binance_ohlc_1d", True), ("binance_ohlc_1w", True), ("binance_ohlc_4h", True),
    ]  # fmt: skip
    assert all(one.backfill_policy == dg.BackfillPolicy.single_run() for one in steps)
    assert location.executor is dg.in_process_executor
    assert set(location.metadata or {}) >= {"config"}
    assert "config_error" not in (location.metadata or {})


def test_texts_are_plain_and_say_where_it_comes_from(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(*SMALL_JOBS)
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    location = load_location()
    graph = location.resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.get_all_asset_keys() - HEALTH]
    texts = [node.description for node in nodes]
    assert "BTC/USDT 4h candles of Binance spot" in texts
    texts += [schedule.description for schedule in location.schedules or []]
    texts += [
        spec.description
        for one in location.assets or []
        if isinstance(one, dg.AssetsDefinition)
        for spec in one.check_specs
    ]
    for text in texts:
        assert text
        first = text.splitlines()[0]
        assert len(first) <= 80
        assert not re.search(r"[*`#<>]|\[.*\]\(", text), "the catalog renders no Markdown"
    for node in nodes:
        assert node.metadata["folder"].value.startswith("binance/ohlc/")
        assert node.metadata["protocol"].value.startswith("https://")
        columns = node.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns][:2] == ["time", "open"]


def test_the_example_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(REPOSITORY / "config.example.yml", tmp_path / "config.yml")
    monkeypatch.setenv("DCCD_CONFIG", str(tmp_path / "config.yml"))
    assert snapshot(load_location()) == EXAMPLE


def test_a_workspace_loads_in_processes_of_dagster(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "config.example.yml", tmp_path / "config.yml")
    (tmp_path / "dagster.yaml").write_bytes((REPOSITORY / "dagster.yaml").read_bytes())
    found = {"DCCD_CONFIG": str(tmp_path / "config.yml"), "DAGSTER_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    result = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | found, capture_output=True, text=True, check=False
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert "All code locations passed validation" in said


def test_a_thousand_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = ", ".join(f"N{n:04}/USDT" for n in range(1_000))
    (tmp_path / "config.yml").write_text(
        "settings: {data_path: ./data}\n"
        f"histo_jobs:\n  - {{exchange: binance, pairs: [{pairs}], span: 1h, start: 2020-01-01}}\n"
    )
    monkeypatch.setenv("DCCD_CONFIG", str(tmp_path / "config.yml"))
    location = load_location()
    assert len(location.resolve_asset_graph().get_all_asset_keys() - HEALTH) == 1_000
    schedule, *_ = location.schedules or []
    assert isinstance(schedule, dg.ScheduleDefinition)
    job = location.resolve_job_def(schedule.job_name)
    assert len(job.asset_layer.executable_asset_keys) == 1_000


GOOD = """\
settings: {data_path: ./data, timezone: UTC}
histo_jobs:
  - {exchange: binance, pairs: [BTC/USDT], span: 1d, start: 2024-01-01}
exchanges:
  binance: {proxy: "http://me:S3CRET@127.0.0.1:3128"}
alerts:
  webhook_url: ${HOOK}
"""


def test_a_broken_file_leaves_the_last_good_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yml"
    monkeypatch.setenv("DCCD_CONFIG", str(path))
    monkeypatch.setenv("HOOK", "https://hooks.slack.com/services/T0P5ECRET")
    path.write_text(GOOD)
    path.chmod(0o600)
    before = load_location()
    good = load_location_config().config.model_dump()

    broken = GOOD.replace("1d", "61").replace("http://me", "ftp://me").replace("UTC", '"${HOOK}"')
    path.write_text(broken)
    after = load_location()
    assert snapshot(after) == snapshot(before)
    assert load_location_config().config.model_dump() == good
    assert good["settings"]["data_path"] == tmp_path / "data"
    metadata = dict(after.metadata or {})
    error = str(metadata["config_error"].value)
    assert [line.partition(": ")[2].partition(": ")[0] for line in error.splitlines()] == [
        "settings.timezone", "histo_jobs[0].span", "exchanges.binance.proxy",
    ]  # fmt: skip
    assert str(metadata["config"].value) == str(path)
    page = after.resolve_asset_graph().get(dg.AssetKey(["health", "overview"])).metadata
    assert page["config_error"].value == error
    assert "ECRET" not in error
    assert "S3CRET" not in error
    [spare] = [one for one in tmp_path.iterdir() if one != path]
    assert spare.stat().st_mode & 0o777 == 0o600, "the copy is as secret as the file"

    path.unlink()
    assert "cannot be read" in str(dict(load_location().metadata or {})["config_error"].value)

    path.write_text(GOOD.replace("2024", "2023"))
    mended = load_location()
    assert "config_error" not in dict(mended.metadata or {})
    assert load_config(spare).histo_jobs == load_config(path).histo_jobs


def test_without_any_good_file_the_error_is_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"no config file: looked at \$DCCD_CONFIG \(not set\)"):
        load_location()
    (tmp_path / "config.yml").write_text(GOOD.replace("binance,", "binanse,"))
    monkeypatch.setenv("HOOK", "https://hooks.slack.com/services/T0P5ECRET")
    with pytest.raises(ConfigError, match="did you mean binance"):
        load_location()


def test_resources_hold_the_configuration(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    collectors = (load_location().resources or {})["collectors"]
    assert isinstance(collectors, Collectors)
    assert collectors.config == config
    assert config.start_of(config.series()[0]) == at("2024-12-01")
