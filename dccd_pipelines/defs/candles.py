"""Candles: an asset per series; a step, a schedule and a check for those collected alike."""

from collections import defaultdict
from collections.abc import Iterator

import dagster as dg

from dccd_core.config import Config
from dccd_core.exchanges import load
from dccd_core.models import Series, span_label
from dccd_pipelines.candle_run import CHECK, QUIET_TAG, CandleRun, Event
from dccd_pipelines.cards import COLUMNS
from dccd_pipelines.cron import closing_cron
from dccd_pipelines.keys import asset_key
from dccd_pipelines.location import load_location_config
from dccd_pipelines.partitions import due_years, year_tags, yearly
from dccd_pipelines.resources import Collectors

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.definitions
def defs() -> dg.Definitions:
    """The assets and schedules of all configured candles."""
    config = load_location_config().config
    partitions = yearly(config)
    steps = [candle_assets(series, partitions) for series in groups(config).values()]
    schedules = [
        candle_schedule(config, cron, series) for (_, _, cron), series in timetable(config).items()
    ]
    return dg.Definitions(assets=steps, schedules=[*schedules, quality_schedule(config)])


def groups(config: Config) -> dict[tuple[str, int], list[Series]]:
    """The configured series that are collected together: those of one exchange and span."""
    found = defaultdict(list)
    for series in sorted(config.series()):
        found[series.exchange, series.span].append(series)
    return dict(found)


def timetable(config: Config) -> dict[tuple[str, int, str], list[Series]]:
    """The series of each group by their cron text; those switched off are left out."""
    found = defaultdict(list)
    for series in sorted(config.series()):
        cron = config.job_of(series).schedule or closing_cron(series.span)
        if cron != "off":
            found[series.exchange, series.span, cron].append(series)
    return dict(found)


def candle_assets(
    series: list[Series], partitions: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    """One step that collects all series of an exchange and span, or any part of them."""
    by_key = {asset_key(one): one for one in series}

    @dg.multi_asset(
        name=group_name(series[0])
        if len({(s.exchange, s.span) for s in series}) == 1
        else "candles",
        specs=[candle_spec(one, partitions) for one in series],
        check_specs=[candle_check(one) for one in series],
        can_subset=True,
        pool=series[0].exchange,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def candles(
        context: dg.AssetExecutionContext, collectors: dg.ResourceParam[Collectors]
    ) -> Iterator[Event]:
        judged = {by_key[check.asset_key] for check in context.selected_asset_check_keys}
        selected = [by_key[key] for key in sorted(context.selected_asset_keys)]
        years = context.partition_keys if selected else []  # checks alone have none
        run = CandleRun(collectors, context.run.tags, years, judged)
        yield from run.events(selected) if selected else run.checks()

    return candles


def group_name(series: Series) -> str:
    """The name of the step and the job that collect a series: binance_ohlc_1h."""
    return f"{series.exchange}_ohlc_{span_label(series.span)}"


def candle_spec(series: Series, partitions: dg.TimeWindowPartitionsDefinition) -> dg.AssetSpec:
    """The asset of one series."""
    exchange, label = load(series.exchange), span_label(series.span)
    return dg.AssetSpec(
        asset_key(series),
        description=f"{series.symbol} {label} candles of {exchange.title}",
        partitions_def=partitions,
        group_name=f"{series.exchange}/ohlc_{label}",
        kinds={"parquet"},
        tags={
            "exchange": series.exchange,
            "channel": str(series.channel),
            "span": label,
            "pair": series.symbol.slug,
        },
        metadata={
            "folder": dg.MetadataValue.path(str(series.path)),
            "protocol": dg.MetadataValue.url(exchange.docs),
            "dagster/column_schema": COLUMNS,
        },
    )


def candle_check(series: Series) -> dg.AssetCheckSpec:
    """The check of one series, over all of its years."""
    return dg.AssetCheckSpec(
        CHECK,
        asset=asset_key(series),
        description="No candle is missing or doubled, and no prices contradict each other.",
    )


def candle_schedule(config: Config, cron: str, series: list[Series]) -> dg.ScheduleDefinition:
    """One schedule: the years from the newest stored row to now, for all of its series."""
    name = group_name(series[0])
    if cron != closing_cron(series[0].span):
        name = f"{name}_{series[0].symbol.slug.replace('-', '_').replace('.', '_')}"
    job = dg.define_asset_job(
        name=f"{name}_job",
        # Checks are more than half of a run's events, and Dagster stores fifty a second.
        selection=dg.AssetSelection.assets(*map(asset_key, series)).without_checks(),
        tags={QUIET_TAG: "true"},
    )

    @dg.schedule(
        name=f"{name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"{len(series)} pairs, when a candle has closed",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        going = dg.RunsFilter(job_name=f"{name}_job", statuses=UNFINISHED)
        if running := context.instance.get_runs(going, limit=1):
            return dg.SkipReason(f"run {running[0].run_id} has not ended; it collects up to now")
        years = due_years(config, series, context.scheduled_execution_time)
        if not years:
            return dg.SkipReason("the configured start has not come yet")
        return dg.RunRequest(tags=year_tags(years))

    return tick


def quality_schedule(config: Config) -> dg.ScheduleDefinition:
    """Judges every series once a day; backfills judge those that they touch as well."""
    checks = (dg.AssetCheckKey(asset_key(one), CHECK) for one in config.series())
    return dg.ScheduleDefinition(
        name="quality_schedule",
        job=dg.define_asset_job("quality_job", selection=dg.AssetSelection.checks(*checks)),
        cron_schedule="30 0 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="the quality check of every series",
    )
