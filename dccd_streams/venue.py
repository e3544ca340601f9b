"""One exchange: its connections, the feeds on them, and its REST interface beside them."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from dccd_core.config import Config
from dccd_core.exchanges import load
from dccd_core.exchanges.base import Answer, Instrument, Limits, Request
from dccd_core.exchanges.live import Live
from dccd_core.exchanges.trades import Book
from dccd_core.limits import Limiter
from dccd_core.models import DAY, Symbol
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore
from dccd_streams.book import FETCHED
from dccd_streams.connection import Connection
from dccd_streams.feed import Feed
from dccd_streams.heal import FILLS, Healer
from dccd_streams.jobs import Jobs
from dccd_streams.link import Link
from dccd_streams.markets import Markets
from dccd_streams.quiet import Quiet
from dccd_streams.timing import Timing
from dccd_streams.transport import SocketTransport, Transport

log = logging.getLogger(__name__)
T = TypeVar("T")

_THREADS = 4
_HANDSHAKE_WAIT = 60.0  # after a refusal for asking too often that names no time
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_ANY_DATE = 20.0 * 366 * DAY
_TOO_OFTEN = (418, 429)
_ATTEMPTS = Retries(3, 1.0)


class Venue:
    """Gives each feed a connection with room for it; starts and retires connections."""

    def __init__(
        self,
        config: Config,
        name: str,
        timing: Timing,
        may_write: Callable[[], bool],
        make_transport: Callable[[], Transport] = SocketTransport,
    ) -> None:
        exchange = load(name)
        if not isinstance(exchange, Live):
            raise ValueError(f"{exchange.title} has no live channels")
        self.name, self.exchange = name, exchange
        self.live: Live = exchange
        self.stopping = threading.Event()
        self.may_write, self.make_transport = may_write, make_transport
        self._settings = config.exchange_settings(name)
        self._base = (self._settings.ws_url or exchange.ws_url).rstrip("/")
        self.timing = timing
        if urlsplit(self._base).hostname in _THIS_MACHINE:
            # a simulation: it may have another date, and run faster than life
            self.timing = replace(timing, ahead=max(timing.ahead, _ANY_DATE))
        self._store = DataStore(config.settings.data_path)
        self._connects = Limiter(self._limit_path("connects", self._base), _connects(exchange))
        self._rest = self._open_rest()
        path = self._store.private / "instruments" / f"{name}.json"
        self._markets = Markets(exchange, self._rest, path, timing.quarantine)
        self.jobs = Jobs(f"rest-{name}", _THREADS)
        self.healer = Healer(exchange, self.ask, self.jobs, self.timing, may_write)
        self._quiet = Quiet(exchange, self.ask, self.jobs, self.healer)
        self._lock = threading.RLock()
        self._feeds: dict[Connection, set[Feed]] = {}
        self._retiring: dict[Connection, Connection] = {}
        self._number = 0

    # --- feeds ---------------------------------------------------------------------------------

    def add(self, feed: Feed) -> None:
        """Carry a feed, on a connection that has room or on a new one."""
        path = self.live.live_path(feed.subscription)
        most = self.live.live_limits.streams
        with self._lock:
            for connection, feeds in self._feeds.items():
                open_ = connection not in self._retiring
                if open_ and connection.path == path and len(feeds) < most:
                    break
            else:
                connection = self._start(path)
            self._feeds[connection].add(feed)
            connection.add(feed)

    def carries(self, feed: Feed) -> bool:
        """Whether a connection has it."""
        with self._lock:
            return any(feed in feeds for feeds in self._feeds.values())

    def drop(self, feed: Feed) -> None:
        """Carry it no more."""
        with self._lock:
            for connection, feeds in self._feeds.items():
                if feed in feeds:
                    feeds.remove(feed)
                    connection.drop(feed)

    def connections(self) -> list[Connection]:
        """Those that there are."""
        with self._lock:
            return list(self._feeds)

    def _start(self, path: str) -> Connection:
        self._number += 1
        connection = Connection(self, path, f"{self.name}-{self._number}")
        connection.thread.start()  # first: what could not be started has no room for a feed
        self._feeds[connection] = set()
        return connection

    def replace(self, connection: Connection, why: str) -> None:
        """Make another connection for the same feeds; this one ends after that one is there."""
        with self._lock:
            if self.stopping.is_set() or connection in self._retiring:
                return
            successor = self._start(connection.path)
            self._retiring[connection] = successor
            for feed in self._feeds[connection]:
                self._feeds[successor].add(feed)
                successor.add(feed)
        log.info("%s: %s takes over: %s", connection.name, successor.name, why)
        deadline = time.monotonic() + self.timing.overlap
        settle = self.timing.settle

        def retire() -> None:
            # one that cannot connect takes nothing over; this one may work until it is closed
            there = successor.connected or not successor.thread.is_alive()
            if successor.ready.is_set() or (there and time.monotonic() > deadline):
                # what it still has to deliver may be missing on the other, which began later
                self.jobs.submit(partial(connection.end, "another connection took over"), settle)
            else:
                self.jobs.submit(retire, self.timing.tick)

        self.jobs.submit(retire, self.timing.tick)

    def leave(self, connection: Connection) -> bool:
        """Forget a connection that ends, or has no feed and may end."""
        with self._lock:
            ending = connection.ended or connection in self._retiring
            if self._feeds.get(connection) and not ending:
                return False
            self._feeds.pop(connection, None)
            self._retiring.pop(connection, None)
            return True

    # --- what connections need -----------------------------------------------------------------

    def url(self, path: str) -> str:
        """Where to connect."""
        return self._base + path

    def proxy(self) -> str | None:
        """Through which proxy."""
        proxy = self._settings.proxy
        return proxy.get_secret_value() if proxy else None

    def await_turn(self) -> None:
        """Wait until a connection may be made; Cancelled when the service stops."""
        self._connects.acquire(1, self.stopping)

    def refused(self, status: int, retry_after: float | None) -> None:
        """Nobody connects for a while after a refusal for connecting too often."""
        if status in _TOO_OFTEN:
            self._connects.pause(retry_after or _HANDSHAKE_WAIT, free=1)

    def fetch_book(self, connection: Connection, link: Link) -> None:
        """Fetch a book by REST and hand it to the connection."""

        def tell(book: Book | None) -> None:
            received = time.time_ns() // 1_000
            connection.post(lambda: connection.begin_book(link, book, received))

        wanted = link.feed.subscription.depth  # 0 is all
        # twice as many: what is taken from the best levels is followed by others for a while
        self._quiet.ask_book(link, max(2 * wanted, FETCHED) if wanted else 0, tell)

    def probe(self, connection: Connection, link: Link) -> bool:
        """Ask whether the market of a silent link is just quiet."""
        return self._quiet.probe(connection, link)

    # --- REST ----------------------------------------------------------------------------------

    def ask(self, request: Request, read: Callable[[Answer], T]) -> T:
        """Ask the REST interface; raises ExchangeError or Cancelled."""
        return self._rest.call(request, read, retries=_ATTEMPTS)

    def instrument(self, symbol: Symbol) -> Instrument:
        """The exchange's market of a symbol; ExchangeError if there is none or no answer."""
        return self._markets.find(symbol)

    def renew_markets(self, seconds: float) -> None:
        """Look at the exchange's list of markets again, which may be so old."""
        self._markets.renew(seconds)

    def _open_rest(self) -> RestClient:
        exchange, settings = self.exchange, self._settings
        url = settings.rest_url or exchange.rest_url
        share = settings.requests
        limits = replace(
            exchange.limits,
            weight=exchange.limits.weight * share,
            burst=max(1.0, exchange.limits.burst * share),
        )
        limiter = Limiter(self._limit_path("", url), limits)
        return RestClient(
            exchange,
            limiter,
            base_url=url,
            proxy=self.proxy(),
            threads=_THREADS + FILLS,
            cancel=self.stopping,
        )

    def _limit_path(self, what: str, url: str) -> Path:
        address = urlsplit(url)
        name = ".".join(filter(None, (self.name, what, address.hostname or "")))
        return self._store.private / "limits" / f"{name}.{address.port or 443}"

    def end(self) -> list[Connection]:
        """Tell all connections and jobs to end."""
        self.stopping.set()
        found = self.connections()
        for connection in found:
            connection.end("the service was stopped")
        return found

    def stop(self, deadline: float) -> bool:
        """End all connections and jobs; whether all that came by then has been handed on.

        Who still waits for a name server or a handshake has nothing that could be lost.
        """
        found = self.end()
        for connection in found:
            connection.thread.join(max(0.0, deadline - time.monotonic()))
        self.jobs.close(max(0.0, deadline - time.monotonic()))
        self._rest.close()
        return not any(one.connected and one.thread.is_alive() for one in found)


def _connects(exchange: Live) -> Limits:
    """The budget of new connections: half of it may be used at once."""
    limits = exchange.live_limits
    half = max(1.0, limits.connects / 2)
    return Limits(weight=half, seconds=limits.connect_seconds, burst=half, page=1)
