"""What the stream service tells of itself on disk: written by it, read by everybody else."""

import os
from pathlib import Path

import msgspec

from dccd_core.store import files

CONFIG_UNUSED = "the config file is not used: "
"""How a service's problem begins while it goes on with the last good config.yml."""
STALE = 30.0
"""Seconds after which a status that is not written anew is that of a service that is gone."""


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One configured task: a pair of an exchange and its channels.

    `state` is starting, connecting, live, synchronising (a book), silent, put_aside (refused by the
    exchange, tried again after a minute and then ever more seldom) or stopped; `problem` says why.
    `last_message` and `last_row` are unix seconds, of receipt and of the exchange. `lag` is the
    seconds between the two of the newest row. `gaps` counts holes since the service began, `lost`
    those of them that nothing could fill, `healed` rows that were fetched by REST. `silent_since`
    is set while data is overdue, or for a minute there has been no connection or no book.
    """

    key: str
    exchange: str
    pair: str
    channels: list[str]
    time_step: int
    running: bool
    state: str
    problem: str | None = None
    last_message: float | None = None
    last_row: float | None = None
    rows_today: int = 0
    rows: int = 0
    reconnects: int = 0
    gaps: int = 0
    lost: int = 0
    healed: int = 0
    lag: float | None = None
    silent_since: float | None = None
    series: list[str] = []


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One service, written every few seconds. Moments are unix seconds.

    `pending_bytes` wait in memory for the disk; `problem` is what concerns all streams: a full
    disk, a fold that failed, a config file that could not be read. `ended`: it was stopped.
    """

    pid: int
    host: str
    started: float
    written: float
    shard: str | None = None
    health_port: int | None = None
    problem: str | None = None
    pending_bytes: int = 0
    last_fold: float | None = None
    ended: bool = False
    streams: list[StreamStatus] = []

    def age(self, now: float) -> float:
        """Seconds since it was written; 0 if the clock was set back."""
        return max(0.0, now - self.written)

    def alive(self, now: float) -> bool:
        """Whether the service wrote it of late, not when it was stopped, and lives."""
        if self.ended or self.age(now) > STALE:
            return False
        return self.host != this_host() or _runs(self.pid)


def status_folder(data_path: Path | str) -> Path:
    """Where the services of a data path write: status.json, or one file for each shard."""
    return Path(data_path) / ".dccd" / "streams"


def write_status(data_path: Path | str, status: ServiceStatus) -> None:
    """Write it atomically."""
    name = f"status-{status.shard.replace('/', '-of-')}.json" if status.shard else "status.json"
    files.write_bytes(status_folder(data_path) / name, msgspec.json.encode(status))


def read_statuses(data_path: Path | str) -> list[ServiceStatus]:
    """Of every service that has written one, also of those that ended, not damaged ones."""
    found = []
    for path in sorted(status_folder(data_path).glob("status*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=ServiceStatus))
        except (FileNotFoundError, msgspec.MsgspecError):
            continue
    return found


def _runs(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is somebody else's
    return True


def this_host() -> str:
    """The name of this machine, as a status tells it."""
    return os.uname().nodename
