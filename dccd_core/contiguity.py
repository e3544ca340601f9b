"""Whether the ids of stored trades follow each other, where an exchange numbers them so.

A file is read once: what it was found to hold is kept beside the data, with its size and time.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import polars as pl

from dccd_core.exchanges.base import BadAnswer
from dccd_core.models import Series, Window
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.trade_ids import holes_between


class DayIds(msgspec.Struct, frozen=True):
    """The ids of one day: the first, the last, the holes between them; None without trades.

    `state` tells the files of the day from other ones: names, sizes and times in ns.
    """

    state: tuple[tuple[str, int, int], ...]
    first: int | None
    last: int | None
    holes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contiguity:
    """How many days and trades were looked at, and a sentence for each hole."""

    days: int
    trades: int
    holes: list[str]


_SEEN = msgspec.json.Decoder(dict[str, DayIds])


def check_contiguity(store: DataStore, series: Series) -> Contiguity:
    """All stored days of a series, and the borders between days that both are covered whole.

    Raises what reading a damaged file raises, BadAnswer where an id is no number.
    """
    path = store.private / "contiguity" / f"{'.'.join(series.key)}.json"
    known = _read(path)
    days = {
        period: _day(store, series, period, known.get(period))
        for period in store.existing_periods(series)
    }
    if days != known:
        files.write_bytes(path, msgspec.json.encode(days))
    holes = [hole for day in days.values() for hole in day.holes]
    trades = sum(
        d.last - d.first + 1 for d in days.values() if d.first is not None and d.last is not None
    )
    return Contiguity(len(days), trades, [*holes, *_borders(store, series, days)])


def _read(path: Path) -> dict[str, DayIds]:
    try:
        return _SEEN.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}  # a damaged memory is made again


def _day(store: DataStore, series: Series, period: str, known: DayIds | None) -> DayIds:
    state = _state(store, series, period)
    if known is not None and known.state == state:
        return known
    rows = store.scan(series, *series.period_window(period)).select("time", "trade_id").collect()
    holes = tuple(map(str, holes_between(rows)))
    ids = rows["trade_id"].cast(pl.Int64)
    ends = (ids.min(), ids.max())
    first, last = (end if isinstance(end, int) else None for end in ends)
    return DayIds(state, first, last, holes)


def _state(store: DataStore, series: Series, period: str) -> tuple[tuple[str, int, int], ...]:
    found = []
    for path in sorted(store.folder(series).glob(f"*{period}.*")):
        stat = path.stat()
        found.append((path.name, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def _borders(store: DataStore, series: Series, days: dict[str, DayIds]) -> list[str]:
    """Ids that are missing between one day and the next one that has any."""
    found = []
    traded = [(period, day) for period, day in days.items() if day.first is not None]
    for (before, one), (after, two) in pairwise(traded):
        if one.last is None or two.first is None:
            raise BadAnswer(f"{series}: a day with a first trade and no last one")
        between = Window(series.period_window(before).start, series.period_window(after).end)
        if two.first != one.last + 1 and not store.missing_windows(series, between, here=True):
            count = two.first - one.last - 1
            found.append(f"{count:,} trades are missing between {before} and {after}")
    return found
