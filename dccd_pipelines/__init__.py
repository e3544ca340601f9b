"""The Dagster code location, the `dccd` command line, and the Python API of the two.

`load_config`, `run_once`, `run_backfill` and `DataStore` are all that most programs need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dccd_core.config import ConfigError, load_config
    from dccd_core.health import HealthMonitor
    from dccd_core.store.datastore import DataStore
    from dccd_pipelines.backfill import run_backfill, run_once

__all__ = ["ConfigError", "DataStore", "HealthMonitor", "load_config", "run_backfill", "run_once"]

_MODULES = {
    "ConfigError": "dccd_core.config",
    "DataStore": "dccd_core.store.datastore",
    "HealthMonitor": "dccd_core.health",
    "load_config": "dccd_core.config",
    "run_backfill": "dccd_pipelines.backfill",
    "run_once": "dccd_pipelines.backfill",
}


def __getattr__(name: str) -> Any:
    """Import a name's module only when it is needed: polars takes half a second, Dagster one."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
