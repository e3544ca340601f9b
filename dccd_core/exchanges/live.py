"""The live side of an exchange: what a connection says and hears, without the connection.

A `Session` is the protocol of one connection: messages to send, frames in, events out. It keeps
what the protocol itself needs (channel numbers, a table of price ids), does no input or output and
has no clock. Whoever owns the socket keeps the books, the limits and the time.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from dccd_core.exchanges.base import BadAnswer, Instrument
from dccd_core.exchanges.trades import Levels, Trade
from dccd_core.models import Channel


@dataclass(frozen=True, slots=True)
class Subscription:
    """One feed of one market: TRADES, BOOK or OHLC (of `span` seconds).

    `depth` is how many levels a side of a book are wanted at least, 0 for all that there are.
    """

    instrument: Instrument
    channel: Channel
    span: int = 0
    depth: int = 0


class LiveCandle(NamedTuple):
    """A closed candle of a stream: the columns of stored candles in their order, and the receipt.

    Times in microseconds, volumes in base units, None where the exchange has no such column.
    """

    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None
    trades: int | None
    taker_buy_volume: float | None
    taker_buy_quote_volume: float | None
    received: int


class BookChange(NamedTuple):
    """A new book (`snapshot`) or changes to the one there is.

    `first` and `last` are the exchange's numbers of the changes inside, `previous` the number that
    it follows: it may be applied where `previous` is the book's number, or, on a book fetched by
    REST, where first <= number + 1 <= last. All None where the exchange does not number changes.
    `checksum` is what `Session.checksum` must give afterwards. Both sides may be empty: then this
    carries a checksum or a number only. `keep` is the depth to which the book is cut afterwards.
    `time` is the exchange's, None where it has none.
    """

    snapshot: bool
    bids: Levels
    asks: Levels
    received: int
    time: int | None = None
    first: int | None = None
    last: int | None = None
    previous: int | None = None
    checksum: int | None = None
    keep: int | None = None


@dataclass(slots=True, eq=False)
class Inbox:
    """What frames brought. Rows are kept by `Instrument.name`, candles by name and span.

    `accepted` and `refused` (with the reason) answer subscriptions; a refusal of what cannot be
    told apart names all that were in its request. `bad` are frames that could not be read, with
    the reason: what was in them is lost. `lost` names markets whose book must be fetched anew, with
    the reason. `reconnect` says why the whole connection must be made anew, if it must.
    """

    trades: dict[str, list[Trade]] = field(default_factory=lambda: defaultdict(list))
    candles: dict[tuple[str, int], list[LiveCandle]] = field(
        default_factory=lambda: defaultdict(list)
    )
    books: dict[str, list[BookChange]] = field(default_factory=lambda: defaultdict(list))
    accepted: list[Subscription] = field(default_factory=list)
    refused: list[tuple[Subscription, str]] = field(default_factory=list)
    bad: list[tuple[bytes, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    reconnect: str | None = None


class Frame(NamedTuple):
    """One text or binary message and when it came, in microseconds."""

    payload: bytes
    received: int


class Session(ABC):
    """The protocol of one connection; used by one thread."""

    @abstractmethod
    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """The messages that ask for these feeds, each within the exchange's size limits."""

    @abstractmethod
    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """The messages that end these feeds."""

    @abstractmethod
    def read(self, frame: Frame, inbox: Inbox) -> None:
        """Put what a frame says into the inbox; BadAnswer if it cannot be read."""

    def read_all(self, frames: Sequence[Frame], inbox: Inbox) -> None:
        """Read frames in order; those that cannot be read are in `inbox.bad`."""
        for frame in frames:
            try:
                self.read(frame, inbox)
            except BadAnswer as error:
                inbox.bad.append((frame.payload, str(error)))

    def opening(self) -> list[bytes]:
        """Messages to send before any subscription."""
        return []

    def ping(self) -> bytes | None:
        """The text that keeps the connection alive where the exchange wants one of its own; empty
        where it wants a ping frame of WebSocket."""
        return None

    def checksum(self, instrument: Instrument, bids: Levels, asks: Levels) -> int:
        """The exchange's checksum of the best `Live.checksum_depth` levels of a book."""
        raise NotImplementedError(f"{type(self).__name__} has no checksums")


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """What one connection may carry and how often one may send and connect.

    `streams`: subscriptions of a connection. `messages` in `seconds` may be sent, `connects` in
    `connect_seconds` may be made from this address. `lifetime` is after how many seconds the
    exchange ends a connection, `ping` how often `Session.ping` must be sent; None: no such rule.
    """

    streams: int
    messages: int
    seconds: float
    connects: int
    connect_seconds: float
    lifetime: float | None = None
    ping: float | None = None


class Live(ABC):
    """Mixed into an exchange that streams without a key; `Exchange.channels` says what.

    `live_spans` are the spans in seconds of its candle feed, empty where it has none.
    `live_gapless`: that sends a candle of each interval, also where nobody traded.
    `book_from_rest`: changes come without a first book, which is asked for by `Depth`.
    `checksum_depth`: how many levels a side a checksum covers, 0 where there are none.
    """

    ws_url: ClassVar[str]
    live_limits: ClassVar[LiveLimits]
    live_spans: ClassVar[frozenset[int]] = frozenset()
    live_gapless: ClassVar[bool] = False
    book_from_rest: ClassVar[bool] = False
    checksum_depth: ClassVar[int] = 0

    @abstractmethod
    def live_path(self, subscription: Subscription) -> str:
        """What follows `ws_url` for the connection that carries a feed, as "/v5/public/spot"."""

    @abstractmethod
    def session(self) -> Session:
        """The protocol of a new connection."""
