"""What the stream service has stored of each day, and which of it is news to the catalog.

Days are compared with what was told of them before, so that nothing is lost while nobody listens.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from dccd_core.intervals import clip, subtract, union
from dccd_core.models import SECOND, Series
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.period import Part
from dccd_core.store.schemas import SchemaError
from dccd_core.stream_status import ServiceStatus, StreamStatus

# A day is over for good when the service has folded its last rows.
SETTLED = 900.0
# The open day is told of this often: such events are of no run, so that nothing can delete them.
EVERY = 3_600.0
# Days before the newest ones are not looked at any more: late rows come within hours.
LOOKED_AT = 3


class Told(msgspec.Struct):
    """What was told of a day: its rows then, when, and whether it was over; what streams went
    through that day is counted up here."""

    rows: int = -1
    at: float = 0.0
    final: bool = False
    reconnects: int = 0
    healed: int = 0


class Memory(msgspec.Struct):
    """Of one series: the days told of, and the service's counters as they were seen last."""

    days: dict[str, Told] = {}
    started: float = 0.0
    reconnects: int = 0
    healed: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a series, from its files; times in microseconds."""

    series: Series
    day: str
    final: bool
    rows: int
    bytes: int
    first: int | None
    last: int | None
    gaps: int
    lost: int
    reconnects: int
    healed: int


def count_up(memory: Memory, status: ServiceStatus, stream: StreamStatus, today: str) -> None:
    """Add what the streams of a series went through since the last look to today's figures."""
    again = status.started == memory.started
    day = memory.days.setdefault(today, Told())
    day.reconnects += max(0, stream.reconnects - (memory.reconnects if again else 0))
    day.healed += max(0, stream.healed - (memory.healed if again else 0))
    memory.started = status.started
    memory.reconnects, memory.healed = stream.reconnects, stream.healed


def news(store: DataStore, series: Series, memory: Memory, now: float) -> Iterator[Day]:
    """The days of a series that are to be told of, oldest first; `memory` notes each that is
    given out."""
    stored = store.existing_periods(series)
    known = sorted(day for day, told in memory.days.items() if told.rows >= 0)
    for day in [one for one in stored if not known or one >= known[0]]:
        told = memory.days.setdefault(day, Told())
        over = now > series.period_window(day).end / SECOND + SETTLED
        if not over and now - told.at < EVERY:
            continue
        found = _read(store, series, day, told, over)
        if found is None or (found.rows == told.rows and told.final == over):
            continue
        told.rows, told.at, told.final = found.rows, now, over
        yield found
    for day in sorted(memory.days)[:-LOOKED_AT]:
        del memory.days[day]


def _read(store: DataStore, series: Series, day: str, told: Told, over: bool) -> Day | None:
    """A day's figures; None if its files cannot be read, which the quality check tells."""
    try:
        parts = store.parts(series, day)
    except (SchemaError, UnreadableError, OSError):
        return None
    if not parts:
        return None
    ends = [t for part in parts for t in (part.footer.first, part.footer.last) if t is not None]
    gaps, lost = _gaps(series, day, parts)
    return Day(
        series=series,
        day=day,
        final=over,
        rows=sum(part.rows for part in parts),
        bytes=sum(part.bytes for part in parts),
        first=min(ends, default=None),
        last=max(ends, default=None),
        gaps=gaps,
        lost=lost,
        reconnects=told.reconnects,
        healed=told.healed,
    )


def _gaps(series: Series, day: str, parts: list[Part]) -> tuple[int, int]:
    """How many holes lie between the first and the last thing known of a day, and how many
    windows of it are noted as lost."""
    covered = union(window for part in parts for window in part.footer.windows)
    covered = clip(covered, series.period_window(day))
    lost = sum(len(part.footer.losses) for part in parts)
    if not covered:
        return lost, lost
    between = type(covered[0])(covered[0].start, covered[-1].end)
    return len(subtract([between], covered)), lost


def streams_of(
    statuses: list[ServiceStatus],
) -> Mapping[str, tuple[ServiceStatus, StreamStatus]]:
    """The task that writes each series, by the series' key; of the service that wrote last."""
    found: dict[str, tuple[ServiceStatus, StreamStatus]] = {}
    for status in sorted(statuses, key=_written):
        for one in status.streams:
            found |= dict.fromkeys(one.series, (status, one))
    return found


def _written(status: ServiceStatus) -> float:
    return status.written
