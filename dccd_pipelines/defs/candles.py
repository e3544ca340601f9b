"""Candles: an asset per series; a step, a schedule and checks for those collected alike."""

from collections import defaultdict

import dagster as dg

from dccd_core.config import Config
from dccd_core.models import Channel, Series
from dccd_pipelines.assets import group_name, series_assets
from dccd_pipelines.freshness_policies import with_freshness
from dccd_pipelines.location import load_location_config
from dccd_pipelines.partitions import yearly
from dccd_pipelines.schedules import series_schedules


@dg.definitions
def defs() -> dg.Definitions:
    """The assets and schedules of all configured candles, and of those they are built from."""
    config = load_location_config().config
    partitions = yearly(config)
    steps = [series_assets(series, partitions) for series in groups(config, Channel.OHLC)]
    return dg.Definitions(
        assets=with_freshness(config, steps), schedules=series_schedules(config, Channel.OHLC)
    )


def groups(config: Config, channel: Channel) -> list[list[Series]]:
    """The series of a channel that are collected together: those of one exchange and span."""
    found = defaultdict(list)
    for series in sorted(config.jobs):
        if series.channel is channel:
            found[group_name(series)].append(series)
    return list(found.values())
