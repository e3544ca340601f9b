"""The Dagster instance: where runs and events are kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from dccd_core.config import Config, environment
from dccd_core.store.files import write_bytes

SETTINGS = Path(__file__).with_name("dagster.yaml")


def dagster_home(config: Config) -> Path:
    """$DAGSTER_HOME, else a folder below the data path that is made with our settings."""
    given = environment("DAGSTER_HOME")
    home = Path(given) if given else config.settings.data_path.absolute() / ".dccd" / "dagster"
    if not (home / "dagster.yaml").exists():
        write_bytes(home / "dagster.yaml", SETTINGS.read_bytes())
    return home


@contextmanager
def open_instance(config: Config) -> Iterator[dg.DagsterInstance]:
    """The instance in which the runs of a configuration are seen."""
    with dg.DagsterInstance.from_config(str(dagster_home(config))) as instance:
        yield instance
