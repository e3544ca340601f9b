"""Health: a sensor that turns what is wrong into alerts, freshness checks, and one page of all."""

import time
from collections.abc import Iterator, Sequence

import dagster as dg

from dccd_core.config import Config
from dccd_core.freshness import Freshness, State
from dccd_core.incidents import Register
from dccd_core.live_series import live_series
from dccd_pipelines.foreground import end_dead
from dccd_pipelines.health_run import (
    FRESH,
    Look,
    changed_checks,
    fresh_result,
    observer_of,
    tick_text,
)
from dccd_pipelines.keys import asset_key
from dccd_pipelines.location import Location, load_location_config
from dccd_pipelines.overview import overview
from dccd_pipelines.schedules import asset_schedule

OVERVIEW = dg.AssetKey(["health", "overview"])
OVERVIEW_JOB = "health_overview_job"


@dg.definitions
def defs() -> dg.Definitions:
    """The sensor, the checks of all series, the overview and its schedule."""
    location = load_location_config()
    config = location.config
    checks = _checks(config)
    return dg.Definitions(
        assets=[_overview(location)],
        asset_checks=[checks] if checks else [],
        sensors=[_sensor(location)],
        schedules=[
            asset_schedule(
                OVERVIEW_JOB, OVERVIEW, "50 0 * * *", "the page of all series, once a day"
            )
        ],
    )


def _sensor(location: Location) -> dg.SensorDefinition:
    @dg.sensor(
        name="health",
        job_name=OVERVIEW_JOB,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="incidents, alerts and the freshness of data",
    )
    def health(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        repository = context.repository_def
        if repository is None:
            raise ValueError("the sensor runs inside a code location only")
        keys = [key for key in repository.asset_graph.asset_check_keys if key.name != FRESH]
        jobs = [name for name in repository.job_names if not name.startswith("__")]
        end_dead(context.instance)
        look = Look(location.config, context.instance, jobs, keys, time.time(), location.problem)
        found = look.report()
        events, cursor = changed_checks(found, context.cursor)
        if _lacks_its_page(context.instance, found):
            first = dg.RunRequest(run_key="first")  # which Dagster starts once
            return dg.SensorResult(asset_events=events, cursor=cursor, run_requests=[first])
        # the list of ticks shows it
        known = Register(location.config.settings.data_path).read()
        told = dg.SkipReason(tick_text(found, known))
        return dg.SensorResult(asset_events=events, cursor=cursor, skip_reason=told)

    return health


def _lacks_its_page(instance: dg.DagsterInstance, found: Sequence[Freshness]) -> bool:
    """Whether there is something to show, and the page is still to be made: its schedule comes at
    night, and who has just begun looks for it now."""
    stored = any(one.state is not State.EMPTY for one in found)
    return stored and instance.get_latest_materialization_event(OVERVIEW) is None


def _checks(config: Config) -> dg.AssetChecksDefinition | None:
    """On demand; the sensor tells of each change by itself."""
    series = sorted({*config.configured, *live_series(config)})
    if not series:
        return None

    @dg.multi_asset_check(
        name="freshness",
        specs=[
            dg.AssetCheckSpec(
                FRESH,
                asset=asset_key(one),
                description="The newest row is as young as it should be.",
            )
            for one in series
        ],
        can_subset=True,
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.asset_key for key in context.selected_asset_check_keys}
        for one in observer_of(config).freshness(time.time()):
            if asset_key(one.series) in wanted:
                yield dg.AssetCheckResult(**fresh_result(one))

    return check


def _overview(location: Location) -> dg.AssetsDefinition:
    @dg.asset(
        key=OVERVIEW,
        metadata=location.metadata,  # Dagster's UI does not show that of a location
        group_name="health",
        description="Every series in one table: age, gaps, rows, state; and what is stored when",
        kinds={"table"},
    )
    def health_overview() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=overview(location.config))

    return health_overview
