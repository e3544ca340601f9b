"""How old the newest row of a series may be, and whether it is too old.

What counts is the age of the data, not the time of a run: a backfill of 2015 makes nothing fresh.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dccd_core.config import Config
from dccd_core.config_sections import StreamJob
from dccd_core.cron import longest_pause
from dccd_core.live_series import live_series
from dccd_core.models import DAY, SECOND, Channel, Series
from dccd_core.store.inventory import InventoryRow

MINUTE = 60.0
# A run takes its time, and candles younger than ten minutes may still be missing at an exchange.
GRACE = 15 * MINUTE
# Pauses in trading are not even: a hundred times the usual one is not met in a market that lives.
FACTOR = 100
LEAST, MOST = 10 * MINUTE, float(DAY)
# A few rows say nothing about how often they come.
ENOUGH = 50


class State(StrEnum):
    """`quiet`: the exchange was asked of late and had nothing; `unlimited`: nothing is expected
    at a certain time."""

    FRESH = "fresh"
    QUIET = "quiet"
    STALE = "stale"
    EMPTY = "empty"
    UNLIMITED = "unlimited"


@dataclass(frozen=True, slots=True)
class Freshness:
    """How one series is: the seconds since its newest row, and how many there may be."""

    series: Series
    state: State
    age: float | None
    limit: float | None


def history_limits(config: Config, crons: dict[Series, str]) -> dict[Series, float | None]:
    """How old each historical series may get; None: its schedule is off.

    `crons` is when each is collected: just before that the newest candle is a pause and a span old.
    """
    limits: dict[Series, float | None] = {}
    for series, cron in crons.items():
        pause = None if cron == "off" else float(longest_pause(cron))
        limits[series] = None if pause is None else pause + series.span + GRACE
    live = live_series(config)
    return {series: limit for series, limit in limits.items() if series not in live}


def live_limit(series: Series, job: StreamJob, rows: int, seconds: float) -> float | None:
    """How old a live series may get, from how many rows came in how many seconds.

    None if that is too few to say. What the job says goes before it; books come each `time_step`.
    """
    if job.stale_after is not None:
        return float(job.stale_after)
    if series.channel is Channel.BOOK:
        return LEAST + 2 * job.time_step
    if rows < ENOUGH or seconds <= 0:
        return None
    limit = max(LEAST, FACTOR * seconds / rows) + 2 * series.span
    return limit if limit <= MOST else None


def age_of(series: Series, last: int | None, now: float) -> float | None:
    """Seconds since the newest candle closed, or since the newest row; None if there is none."""
    return None if last is None else max(0.0, now - last / SECOND - series.span)


def judge_age(
    series: Series, last: int | None, asked: int | None, limit: float | None, now: float
) -> Freshness:
    """The freshness of one series, whose newest row is at `last` and which the exchange was asked
    about until `asked`, both in microseconds; `now` in seconds."""
    age = age_of(series, last, now)
    if age is None:
        return Freshness(series, State.EMPTY, None, limit)
    if limit is None:
        return Freshness(series, State.UNLIMITED, age, None)
    if age <= limit:
        return Freshness(series, State.FRESH, age, limit)
    known = asked is not None and now - asked / SECOND <= limit
    return Freshness(series, State.QUIET if known else State.STALE, age, limit)


def newest(rows: Iterable[InventoryRow]) -> dict[Series, int]:
    """The time of the newest row of each series that has one."""
    return {row.series: row.last for row in rows if row.last is not None}
