"""Candle spans and the UTC grid they sit on. Times are epoch milliseconds, spans seconds."""

import re

import numpy as np
from numpy.typing import NDArray

MINUTE = 60
HOUR = 3_600
DAY = 86_400
WEEK = 604_800
MONTH = 2_592_000
"""A calendar month, which has no fixed length: written as 30 days, handled by the calendar."""
DAY_MS = DAY * 1_000

_UNITS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK, "M": MONTH}
_LABEL = re.compile(r"([1-9][0-9]*)([smhdwM])")
# 1970-01-01 was a Thursday, and exchanges open their weeks on Monday.
_FIRST_MONDAY_MS = 4 * DAY_MS


def seconds(label: str) -> int:
    """Seconds of a span label such as "15m" or "1M". Raises ValueError on any other text."""
    match = _LABEL.fullmatch(label)
    if match is None:
        raise ValueError(f"span {label!r}: write a number and one of s m h d w M, like 1m or 4h")
    return int(match[1]) * _UNITS[match[2]]


def opens(times: NDArray[np.int64], span: int, shift_ms: int = 0) -> NDArray[np.int64]:
    """Open time of the candle that each time falls into; shift_ms moves the grid to a time zone."""
    local = times + shift_ms
    if span == MONTH:
        month = local.astype("datetime64[ms]").astype("datetime64[M]")
        return month.astype("datetime64[ms]").astype(np.int64) - shift_ms
    anchor = _FIRST_MONDAY_MS if span == WEEK else 0
    step = span * 1_000
    return (local - anchor) // step * step + anchor - shift_ms


def ends(times: NDArray[np.int64], span: int, shift_ms: int = 0) -> NDArray[np.int64]:
    """Open time of the candle after the one that opens at each time."""
    if span == MONTH:
        month = (times + shift_ms).astype("datetime64[ms]").astype("datetime64[M]") + 1
        return month.astype("datetime64[ms]").astype(np.int64) - shift_ms
    return times + span * 1_000


def open_of(time: int, span: int, shift_ms: int = 0) -> int:
    """Open time of the candle that one time falls into."""
    return int(opens(np.array([time], dtype=np.int64), span, shift_ms)[0])


def end_of(open_ms: int, span: int, shift_ms: int = 0) -> int:
    """Open time of the candle after the one that opens at open_ms."""
    return int(ends(np.array([open_ms], dtype=np.int64), span, shift_ms)[0])
