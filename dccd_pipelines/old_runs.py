"""Old runs that tell nothing any more are deleted, so that Dagster's database stays small.

Deleting a run takes its events away, and with the newest materialization of a partition its green
field: such runs stay, however old they are.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from stat import S_ISREG

import dagster as dg

from dccd_pipelines.foreground import UNFINISHED

ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
BACKFILL = "dagster/backfill"
_Cell = tuple[dg.AssetKey, str | None]


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many runs were deleted, and how many old ones stay."""

    runs: int
    kept: int


def delete_old_runs(instance: dg.DagsterInstance, before: datetime) -> Deleted:
    """Delete the runs that ended and were created before a moment, if nothing newest is lost."""
    old = instance.get_runs(dg.RunsFilter(statuses=ENDED, created_before=before))
    newest = _Newest(instance)
    going = _going_backfills(instance)
    useless = [
        run.run_id
        for run in old
        if run.tags.get(BACKFILL) not in going and not newest.is_in(run.run_id)
    ]
    for run in useless:
        instance.delete_run(run)
        _remove_file(instance, run)
    return Deleted(len(useless), len(old) - len(useless))


def _going_backfills(instance: dg.DagsterInstance) -> set[str]:
    """The backfills that have a run to come: without a failed one of theirs, Dagster would wait
    for its partitions for ever."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return {run.tags[BACKFILL] for run in runs if BACKFILL in run.tags}


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
    folder = Path(instance.root_directory) / "history" / "runs"
    for path in (folder / f"{run}.db{end}" for end in ("", "-journal", "-wal", "-shm")):
        path.unlink(missing_ok=True)


def stored_bytes(instance: dg.DagsterInstance) -> int:
    """The size of Dagster's files: of SQLite the whole database."""
    return sum(map(_size, Path(instance.root_directory).rglob("*")))


def _size(path: Path) -> int:
    """0 of a folder, and of a journal that was there just now."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_size if S_ISREG(found.st_mode) else 0
    return 0
