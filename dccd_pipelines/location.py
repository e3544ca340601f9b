"""The configuration that the code location was loaded with, and the last good one."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import dagster as dg

from dccd_core.config import Config, ConfigError, load_config, resolve_config_path
from dccd_core.store.files import write_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Location:
    """A configuration, what the UI shows about it, and why a newer one is not used."""

    config: Config
    metadata: Mapping[str, dg.MetadataValue]
    problem: str = ""


@cache
def load_location_config() -> Location:
    """The configuration of this process.

    A broken file at a reload must not unload schedules that work: the last one that was good is
    used, and the error is logged and shown. ConfigError if there never was a good one.
    """
    path = resolve_config_path()
    spare = path.with_name(f".{path.name}.last-good")
    shown: dict[str, dg.MetadataValue] = {"config": dg.MetadataValue.path(str(path))}
    try:
        config = load_config(path)
    except ConfigError as error:
        if not spare.exists():
            raise
        log.error("%s\nThe last good configuration is used until this is mended.", error)
        shown["config_error"] = dg.MetadataValue.text(str(error))
        return Location(load_config(spare), shown, str(error))
    _remember(path, spare)
    return Location(config, shown)


def _remember(path: Path, spare: Path) -> None:
    try:
        content = path.read_bytes()
        if not spare.exists() or spare.read_bytes() != content:
            write_bytes(spare, content)
            spare.chmod(path.stat().st_mode & 0o777)
    except OSError as error:  # a read-only folder: then there is no spare
        log.warning("no copy of %s can be kept: %s", path, error)
