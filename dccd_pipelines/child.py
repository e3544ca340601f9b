"""One program that `dccd start` looks after."""

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Thread

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LONGEST_WAIT = 60.0
HEALTHY = 60.0


def _unheard(name: str, line: str) -> None:
    """Nobody listens."""


@dataclass(slots=True)
class Child:
    """One program. It is its own process group, so that Ctrl-C reaches it through us only."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    port: int | None = None
    deaths: int = 0
    due: float = 0.0
    trouble: str = ""
    ear: Thread | None = None
    heard: Callable[[str, str], None] = field(default=_unheard)

    def start(self) -> None:
        """Start it, now. What it says goes to `heard`, line by line."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.ear = Thread(target=self._listen, args=(self.process,), daemon=True)
        self.ear.start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                self.heard(self.name, _COLOURS.sub("", line.decode(errors="replace")))

    def died(self) -> int | None:
        """Its exit code if it runs no more."""
        return self.process.poll() if self.process else None

    def put_off(self) -> float:
        """Wait longer after each early death; the seconds until it may start again."""
        now = time.monotonic()
        self.deaths = 0 if now - self.started > HEALTHY else self.deaths + 1
        wait = min(LONGEST_WAIT, 2.0 ** max(0, self.deaths - 1))
        self.due, self.process = now + wait, None
        return wait
