"""What is missing of the past: holes before the periods that schedules look at, and their runs.

A schedule goes on from the newest row, so that a minute's run never becomes a backfill. Whatever
lacks before, as a start in config.yml that was not backfilled, or a day that failed, is fetched by
runs of their own, one at a time for each exchange, so that schedules find a place in its pool.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg
import msgspec

from dccd_core.collection import wanted
from dccd_core.config import Config
from dccd_core.models import SECOND, Series, Window, microseconds
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError
from dccd_pipelines.assets import group_name
from dccd_pipelines.partitions import range_tags

PAST = "_past_job"
# A schedule has had two chances to fetch the end of a period itself.
LATELY = 2 * 3_600 * SECOND
# When an exchange that lacks nothing is looked at again, and when the same is tried once more.
LOOK, AGAIN = 3_600.0, 6 * 3_600.0


class Tried(msgspec.Struct):
    """What of a group was asked for last, as a hash, and when."""

    holes: str = ""
    at: float = 0.0


class Memory(msgspec.Struct):
    """The sensor's cursor: when each exchange is due, and what was tried of each group."""

    due: dict[str, float] = {}
    tried: dict[str, Tried] = {}


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
    return requests, msgspec.json.encode(memory).decode()


def _requests(
    config: Config, groups: Sequence[tuple[str, list[Series]]], memory: Memory, now: float
) -> Iterator[dg.RunRequest]:
    """Those that differ from what was tried already, or that long ago."""
    for name, series in groups:
        holes = [(str(one), hole) for one in series for hole in missing_past(config, one, now)]
        told = hashlib.sha256(repr(holes).encode()).hexdigest()
        tried = memory.tried.get(name, Tried())
        if not holes or (told == tried.holes and now - tried.at < AGAIN):
            continue
        memory.tried[name] = Tried(told, now)
        whole = Window(min(hole.start for _, hole in holes), max(hole.end for _, hole in holes))
        periods = [period for period, _ in series[0].periods(whole)]
        yield dg.RunRequest(job_name=name, tags=range_tags(periods))


def missing_past(config: Config, series: Series, now: float) -> list[Window]:
    """What is missing of a series in the periods before the running one; of one whose files are
    bad nothing, since its check tells of that."""
    moment = microseconds(datetime.fromtimestamp(now, UTC))
    begin = series.period_window(series.period(moment)).start
    asked = wanted(config, series, moment, end=min(begin, moment - LATELY))
    grid = series.grid(asked) if series.span else asked
    if grid.start >= grid.end:
        return []
    store = DataStore(config.settings.data_path)
    try:
        return store.missing_windows(series, grid)
    except (UnreadableError, SchemaError, OSError):
        return []


def _memory(cursor: str | None) -> Memory:
    """A cursor of another version is begun anew: then all is looked at once more."""
    try:
        return msgspec.json.decode(cursor or "{}", type=Memory)
    except msgspec.MsgspecError:
        return Memory()
