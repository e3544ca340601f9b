"""Where a series was left: what is stored of it, and the holes in the last of it."""

import logging
import time
from dataclasses import dataclass

from dccd_core.intervals import subtract
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.gather import JournalReader
from dccd_core.store.schemas import SchemaError, table_times
from dccd_streams.heal_plan import Hole

log = logging.getLogger(__name__)

_FAR = 1 << 60
_NEAR = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Left:
    """`end` is up to where it is whole, None where nothing is stored. `book` is the time of the
    last row of a book, where none says that it is not known any more."""

    end: int | None
    holes: list[Hole]
    book: int | None = None


def read_left(store: DataStore, series: Series, reach_back: float) -> Left:
    """What a service finds when it begins. A damaged file keeps nothing from being recorded: what
    it had counts as not there.

    What was lost is tried once more: most of it was about to be fetched when the service ended.
    """
    newest = _newest(store, series)
    if newest is None:
        return Left(None, [])
    window = Window(newest - int(reach_back * SECOND), _FAR)
    try:
        return _left_in(store, series, window, newest)
    except (UnreadableError, SchemaError) as error:
        log.error("%s: what is missing before %d is not known: %s", series, newest, error)
        return Left(newest, [])


def _newest(store: DataStore, series: Series) -> int | None:
    """The time of the newest row that can be read."""
    # before the files: what is folded meanwhile is in them, and here too
    found = [int(time) for time in table_times(JournalReader(store.journal).rows(series))[-1:]]
    for period in reversed(store.existing_periods(series)):
        try:
            lasts = [part.footer.last for part in store.parts(series, period)]
        except (UnreadableError, SchemaError) as error:
            log.error("%s: %s is passed over: %s", series, period, error)
            continue
        if stored := [last for last in lasts if last is not None]:
            return max([*found, *stored])
    return max(found, default=None)


def _left_in(store: DataStore, series: Series, window: Window, newest: int) -> Left:
    covered = store.covered(series, window)
    lost = [Window(loss.start, loss.end) for loss in store.lost(series, window)]
    starts = [window.start for window in (*covered, *lost)]
    if not starts:  # a service that ended before it could tell the ledger anything
        starts = [int(time) for time in store.times(series, window)[:1]]
    end = covered[-1].end if covered else newest
    whole = Window(min([*starts, end]), end)
    missing = subtract([whole], covered)
    why = "left by an earlier run"
    holes = [Hole(*hole, why, _first_trade(store, series, hole.end)) for hole in missing]
    return Left(end, holes, _open_book(store, series, newest))


def _first_trade(store: DataStore, series: Series, end: int) -> str | None:
    """The stored trade with which a hole ends; it may be within, as its last microsecond is."""
    if series.channel is not Channel.TRADES:
        return None
    try:
        rows = store.load(series, end - 1, end + _NEAR)
    except (UnreadableError, SchemaError, OSError):
        return None
    return str(rows["trade_id"][0]) if len(rows) else None


def _open_book(store: DataStore, series: Series, newest: int) -> int | None:
    if series.channel is not Channel.BOOK:
        return None
    valid = store.scan(series, newest).select("valid").collect()["valid"]
    return newest if len(valid) and valid[-1] else None


def rows_today(store: DataStore, series: Series) -> int:
    """How many rows of this UTC day are in its files."""
    day = series.period(time.time_ns() // 1_000)
    try:
        return sum(part.rows for part in store.parts(series, day))
    except (UnreadableError, SchemaError, OSError):
        return 0  # whoever writes it next deals with that
