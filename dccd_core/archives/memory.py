"""What was not there when it was asked for, so that not every run asks again."""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dccd_core.models import DAY, SECOND, Window
from dccd_core.store import files

# The longer a file should have been there, the less likely it still comes.
SOONEST, LATEST = DAY * SECOND // 4, 30 * DAY * SECOND
LATE = 45 * DAY * SECOND
_NOTES = msgspec.json.Decoder(dict[str, int])


class Absent:
    """Paths by the moment, in microseconds, until which they are not asked for again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._until = self._read()
        self._new: dict[str, int] = {}

    def known(self, path: str, now: int) -> bool:
        """Whether a path was not there of late."""
        return self._until.get(path, 0) > now

    def add(self, path: str, window: Window, now: int) -> None:
        """Remember that the file of a window is not there."""
        with self._lock:
            wait = min(max(SOONEST, (now - window.end) // 4), LATEST)
            self._until[path] = self._new[path] = now + wait

    def save(self, now: int) -> None:
        """Keep what is new, beside what other processes have kept meanwhile."""
        with self._lock:
            if self._new:
                kept = {p: until for p, until in self._read().items() if until > now} | self._new
                files.write_bytes(self._path, msgspec.json.encode(kept))
                self._new = {}

    def _read(self) -> dict[str, int]:
        try:
            return _NOTES.decode(self._path.read_bytes())
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}  # a damaged note costs a few requests


def lacking(path: str, windows: Sequence[Window]) -> str:
    """A name for just these times that a file which is there does not have.

    Where more is missing, as after a day was deleted here, the name is another one.
    """
    times = " ".join(f"{start}-{end}" for start, end in windows)
    return f"{path} without {hashlib.sha256(times.encode()).hexdigest()[:16]}"
