"""What is missing of the past: holes before the periods that schedules look at, and their runs.

A schedule looks at the running year or day, so that a minute's run never becomes a backfill. What
lacks before, as a start in config.yml that was not backfilled, or a day that failed, is fetched by
runs of its own, one at a time for each exchange, so that schedules find a place in its pool.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

import dagster as dg
import msgspec

from dccd_core.collection import wanted
from dccd_core.config import Config
from dccd_core.intervals import clip, union
from dccd_core.models import SECOND, Series, Window, microseconds
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError
from dccd_pipelines.assets import group_name
from dccd_pipelines.checks import check_keys
from dccd_pipelines.keys import asset_key
from dccd_pipelines.partitions import range_tags
from dccd_pipelines.schedules import with_sources

PAST = "_past_job"
# The end of a period is for its schedule as long as this, see `due_periods`.
LATELY = 2 * 3_600 * SECOND
# When an exchange that lacks nothing is looked at again, and when the same is tried once more.
LOOK, AGAIN = 3_600.0, 6 * 3_600.0


class Tried(msgspec.Struct):
    """What of a block was asked for last, as a hash, and when."""

    holes: str
    at: float


class Memory(msgspec.Struct):
    """The sensor's cursor: when each exchange is due, and what was tried, by series and block."""

    due: dict[str, float] = {}
    tried: dict[str, Tried] = {}


class Block(NamedTuple):
    """Periods that follow each other, in each of which something is missing of a series.

    `whole`: all of it, so nothing was ever had.
    """

    series: Series
    periods: list[str]
    holes: str
    whole: bool

    @property
    def name(self) -> str:
        """What stays the same while it is tried."""
        return f"{self.series} {self.periods[0]} {self.periods[-1]}"


def past_groups(config: Config) -> dict[str, list[Series]]:
    """The series that are collected alike, by the name of their job: first what is had soon. Those
    whose schedule is off are for people to start."""
    found = defaultdict(list)
    for series in sorted(config.series(), key=lambda one: (-one.span, one)):
        if config.job_of(series).schedule != "off":
            found[f"{group_name(series)}{PAST}"].append(series)
    return dict(found)


def due_runs(
    config: Config, running: Collection[str], cursor: str | None, now: float
) -> tuple[list[dg.RunRequest], str]:
    """The runs to begin, and the new cursor; `running` are the names of jobs that have a run."""
    memory, requests = _memory(cursor), list[dg.RunRequest]()
    by_exchange = defaultdict(list)
    for name, series in past_groups(config).items():
        by_exchange[series[0].exchange].append((name, series))
    for exchange, groups in by_exchange.items():
        if now < memory.due.get(exchange, 0.0) or any(name in running for name, _ in groups):
            continue
        request = next(_requests(config, groups, memory, now), None)
        if request:
            requests.append(request)
        memory.due[exchange] = now if request else now + LOOK
    memory.tried = {name: one for name, one in memory.tried.items() if now - one.at < AGAIN}
    return requests, msgspec.json.encode(memory).decode()


def _requests(
    config: Config, groups: Sequence[tuple[str, list[Series]]], memory: Memory, now: float
) -> Iterator[dg.RunRequest]:
    """One for each group that lacks what was not tried of late; of a series the newest first."""
    for name, series in groups:
        blocks = [block for one in series for block in islice(_open(config, one, memory, now), 1)]
        if not blocks:
            continue
        periods = blocks[0].periods
        # others join if they lack just that: a cell that lacks nothing must not fail with the run
        mine = [block for block in blocks if block.periods == periods]
        memory.tried |= {block.name: Tried(block.holes, now) for block in mine}
        run = with_sources([block.series for block in mine])
        yield dg.RunRequest(
            job_name=name,
            tags=range_tags(periods),
            asset_selection=[asset_key(one) for one in run],
            asset_check_keys=check_keys(run),
        )


def _open(config: Config, series: Series, memory: Memory, now: float) -> Iterator[Block]:
    """What a series lacks and is to be tried, the newest first; older than what was tried and gave
    nothing at all, nothing."""
    for block in _blocks(config, series, now):
        tried = memory.tried.get(block.name)
        if tried is None or tried.holes != block.holes or now - tried.at >= AGAIN:
            yield block
        elif block.whole:
            return


def _blocks(config: Config, series: Series, now: float) -> Iterator[Block]:
    """What is missing of the past, by years that follow each other, or days of one month."""
    missing = missing_past(config, series, now)
    periods = sorted({period for hole in missing for period, _ in series.periods(hole)})
    groups = list[list[str]]()
    for period in periods:
        before = groups[-1][-1] if groups else ""
        if before and before[:-2] == period[:-2] and _follows(series, before, period):
            groups[-1].append(period)
        else:
            groups.append([period])
    for some in reversed(groups):
        window = Window(series.period_window(some[0]).start, series.period_window(some[-1]).end)
        holes = clip(missing, window)
        told = hashlib.sha256(repr(holes).encode()).hexdigest()
        covered = DataStore(config.settings.data_path).covered(series, window)
        yield Block(series, some, told, whole=not covered)


def _follows(series: Series, before: str, period: str) -> bool:
    return series.period_window(before).end == series.period_window(period).start


def missing_past(config: Config, series: Series, now: float) -> list[Window]:
    """What is missing of a series in the periods before the running one, and all of that if nothing
    of it is there: its schedule may come in hours only. Of one whose files are bad nothing, since
    its check tells of that."""
    moment = microseconds(datetime.fromtimestamp(now, UTC))
    running = series.period_window(series.period(moment - LATELY))
    asked = wanted(config, series, moment, end=moment - LATELY)
    past, lately = (series.grid(part) for part in _split(asked, running.start))
    store = DataStore(config.settings.data_path)
    try:
        missing = store.missing_windows(series, past) if past.start < past.end else []
        if lately.start < lately.end and store.missing_windows(series, lately) == [lately]:
            missing.append(Window(lately.start, running.end))  # a hole that is the same tomorrow
    except (UnreadableError, SchemaError, OSError):
        return []
    return union(missing)


def _split(window: Window, at: int) -> tuple[Window, Window]:
    """What is before a time, and what is after it; one of them may be empty."""
    before, after = min(window.end, at), max(window.start, at)
    return Window(min(window.start, before), before), Window(after, max(window.end, after))


def _memory(cursor: str | None) -> Memory:
    """A cursor of another version is begun anew: then all is looked at once more."""
    try:
        return msgspec.json.decode(cursor or "{}", type=Memory)
    except msgspec.MsgspecError:
        return Memory()
