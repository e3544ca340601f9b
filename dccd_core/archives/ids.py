"""Trade ids that follow each other without a hole: where a file lacks some."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dccd_core.archives.base import ArchiveError
from dccd_core.models import Window
from dccd_core.store.schemas import integers, table_times


class End(NamedTuple):
    """The id and the time of a trade."""

    id: int
    time: int


class Ids:
    """Looks at the trades of a file by blocks, whether the oldest or the newest come first.

    `oldest_first`: the first block has said so, which settles the lowest id.
    """

    def __init__(self) -> None:
        self._first: End | None = None
        self._last = End(0, 0)
        self.oldest_first = False

    @property
    def ends(self) -> tuple[End, End] | None:
        """The trades with the lowest and the highest id so far; None without any."""
        return (self._first, self._last) if self._first else None

    def holes(self, rows: pa.Table) -> list[Window]:
        """Between which times trades are absent, in this block or between it and those before.

        ArchiveError if an id is there twice, is no number, or blocks are mixed up.
        """
        try:
            ids = integers(rows.column("trade_id"))
        except pa.ArrowInvalid as error:
            raise ArchiveError(f"a trade id that is no number: {error}") from error
        order = np.argsort(ids, kind="stable")
        ids, times = ids[order], table_times(rows)[order]
        steps = np.diff(ids)
        if (steps <= 0).any():
            raise ArchiveError(f"trade {ids[np.argmax(steps <= 0)]} is there twice")
        found = [_between(times[i], times[i + 1]) for i in np.flatnonzero(steps > 1)]
        first, last = End(int(ids[0]), int(times[0])), End(int(ids[-1]), int(times[-1]))
        if self._first is None:
            self.oldest_first = bool(order[0] == 0)
        return found + self._join(first, last)

    def _join(self, first: End, last: End) -> list[Window]:
        if self._first is None:
            self._first, self._last = first, last
            return []
        if first.id > self._last.id:
            older, newer, self._last = self._last, first, last
        elif last.id < self._first.id:
            older, newer, self._first = last, self._first, first
        else:
            raise ArchiveError("trade ids are neither in ascending nor in descending order")
        return [_between(older.time, newer.time)] if newer.id - older.id > 1 else []


def _between(one: int, other: int) -> Window:
    """From a trade to the next one that is there, whose times may be in the wrong order."""
    return Window(int(min(one, other)), int(max(one, other)) + 1)
