"""Ours: what the sensor of streams tells Dagster in some days, event by event."""

import dagster as dg
from meter import Meter, arguments

from dccd_core.config import load_config
from dccd_core.live_days import EVERY
from dccd_core.models import DAY
from dccd_pipelines.instance import open_instance
from dccd_pipelines.old_runs import stored_bytes
from dccd_pipelines.stream_catalog import tell_days


def main() -> None:
    """Each stored day of each live series, as often as an open day is told of at most."""
    given = arguments()
    config = load_config(given["config"])
    with Meter() as meter, open_instance(config) as instance:
        before = stored_bytes(instance)
        events, _ = tell_days(config, None, given["now"])
        told = 0
        for closed in events:
            running = {k: v for k, v in closed.metadata.items() if k != "day_closed"}
            open_day = dg.AssetMaterialization(
                closed.asset_key, partition=closed.partition, metadata=running
            )
            for event in (*[open_day] * int(DAY / EVERY), closed):
                instance.report_runless_asset_event(event)
                told += 1
        after = stored_bytes(instance)
    meter.report(days=len(events), events=told, bytes=after - before)


main()
