"""Why data is absent: every hole of a series has a kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dccd_core.intervals import clip, subtract
from dccd_core.models import SECOND, Series, Window, moment
from dccd_core.store.schemas import Loss


class GapKind(StrEnum):
    """`missing` is to be fetched, `lost` is what a stream missed, `removed` is kept elsewhere only;
    of the others the exchange has nothing."""

    MISSING = "missing"
    LOST = "lost"
    REMOVED = "removed"
    CONFIRMED_EMPTY = "confirmed_empty"
    BEFORE_LISTING = "before_listing"


@dataclass(frozen=True, slots=True)
class Gap:
    """A window without rows, and how many candles would open in it; 0 where there is no grid.

    `cause` says why it is lost.
    """

    window: Window
    kind: GapKind
    candles: int = 0
    cause: str | None = None

    def __str__(self) -> str:
        cause = f" ({self.cause})" if self.cause else ""
        candles = f"{self.candles} candles, " if self.candles else ""
        return f"{self.kind}{cause}: {candles}{self.window}"

    def row(self) -> dict[str, object]:
        """The gap as a row of a table."""
        start, end = map(moment, self.window)
        return {
            "start": start,
            "end": end,
            "kind": str(self.kind),
            "candles": self.candles,
            "cause": self.cause,
        }


def find_gaps(
    series: Series,
    window: Window,
    covered: list[Window],
    listed: int | None,
    times: NDArray[np.int64],
    lost: Sequence[Loss] = (),
) -> list[Gap]:
    """All gaps of a window, oldest first; `times` are the stored open times inside it, of a series
    that has a grid."""
    if not series.span:
        return find_losses(window, covered, lost, listed)
    grid = series.grid(window)
    start = (
        min(max(grid.start, series.floor(listed)), grid.end) if listed is not None else grid.start
    )
    asked = Window(start, grid.end)
    absent = absent_windows(series, asked, times)
    missing = [hole for gap in absent for hole in subtract([gap], covered)]
    empty = subtract(absent, missing)
    gaps = [
        Gap(Window(grid.start, start), GapKind.BEFORE_LISTING),
        *_explained(missing, lost),
        *(Gap(hole, GapKind.CONFIRMED_EMPTY) for hole in empty),
    ]
    counted = (replace(gap, candles=series.count(gap.window)) for gap in gaps)
    return sorted((gap for gap in counted if gap.candles), key=lambda gap: gap.window)


def reach(
    series: Series,
    ends: tuple[int, int] | None,
    covered: list[Window],
    lost: Sequence[Loss],
    owed: Window | None,
) -> Window | None:
    """Where a series can have gaps: in what it owes, and from its first row to its newest, of a
    stream to what it told of last. None if there is neither."""
    found = [owed] if owed else []
    if ends:
        told = [window.end for window in covered] + [loss.end for loss in lost]
        newest = ends[1] if series.span or not told else min(ends[1], max(told))
        found.append(Window(ends[0], newest + bool(series.span)))
    return Window(min(found)[0], max(end for _, end in found)) if found else None


def first_time(series: Series, listed: int) -> int:
    """From when on a series that was listed at a moment has rows."""
    return series.floor(listed) if series.span else listed


def find_losses(
    window: Window, covered: list[Window], lost: Sequence[Loss], listed: int | None
) -> list[Gap]:
    """All gaps of a window of a series without a grid: what is not covered, oldest first."""
    start = window.start if listed is None else min(max(window.start, listed), window.end)
    before = [Window(window.start, start)] if window.start < start else []
    holes = subtract([Window(start, window.end)], covered)
    return [*(Gap(hole, GapKind.BEFORE_LISTING) for hole in before), *_explained(holes, lost)]


def _explained(missing: list[Window], lost: Sequence[Loss]) -> list[Gap]:
    """Holes, as far as they were lost with their cause, oldest first."""
    gaps = [
        Gap(part, GapKind.LOST, cause=loss.cause)
        for loss in lost
        for part in clip(missing, Window(loss.start, loss.end))
    ]
    rest = subtract(missing, [gap.window for gap in gaps])
    gaps += [Gap(hole, GapKind.MISSING) for hole in rest]
    return sorted(gaps, key=lambda gap: gap.window)


def with_removed(series: Series, gaps: Sequence[Gap], until: int) -> list[Gap]:
    """The gaps, with those that are missing as far as files were removed told as that."""
    found = []
    for gap in gaps:
        at = min(max(gap.window.start, until), gap.window.end)
        if gap.kind is not GapKind.MISSING or at == gap.window.start:
            found.append(gap)
            continue
        for start, end, kind in (
            (gap.window.start, at, GapKind.REMOVED),
            (at, gap.window.end, GapKind.MISSING),
        ):
            if start < end:
                count = series.count(Window(start, end)) if series.span else 0
                found.append(Gap(Window(start, end), kind, count))
    return found


def absent_windows(series: Series, window: Window, times: NDArray[np.int64]) -> list[Window]:
    """The stretches of a window's grid that have no row."""
    step = series.span * SECOND
    inside = times[(times >= window.start) & (times < window.end)]
    edges = np.concatenate([[window.start - step], inside, [window.end]])
    where = np.flatnonzero(np.diff(edges) > step)
    return [Window(int(edges[i]) + step, int(edges[i + 1])) for i in where]
