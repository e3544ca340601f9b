"""The checks of all series, once a day: backfills judge those that they touch as well."""

import dagster as dg

from dccd_pipelines.checks import check_keys
from dccd_pipelines.location import load_location_config


@dg.definitions
def defs() -> dg.Definitions:
    """One schedule; without a series to judge there is none."""
    config = load_location_config().config
    checks = check_keys(config.jobs)
    if not checks:
        return dg.Definitions()
    schedule = dg.ScheduleDefinition(
        name="quality_schedule",
        job=dg.define_asset_job("quality_job", selection=dg.AssetSelection.checks(*checks)),
        cron_schedule="30 0 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="the checks of every series",
    )
    return dg.Definitions(schedules=[schedule])
