"""What the other processes of these tests do; not to be called in the process of the tests, whose
constants they would change. They are forked from a server that has all of it
imported, so that a kill lands in the work and not in the start of Python."""

import multiprocessing
import time
from collections.abc import Callable
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from helpers import BTC_1H, collecting, table

from dccd_core import history
from dccd_core.models import SECOND, Series, Window
from dccd_core.plan import cells
from dccd_core.store import period
from dccd_core.store.datastore import DataStore

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dccd_core.collection", "duckdb", "dccd_sandbox"])
HOUR = 3_600 * SECOND


def start(work: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """A process that does this work."""
    process = CONTEXT.Process(target=work, args=arguments)
    process.start()
    return process


def mark_of(data: Path) -> Path:
    """The file that a backfill makes when it begins."""
    return data.with_name(f"{data.name}.begun")


def backfill(data: Path, url: str, series: list[Series], wanted: Window, page: int) -> None:
    """Fetch in small pages, store each at once in a small tail: a kill may land in any step."""
    mark_of(data).touch()
    history.FLUSH_SECONDS = 0.0
    period.TAIL_ROWS = 300
    todo = [cell for one in series for cell in cells(one, wanted)]
    with collecting(url, data, page=page) as collector:
        for outcome in collector.collect(todo):
            assert outcome.error is None, outcome.error


def value(minute: int) -> float:
    """The close of a candle in these tests."""
    return float(minute % 9_973)


def merge(data: Path, first: int) -> None:
    """Append, revise and fill for ever, and fold all the time."""
    period.TAIL_ROWS = 7
    store = DataStore(data)
    for step in count():
        begin = first + (step ^ 3) * 5 * HOUR  # four steps back, then on
        times = [begin + n * HOUR for n in range(8 if step % 9 else 40)]
        covered = [Window(times[0], times[-1] + HOUR)]
        store.merge(BTC_1H, "2024", table(times, value), covered, "test")


def merge_share(data: Path, first: int, share: int, shares: int, steps: int) -> None:
    """Merge every so manieth block of four candles, in an order that goes back and forth."""
    period.TAIL_ROWS = 10
    store = DataStore(data)
    for step in range(steps):
        begin = first + ((step ^ 1) * shares + share) * 4 * HOUR
        times = [begin + n * HOUR for n in range(4)]
        store.merge(BTC_1H, "2024", table(times, value), [Window(begin, begin + 4 * HOUR)], "test")


def append(data: Path, first: int, steps: int) -> None:
    """Merge four candles at a time, in order, and fold often."""
    period.TAIL_ROWS = 30
    store = DataStore(data)
    for begin in range(first, first + steps * 4 * HOUR, 4 * HOUR):
        times = [begin + n * HOUR for n in range(4)]
        store.merge(BTC_1H, "2024", table(times, value), [Window(begin, begin + 4 * HOUR)], "test")


def hold(data: Path) -> None:
    """Hold the lock of the series until somebody ends this process."""
    with DataStore(data).writing(BTC_1H):
        (data / "held").touch()
        time.sleep(60)
