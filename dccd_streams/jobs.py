"""A few threads for what must wait: questions to an exchange's REST interface."""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Self

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
        self._beside: list[Jobs] = []

    def beside(self, name: str, threads: int) -> Self:
        """Others, closed with these: what takes long keeps nothing else waiting."""
        made = type(self)(name, threads)
        self._beside.append(made)
        return made

    def submit(self, job: Callable[[], None], delay: float = 0.0) -> None:
        """Run a job after `delay` seconds; ignored once closed."""
        with self._condition:
            if self._closed:
                return
            heapq.heappush(self._queue, (time.monotonic() + delay, next(self._number), job))
            self._await_next()

    def _await_next(self) -> None:
        """Let a thread wait for what comes next: one that does so, or a new one."""
        if not self._idle and len(self._threads) < self._most:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._condition.notify()

    def close(self, timeout: float) -> bool:
        """Drop what has not begun and wait for the rest; whether all threads ended."""
        deadline = time.monotonic() + timeout
        every = [self, *self._beside]
        for jobs in every:
            jobs._drop()
        threads = [thread for jobs in every for thread in jobs._threads]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _drop(self) -> None:
        with self._condition:
            self._closed = True
            self._queue.clear()
            self._condition.notify_all()

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
                    job = heapq.heappop(self._queue)[2]
                    if self._queue:
                        self._await_next()  # it may be due before this one is done
                    return job
                wait = self._queue[0][0] - now if self._queue else None
                self._idle += 1
                self._condition.wait(wait)
                self._idle -= 1
            return None
