"""Five cron fields, checked before a scheduler sees them: a bad one would stop every schedule."""

import re

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_LONGEST = dict(zip(range(1, 13), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))
_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9]\d?))?")
_NUMBER = re.compile(r"[0-9]{1,2}")

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
