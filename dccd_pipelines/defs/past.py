"""The past: a sensor that starts runs for what is missing of it, and their jobs."""

import time
from collections.abc import Sequence

import dagster as dg

from dccd_core.models import Series
from dccd_pipelines.checks import check_keys
from dccd_pipelines.foreground import HOLD_TAG, UNFINISHED
from dccd_pipelines.keys import asset_key
from dccd_pipelines.location import load_location_config
from dccd_pipelines.past import due_runs, past_groups
from dccd_pipelines.schedules import with_sources
from dccd_pipelines.series_run import QUIET_TAG


@dg.definitions
def defs() -> dg.Definitions:
    """Nothing where no schedule is on."""
    config = load_location_config().config
    groups = past_groups(config)
    if not groups:
        return dg.Definitions()
    jobs = [
        dg.define_asset_job(
            name,
            selection=_with_checks(with_sources(series)),
            tags={QUIET_TAG: "true"},
            description="what is missing of the past",
        )
        for name, series in groups.items()
    ]

    @dg.sensor(
        name="past",
        jobs=jobs,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="fetches what is missing of the past, a run at a time for each exchange",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        unfinished = context.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
        if any(HOLD_TAG in run.tags for run in unfinished):
            return dg.SensorResult(skip_reason="dccd backfill runs, which fetches the same")
        running = {run.job_name for run in unfinished}
        requests, cursor = due_runs(config, running, context.cursor, time.time())
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return dg.Definitions(jobs=jobs, sensors=[look])


def _with_checks(series: Sequence[Series]) -> dg.AssetSelection:
    """The assets, and those of their checks that a run of theirs makes: these say what is left."""
    assets = dg.AssetSelection.assets(*map(asset_key, series)).without_checks()
    return assets | dg.AssetSelection.checks(*check_keys(series))
