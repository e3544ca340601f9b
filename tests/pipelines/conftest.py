"""A sandbox on the real clock, and folders that collect from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Project

from dccd_core.config import load_config
from dccd_pipelines.instance import dagster_home, open_instance
from dccd_pipelines.location import load_location_config
from dccd_sandbox import Sandbox, Settings


@pytest.fixture(scope="session")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(weight_limit=0)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Iterator[Sandbox]:
    """The default markets; every test starts without faults and counts."""
    running.reset()
    yield running
    running.reset()


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster home with databases and no runs: making them takes seconds, a copy does not."""
    folder = tmp_path_factory.mktemp("home")
    job = "{exchange: binance, pairs: [BTC/USDT], span: 1d}"
    text = f"settings: {{data_path: .}}\nhisto_jobs: [{job}]\n"
    (folder / "config.yml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        config = load_config(folder / "config.yml")
        with open_instance(config) as instance:
            assert instance.get_run_records() == []
        return dagster_home(config)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("DCCD_CONFIG", "DAGSTER_HOME", "XDG_CONFIG_HOME", "TZ"):
        monkeypatch.delenv(name, raising=False)
    load_location_config.cache_clear()
    yield
    load_location_config.cache_clear()


@pytest.fixture
def project(box: Sandbox, empty_home: Path, tmp_path: Path) -> Project:
    return Project(tmp_path, box.binance_url, empty_home)
