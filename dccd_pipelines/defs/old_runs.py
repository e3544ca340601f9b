"""Old runs: an asset that says how many there were, and the schedule that deletes them."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dccd_pipelines.old_runs import delete_old_runs, stored_bytes
from dccd_pipelines.schedules import asset_schedule

OLD_RUNS = dg.AssetKey(["health", "old_runs"])
KEEP = timedelta(days=7)


@dg.asset(
    key=OLD_RUNS,
    group_name="health",
    description="Runs of more than a week ago: those that tell nothing any more are deleted",
)
def old_runs(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Delete them; the metadata says how many stay, and how large Dagster's database is."""
    deleted = delete_old_runs(context.instance, datetime.now(UTC) - KEEP)
    return dg.MaterializeResult(
        metadata={
            "deleted": deleted.runs,
            "kept": deleted.kept,
            "database_bytes": stored_bytes(context.instance),
        }
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The asset, its job and its schedule."""
    return dg.Definitions(
        assets=[old_runs],
        schedules=[
            asset_schedule(
                "old_runs_job", OLD_RUNS, "10 1 * * *", "deletes runs that tell nothing any more"
            )
        ],
    )
