"""Schedules of the series that are collected alike."""

from collections import defaultdict
from collections.abc import Sequence

import dagster as dg

from dccd_core.config import Config
from dccd_core.lineage import source_of, sources_first
from dccd_core.models import Channel, Series
from dccd_pipelines.assets import group_name
from dccd_pipelines.cron import default_cron
from dccd_pipelines.foreground import UNFINISHED
from dccd_pipelines.keys import asset_key
from dccd_pipelines.partitions import due_periods, range_tags
from dccd_pipelines.series_run import QUIET_TAG


def timetable(config: Config, channel: Channel) -> dict[tuple[str, str], list[Series]]:
    """The configured series of each group by their cron text; those switched off are left out."""
    found = defaultdict(list)
    for series in sorted(config.configured):
        cron = config.job_of(series).schedule or default_cron(series)
        if series.channel is channel and cron != "off":
            found[group_name(series), cron].append(series)
    return dict(found)


def series_schedules(config: Config, channel: Channel) -> list[dg.ScheduleDefinition]:
    """One schedule for each group of a channel and each cron text in it."""
    return [
        series_schedule(config, cron, series)
        for (_, cron), series in timetable(config, channel).items()
    ]


def series_schedule(config: Config, cron: str, series: Sequence[Series]) -> dg.ScheduleDefinition:
    """One schedule: what is missing of the running period, for all of its series.

    Candles that are built from shorter ones run right after these, in the same run.
    """
    name = group_name(series[0])
    if cron != default_cron(series[0]):
        name = f"{name}_{series[0].symbol.slug.replace('-', '_').replace('.', '_')}"
    run = with_sources(series)
    job = dg.define_asset_job(
        name=f"{name}_job",
        # Checks are more than half of a run's events, and Dagster stores fifty a second.
        selection=dg.AssetSelection.assets(*map(asset_key, run)).without_checks(),
        tags={QUIET_TAG: "true"},
    )

    @dg.schedule(
        name=f"{name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"{len(series)} pairs, {_when(series[0])}",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        going = dg.RunsFilter(job_name=f"{name}_job", statuses=UNFINISHED)
        if running := context.instance.get_runs(going, limit=1):
            return dg.SkipReason(f"run {running[0].run_id} has not ended; it collects up to now")
        periods = due_periods(config, run, context.scheduled_execution_time)
        if not periods:
            return dg.SkipReason("the configured start has not come yet")
        return dg.RunRequest(tags=range_tags(periods))

    return tick


def asset_schedule(
    job: str, key: dg.AssetKey, cron: str, description: str
) -> dg.ScheduleDefinition:
    """The schedule of one asset that is no series; its name is that of the job."""
    return dg.ScheduleDefinition(
        name=f"{job.removesuffix('_job')}_schedule",
        job=dg.define_asset_job(job, selection=dg.AssetSelection.assets(key)),
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )


def with_sources(series: Sequence[Series]) -> list[Series]:
    """Series with the candles that they are built from, these first."""
    found = dict.fromkeys(series)
    for one in series:
        source = source_of(one)
        while source is not None and source.channel is Channel.OHLC:
            found[source] = None
            source = source_of(source)
    return sources_first(found)


def _when(series: Series) -> str:
    return "when a candle has closed" if series.span else "the new trades of today"
