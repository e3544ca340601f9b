"""What Dagster knows of a series: its asset, its checks, and the step that collects it."""

from collections.abc import Iterator, Sequence

import dagster as dg

from dccd_core.exchanges import load
from dccd_core.lineage import source_of
from dccd_core.models import Channel, Series, span_label
from dccd_pipelines.checks import check_names, describe
from dccd_pipelines.column_schemas import COLUMNS
from dccd_pipelines.keys import asset_key
from dccd_pipelines.resources import Collectors
from dccd_pipelines.series_run import Event, SeriesRun


def series_assets(
    series: Sequence[Series], partitions: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    """One step that collects all of these series, or any part of them."""
    by_key = {asset_key(one): one for one in series}
    names = {group_name(one) for one in series}

    @dg.multi_asset(
        name=names.pop() if len(names) == 1 else str(series[0].channel),
        specs=[series_spec(one, partitions) for one in series],
        check_specs=[
            dg.AssetCheckSpec(name, asset=asset_key(one), description=describe(name))
            for one in series
            for name in check_names(one)
        ],
        can_subset=True,
        pool=series[0].exchange,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def collect(
        context: dg.AssetExecutionContext, collectors: dg.ResourceParam[Collectors]
    ) -> Iterator[Event]:
        judged = {(by_key[key.asset_key], key.name) for key in context.selected_asset_check_keys}
        selected = [by_key[key] for key in sorted(context.selected_asset_keys)]
        periods = context.partition_keys if selected else []  # checks alone have none
        run = SeriesRun(collectors, context.run.tags, periods, judged)
        yield from run.events(selected) if selected else run.checks()

    return collect


def group_name(series: Series) -> str:
    """The name of the step that collects a series: binance_ohlc_1h, binance_trades."""
    return "_".join(series.key[:-1])


def series_spec(series: Series, partitions: dg.TimeWindowPartitionsDefinition) -> dg.AssetSpec:
    """The asset of one series."""
    exchange, source = load(series.exchange), source_of(series)
    label = span_label(series.span) if series.span else None
    what = f"{label} candles" if label else "trades"
    return dg.AssetSpec(
        asset_key(series),
        deps=[_dep(source)] if source else [],
        description=f"{series.symbol} {what} of {exchange.title}{_origin(source)}",
        partitions_def=partitions,
        group_name=f"{series.exchange}/{'_'.join(series.key[1:-1])}",
        kinds={"parquet"},
        tags={
            "exchange": series.exchange,
            "channel": str(series.channel),
            **({"span": label} if label else {}),
            "pair": series.symbol.slug,
        },
        metadata={
            "folder": dg.MetadataValue.path(str(series.path)),
            "protocol": dg.MetadataValue.url(exchange.docs),
            "dagster/column_schema": COLUMNS[series.channel],
        },
    )


def _dep(source: Series) -> dg.AssetDep:
    """Which days of trades a year of candles needs is known to the run; not all of them exist."""
    if source.channel is Channel.OHLC:
        return dg.AssetDep(asset_key(source))
    return dg.AssetDep(asset_key(source), partition_mapping=dg.AllPartitionMapping())


def _origin(source: Series | None) -> str:
    if source is None:
        return ""
    if source.channel is Channel.OHLC:
        return f", built from {span_label(source.span)} candles"
    return ", the older ones from its trades"
