"""Log files below .dccd/logs: one of each job or program, and `dccd.log` of all of them.

Lines are appended whole, so several processes may write; a file that is large becomes NAME.log.1.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from dccd_core.store import files

LARGEST = 1_000_000
KEPT = 3
WHOLE = "dccd"


class Logs:
    """The log files of a data path."""

    def __init__(self, data_path: Path | str) -> None:
        self.folder = Path(data_path) / ".dccd" / "logs"
        self._locks = Path(data_path) / ".dccd" / "locks"

    def write(self, job: str, line: str, now: float) -> None:
        """Add a line to the job's file and to the whole."""
        stamp = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%SZ}"
        text = line.rstrip("\n")
        self._append(file_name(job), f"{stamp} {text}\n")
        self._append(WHOLE, f"{stamp} {job}: {text}\n")

    def jobs(self) -> list[str]:
        """The names of the files that there are, without the whole one."""
        return sorted(path.stem for path in self.folder.glob("*.log") if path.stem != WHOLE)

    def tail(self, job: str | None, count: int) -> list[str]:
        """The last lines of a job, or of all; ValueError if there is no such file."""
        name = file_name(job) if job else WHOLE
        if job and name not in self.jobs():
            raise ValueError(f"{job} has no log; there are: {', '.join(self.jobs()) or 'none'}")
        lines: list[str] = []
        for path in [self._path(name), *(self._path(name, n) for n in range(1, KEPT + 1))]:
            if len(lines) >= count or not path.exists():
                break
            lines = [*path.read_text("utf-8", "replace").splitlines(), *lines]
        return lines[-count:]

    def _path(self, name: str, number: int = 0) -> Path:
        return self.folder / (f"{name}.log.{number}" if number else f"{name}.log")

    def _append(self, name: str, text: str) -> None:
        path = self._path(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        try:
            os.write(descriptor, text.encode())
            large = os.fstat(descriptor).st_size > LARGEST
        finally:
            os.close(descriptor)
        if large:
            self._rotate(name)

    def _rotate(self, name: str) -> None:
        """Only one program does it, and only while it is still needed."""
        with files.lock(self._locks / "logs.lock"):
            path = self._path(name)
            if not path.exists() or path.stat().st_size <= LARGEST:
                return
            for number in reversed(range(KEPT)):
                if self._path(name, number).exists():
                    self._path(name, number).replace(self._path(name, number + 1))


def file_name(job: str) -> str:
    """The name of a job's file: of a series its key with dots."""
    return job.replace("/", ".").replace(" ", "_")
