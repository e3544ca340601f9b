"""What a subscription has to send since the last time it was asked: trades, book, candles."""

import numpy as np

from dccd_sandbox import spans
from dccd_sandbox.book import Book, Change
from dccd_sandbox.candles import Rows, Trades, empty, filled, of_trades, times
from dccd_sandbox.market import Market
from dccd_sandbox.tape import NO_TAPE

_NO_LIMIT = 1 << 62


class TradeFeed:
    """Trades after a moment (ms)."""

    def __init__(self, market: Market, now: int) -> None:
        self.market = market
        self._next = market.tape.next_id(now)

    def due(self, now: int) -> Trades:
        """Those that have happened since, oldest first."""
        found = self.market.tape.from_id(self._next, _NO_LIMIT, now)
        self._next += len(found)
        return found


class BookFeed:
    """`book` as it is at a moment (ms), and its changes from there on.

    With a `depth`, of the best levels only; see OrderBook.changes for `dropped`.
    """

    def __init__(self, market: Market, now: int, depth: int = 0, dropped: bool = True) -> None:
        self.market = market
        self._depth = depth
        self._dropped = dropped
        whole = market.book.at(now)
        self.book: Book = whole.top(depth) if depth else whole
        self._last = whole.sequence

    def due(self, now: int) -> list[Change]:
        """What has changed since, one by one."""
        found = self.market.book.changes(self._last, now, self._depth, self._dropped)
        if found:
            self._last = found[-1].sequence
        return found


class CandleFeed:
    """Candles of a span (seconds) from the one that runs at a moment (ms) on."""

    def __init__(self, market: Market, span: int, now: int, every: int = 1_000) -> None:
        self.market = market
        self.span = span
        self._every = every
        self._open = spans.open_of(now, span)
        self._asked = 0
        self._sent = empty()

    def due(self, now: int) -> Rows:
        """Candles that are new or have changed: those that closed since, and the running one
        last, at most every `every` ms of the market's time. is_closed() tells them apart."""
        if now < self._asked:
            return empty()
        self._asked = now // self._every * self._every + self._every
        rows = self._rows(now)
        if len(rows) == 0:
            return rows
        # The first one is sent again when it has closed, even if nothing was traded since.
        known = len(rows) == 1 and len(self._sent) > 0 and bool((rows[0] == self._sent[0]).all())
        self._open, self._sent = int(times(rows)[-1]), rows[-1:]
        return rows[1:] if known else rows

    def _rows(self, now: int) -> Rows:
        market, start = self.market, max(self._open, self.market.first_ms)
        if market.tape is NO_TAPE or self.span > spans.DAY or start > now:
            return market.candles(self.span, self._open, now, now)
        # From the trades themselves: a market builds whole days, and this one goes on.
        rows = of_trades(market.tape.between(start, now + 1), self.span)
        before = int(market.tape.prices_at(np.array([start - 1]))[0])
        return filled(rows, spans.open_of(start, self.span), now + 1, self.span, before)

    def is_closed(self, row_open: int, now: int) -> bool:
        """Whether the candle that opens at row_open has ended at `now`."""
        return spans.end_of(row_open, self.span) <= now
