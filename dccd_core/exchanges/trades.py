"""What an exchange offers besides candles: its past trades, and its order book of this moment."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from dccd_core.exchanges.base import Answer, Instrument, Rejected, Request

Levels = list[tuple[float, float]]
"""Price and amount in base units of each level; an amount of 0 in a change removes the level."""


class Trade(NamedTuple):
    """One trade. Times are in microseconds, the amount in base units.

    `received` is when it came over a stream, None where it was asked for. `buy`: the taker bought.
    """

    time: int
    received: int | None
    trade_id: str
    price: float
    amount: float
    buy: bool


@dataclass(frozen=True, slots=True)
class TradesPage:
    """Trades of one answer, oldest first, and the request that continues; None at the newest.

    A page may be empty and yet continue: its answer told where the trades begin. Where only its
    length says that a page is the newest, `again` asks from its last trade on: it brings what
    follows if the page was merely shorter than it used to be. `served` is from when on trades are
    served, where older ones are seen to be gone.
    """

    trades: list[Trade]
    next: Request | None
    again: Request | None = None
    served: int | None = None


class OutOfReach(Rejected):
    """The exchange serves its newest trades only, and they do not reach back to the time that was
    asked for. `served` are they, oldest first, never none."""

    def __init__(self, message: str, served: list[Trade]) -> None:
        super().__init__(message)
        self.served = served


class TradesHistory(ABC):
    """Mixed into an exchange that serves past trades. Pages go forward in time.

    `contiguous`: ids are numbers that follow each other without a hole, so that a hole in what is
    stored is a loss. `reach` is how many seconds back the exchange answers, None without limit.
    `page` is the most trades of one answer, `page_weight` what it costs of the budget.
    """

    contiguous: ClassVar[bool]
    reach: ClassVar[int | None]
    trades_page: ClassVar[int]
    trades_weight: ClassVar[float]

    @abstractmethod
    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """Ask for the trades from a time on (inclusive), or for what tells where they begin.

        A time before the first trade gives the first trades; the same request resumes a walk from
        the time of the last stored trade.
        """

    @abstractmethod
    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """The trades of an answer to `request`; BadAnswer if a field is missing or malformed,
        OutOfReach where only newer ones are served.

        No trade is left out between a page and the next, however many share a time: pages continue
        by id or by the exchange's cursor, or overlap and repeat trades. Trades before the time
        that was asked for may be among them.
        """


@dataclass(frozen=True, slots=True)
class Book:
    """An order book, best levels first; `sequence` is the exchange's number of this state."""

    bids: Levels
    asks: Levels
    sequence: int | None
    time: int | None


class Depth(ABC):
    """Mixed into an exchange that serves its order book by REST.

    `depths` are the numbers of levels a side that can be asked for, ascending.
    """

    depths: ClassVar[Sequence[int]]

    @abstractmethod
    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """Ask for the book, `depth` (one of `depths`) levels of each side."""

    @abstractmethod
    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """The book of an answer; BadAnswer if a field is missing or malformed."""
