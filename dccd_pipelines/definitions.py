"""The code location: everything below `defs/`, and what holds for all of it."""

from pathlib import Path

import dagster as dg

from dccd_pipelines.location import load_location_config
from dccd_pipelines.resources import Collectors


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions. A run is one process: its work is threads that wait for an exchange."""
    location = load_location_config()
    shared = dg.Definitions(
        executor=dg.in_process_executor,
        resources={"collectors": Collectors(location.config)},
        metadata=location.metadata,
    )
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent), shared
    )
