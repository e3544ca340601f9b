"""A backfill in a process of its own, which can be killed. It is forked from a server that has all
of it imported, so that a kill lands in the work and not in the start of Python."""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from dccd_core import history, trades_history
from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges import load
from dccd_core.models import Channel, Series, Window
from dccd_core.plan import cells
from dccd_core.rest import RestClient

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dccd_core.collection", "dccd_core.exchanges.binance"])
Wanted = Sequence[tuple[Series, Window]]


def config_text(folder: Path, url: str, series: Sequence[Series], retries: int = 10) -> str:
    """A configuration that collects these series of one exchange at this address."""
    lines = [f"settings: {{data_path: {folder}}}"]
    for jobs, channel in (("histo_jobs", Channel.OHLC), ("trades_jobs", Channel.TRADES)):
        mine = [one for one in series if one.channel is channel]
        lines += [f"{jobs}:"] if mine else []
        for one in mine:
            span = f" span: {one.span}," if one.span else ""
            lines.append(
                f'  - {{exchange: {one.exchange}, pairs: ["{one.symbol}"],{span} '
                f"start: 2018-01-01, max_retries: {retries}, retry_delay: 0.001}}"
            )
    return "\n".join([*lines, f"exchanges: {{{series[0].exchange}: {{rest_url: {url}}}}}", ""])


def backfill(folder: Path, url: str, wanted: Wanted, page: int, now: int) -> None:
    """Fetch in small pages without a budget, and store each at once: a kill may land anywhere."""
    history.FLUSH_SECONDS = trades_history.FLUSH_SECONDS = 0.0
    RestClient.clock = lambda _: now  # type: ignore[method-assign]
    series = [one for one, _ in wanted]
    kind = type(load(series[0].exchange))
    kind.limits = replace(kind.limits, weight=1e9, burst=1e9, page=page)
    config = parse_config(config_text(folder, url, series), folder / "config.yml")
    todo = [cell for one, window in wanted for cell in cells(one, window)]
    with open_collector(config, series[0].exchange) as collector:
        folder.with_suffix(".begun").touch()
        for outcome in collector.collect(todo):
            assert outcome.error is None, outcome.error


def begin(folder: Path, *arguments: object) -> ForkServerProcess:
    """A backfill that has begun its work."""
    process = CONTEXT.Process(target=backfill, args=(folder, *arguments))
    process.start()
    mark = folder.with_suffix(".begun")
    while process.exitcode is None and not mark.exists():
        time.sleep(0.001)
    mark.unlink()
    return process


def run(folder: Path, *arguments: object) -> float:
    """A backfill that nobody disturbs; its seconds."""
    process = begin(folder, *arguments)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def run_and_kill(folder: Path, seconds: float, *arguments: object) -> bool:
    """Whether a backfill was still at work when it was killed after so many seconds."""
    process = begin(folder, *arguments)
    process.join(seconds)
    if process.exitcode is None:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode == -signal.SIGKILL


def moments(name: str, longest: float) -> random.Random:
    """Random numbers of a test; its seed is shown when it fails."""
    seed = time.time_ns() % 1_000_000
    sys.stderr.write(f"{name}: seed {seed}, longest {longest:.3f} s\n")
    return random.Random(seed)
