"""Ends HTTP requests whose time is up or whose work is cancelled, by shutting their sockets."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from urllib3.connection import HTTPConnection

# How often running requests are looked at, so that a cancel is obeyed within 0.1 s.
_TICK = 0.05


@dataclass(slots=True)
class Flight:
    """One request under way: what the watch needs to end it, and what its failure means."""

    ends: float
    connection: HTTPConnection | None = None
    socket: Any = None
    reused: bool = False
    cut: bool = False


class Watch:
    """Cuts the connection of a request whose time is up, and all of them after a cancel.

    Socket time-outs bound one read only: a server that drips a byte a second passes them for ever.
    """

    def __init__(self, cancel: threading.Event | None) -> None:
        self._cancel = cancel
        self._flights: dict[int, Flight] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @contextmanager
    def flight(self, seconds: float) -> Iterator[Flight]:
        """Watch what this thread sends until the block ends."""
        flight = Flight(time.monotonic() + seconds)
        thread = threading.get_ident()
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("the client is closed")
            self._flights[thread] = flight
            self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="http-watch", daemon=True)
                self._thread.start()
        try:
            yield flight
        finally:
            with self._lock:
                del self._flights[thread]

    def current(self) -> Flight:
        """The flight of this thread."""
        return self._flights[threading.get_ident()]

    def close(self) -> None:
        """End the watching thread."""
        with self._lock:
            self._closed.set()
            self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            cancelled = self._cancel is not None and self._cancel.is_set()
            with self._lock:
                now = time.monotonic()
                for flight in self._flights.values():
                    if cancelled or now > flight.ends:
                        _cut(flight)
                if not self._flights and not self._closed.is_set():
                    self._wake.clear()
            self._closed.wait(_TICK)


def _cut(flight: Flight) -> None:
    """Shut the socket: whoever reads from it reads its end. Done again until the flight is over."""
    flight.cut = True
    found = flight.socket
    if found is None and flight.connection is not None:
        found = flight.connection.sock
    if found is not None:
        try:
            # TLS inside TLS wraps a socket. The method of SSLSocket itself is not thread safe.
            socket.socket.shutdown(getattr(found, "socket", found), socket.SHUT_RDWR)
        except OSError:
            return  # already closed


class Watched(HTTPConnection):
    """A connection that tells the watch which socket the thread waits for."""

    watch: ClassVar[Watch]
    answers = 0

    def connect(self) -> None:
        self.answers = 0
        self.watch.current().connection = self
        super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        flight = self.watch.current()
        flight.connection = self
        flight.reused = self.answers > 0
        super().request(*args, **kwargs)

    def getresponse(self) -> Any:
        flight = self.watch.current()
        # http.client forgets the socket of an answer that closes the connection.
        flight.socket = self.sock
        response = super().getresponse()
        self.answers += 1
        flight.reused = False  # it was alive: what fails from here on is no stale connection
        return response


def watched(pool: Any, watch: Watch) -> Any:
    """The pool class whose connections report to a watch."""
    connection = type("Watched", (Watched, pool.ConnectionCls), {"watch": watch})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})
