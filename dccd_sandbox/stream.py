"""What a simulated WebSocket endpoint is: texts in, messages out, no I/O."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """What a message is, so that faults can choose: data of a channel, an answer, a heartbeat."""

    TRADES = "trades"
    BOOK = "book"
    OHLC = "ohlc"
    REPLY = "reply"
    BEAT = "beat"


DATA = frozenset({Kind.TRADES, Kind.BOOK, Kind.OHLC})


@dataclass(frozen=True, slots=True)
class Message:
    """One text message to the client. `symbol` is the market's (as in Settings), "" if of none."""

    text: str
    kind: Kind = Kind.REPLY
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class Close:
    """How a connection ends: a close frame with this code and reason."""

    code: int
    reason: str = ""


class Stream(ABC):
    """The server's side of one connection. All times are the sandbox's, in milliseconds.

    `topics` are the feeds that the client is subscribed to, by any names: they are counted. Setting
    `close` ends the connection after what was returned is sent. `ping_seconds`: the server sends
    ping frames so often; `messages` in `seconds` may come from the client, pings and pongs
    too, else the connection is closed with `too_many`. Both in real time.
    """

    ping_seconds: ClassVar[float | None] = None
    pong_seconds: ClassVar[float] = 60.0
    messages: ClassVar[int] = 1_000_000
    seconds: ClassVar[float] = 1.0
    too_many: ClassVar[Close] = Close(1008, "Too many requests")

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.close: Close | None = None

    def opened(self, now: int) -> list[Message]:
        """What is said first, unasked."""
        return []

    @abstractmethod
    def heard(self, text: str, now: int) -> list[Message]:
        """Answers to a message of the client: acknowledgements, refusals, snapshots."""

    @abstractmethod
    def due(self, now: int) -> list[Message]:
        """Everything to send since the last call; called each few milliseconds of real time."""

    def refused(self, text: str, now: int) -> list[Message]:
        """What is said instead of accepting a subscription, when faults want it refused."""
        return []

    def shutdown(self, now: int) -> list[Message]:
        """The notice that the server goes away soon, where the exchange has one."""
        return []
