"""What the server asks of a simulated exchange."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dccd_sandbox.clock import Clock
from dccd_sandbox.http import Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Stream

Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class World:
    """What all exchanges of a sandbox share. weight_limit 0 switches rate limits off."""

    markets: Mapping[str, Market]
    clock: Clock
    weight_limit: int


class Exchange(ABC):
    """One exchange: requests in, replies out, no I/O. Paths come without the exchange's prefix.

    `connects`: so many WebSocket handshakes in so many seconds of real time, then 429.
    """

    connects: ClassVar[tuple[int, float]] = (1_000_000, 1.0)

    def __init__(self, world: World) -> None:
        self.world = world
        self.limit = WeightLimit(world.weight_limit)

    @abstractmethod
    def answer(self, request: Request, path: str) -> Reply:
        """The reply that the real exchange would give."""

    @abstractmethod
    def refusal(self, status: int, retry_after: int) -> Reply:
        """Its 429 or 418, with Retry-After in seconds."""

    def stream(self, path: str, query: Query) -> Stream | None:
        """A new connection at a WebSocket path; None: there is no such path."""
        return None

    def market_of(self, symbol: str) -> Market:
        """The market behind a symbol of this exchange, for the truth. Raises KeyError."""
        return self.world.markets[symbol]

    @abstractmethod
    def forget(self) -> None:
        """Drop prepared answers: the clock was moved."""
