"""How often one may send on a connection."""

import time
from collections import deque


class Pacing:
    """At most `count` messages in any `seconds`, those that are waiting in their order."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count, self._seconds = max(1, count), seconds
        self._sent: deque[float] = deque()
        self._waiting: deque[tuple[float, bytes]] = deque()

    def put(self, messages: list[bytes]) -> None:
        """Send these as soon as it is allowed."""
        now = time.monotonic()
        self._waiting.extend((now, message) for message in messages)

    def due(self) -> bytes | None:
        """The next message if it may be sent now."""
        now = time.monotonic()
        while self._sent and now - self._sent[0] >= self._seconds:
            self._sent.popleft()
        if not self._waiting or len(self._sent) >= self._count:
            return None
        self._sent.append(now)
        return self._waiting.popleft()[1]

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    def waited(self, now: float) -> float:
        """For how many seconds the next message has waited."""
        return now - self._waiting[0][0] if self._waiting else 0.0
