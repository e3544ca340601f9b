"""Why data is absent: every hole of a series has a kind."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dccd_core.intervals import subtract
from dccd_core.models import SECOND, Series, Window, moment


class GapKind(StrEnum):
    """`missing` is to be fetched; of the others the exchange has nothing."""

    MISSING = "missing"
    CONFIRMED_EMPTY = "confirmed_empty"
    BEFORE_LISTING = "before_listing"


@dataclass(frozen=True, slots=True)
class Gap:
    """A window without rows, and how many candles would open in it."""

    window: Window
    kind: GapKind
    candles: int

    def __str__(self) -> str:
        return f"{self.kind}: {self.candles} candles, {self.window}"

    def row(self) -> dict[str, object]:
        """The gap as a row of a table."""
        start, end = map(moment, self.window)
        return {"start": start, "end": end, "kind": str(self.kind), "candles": self.candles}


def find_gaps(
    series: Series,
    window: Window,
    covered: list[Window],
    listed: int | None,
    times: NDArray[np.int64],
) -> list[Gap]:
    """All gaps of a window, oldest first; `times` are the stored open times inside it."""
    grid = series.grid(window)
    start = (
        min(max(grid.start, series.floor(listed)), grid.end) if listed is not None else grid.start
    )
    asked = Window(start, grid.end)
    absent = absent_windows(series, asked, times)
    missing = [hole for gap in absent for hole in subtract([gap], covered)]
    empty = subtract(absent, missing)
    kinds = [
        *((hole, GapKind.BEFORE_LISTING) for hole in [Window(grid.start, start)]),
        *((hole, GapKind.MISSING) for hole in missing),
        *((hole, GapKind.CONFIRMED_EMPTY) for hole in empty),
    ]
    gaps = [Gap(hole, kind, series.count(hole)) for hole, kind in kinds]
    return sorted((gap for gap in gaps if gap.candles), key=lambda gap: gap.window)


def absent_windows(series: Series, window: Window, times: NDArray[np.int64]) -> list[Window]:
    """The stretches of a window's grid that have no row."""
    step = series.span * SECOND
    inside = times[(times >= window.start) & (times < window.end)]
    edges = np.concatenate([[window.start - step], inside, [window.end]])
    where = np.flatnonzero(np.diff(edges) > step)
    return [Window(int(edges[i]) + step, int(edges[i + 1])) for i in where]
