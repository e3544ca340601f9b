"""Arithmetic of sets of time windows: sorted, disjoint, half open."""

from collections.abc import Iterable

from dccd_core.models import Window


def union(windows: Iterable[Window]) -> list[Window]:
    """The same times as sorted, disjoint, non-empty windows; touching ones are joined."""
    joined: list[Window] = []
    for start, end in sorted(window for window in windows if window[0] < window[1]):
        if joined and start <= joined[-1].end:
            joined[-1] = Window(joined[-1].start, max(joined[-1].end, end))
        else:
            joined.append(Window(start, end))
    return joined


def clip(windows: Iterable[Window], bounds: Window) -> list[Window]:
    """The part of a set inside `bounds`."""
    return union(Window(max(start, bounds.start), min(end, bounds.end)) for start, end in windows)


def subtract(windows: Iterable[Window], other: Iterable[Window]) -> list[Window]:
    """The times of the first set that are not in the second."""
    holes = union(other)
    rest: list[Window] = []
    for window in union(windows):
        start = window.start
        for hole in holes:
            if hole.end > start and hole.start < window.end:
                rest.append(Window(start, hole.start))
                start = hole.end
        rest.append(Window(start, window.end))
    return union(rest)
