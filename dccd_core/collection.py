"""From configuration to a collector of one exchange that is ready to ask."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event
from urllib.parse import urlsplit

from dccd_core.archived import ArchiveFirst
from dccd_core.archives import open_archive
from dccd_core.collectors import ExchangeCollector
from dccd_core.config import Config
from dccd_core.config_sections import ExchangeSettings
from dccd_core.exchanges import load
from dccd_core.exchanges.base import Exchange, Limits
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.history import THREADS, Collector, Outcome, Progress
from dccd_core.limits import Limiter
from dccd_core.models import Series, Window, microseconds
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore
from dccd_core.trades_history import TradesCollector

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
    fetched: Callable[[Outcome], None] = lambda _: None,
) -> Iterator[ExchangeCollector]:
    """A collector for one exchange of a configuration; its connections end with the block."""
    exchange, settings = load(name), config.exchange_settings(name)
    store = DataStore(config.settings.data_path)
    proxy = settings.proxy.get_secret_value() if settings.proxy else None

    def retries(series: Series) -> Retries:
        job = config.jobs.get(series)
        return Retries(job.max_retries, job.retry_delay) if job else Retries()

    with ExitStack() as stack:
        client = stack.enter_context(open_client(exchange, settings, store, cancel))
        candles = Collector(
            exchange, client, store, retries=retries, progress=progress, cancel=cancel
        )
        trades = None
        if isinstance(exchange, TradesHistory):
            trades = TradesCollector(
                exchange, client, store, retries=retries, progress=progress, cancel=cancel
            )
        files = None
        url = settings.archive_url
        archive = (
            open_archive(exchange, store.private, base_url=url, proxy=proxy, cancel=cancel)
            if settings.files
            else None
        )
        if archive:
            stack.enter_context(archive)
            files = ArchiveFirst(archive, store, candles.instrument, progress)
        yield ExchangeCollector(candles, trades, store, files, fetched)


def open_client(
    exchange: Exchange, settings: ExchangeSettings, store: DataStore, cancel: Event | None
) -> RestClient:
    """A REST client as the settings of its exchange want it."""
    url = settings.rest_url or exchange.rest_url
    address = urlsplit(url)
    path = store.private / "limits" / f"{exchange.name}.{address.hostname}.{address.port or 443}"
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    limiter = Limiter(path, shared_limits(exchange, settings))
    return RestClient(exchange, limiter, base_url=url, proxy=proxy, threads=THREADS, cancel=cancel)


def shared_limits(exchange: Exchange, settings: ExchangeSettings) -> Limits:
    """The part of an exchange's request budget that the settings allow."""
    limits, share = exchange.limits, settings.requests
    return replace(limits, weight=limits.weight * share, burst=max(1.0, limits.burst * share))


def wanted(
    config: Config, series: Series, now: int, start: int | None = None, end: int | None = None
) -> Window:
    """The window to have of a series: from `start`, else the configured one, else the first
    year of all markets, to `end`, or to the open time of the running candle, or to now."""
    configured = config.start_of(series) if series in config.jobs else None
    first = start if start is not None else configured
    closed = series.floor(now) if series.span else now
    return Window(
        BEGINNING if first is None else first, closed if end is None else min(closed, end)
    )
