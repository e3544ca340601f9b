"""Days, months and quarters of UTC as windows with their names."""

from collections.abc import Iterator
from datetime import UTC, datetime

from dccd_core.models import DAY, SECOND, Window, microseconds, moment


def first_of(year: int, month: int = 1) -> int:
    """The first moment of a month."""
    return microseconds(datetime(year, month, 1, tzinfo=UTC))


def days(window: Window, shift: int = 0) -> Iterator[tuple[str, Window]]:
    """Each day that a window touches, by its name 2026-01-31; `shift` is how many seconds a day
    begins before that of UTC."""
    size, ahead = DAY * SECOND, shift * SECOND
    for number in range((window.start + ahead) // size, -(-(window.end + ahead) // size)):
        start = number * size
        yield f"{moment(start):%Y-%m-%d}", Window(start - ahead, start - ahead + size)


def months(window: Window) -> Iterator[tuple[str, Window]]:
    """Each month that a window touches, by its name 2026-01."""
    for start, end in _steps(window, 1):
        yield f"{moment(start):%Y-%m}", Window(start, end)


def quarters(window: Window) -> Iterator[tuple[str, Window]]:
    """Each quarter that a window touches, by its name 2026Q1."""
    for start, end in _steps(window, 3):
        when = moment(start)
        yield f"{when.year}Q{(when.month + 2) // 3}", Window(start, end)


def _steps(window: Window, size: int) -> Iterator[Window]:
    if window.start >= window.end:
        return
    when = moment(window.start)
    number = (when.year * 12 + when.month - 1) // size
    while (start := _month(number * size)) < window.end:
        number += 1
        yield Window(start, _month(number * size))


def _month(number: int) -> int:
    return first_of(number // 12, number % 12 + 1)
