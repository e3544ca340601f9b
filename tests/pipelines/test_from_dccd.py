"""docs/from-dccd.md: all of dccd 2.4 is in it, and what takes its place is there."""

import json
import re
import shlex

import pytest
from projects import REPOSITORY, Project

from dccd_core.config import ConfigError, load_config

PAGE = (REPOSITORY / "docs" / "from-dccd.md").read_text()
COMMANDS = "validate backfill collect start status add remove inventory ui"
KEYS = """
settings.data_path settings.timezone settings.ui_host settings.ui_port settings.ui_auth_token
storage.local_path storage.remotes storage.sync_interval
exchange pairs span format max_retries retry_delay channels time_step
alerts.webhook_url alerts.max_consecutive_errors
"""
NAMES = """
load_config resolve_config_path CollectorConfig DEFAULT_CONFIG_PATH
run_histo_job build_histo_scheduler run_once
OHLCBackfill KrakenBackfill make_job has_matching_jobs run_backfill
SyncService StreamManager HealthMonitor JobMetrics RemoteStorage DataStore
create_app BackfillTracker FromBinance import_orderbook DownloadBinanceData IODataBase
"""
FILES = """
{exchange}/ohlc/{BASE-QUOTE}/{span}/YYYY.parquet {exchange}/trades/{BASE-QUOTE}/YYYY-MM-DD.parquet
{exchange}/orderbook/{BASE-QUOTE}/YYYY-MM-DD.parquet
.dccd/metrics.json .dccd/dccd.log .dccd/last_sync.json .dccd/backfill_jobs.json
"""
FILE_OF_2_4 = """
settings:
  {{data_path: ./data, timezone: UTC, ui_host: 127.0.0.1, ui_port: 8080, ui_auth_token: null}}
storage:
  local_path: ""
  remotes: []
  sync_interval: 3600
histo_jobs:
  - {{exchange: binance, pairs: [BTC/USDT], span: 86400, format: parquet, max_retries: 5,
     retry_delay: 0.0}}
stream_jobs:
  - {{exchange: binance, pairs: [BTC/USDT], channels: [trades, book], time_step: 60}}
alerts: {{webhook_url: null, max_consecutive_errors: 3}}
exchanges: {{binance: {{rest_url: "{url}"}}}}
"""


def left(title: str) -> str:
    """The left column of a table of the page."""
    rows = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0].splitlines()
    return "\n".join(row.split(" | ")[0] for row in rows if row.startswith("| "))


@pytest.mark.parametrize(
    ("title", "names"),
    [("Commands", COMMANDS), ("Keys of config.yml", KEYS), ("Python", NAMES), ("Files", FILES)],
)
def test_all_of_dccd_2_4_has_its_row(title: str, names: str) -> None:
    column = left(title)
    lacking = [one for one in names.split() if not re.search(rf"(?<!\w){re.escape(one)}\b", column)]
    assert lacking == []


def test_what_takes_the_place_of_a_name_can_be_imported() -> None:
    named = re.findall(r"`(from [\w.]+ import [\w, ]+)`", PAGE)
    assert len(named) >= 12
    for line in named:
        exec(line, {})  # noqa: S102


@pytest.mark.parametrize("other", ["csv", "xlsx"])
def test_a_format_that_dccd_2_4_ignored_is_refused_with_its_line(
    project: Project, other: str
) -> None:
    text = FILE_OF_2_4.format(url=project.url).replace("format: parquet", f"format: {other}")
    project.path.write_text(text)
    with pytest.raises(ConfigError, match=rf"config\.yml:\d+: histo_jobs\[0\]\.format: {other}"):
        load_config(project.path)


def test_a_file_of_dccd_2_4_and_its_commands_work(project: Project) -> None:
    """The commands that end by themselves, as the page writes them; `start` has its own tests."""
    project.path.write_text(FILE_OF_2_4.format(url=project.url))
    assert str(load_config(project.path).series()[0]) == "binance/ohlc/1d/BTC-USDT"
    backfill = re.findall(r"`dccd (backfill [^`]*)`", PAGE)[0]
    backfill = backfill.replace(" X ", " binance ").replace(" A B ", " BTC/USDT ")
    added = "--exchange binance --pairs ETH/USDT --span 3600"
    steps = [
        ("validate", "binance"),
        (backfill.replace(" D ", " 2026-01-01 "), "BTC-USDT"),
        ("collect", "candles"),
        ("status", "binance/ohlc/1d/BTC-USDT"),
        ("inventory", "BTC/USDT"),
        ("inventory --gaps", ""),
        (f"add {added}", "added"),
        (f"remove {added}", "removed"),
    ]
    for command, said in steps:
        done = project.dccd(*shlex.split(command))
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert said in done.stdout + done.stderr, command
        assert "Traceback" not in done.stderr, command
    status = project.dccd("status", "--json")
    assert json.loads(status.stdout)
    assert (project.folder / "data" / ".dccd" / "logs" / "dccd.log").exists()
    assert list((project.folder / "data/binance/ohlc/BTC-USDT/1d").glob("20*.parquet"))
