"""Live series: assets that the stream service fills, a sensor that tells of them, checks."""

import time
from collections.abc import Iterator

import dagster as dg

from dccd_core.config import Config
from dccd_core.live_series import live_series
from dccd_core.models import Series
from dccd_core.store.datastore import DataStore
from dccd_pipelines.freshness_policies import with_freshness
from dccd_pipelines.keys import asset_key
from dccd_pipelines.location import load_location_config
from dccd_pipelines.stream_catalog import live_days, live_spec, tell_days, unknown_live
from dccd_pipelines.stream_checks import describe_live, live_check_names, live_verdict


@dg.definitions
def defs() -> dg.Definitions:
    """Nothing without stream_jobs."""
    config = load_location_config().config
    if not config.stream_jobs:
        return dg.Definitions()
    series, partitions = unknown_live(config), live_days(config)
    known = [*live_series(config), *config.jobs]
    specs = [live_spec(one, partitions, known) for one in series]
    checks = _checks(config, series)
    return dg.Definitions(
        assets=with_freshness(config, specs),
        asset_checks=[checks] if checks else [],
        sensors=[_sensor(config)],
        schedules=[_schedule(config, series)] if checks else [],
    )


def _sensor(config: Config) -> dg.SensorDefinition:
    @dg.sensor(
        name="stream_catalog",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="tells what the stream service has stored",
    )
    def tell(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        events, cursor = tell_days(config, context.cursor, time.time())
        return dg.SensorResult(asset_events=events, cursor=cursor)

    return tell


def _checks(config: Config, series: list[Series]) -> dg.AssetChecksDefinition | None:
    by_key = {asset_key(one): one for one in series}
    if not by_key:
        return None

    @dg.multi_asset_check(
        name="live_checks",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description=describe_live(name))
            for key, one in by_key.items()
            for name in live_check_names(config, one)
        ],
        can_subset=True,
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        store = DataStore(config.settings.data_path)
        for key in sorted(context.selected_asset_check_keys, key=str):
            yield live_verdict(store, by_key[key.asset_key], key.name)

    return check


def _schedule(config: Config, series: list[Series]) -> dg.ScheduleDefinition:
    keys = [
        dg.AssetCheckKey(asset_key(one), name)
        for one in series
        for name in live_check_names(config, one)
    ]
    return dg.ScheduleDefinition(
        name="live_quality_schedule",
        job=dg.define_asset_job("live_quality_job", selection=dg.AssetSelection.checks(*keys)),
        cron_schedule="40 0 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="the checks of every live series",
    )
