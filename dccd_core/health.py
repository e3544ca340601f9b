"""What became of each series lately: one small file each, kept by whoever collects."""

from pathlib import Path

import msgspec

from dccd_core.models import Series
from dccd_core.store import files


class JobMetrics(msgspec.Struct, frozen=True):
    """The record of one series; moments are unix seconds.

    `last_run` is when it was last begun, `last_success` when it last ended without an error;
    `rows_collected` and `errors_count` are counted since the first run.
    """

    series: str
    last_run: float | None = None
    last_success: float | None = None
    rows_collected: int = 0
    errors_count: int = 0
    consecutive_errors: int = 0
    last_error: str | None = None


class HealthMonitor:
    """Keeps and reads the records below a data path."""

    def __init__(self, data_path: Path | str) -> None:
        self._root = Path(data_path) / ".dccd"
        self._folder = self._root / "health"

    def record(self, series: Series, now: float, rows: int, error: str | None) -> JobMetrics:
        """Count one run of a series that stored `rows` and ended with `error`, or well."""
        name = ".".join(series.key)
        with files.lock(self._root / "locks" / f"health.{name}.lock"):
            before = self._read(self._folder / f"{name}.json") or JobMetrics(str(series))
            after = msgspec.structs.replace(
                before,
                last_run=now,
                last_success=before.last_success if error else now,
                rows_collected=before.rows_collected + rows,
                errors_count=before.errors_count + (1 if error else 0),
                consecutive_errors=before.consecutive_errors + 1 if error else 0,
                last_error=error or before.last_error,
            )
            files.write_bytes(self._folder / f"{name}.json", msgspec.json.encode(after))
        return after

    def get_metrics(self) -> dict[str, JobMetrics]:
        """All records by series key, sorted."""
        found = (self._read(path) for path in sorted(self._folder.glob("*.json")))
        return {metrics.series: metrics for metrics in found if metrics}

    def _read(self, path: Path) -> JobMetrics | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=JobMetrics)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None  # a damaged record is begun again
