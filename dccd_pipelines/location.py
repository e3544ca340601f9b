"""The configuration that the code location was loaded with, and the last good one."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import dagster as dg

from dccd_core.config import Config, resolve_config_path
from dccd_core.last_good import load_or_last_good, remember

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
    shown: dict[str, dg.MetadataValue] = {"config": dg.MetadataValue.path(str(path))}
    config, problem = load_or_last_good(path)
    if problem:
        log.error("%s\nThe last good configuration is used until this is mended.", problem)
        shown["config_error"] = dg.MetadataValue.text(problem)
    else:
        remember(path)
    return Location(config, shown, problem)
