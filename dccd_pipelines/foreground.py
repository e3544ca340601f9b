"""Runs in a process of our own: Dagster watches only those that it launches.

One whose process was killed would be "started" for ever, and keep a place in its exchange's pool.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import dagster as dg

from dccd_core.store import files

HOLD_TAG = "dccd/hold"
"""The lock that the process of a run holds as long as it lives: data paths may share Dagster."""
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@contextmanager
def held(data_path: Path) -> Iterator[dict[str, str]]:
    """The tags of a run that this process runs in the block."""
    lock = data_path.absolute() / ".dccd" / "locks" / f"run-{uuid4().hex}.lock"
    hold = files.Hold(lock)
    try:
        yield {HOLD_TAG: str(lock)}
    finally:
        hold.release()
        files.remove(lock)


def end_dead(instance: dg.DagsterInstance) -> list[str]:
    """Tell Dagster of the runs whose process is gone that they failed; their ids. Those of a data
    path that is not here are left alone."""
    found = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        lock = Path(run.tags.get(HOLD_TAG, ""))
        if not lock.is_absolute() or not lock.parent.is_dir():
            continue
        try:
            hold = files.Hold(lock)
        except files.BusyError:
            continue
        hold.release()
        files.remove(lock)
        # asked again: it may have come to its end between the two questions
        if (now := instance.get_run_by_id(run.run_id)) and now.status in UNFINISHED:
            instance.report_run_failed(
                now, "Its process ended before it did. What it stored stays."
            )
            found.append(run.run_id)
    return found
