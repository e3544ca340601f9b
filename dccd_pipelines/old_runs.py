"""Old runs that tell nothing any more are deleted, so that Dagster's database stays small.

Deleting a run takes its events away, and with the newest materialization of a partition its green
field: such runs stay, however old they are.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg

ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
_Cell = tuple[dg.AssetKey, str | None]


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many runs were deleted, and how many stay as they have the newest of something."""

    runs: int
    kept: int


def delete_old_runs(instance: dg.DagsterInstance, before: datetime) -> Deleted:
    """Delete the runs that ended and were created before a moment, if nothing newest is lost."""
    old = instance.get_runs(dg.RunsFilter(statuses=ENDED, created_before=before))
    newest = _Newest(instance)
    useless = [run.run_id for run in old if not newest.is_in(run.run_id)]
    for run in useless:
        instance.delete_run(run)
        _remove_file(instance, run)
    return Deleted(len(useless), len(old) - len(useless))


class _Newest:
    """Which run has the newest materialization of a partition, and the newest result of a check."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._cells: dict[_Cell, str | None] = {}
        self._checks: dict[dg.AssetCheckKey, str | None] = {}

    def is_in(self, run: str) -> bool:
        """Whether a run has the newest of anything."""
        kinds = {
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        }
        for entry in self._instance.all_logs(run, of_type=kinds):
            event = entry.dagster_event
            if event is None:
                continue
            if event.is_step_materialization:
                told = event.step_materialization_data.materialization
                if self._cell((told.asset_key, told.partition)) == run:
                    return True
            elif self._check(event.asset_check_evaluation_data.asset_check_key) == run:
                return True
        return False

    def _cell(self, cell: _Cell) -> str | None:
        if cell not in self._cells:
            key, partition = cell
            wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
            records = self._instance.fetch_materializations(wanted, limit=1).records
            self._cells[cell] = records[0].run_id if records else None
        return self._cells[cell]

    def _check(self, key: dg.AssetCheckKey) -> str | None:
        if key not in self._checks:
            record = self._instance.get_latest_asset_check_evaluation_record(key)
            self._checks[key] = record.event.run_id if record and record.event else None
        return self._checks[key]


def _remove_file(instance: dg.DagsterInstance, run: str) -> None:
    """With SQLite each run has a file of its own, which Dagster empties and leaves."""
    with suppress(NotImplementedError):
        folder = Path(instance.root_directory) / "history" / "runs"
        for path in (folder / f"{run}.db{end}" for end in ("", "-journal", "-wal", "-shm")):
            path.unlink(missing_ok=True)


def stored_bytes(instance: dg.DagsterInstance) -> int:
    """The size of Dagster's files: of SQLite the whole database."""
    files = Path(instance.root_directory).rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())
