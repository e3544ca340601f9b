"""What every simulated market offers: candles of any span, and pages of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dccd_sandbox import spans
from dccd_sandbox.book import Look, OrderBook
from dccd_sandbox.candles import Digits, Rows, decimal, empty, times
from dccd_sandbox.tape import NO_TAPE, Tape


@dataclass(frozen=True, slots=True)
class Window:
    """Which candles a request wants: opens from start to end (ms, inclusive), at most `limit`.

    Without a start these are the newest ones, as with most exchanges. shift_ms moves the bucket
    borders to a time zone. `now` is when the request is answered: nothing later is known.
    """

    span: int
    start: int | None
    end: int | None
    limit: int
    now: int
    shift_ms: int = 0


class Market(ABC):
    """One traded pair. Subclasses give candles of a short span, the rest follows from them."""

    def __init__(self, symbol: str, base: str, quote: str, digits: Digits) -> None:
        self.symbol = symbol
        self.base = base
        self.quote = quote
        self.digits = digits

    verbatim = False
    """Whether decimals are printed with the market's own digits, not padded as exchanges do."""

    @property
    def tape(self) -> Tape:
        """Its trades: none in a market of candles only."""
        return NO_TAPE

    @cached_property
    def book(self) -> OrderBook:
        """Its order book: empty in a market without trades."""
        return OrderBook(self.tape, self.first_ms, Look(1, 1, (0,)))

    def price(self, ticks: int, places: int | None = None) -> str:
        """A price as decimal text, padded with zeros to `places`."""
        return decimal(ticks, self.digits.price, places)

    def amount(self, lots: int, places: int | None = None) -> str:
        """An amount in base units as decimal text, padded with zeros to `places`."""
        return decimal(lots, self.digits.amount, places)

    @property
    @abstractmethod
    def first_ms(self) -> int:
        """Time of the first candle of the shortest span."""

    @property
    @abstractmethod
    def last_ms(self) -> int | None:
        """Time of the last one, None for a market that goes on."""

    @abstractmethod
    def source_span(self, span: int, shift_ms: int = 0) -> int | None:
        """The stored span from which `span` is built, None where that is impossible."""

    @abstractmethod
    def source(self, span: int, start: int, stop: int, now: int) -> Rows:
        """Rows of a stored span that open in [start, stop), with what is known at `now`."""

    @abstractmethod
    def join(self, rows: Rows, span: int, shift_ms: int) -> Rows:
        """Candles of a longer span made of source rows."""

    def candles(self, span: int, start: int, end: int, now: int, shift_ms: int = 0) -> Rows:
        """Candles that open in [start, end] ms, the running one last. ValueError: no such span."""
        source = self.source_span(span, shift_ms)
        if source is None:
            raise ValueError(f"{self.symbol} has no candles of {span} s")
        first = max(
            spans.open_of(start, span, shift_ms), spans.open_of(self.first_ms, span, shift_ms)
        )
        end = min(end, now if self.last_ms is None else min(now, self.last_ms))
        if first > end:
            return empty()
        stop = spans.end_of(spans.open_of(end, span, shift_ms), span, shift_ms)
        rows = self.source(source, first, stop, now)
        if source != span or shift_ms:
            rows = self.join(rows, span, shift_ms)
        opens = times(rows)
        return rows[np.searchsorted(opens, start) : np.searchsorted(opens, end, side="right")]

    def page(self, window: Window) -> Rows:
        """The candles that a request gets, ascending."""
        low = spans.open_of(self.first_ms, window.span, window.shift_ms)
        high = window.now if self.last_ms is None else min(window.now, self.last_ms)
        low = low if window.start is None else max(low, window.start)
        high = high if window.end is None else min(high, window.end)
        # A month has up to 31 days; the margin of one bucket pays for borders.
        reach = int((window.limit + 1) * window.span * 1_000 * (31 / 30))
        rows = empty()
        while low <= high:
            forward = window.start is not None
            start, end = (
                (low, min(high, low + reach)) if forward else (max(low, high - reach), high)
            )
            rows = self.candles(window.span, start, end, window.now, window.shift_ms)
            if len(rows) >= window.limit or (start == low and end == high):
                break
            reach *= 4  # the market has holes here
        return rows[: window.limit] if window.start is not None else rows[-window.limit :]

    def closed(self, span: int, start: int, stop: int, now: int) -> Rows:
        """Closed candles that open in [start, stop): what a perfect collector has at `now`."""
        rows = self.candles(span, start, stop - 1, now)
        return rows[spans.ends(times(rows), span) <= now]
