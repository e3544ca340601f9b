"""The Dagster code location, the `dccd` command line, and the Python API of the two.

`load_config`, `run_once`, `run_backfill` and `DataStore` are all that most programs need.
"""

from dccd_core.config import ConfigError, load_config
from dccd_core.health import HealthMonitor
from dccd_core.store.datastore import DataStore
from dccd_pipelines.backfill import run_backfill, run_once

__all__ = ["ConfigError", "DataStore", "HealthMonitor", "load_config", "run_backfill", "run_once"]
