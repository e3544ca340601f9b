"""What became of each series lately: one small file each, kept by whoever collects."""

import logging
import time
from pathlib import Path

import msgspec

from dccd_core.freshness import age_of
from dccd_core.joblog import Logs
from dccd_core.models import SECOND, Series
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.stream_status import read_statuses

log = logging.getLogger(__name__)


class JobMetrics(msgspec.Struct, frozen=True):
    """The record of one series; moments are unix seconds.

    `last_run` is when it was last begun, `last_success` when it last ended without an error;
    `rows_collected` and `errors_count` are counted since the first run. `data_age` is how many
    seconds ago the newest candle closed, or the newest row was; None if nothing is stored.
    """

    series: str
    last_run: float | None = None
    last_success: float | None = None
    rows_collected: int = 0
    errors_count: int = 0
    consecutive_errors: int = 0
    last_error: str | None = None
    data_age: float | None = None


class HealthMonitor:
    """Keeps and reads the records below a data path."""

    def __init__(self, data_path: Path | str) -> None:
        self._root = Path(data_path) / ".dccd"
        self._folder = self._root / "health"
        self._logs = Logs(data_path)

    def record(
        self, series: Series, now: float, rows: int, error: str | None, *, cancelled: bool = False
    ) -> JobMetrics:
        """Count one run of a series that stored `rows` and ended with `error`, or well.

        One that a person ended, `cancelled`, is neither an error of the series nor a success.
        """
        good, bad = not (error or cancelled), bool(error) and not cancelled
        name = ".".join(series.key)
        with files.lock(self._root / "locks" / f"health.{name}.lock"):
            before = self._read(self._folder / f"{name}.json") or JobMetrics(str(series))
            after = msgspec.structs.replace(
                before,
                last_run=now,
                last_success=now if good else before.last_success,
                rows_collected=before.rows_collected + rows,
                errors_count=before.errors_count + bad,
                consecutive_errors=0 if good else before.consecutive_errors + bad,
                last_error=error if bad else before.last_error,
            )
            files.write_bytes(self._folder / f"{name}.json", msgspec.json.encode(after))
        self._log(before, after, now)
        return after

    def _log(self, before: JobMetrics, after: JobMetrics, now: float) -> None:
        """A line of what is worth one: rows, errors and their end."""
        rows = after.rows_collected - before.rows_collected
        said = [f"{rows:,} row{'s' * (rows != 1)}"] if rows else []
        if after.errors_count > before.errors_count:
            said.append(f"error {after.consecutive_errors} in a row: {after.last_error}")
        elif before.consecutive_errors and not after.consecutive_errors:
            said.append(f"well again after {before.consecutive_errors} errors")
        try:
            if said:
                self._logs.write(after.series, ", ".join(said), now)
        except OSError as error:  # a full disk must not end a run that stored its rows
            log.warning("the log of %s cannot be written: %s", after.series, error)

    def get_metrics(self, now: float | None = None) -> dict[str, JobMetrics]:
        """All records by series key, sorted, with the age of the data at `now` (default: now)."""
        now = time.time() if now is None else now
        found = (self._read(path) for path in sorted(self._folder.glob("*.json")))
        known = {metrics.series: metrics for metrics in found if metrics}
        ages = self._ages(now) if known else {}
        replaced = msgspec.structs.replace
        return {key: replaced(one, data_age=ages.get(key)) for key, one in known.items()}

    def export(self, now: float) -> Path:
        """Write .dccd/metrics.json for scripts, atomically; its path."""
        path = self._root / "metrics.json"
        told = {"written": now, "jobs": self.get_metrics(now)}
        files.write_bytes(path, msgspec.json.encode(told))
        return path

    def _ages(self, now: float) -> dict[str, float | None]:
        """From the footers and, for what is not in a file yet, from the services' status."""
        data = self._root.parent
        rows = DataStore(data).inventory_rows()
        last = {row.series: row.last for row in rows if row.last is not None}
        for key, moment in live_rows(data).items():
            series = Series.parse(key)
            last[series] = max(moment, last.get(series, moment))
        return {str(series): age_of(series, moment, now) for series, moment in last.items()}

    def _read(self, path: Path) -> JobMetrics | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=JobMetrics)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None  # a damaged record is begun again


def live_rows(data_path: Path | str) -> dict[str, int]:
    """The time, in microseconds, of the newest row of each series of a service that tells it."""
    return {
        key: int(one.last_row * SECOND)
        for status in read_statuses(data_path)
        for one in status.streams
        if one.last_row is not None
        for key in one.series
    }
