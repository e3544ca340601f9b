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


@dg.definitions
def defs() -> dg.Definitions:
    """Nothing, if no remote is configured."""
    config = load_location_config().config
    targets = RemoteStorage(config.storage).targets
    clears = config.storage.retention.wanted
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
        schedules=[_schedule()] if clears else [],
    )


def _schedule() -> dg.ScheduleDefinition:
    selection = dg.AssetSelection.assets(RETENTION)
    return dg.ScheduleDefinition(
        name="offsite_retention_schedule",
        job=dg.define_asset_job("offsite__retention_job", selection=selection),
        cron_schedule="20 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="removes here what is old and at every remote",
    )
