"""What was asked of the sandbox and what it answered."""

import time
from collections import Counter, deque
from dataclasses import asdict, dataclass

from dccd_sandbox.http import Reply, Request

_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One answered request. `at` is real time in seconds, `fault` the one that spoilt it or ""."""

    at: float
    method: str
    target: str
    status: int
    bytes: int
    fault: str


class Stats:
    """Counts by path and status, and the last requests."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self.requests = 0
        self.weight = 0
        self.paths: Counter[tuple[str, int]] = Counter()
        self.faults: Counter[str] = Counter()
        self.last: deque[Seen] = deque(maxlen=_KEPT)

    def add(self, request: Request, reply: Reply) -> Seen:
        """Count one answer."""
        size = len(reply.body)
        seen = Seen(time.time(), request.method, request.target, reply.status, size, reply.fault)
        self.requests += 1
        self.weight += reply.weight
        self.paths[request.path, reply.status] += 1
        if reply.fault:
            self.faults[reply.fault] += 1
        self.last.append(seen)
        return seen

    def report(self, last: int) -> dict[str, object]:
        """All of it as JSON wants it."""
        paths: dict[str, dict[str, int]] = {}
        for (path, status), count in sorted(self.paths.items()):
            paths.setdefault(path, {})[str(status)] = count
        return {
            "requests": self.requests,
            "weight": self.weight,
            "paths": paths,
            "faults": dict(self.faults),
            "last": [asdict(seen) for seen in list(self.last)[max(0, len(self.last) - last) :]],
        }
