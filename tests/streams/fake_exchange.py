"""An exchange with a protocol of its own, whose other side is `fake_server`.

Trades have contiguous ids. Books begin with a snapshot and have numbers and checksums, or begin
from REST, as `from_rest` says.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Blocked,
    Candles,
    Exchange,
    Instrument,
    Limits,
    Listed,
    Request,
    Unavailable,
    floats,
    integers,
)
from dccd_core.exchanges.live import (
    BookChange,
    Frame,
    Inbox,
    Live,
    LiveCandle,
    LiveLimits,
    Session,
    Subscription,
)
from dccd_core.exchanges.trades import Book, Depth, Levels, Trade, TradesHistory, TradesPage
from dccd_core.models import Channel, Symbol, Window

LIMITS = LiveLimits(streams=50, messages=100, seconds=1, connects=10_000, connect_seconds=1)


def checksum(bids: Levels, asks: Levels) -> int:
    """Of the best five levels a side."""
    return zlib.crc32(repr((bids[:5], asks[:5])).encode())


class Fake(Exchange, TradesHistory, Depth, Live):
    """Attributes of an instance may be set by a test."""

    name = "fake"
    title = "Fake"
    docs = "https://example.invalid"
    rest_url = "http://127.0.0.1:1"
    ws_url = "ws://127.0.0.1:1"
    limits = Limits(weight=100_000, seconds=1, burst=100_000, page=1_000)
    spans: Mapping[int, str] = {60: "1m"}  # type: ignore[misc]
    gapless = True
    channels = frozenset({Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS, Channel.OHLC})
    contiguous = True
    reach = None
    trades_page = 100
    trades_weight = 1.0
    depths = (10, 1_000)
    live_limits = LIMITS
    live_spans = frozenset({60})
    live_gapless = True
    book_from_rest = False
    checksum_depth = 5

    def check(self, answer: Answer) -> None:
        if answer.status == 403:
            raise Blocked("blocked")
        if answer.status != 200:
            raise Unavailable(f"HTTP {answer.status}")

    def instruments_requests(self) -> Sequence[Request]:
        return [Request("/instruments")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        names = msgspec.json.decode(answer.body, type=list[str])
        return Listed([Instrument(Symbol(*name.split("-")), name, True) for name in names])

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        bounds = {"start": str(window.start), "end": str(window.end)}
        return Request("/candles", {"s": instrument.name} | bounds)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        rows = msgspec.json.decode(answer.body, type=list[list[Any]])
        columns = list(zip(*rows, strict=True)) or [()] * 6
        times = integers([int(time) for time in columns[0]])
        o, h, low, c, volume = (floats([float(x) for x in column]) for column in columns[1:6])
        return Candles(times, o, h, low, c, volume)

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        return self.candles_request(instrument, span, Window(0, 1 << 60))

    last_candle_request = first_candle_request

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        return Request("/trades", {"s": instrument.name, "time": str(time)})

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        rows = msgspec.json.decode(answer.body, type=list[tuple[int, int, float, float, bool]])
        found = [Trade(time, None, str(i), p, a, buy) for i, time, p, a, buy in rows]
        params = {"s": instrument.name, "id": str(rows[-1][0] + 1)} if rows else {}
        full = len(rows) == self.trades_page
        return TradesPage(found, Request("/trades", params) if full else None)

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        return Request("/book", {"s": instrument.name, "depth": str(depth)})

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        found = msgspec.json.decode(answer.body)
        return Book(_levels(found["bids"]), _levels(found["asks"]), found["u"], None)

    def live_path(self, subscription: Subscription) -> str:
        return "/ws"

    def session(self) -> Session:
        return FakeSession()


class NoHistory(Exchange, Live):
    """Streams only."""

    name = "nohistory"
    title = "No history"
    docs, rest_url, ws_url = Fake.docs, Fake.rest_url, Fake.ws_url
    limits, spans, gapless, channels = Fake.limits, Fake.spans, True, Fake.channels
    live_limits, live_spans, checksum_depth = LIMITS, Fake.live_spans, 5
    check, instruments, candles = Fake.check, Fake.instruments, Fake.candles
    instruments_requests, candles_request = Fake.instruments_requests, Fake.candles_request
    first_candle_request = last_candle_request = Fake.first_candle_request
    live_path, session = Fake.live_path, Fake.session


class FakeSession(Session):
    """Subscriptions are topics as `trades:BTC-USD`; each has an acknowledgement."""

    def __init__(self) -> None:
        self._topics: dict[str, Subscription] = {}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        topics = {topic(one): one for one in subscriptions}
        self._topics |= topics
        return [msgspec.json.encode({"op": "subscribe", "args": list(topics)})]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        return [msgspec.json.encode({"op": "unsubscribe", "args": list(map(topic, subscriptions))})]

    def ping(self) -> bytes | None:
        return b'{"op": "ping"}'

    def read(self, frame: Frame, inbox: Inbox) -> None:
        try:
            said = msgspec.json.decode(frame.payload)
            self._read(said, frame.received, inbox)
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise BadAnswer(f"unreadable: {error}") from error

    def _read(self, said: Any, received: int, inbox: Inbox) -> None:
        match said["k"]:
            case "t":
                rows = (Trade(t, received, str(i), p, a, buy) for i, t, p, a, buy in said["rows"])
                inbox.trades[said["s"]].extend(rows)
            case "b":
                inbox.books[said["s"]].append(_change(said, received))
            case "c":
                time, o, h, low, c, volume = said["row"]
                rest = (None, None, None, None, received)
                inbox.candles[said["s"], 60].append(LiveCandle(time, o, h, low, c, volume, *rest))
            case "ack":
                inbox.accepted += [self._topics[name] for name in said["args"]]
            case "no":
                inbox.refused += [(self._topics[name], said["why"]) for name in said["args"]]
            case "bye":
                inbox.reconnect = "the server says goodbye"
            case "hb" | "pong":
                return
            case kind:
                raise ValueError(kind)

    def checksum(self, instrument: Instrument, bids: Levels, asks: Levels) -> int:
        return checksum(bids, asks)


def topic(subscription: Subscription) -> str:
    """trades:BTC-USD."""
    return f"{subscription.channel}:{subscription.instrument.name}"


def _change(said: Any, received: int) -> BookChange:
    return BookChange(
        snapshot=said["snapshot"],
        bids=_levels(said["bids"]),
        asks=_levels(said["asks"]),
        received=received,
        time=said["time"],
        first=said["first"],
        last=said["last"],
        previous=said["previous"],
        checksum=said["sum"],
    )


def _levels(rows: list[list[float]]) -> Levels:
    return [(price, amount) for price, amount in rows]


@contextmanager
def registered(*exchanges: Exchange) -> Iterator[None]:
    """Let the program find these exchanges."""
    known = load_all()
    known.update({exchange.name: exchange for exchange in exchanges})
    try:
        yield
    finally:
        for exchange in exchanges:
            known.pop(exchange.name)
