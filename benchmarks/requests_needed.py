"""How many requests does a year of 1h candles of ten pairs take; is the allowed rate reached?

Each exchange at its sandbox, with its own page size. The rate is set so that the requests take
some seconds at best; then what they took is held against it. Kraken serves 720 candles, so its year
is built from the trades of two quiet pairs, whose pages are what is needed.
"""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from lab import Aim, Options, main, print_table, print_title, scratch

from dccd_core.collectors import ExchangeCollector
from dccd_core.exchanges import load, load_all
from dccd_core.exchanges.base import Exchange, Request
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.history import Collector
from dccd_core.limits import Limiter
from dccd_core.models import Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore
from dccd_core.trades_history import TradesCollector
from dccd_sandbox import Sandbox, Settings

HOUR = 3_600
PAIRS, DEEP_PAIRS = 10, 2
LATENCY = 0.1
SECONDS = 10.0
FASTER = 10  # than really allowed, at most: what is slower than that needs no proof of its speed
DEEP_FASTER = 3  # at more the disk is waited for, a file a day
NOW = "2026-01-02T00:30:00Z"
YEAR = (1_735_689_600_000_000, 1_767_225_600_000_000)  # 2025
ONCE, RATE = 1.0, 0.9


@dataclass(frozen=True, slots=True)
class Measured:
    """`pages` is how many of `needed` were asked, `others` lists of markets and listings; `rate` is
    the part of the allowed rate that was reached."""

    name: str
    pairs: int
    needed: int
    pages: int
    others: int
    seconds: float
    rate: float


def measure(options: Options) -> list[Aim]:
    """Every exchange of the folder."""
    print_title(__doc__)
    settings = Settings(
        symbols=(), many=PAIRS, weight_limit=0, latency=LATENCY, rate=0.2, now=NOW, frozen=True
    )
    with Sandbox(settings, process=True) as box:
        found = [measure_one(name, box.url, options.small) for name in load_all()]
    print_table(
        ("exchange", "pairs", "needed", "asked", "asked/needed", "lists, listings", "s", "rate"),
        [
            (
                one.name,
                str(one.pairs),
                f"{one.needed:,}",
                f"{one.pages:,}",
                f"{one.pages / one.needed:.2f}",
                str(one.others),
                f"{one.seconds:.1f}",
                f"{one.rate:.2f}",
            )
            for one in found
        ],
    )
    worst = max(found, key=lambda one: one.pages / one.needed)
    slowest = min(found, key=lambda one: one.rate)
    ratio = worst.pages / worst.needed
    return [
        Aim(
            f"asked / needed, the worst: {worst.name}",
            f"{ONCE:.1f}",
            f"{ratio:.2f}",
            round(ratio, 1) <= ONCE,
        ),
        Aim(
            f"rate reached / allowed, the worst: {slowest.name}",
            f">= {RATE}",
            f"{slowest.rate:.2f}",
            slowest.rate >= RATE,
        ),
    ]


def measure_one(name: str, url: str, small: bool) -> Measured:
    """A year of some pairs of one exchange."""
    exchange = load(name)
    deep = exchange.candles_depth is not None
    pairs = DEEP_PAIRS if deep or small else PAIRS
    with scratch() as folder:
        url = f"{url}/{name}{urlsplit(exchange.rest_url).path}"
        symbols = markets(exchange, url, folder)[:pairs]
        series = [Series(name, Channel.OHLC, symbol, HOUR) for symbol in symbols]
        guess = pages(exchange, series) if not deep else pairs * math.ceil(105_000 / 1_000)
        real = exchange.limits.weight / exchange.limits.seconds / page_weight(exchange)
        rate = min(guess / SECONDS, real * (DEEP_FASTER if deep else FASTER))
        limits = replace(exchange.limits, weight=rate * page_weight(exchange), seconds=1.0)
        exchange.limits = replace(limits, burst=limits.page_weight)  # type: ignore[misc]
        with collecting(exchange, url, folder) as (client, collector):
            todo = [cell for one in series for cell in cells(one, Window(*YEAR))]
            collector.plan(todo)
            others = client.requests
            began = time.monotonic()
            outcomes = list(collector.collect(todo))
            seconds = time.monotonic() - began
            asked = client.requests - others
        failed = [str(one.error) for one in outcomes if one.error]
        if failed:
            raise RuntimeError(f"{name}: {failed[0]}")
        needed = trade_pages(exchange, series, folder) if deep else pages(exchange, series)
    return Measured(name, pairs, needed, asked, others, seconds, asked / seconds / rate)


def page_weight(exchange: Exchange) -> float:
    """What a page costs that the year is made of."""
    if exchange.candles_depth is not None and isinstance(exchange, TradesHistory):
        return exchange.trades_weight
    return exchange.limits.page_weight


def pages(exchange: Exchange, series: list[Series]) -> int:
    """The fewest pages that hold the year's candles."""
    return sum(math.ceil(one.count(Window(*YEAR)) / exchange.limits.page) for one in series)


def trade_pages(exchange: Exchange, series: list[Series], folder: Path) -> int:
    """The fewest pages that hold the trades that were made."""
    store = DataStore(folder / "data")
    trades = [store.times(replace(one, channel=Channel.TRADES, span=0)) for one in series]
    page = exchange.trades_page if isinstance(exchange, TradesHistory) else 1
    return sum(math.ceil(len(one) / page) for one in trades)


def markets(exchange: Exchange, url: str, folder: Path) -> list[Symbol]:
    """The numbered markets as the exchange names them."""
    limiter = Limiter(folder / "lists", replace(exchange.limits, weight=1e9, burst=1e9))
    found: list[Symbol] = []
    with RestClient(exchange, limiter, base_url=url) as client:
        pending: list[Request] = list(exchange.instruments_requests())
        while pending:
            request = pending.pop(0)
            part = client.call(
                request, partial(exchange.instruments, request=request), retries=Retries()
            )
            found += [one.symbol for one in part.instruments if one.trading]
            pending += [part.next] if part.next else []
    numbered = sorted(symbol for symbol in found if symbol.base.startswith("N0"))
    contract = min(symbol.contract for symbol in numbered)  # spot where there is spot
    return [symbol for symbol in numbered if symbol.contract == contract]


@contextmanager
def collecting(
    exchange: Exchange, url: str, folder: Path
) -> Iterator[tuple[RestClient, ExchangeCollector]]:
    """A collector with the exchange's limits as they are now."""
    store = DataStore(folder / "data")
    limiter = Limiter(folder / "limits", exchange.limits)
    with RestClient(exchange, limiter, base_url=url) as client:
        candles = Collector(exchange, client, store)
        trades = None
        if isinstance(exchange, TradesHistory):
            trades = TradesCollector(exchange, client, store)
        yield client, ExchangeCollector(candles, trades, store, None)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
