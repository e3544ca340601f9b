"""The times before the first and after the last trade of a file: quiet ones, or was it cut short?

Files that end early are published, with the right checksum. Where ids follow each other, those of
the next file settle it; where they do not, the market's own pauses must do.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dccd_core.archives.base import Part
from dccd_core.exchanges.base import Exchange
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.intervals import union
from dccd_core.models import DAY, SECOND, Channel, Series, Window

# Longer than both, an edge is no pause of the market.
LONG, PAUSES = 3_600 * SECOND, 4
# Of fewer trades nobody can tell what a usual pause is.
FEW = 20


class Rhythm:
    """How long the pauses between the trades of a file are; looks at them by blocks."""

    def __init__(self) -> None:
        self._count = self._pause = 0
        self._seen: Window | None = None

    @property
    def seen(self) -> Window | None:
        """From the first trade to just after the last one; None without any."""
        return self._seen

    def see(self, times: NDArray[np.int64]) -> None:
        """Some more trades, later or earlier ones than those before."""
        times = np.sort(times)
        block = Window(int(times[0]), int(times[-1]) + 1)
        pauses = [self._pause, int(np.diff(times).max(initial=0))]
        if self._seen is not None:
            pauses += [block.start - self._seen.end, self._seen.start - block.end]
            block = Window(min(block.start, self._seen.start), max(block.end, self._seen.end))
        self._count, self._pause, self._seen = self._count + len(times), max(pauses), block

    def is_usual(self, edge: Window) -> bool:
        """Whether an edge of the file may be a pause as others are."""
        return self._count < FEW or edge.end - edge.start <= max(LONG, PAUSES * self._pause)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A part, and what would be covered as well if no trade followed in its file's time."""

    part: Part
    edge: list[Window]
    believed: bool

    def settled(self, empty: bool) -> Part:
        if not empty:
            return self.part
        return replace(self.part, covered=union([*self.part.covered, *self.edge]))


class Seam:
    """Where one file of contiguous ids ends and the next one begins.

    The last parts of a file wait here until the first id of the next one tells whether trades are
    absent between. `rest_from`: from then on REST is there to be asked where nothing tells.
    """

    def __init__(self, rest_from: int) -> None:
        self._rest_from = rest_from
        self._waiting: list[_Waiting] = []
        self._end: int | None = None  # of the last file's time
        self._last: int | None = None  # the highest id before that

    def may_believe(self, edge: Window) -> bool:
        """Whether an edge is beyond what REST reaches, so that nobody else can be asked."""
        return edge.start < self._rest_from

    def hold(self, part: Part, edge: list[Window], *, believed: bool) -> None:
        """Keep a part until the next file tells of its edge, which else is `believed` or not."""
        self._waiting.append(_Waiting(part, edge, believed))

    def begin(self, window: Window, first: int) -> tuple[bool | None, list[Part]]:
        """A file begins, with its lowest id: whether no trade is absent before that, None if
        nothing tells; and the parts that wait no longer."""
        known = self._end == window.start and self._last is not None
        empty = first - 1 == self._last if known else None
        self._end = self._last = None  # this file may be refused later on
        return empty, self._free(empty)

    def end(self, window: Window, last: int | None) -> list[Part]:
        """A file is read, with its highest id; None if it has no trade: then what was before it
        goes on, if it adjoins. The parts that wait no longer."""
        freed = []
        if last is None and self._end != window.start:
            freed = self.settle()
        self._end, self._last = window.end, self._last if last is None else last
        return freed

    def settle(self) -> list[Part]:
        """No file follows: the parts that wait no longer."""
        self._end = self._last = None
        return self._free(None)

    def _free(self, empty: bool | None) -> list[Part]:
        waiting, self._waiting = self._waiting, []
        parts = [one.settled(one.believed if empty is None else empty) for one in waiting]
        return [part for part in parts if part.covered or part.rows.num_rows]


def seam_of(exchange: Exchange, series: Series, now: int) -> Seam | None:
    """What joins the files of a series; None where ids do not follow each other."""
    if series.channel is not Channel.TRADES or not isinstance(exchange, TradesHistory):
        return None
    # a day to spare: an edge that REST just cannot reach any more would be missing for ever
    rest_from = 0 if exchange.reach is None else now - (exchange.reach - DAY) * SECOND
    return Seam(rest_from) if exchange.contiguous else None
