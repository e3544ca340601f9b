"""A few threads for what must wait: questions to an exchange's REST interface."""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from itertools import count

log = logging.getLogger(__name__)


class Jobs:
    """Runs functions, now or after a delay. Threads are started as they are needed."""

    def __init__(self, name: str, threads: int) -> None:
        self.failures = 0
        self._name, self._most = name, threads
        self._condition = threading.Condition()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def submit(self, job: Callable[[], None], delay: float = 0.0) -> None:
        """Run a job after `delay` seconds; ignored once closed."""
        with self._condition:
            if self._closed:
                return
            heapq.heappush(self._queue, (time.monotonic() + delay, next(self._number), job))
            if not self._idle and len(self._threads) < self._most:
                name = f"{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._condition.notify()

    def close(self, timeout: float) -> bool:
        """Drop what has not begun and wait for the rest; whether all threads ended."""
        with self._condition:
            self._closed = True
            self._queue.clear()
            self._condition.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:
                self.failures += 1
                log.exception("%s: a job failed", self._name)

    def _next(self) -> Callable[[], None] | None:
        with self._condition:
            while not self._closed:
                now = time.monotonic()
                if self._queue and self._queue[0][0] <= now:
                    return heapq.heappop(self._queue)[2]
                wait = self._queue[0][0] - now if self._queue else None
                self._idle += 1
                self._condition.wait(wait)
                self._idle -= 1
            return None
