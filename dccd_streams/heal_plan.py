"""What is missing of a stream, and why."""

from dataclasses import dataclass, field

from dccd_core.exchanges.trades import Trade
from dccd_core.models import Series, Window


class NoRoom(Exception):
    """Nothing may be fetched: the journal has no room for it."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A window, in the exchange's time, of which rows may be missing.

    `end` None: up to now, as nothing has come since. `before` is a trade that is stored, at its
    end, if there is one: REST that does not show it yet does not know all of the hole. `series`
    are those that lack them (None: all of a feed), and `joins` how many series had joined the feed
    by then: one that joins later, or anew, has not had all that is fetched.
    """

    start: int
    end: int | None
    cause: str
    before: str | None = None
    series: tuple[Series, ...] | None = field(default=None, compare=False)
    joins: int = field(default=0, compare=False)

    def window(self, newest: int) -> Window:
        """As a window; `newest` is where it ends if it has no end of its own."""
        return Window(self.start, max(self.start, newest if self.end is None else self.end))

    def holds(self, trade: Trade) -> bool:
        """Whether a trade is of its time."""
        return trade.time >= self.start and (self.end is None or trade.time < self.end)

    def is_shown(self, trades: list[Trade]) -> bool:
        """Whether the trade of the stream at its end is among these."""
        return any(trade.trade_id == self.before for trade in trades)
