"""From configuration to a collector that is ready to ask."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event
from urllib.parse import urlsplit

from dccd_core.config import Config
from dccd_core.exchanges import load
from dccd_core.history import THREADS, Collector, Progress
from dccd_core.limits import Limiter
from dccd_core.models import Series, Window, microseconds
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore

FIRST_YEAR = 2011
"""No exchange of ours is older."""
BEGINNING = microseconds(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC))


@contextmanager
def open_collector(
    config: Config,
    name: str,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    cancel: Event | None = None,
) -> Iterator[Collector]:
    """A collector for one exchange of a configuration; its connections end with the block."""
    exchange, settings = load(name), config.exchange_settings(name)
    store = DataStore(config.settings.data_path)
    url = settings.rest_url or exchange.rest_url
    share = settings.requests
    limits = replace(
        exchange.limits,
        weight=exchange.limits.weight * share,
        burst=max(1.0, exchange.limits.burst * share),
    )
    address = urlsplit(url)
    path = store.private / "limits" / f"{name}.{address.hostname}.{address.port or 443}"
    proxy = settings.proxy.get_secret_value() if settings.proxy else None

    def retries(series: Series) -> Retries:
        job = config.jobs.get(series)
        return Retries(job.max_retries, job.retry_delay) if job else Retries()

    with RestClient(
        exchange, Limiter(path, limits), base_url=url, proxy=proxy, threads=THREADS, cancel=cancel
    ) as client:
        yield Collector(exchange, client, store, retries=retries, progress=progress, cancel=cancel)


def wanted(
    config: Config, series: Series, now: int, start: int | None = None, end: int | None = None
) -> Window:
    """The window to have of a series: from `start`, else the configured one, else the first
    year of all markets, to `end`, or to the open time of the running candle."""
    configured = config.start_of(series) if series in config.jobs else None
    first = start if start is not None else configured
    closed = series.floor(now)
    return Window(
        BEGINNING if first is None else first, closed if end is None else min(closed, end)
    )
