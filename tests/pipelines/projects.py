"""A user's folder with a config.yml, and what Dagster remembers of its runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dagster as dg
import program

from dccd_core.config import Config, load_config
from dccd_core.models import Series
from dccd_core.store.datastore import DataStore, as_time
from dccd_pipelines import definitions
from dccd_pipelines.assets import series_assets
from dccd_pipelines.instance import dagster_home, open_instance
from dccd_pipelines.keys import asset_key
from dccd_pipelines.location import load_location_config
from dccd_pipelines.partitions import range_tags, yearly
from dccd_pipelines.resources import Collectors
from dccd_sandbox import Rule

REPOSITORY = Path(__file__).parents[2]
KLINES = "/binance/api/v3/klines"
DCCD = [sys.executable, "-c", "from dccd_pipelines.entry import main; main()"]


class Project:
    """A folder with a configuration whose exchange is the sandbox. Failures are not waited for."""

    def __init__(self, folder: Path, url: str, home: Path) -> None:
        self.folder, self.url, self._home = folder, url, home
        self.path = folder / "config.yml"

    def write(self, *jobs: str, settings: str = "") -> Config:
        """A config.yml of jobs such as `pairs: [BTC/USDT], span: 1d, start: 2024-12-01`."""
        lines = [f"settings: {{data_path: ./data, timezone: UTC{settings}}}", "histo_jobs:"]
        quick = "max_retries: 2, retry_delay: 0"
        lines += [f"  - {{exchange: binance, {job}, {quick}}}" for job in jobs]
        lines += ["exchanges:", f"  binance: {{rest_url: {self.url}}}"]
        self.path.write_text("\n".join(lines) + "\n")
        config = load_config(self.path)
        if not dagster_home(config).joinpath("storage").exists():
            shutil.copytree(self._home, dagster_home(config), dirs_exist_ok=True)
        return config

    @property
    def config(self) -> Config:
        """The configuration as it is in the file."""
        return load_config(self.path)

    @property
    def store(self) -> DataStore:
        """What is stored."""
        return DataStore(self.config.settings.data_path)

    def instance(self) -> AbstractContextManager[dg.DagsterInstance]:
        """The persistent Dagster instance of the folder."""
        return open_instance(self.config)

    def environment(self) -> dict[str, str]:
        """What a process sees that works on this folder."""
        return {**os.environ, "PYTHONPATH": str(REPOSITORY), "DCCD_CONFIG": str(self.path)}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """`dccd` with these arguments, as a process."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = self.environment()
        return subprocess.Popen(
            [*DCCD, *arguments], cwd=self.folder, env=environment, **(pipes | options)
        )

    def dccd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What `dccd` with these arguments said."""
        return program.dccd(arguments, self.folder, self.environment())


def load_location() -> dg.Definitions:
    """The code location as a fresh process loads it."""
    load_location_config.cache_clear()
    return definitions.defs()


def materialize(
    project: Project,
    instance: dg.DagsterInstance,
    years: Sequence[str],
    tags: dict[str, str] | None = None,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    """One run over all series of a project and a range of years."""
    config = project.config
    return dg.materialize(
        [series_assets(config.series(), yearly(config))],
        instance=instance,
        resources={"collectors": Collectors(config)},
        tags=range_tags(years) | (tags or {}),
        raise_on_error=False,
        **options,
    )


def materialized(instance: dg.DagsterInstance, series: Series) -> dict[str, dict[str, Any]]:
    """The newest metadata of each materialized year."""
    found: dict[str, dict[str, Any]] = {}
    for record in instance.fetch_materializations(asset_key(series), limit=100).records:
        event = record.asset_materialization
        assert event is not None
        assert event.partition is not None
        metadata = {name: value.value for name, value in event.metadata.items()}
        found.setdefault(event.partition, metadata)
    return found


def observed(instance: dg.DagsterInstance, series: Series) -> dict[str, dict[str, Any]]:
    """The newest metadata of each observed year."""
    found: dict[str, dict[str, Any]] = {}
    for record in instance.fetch_observations(asset_key(series), limit=100).records:
        event = record.event_log_entry.asset_observation
        assert event is not None
        assert event.partition is not None
        metadata = {name: value.value for name, value in event.metadata.items()}
        found.setdefault(event.partition, metadata)
    return found


def spoil(kind: str, symbol: str, start: str | None = None, **options: Any) -> Rule:
    """A fault of all pages of a symbol, or of the one page that begins there."""
    query = {"symbol": symbol}
    if start is not None:
        query["startTime"] = str(as_time(start, 0) // 1_000)
    return Rule(kind, path=KLINES, query=query, **options)


def pages(box_stats: dict[str, Any]) -> int:
    """How many candle requests came, refused ones included."""
    return sum(box_stats["paths"].get(KLINES, {}).values())
