"""Copies elsewhere: an asset for each remote, its job, and the sensor that starts it; and what may
be removed here once it is there."""

import dagster as dg

from dccd_core.offsite import RemoteStorage
from dccd_pipelines.location import load_location_config
from dccd_pipelines.offsite_run import (
    RETENTION,
    job_name,
    remote_asset,
    remote_key,
    remote_sensor,
    retention_asset,
)
from dccd_pipelines.schedules import asset_schedule


@dg.definitions
def defs() -> dg.Definitions:
    """Nothing, if no remote is configured."""
    config = load_location_config().config
    targets = RemoteStorage(config.storage).targets
    clears = config.storage.retention.wanted
    schedule = asset_schedule(
        "offsite__retention_job",
        RETENTION,
        "20 2 * * *",
        "removes here what is old and at every remote",
    )
    return dg.Definitions(
        assets=[
            *(remote_asset(config, target) for target in targets),
            *([retention_asset(config, targets)] if clears else []),
        ],
        jobs=[
            dg.define_asset_job(
                job_name(target), selection=dg.AssetSelection.assets(remote_key(target))
            )
            for target in targets
        ],
        sensors=[remote_sensor(config, target) for target in targets],
        schedules=[schedule] if clears else [],
    )
