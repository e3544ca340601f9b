"""The Dagster code location, the `dccd` command line, and the Python API of the two.

`load_config`, `run_once`, `run_backfill` and `DataStore` are all that most programs need.
"""

from typing import TYPE_CHECKING, Any

from dccd_core.config import ConfigError, load_config
from dccd_core.health import HealthMonitor
from dccd_core.store.datastore import DataStore

if TYPE_CHECKING:
    from dccd_pipelines.backfill import run_backfill, run_once

__all__ = ["ConfigError", "DataStore", "HealthMonitor", "load_config", "run_backfill", "run_once"]


def __getattr__(name: str) -> Any:
    """Import Dagster only when it is needed: it takes a second."""
    if name in ("run_backfill", "run_once"):
        from dccd_pipelines import backfill

        return getattr(backfill, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
