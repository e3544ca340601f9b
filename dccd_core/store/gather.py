"""What a journal has of each series: rows, and what its marks say of windows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from dccd_core.models import DAY, SECOND, Series, Window
from dccd_core.store import frames
from dccd_core.store.frames import Frame, Hole
from dccd_core.store.journal import Damage, journals, read_segment, segments
from dccd_core.store.packed import PackedTrades
from dccd_core.store.rows import arrange
from dccd_core.store.schemas import (
    TABLES,
    Loss,
    array,
    empty_table,
    packed_table,
    table_times,
)

DAMAGED = "the journal was damaged"
# objects wait for their table no longer than this: the heap keeps the room that they had at once
_TABLE_ROWS = 100
_TABLE_TRADES = 5_000


@dataclass(slots=True)
class Gathered:
    """What a journal has of one series.

    A damaged frame may have held rows of any series: the windows that were marked just before and
    just after it are not called covered, but lost. `doubt`: the next one is such a window.
    """

    series: Series
    doubt: bool = False
    covered: list[Window] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    _tables: list[pa.Table] = field(default_factory=list)
    _rows: list[tuple[object, ...]] = field(default_factory=list)
    _trades: list[PackedTrades] = field(default_factory=list)
    _count: int = 0
    _bad: bool = False

    def add(self, content: frames.Content) -> None:
        """Take what a frame has."""
        if isinstance(content, frames.Lost):
            self.lost.append(Loss(content.start, content.end, content.cause))
        elif isinstance(content, frames.Covered):
            self._cover(Window(content.start, content.end))
        else:
            self._take(content)
            enough = self._count >= _TABLE_TRADES or len(self._rows) >= _TABLE_ROWS
            if enough and not self._bad:
                self._try_flush()

    def _take(self, rows: frames.Rows) -> None:
        if isinstance(rows, PackedTrades):
            self._trades.append(rows)
            self._count += len(rows)
        else:
            self._rows += rows.rows
            self._count += len(rows.rows)

    def _cover(self, window: Window) -> None:
        if self.doubt:
            self.lost.append(Loss(*window, DAMAGED))
        else:
            self.covered.append(window)
        self.doubt = False

    def damaged(self) -> None:
        """Something is missing here."""
        if self.covered:
            self.lost.append(Loss(*self.covered.pop(), DAMAGED))
        self.doubt = True

    def table(self) -> pa.Table:
        """The rows, sorted, each once."""
        return arrange(self.series.channel, self.unsorted())

    def unsorted(self) -> pa.Table:
        """The rows as they came."""
        self._flush()
        return pa.concat_tables([empty_table(self.series.channel), *self._tables])

    def _try_flush(self) -> None:
        """Rows of which no table can be made say so when they are asked for, not to others."""
        try:
            self._flush()
        except Exception:  # noqa: BLE001 - it is raised again by who asks
            self._bad = True

    def _flush(self) -> None:
        """Rows take a tenth of the memory as a table."""
        if self._trades:
            self._tables.append(packed_table(self._trades))
        if self._rows:
            self._tables.append(TABLES[self.series.channel](self._rows))
        self._rows, self._trades, self._count = [], [], 0


@dataclass(slots=True)
class Gathering:
    """What some segments have, by the key of the series, and the damage in them."""

    known: dict[bytes, Gathered] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)

    def read(self, path: Path, content: bytes) -> None:
        """Take the frames of one closed segment."""
        for found in frames.scan(content):
            if isinstance(found, Hole) or not self._add(found):
                self.damage.append(Damage(path, found.start, found.end - found.start))
                for gathered in self.known.values():
                    gathered.damaged()

    def _add(self, frame: Frame) -> bool:
        """Take a frame; whether it is one of ours."""
        content = frame.content()
        if content is None:
            return False
        if frame.key not in self.known:
            try:
                series = Series.parse(frame.key.decode())
            except ValueError:
                return False
            self.known[frame.key] = Gathered(series, doubt=bool(self.damage))
        self.known[frame.key].add(content)
        return True


class JournalReader:
    """Reads a journal while it is written and folded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, series: Series) -> Gathered:
        """What the journal has of a series.

        Read this before the files: what is folded in between is in them, and here too.
        """
        found = Gathered(series)
        for path in (path for one in journals(self._folder) for path in segments(one)):
            for frame in self._frames(path, str(series).encode()):
                content = None if frame is None else frame.content()
                if content is None:
                    found.damaged()
                else:
                    found.add(content)
        return found

    def _frames(self, path: Path, key: bytes) -> Iterator[Frame | None]:
        """The frames of a series in a segment, None for damage. A hole at the end of an open
        segment is a frame on its way."""
        content = read_segment(path)
        for found in frames.scan(content or b""):
            if isinstance(found, Frame):
                if found.key == key:
                    yield found
            elif not found.last or path.suffix == ".closed":
                yield None

    def rows(self, series: Series) -> pa.Table:
        """The rows of a series that are not folded yet, sorted, each once."""
        return self.read(series).table()


def by_period(series: Series, table: pa.Table) -> dict[str, pa.Table]:
    """Rows as tables of each period, inside it in their order."""
    days = table_times(table) // (DAY * SECOND)
    if (np.diff(days) < 0).any():
        order = np.argsort(days, kind="stable")
        table, days = table.take(array(order)), days[order]
    firsts = np.flatnonzero(np.diff(days, prepend=-1)).tolist()
    return {
        series.period(int(days[first]) * DAY * SECOND): table.slice(first, end - first)
        for first, end in pairwise([*firsts, len(days)])
    }
