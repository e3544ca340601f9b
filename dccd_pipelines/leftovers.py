"""What a `dccd start` that was killed left running, ended by the next one."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from dccd_core.store.files import write_bytes


class Process(msgspec.Struct, frozen=True):
    """A process that leads a group of its own. `born` tells it from a later one of its number."""

    pid: int
    born: str


def note_processes(path: Path, pids: Iterable[int]) -> None:
    """Remember what runs now."""
    found = [Process(pid, born) for pid in pids if (born := _born(pid))]
    write_bytes(path, msgspec.json.encode(found))


def end_leftovers(path: Path, grace: float) -> int:
    """End what is noted and still runs, with all that it started; how many that were."""
    with suppress(FileNotFoundError, msgspec.MsgspecError):
        noted = msgspec.json.decode(path.read_bytes(), type=list[Process])
        left = [one for one in noted if _born(one.pid) == one.born]
        _end(left, signal.SIGTERM, grace)
        _end(left, signal.SIGKILL, grace)
        return len(left)
    return 0


def _end(processes: list[Process], number: int, grace: float) -> None:
    deadline = time.monotonic() + grace
    running = [one for one in processes if _born(one.pid) == one.born]
    for one in running:
        with suppress(ProcessLookupError):
            os.killpg(one.pid, number)
    while time.monotonic() < deadline and any(_born(one.pid) == one.born for one in running):
        time.sleep(0.1)


def _born(pid: int) -> str | None:
    """When a process began, in ticks of the kernel; None if it has ended, or there is no /proc."""
    try:
        state, *_, born = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:20]
    except OSError:
        return None
    return None if state == "Z" else born
