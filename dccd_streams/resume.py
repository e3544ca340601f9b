"""Where a series was left: what is stored of it, and the holes in the last of it."""

from dataclasses import dataclass

from dccd_core.intervals import subtract
from dccd_core.models import SECOND, Series, Window, microseconds
from dccd_core.store.datastore import DataStore
from dccd_streams.heal_plan import Hole

_FAR = 1 << 60


@dataclass(frozen=True, slots=True)
class Left:
    """`end` is up to where it is whole, None where nothing is stored."""

    end: int | None
    holes: list[Hole]


def read_left(store: DataStore, series: Series, reach_back: float) -> Left:
    """What a service finds when it begins. Holes that are told as lost stay so."""
    last = store.last_timestamp(series)
    if last is None:
        return Left(None, [])
    newest = microseconds(last)
    window = Window(newest - int(reach_back * SECOND), _FAR)
    covered = store.covered(series, window)
    if not covered:
        return Left(newest, [])
    whole = Window(covered[0].start, covered[-1].end)
    lost = [Window(loss.start, loss.end) for loss in store.lost(series, window)]
    missing = subtract([whole], [*covered, *lost])
    holes = [Hole(hole.start, hole.end, "left by an earlier run") for hole in missing]
    return Left(whole.end, holes)
