"""The last configuration that was good, kept beside the file: a mistake must not stop what runs."""

import logging
from collections.abc import Callable
from pathlib import Path

from dccd_core.config import Config, ConfigError, load_config, resolve_config_path
from dccd_core.store.files import write_bytes

log = logging.getLogger(__name__)


def load_or_last_good(
    path: Path | str | None = None, unset: Callable[[str], None] | None = None
) -> tuple[Config, str]:
    """The configuration, and why it is not the file's but the last good one; "" if it is.

    ConfigError if there never was a good one. `unset` is as for `load_config`.
    """
    found = resolve_config_path(path)
    spare = _spare(found)
    try:
        return load_config(found, unset), ""
    except ConfigError as error:
        if not spare.exists():
            raise
        return load_config(spare, unset), str(error)


def remember(path: Path) -> None:
    """Keep a copy of a file that is good."""
    spare = _spare(path)
    try:
        content = path.read_bytes()
        if not spare.exists() or spare.read_bytes() != content:
            write_bytes(spare, content)
            spare.chmod(path.stat().st_mode & 0o777)
    except OSError as error:  # a read-only folder: then there is no spare
        log.warning("no copy of %s can be kept: %s", path, error)


def _spare(path: Path) -> Path:
    return path.with_name(f".{path.name}.last-good")
