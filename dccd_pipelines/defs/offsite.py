"""Copies elsewhere: an asset for each remote, its job, and the sensor that starts it."""

import dagster as dg

from dccd_core.offsite import RemoteStorage
from dccd_pipelines.location import load_location_config
from dccd_pipelines.offsite_run import job_name, remote_asset, remote_key, remote_sensor


@dg.definitions
def defs() -> dg.Definitions:
    """Nothing, if no remote is configured."""
    config = load_location_config().config
    targets = RemoteStorage(config.storage).targets
    return dg.Definitions(
        assets=[remote_asset(config, target) for target in targets],
        jobs=[
            dg.define_asset_job(
                job_name(target), selection=dg.AssetSelection.assets(remote_key(target))
            )
            for target in targets
        ],
        sensors=[remote_sensor(config, target) for target in targets],
    )
