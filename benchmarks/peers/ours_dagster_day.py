"""Ours: the scheduled jobs of a day as Dagster runs them, and then the deletion of old runs."""

import os
from datetime import UTC, datetime, timedelta

from meter import Meter, arguments

from dccd_core.config import load_config
from dccd_pipelines import definitions
from dccd_pipelines.instance import open_instance
from dccd_pipelines.old_runs import delete_old_runs, stored_bytes
from dccd_pipelines.partitions import range_tags
from dccd_pipelines.series_run import END_TAG


def main() -> None:
    """An hour's run for each of `ends`, the daily jobs, the deletion of runs older than `keep`
    days; the bytes after each."""
    given = arguments()
    os.environ["DCCD_CONFIG"] = given["config"]
    location = definitions.defs()
    with Meter() as meter, open_instance(load_config(given["config"])) as instance:
        sizes = [stored_bytes(instance)]

        def run(name: str, tags: dict[str, str]) -> None:
            job = location.resolve_job_def(name)
            if not job.execute_in_process(instance=instance, tags=tags).success:
                raise RuntimeError(f"{name} failed")

        for end in given["ends"]:
            run("binance_ohlc_1h_job", range_tags([end[:4]]) | {END_TAG: end})
        sizes.append(stored_bytes(instance))
        for name in ("quality_job", "health_overview_job"):
            run(name, {})
        sizes.append(stored_bytes(instance))
        before = datetime.now(UTC) - timedelta(days=given.get("keep", 0))
        delete_old_runs(instance, before + timedelta(minutes=1))
        sizes.append(stored_bytes(instance))
    meter.report(sizes=sizes)


main()
