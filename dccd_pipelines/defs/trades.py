"""Past trades: an asset per pair, a file a day; a step and a schedule for each exchange."""

import dagster as dg

from dccd_core.models import Channel
from dccd_pipelines.assets import series_assets
from dccd_pipelines.defs.candles import groups
from dccd_pipelines.freshness_policies import with_freshness
from dccd_pipelines.location import load_location_config
from dccd_pipelines.partitions import daily
from dccd_pipelines.schedules import series_schedules


@dg.definitions
def defs() -> dg.Definitions:
    """The assets and schedules of configured trades, and of those that candles are built from."""
    config = load_location_config().config
    partitions = daily(config)
    steps = [series_assets(series, partitions) for series in groups(config, Channel.TRADES)]
    return dg.Definitions(
        assets=with_freshness(config, steps), schedules=series_schedules(config, Channel.TRADES)
    )
