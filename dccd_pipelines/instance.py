"""The Dagster instance: where runs and events are kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from dccd_core.config import Config, environment
from dccd_core.store.files import write_bytes

_PATTERN = frozenset("[]*?")
SETTINGS = Path(__file__).with_name("dagster.yaml")


def dagster_home(config: Config) -> Path:
    """$DAGSTER_HOME, else a folder below the data path that is made with our settings. ValueError
    if Dagster would not find its settings there."""
    given = environment("DAGSTER_HOME")
    home = Path(given) if given else config.settings.data_path.absolute() / ".dccd" / "dagster"
    if _PATTERN.intersection(str(home)):
        key = "DAGSTER_HOME" if given else "settings.data_path"
        raise ValueError(f"{key}: {home}: Dagster takes a path with [ ] * or ? for a pattern")
    if not (home / "dagster.yaml").exists():
        write_bytes(home / "dagster.yaml", SETTINGS.read_bytes())
    return home


@contextmanager
def open_instance(config: Config) -> Iterator[dg.DagsterInstance]:
    """The instance in which the runs of a configuration are seen."""
    with dg.DagsterInstance.from_config(str(dagster_home(config))) as instance:
        yield instance
