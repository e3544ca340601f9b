"""Five cron fields, checked before a scheduler sees them: a bad one would stop every schedule."""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_LONGEST = dict(zip(range(1, 13), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))
_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9]\d?))?")
_NUMBER = re.compile(r"[0-9]{1,2}")
# nine years hold a 29th of February on either side of a century without one
_SPAN_OF_DAYS = 9 * 366

_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)


def check_cron(text: str) -> None:
    """ValueError says which of the fields minute, hour, day, month, weekday is wrong and why.

    It does not repeat the text, which may have come from outside.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError("write five cron fields, minute hour day month weekday, as '5 * * * *'")
    values = [_values(field, *shape) for field, shape in zip(fields, _FIELDS, strict=True)]
    if fields[4] == "*" and min(values[2]) > max(_LONGEST[month] for month in values[3]):
        raise ValueError("it never comes: no such month has such a day")


def _values(field: str, noun: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    """The numbers that a field stands for: *, 5, 1-5, */15, mon-fri, and lists of these."""
    found: set[int] = set()
    for part in field.lower().split(","):
        match = _PART.fullmatch(part)
        if not match:
            raise ValueError(f"the {noun} cannot be read: write *, 5, 1-5, */15 or 1,15")
        first, last, step = match.groups()
        start = _number(first, names) if first else low
        end = _number(last, names) if last else start if first and not step else high
        if not low <= start <= end <= high:
            raise ValueError(f"the {noun} goes from {low} to {high}")
        found.update(range(start, end + 1, int(step or 1)))
    return found


def _number(text: str, names: dict[str, int]) -> int:
    """A number or a name as a number; -1, which no field allows, for anything else."""
    return int(text) if _NUMBER.fullmatch(text) else names.get(text, -1)


@lru_cache(maxsize=256)
def longest_pause(text: str) -> int:
    """The most seconds between two moments of a cron text, over the coming years."""
    minutes, first = _minutes(text), date(2028, 1, 1)
    days = [day for day in range(_SPAN_OF_DAYS) if _fits(text, first + timedelta(days=day))]
    apart = max((after - before for before, after in pairwise(days)), default=_SPAN_OF_DAYS)
    inside = max((after - before for before, after in pairwise(minutes)), default=0)
    return 60 * max(inside, apart * 1_440 - minutes[-1] + minutes[0])


def latest_tick(text: str, now: datetime) -> datetime:
    """The newest moment of a cron text at or before `now`, in the zone of `now`."""
    minutes = _minutes(text)
    for back in range(_SPAN_OF_DAYS):
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)
        if _fits(text, midnight.date()):
            found = [midnight + timedelta(minutes=minute) for minute in minutes]
            if past := [moment for moment in found if moment <= now]:
                return past[-1]
    raise ValueError("it never came: no such month has such a day")


def _minutes(text: str) -> list[int]:
    """The minutes of a day at which a cron text fires, where its day fits."""
    minute, hour = (
        _values(field, *shape) for field, shape in zip(text.split()[:2], _FIELDS[:2], strict=True)
    )
    return sorted(60 * one + other for one in hour for other in minute)


def _fits(text: str, day: date) -> bool:
    """Whether a day is meant. Of a day of the month and a weekday one is enough, as cron has it."""
    fields = text.split()
    of_month, month, weekday = (
        _values(field, *shape) for field, shape in zip(fields[2:], _FIELDS[2:], strict=True)
    )
    by_date, by_weekday = day.day in of_month, day.isoweekday() % 7 in {one % 7 for one in weekday}
    both = fields[2] == "*" or fields[4] == "*"
    return day.month in month and ((by_date and by_weekday) if both else (by_date or by_weekday))
