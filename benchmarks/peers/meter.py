"""CPU, time and written bytes of this process. Standard library only: all clients use it."""

import json
import resource
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

IO = Path("/proc/self/io")


def arguments() -> dict[str, Any]:
    """What the benchmark asks for."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


class Meter:
    """Measures a block: `cpu` and `wall` in seconds, `written` and `to_disk` in bytes.

    cpu is user and system time of all threads and ended children. written is what was handed to
    write(), which sockets do not use; to_disk is what made pages of files dirty, whole pages.
    """

    def __enter__(self) -> Self:
        self._before = _figures()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        figures = [after - was for after, was in zip(_figures(), self._before, strict=True)]
        self.cpu, self.wall = figures[0], figures[1]
        self.written, self.to_disk = int(figures[2]), int(figures[3])

    def report(self, **more: Any) -> None:
        """Tell the benchmark."""
        found = {"cpu": self.cpu, "wall": self.wall, "written": self.written}
        print(json.dumps({**found, "to_disk": self.to_disk, **more}), flush=True)


def _figures() -> list[float]:
    written = dict(line.split(": ") for line in IO.read_text().splitlines())
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    return [cpu, time.monotonic(), int(written["wchar"]), int(written["write_bytes"])]
