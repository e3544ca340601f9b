"""Payload files of streams, past trades and books, and how they are read. README.md says what is
in them."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import payloads
from payloads import Question, changed, get, is_number, micro, places

from dccd_core.exchanges import load
from dccd_core.exchanges.base import Answer, Instrument, Request
from dccd_core.exchanges.live import BookChange, Frame, Inbox, Live, LiveCandle, Session
from dccd_core.exchanges.live import Subscription as Asked
from dccd_core.exchanges.trades import Depth, Levels, Trade, TradesHistory
from dccd_core.models import Channel, parse_span

TradeRow = tuple[str, str, float, float, str]
CandleRow = tuple[
    str, float, float, float, float, float, float | None, int | None, float | None, float | None
]


class Subscription(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One feed, as the config would ask for it."""

    symbol: str
    channel: str
    span: str = ""
    depth: int = 0


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """One expected BookChange; what is not given is None, or no levels."""

    snapshot: bool
    bids: Levels = []
    asks: Levels = []
    time: str | None = None
    first: int | None = None
    last: int | None = None
    previous: int | None = None
    checksum: int | None = None
    keep: int | None = None


class Expected(msgspec.Struct, forbid_unknown_fields=True):
    """What an inbox must hold after all frames; texts are parts of what must be there."""

    trades: dict[str, list[TradeRow]] = {}
    candles: dict[str, list[CandleRow]] = {}
    books: dict[str, list[Change]] = {}
    accepted: list[int] = []
    refused: list[tuple[int, str]] = []
    bad: list[int] = []
    lost: list[tuple[str, str]] = []
    notices: list[str] = []
    reconnect: str | None = None


class Stream(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A connection from its opening on: what is said, what is heard, what must be made of it."""

    source: str
    captured: str
    time: str
    subscriptions: list[Subscription]
    path: str
    opening: list[msgspec.Raw] = []
    sent: list[msgspec.Raw] | None = None
    frames: list[msgspec.Raw]
    ended: list[msgspec.Raw] | None = None
    expect: Expected
    broken: bool = False
    required: list[str] = []
    numbers: list[str] = []

    def frame(self, number: int, content: Any = None) -> Frame:
        """A frame; each comes a millisecond after the one before."""
        raw = bytes(self.frames[number]) if content is None else json.dumps(content).encode()
        if raw.lstrip().startswith(b'"'):
            raw = str(json.loads(raw)).encode()
        return Frame(raw, micro(self.time) + 1_000 * number)

    def damaged(self) -> Iterator[tuple[str, int, Any]]:
        """Frames whose required fields are, in turn, gone, null, of another kind, or no number."""
        whole = [json.loads(bytes(frame)) for frame in self.frames]
        for (number, *place), what, content in _damages(whole, self.required, self.numbers):
            yield f"frame {number}, {place} {what}", int(number), content[int(number)]


class Page(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An answer with past trades."""

    source: str
    captured: str
    time: str
    headers: dict[str, str] = {}
    symbol: str
    since: str | None = None
    request: Question
    body: msgspec.Raw
    expect: list[TradeRow]
    next: Question | None
    required: list[str] = []
    numbers: list[str] = []


class Book(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An answer with an order book: `expect` is bids, asks, sequence and time."""

    source: str
    captured: str
    time: str
    headers: dict[str, str] = {}
    symbol: str
    depth: int
    request: Question
    body: msgspec.Raw
    expect: tuple[Levels, Levels, int | None, str | None]
    required: list[str] = []
    numbers: list[str] = []


def damaged(payload: Page | Book) -> Iterator[tuple[str, Any]]:
    """Bodies whose required fields are, in turn, gone, null, of another kind, or no number."""
    whole = json.loads(bytes(payload.body))
    for place, what, content in _damages(whole, payload.required, payload.numbers):
        yield f"{place} {what}", content


def _damages(
    whole: Any, required: list[str], numbers: list[str]
) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    for pattern in [*required, *numbers]:
        for place in sorted(places(whole, pattern.split(".")), key=str):
            value = get(whole, place)
            yield place, "removed", changed(whole, place, remove=True)
            yield place, "null", changed(whole, place, None)
            yield place, "other", changed(whole, place, {} if isinstance(value, list) else [])
            if pattern in numbers:
                assert is_number(value), f"{place}: {value!r} is no number"
                for wrong in ("NaN", "Infinity", "", "abc", True):
                    yield place, f"as {wrong!r}", changed(whole, place, wrong)


def stream(exchange: str, name: str) -> Stream:
    return msgspec.json.decode(_bytes(exchange, name), type=Stream)


def page(exchange: str, name: str) -> Page:
    return msgspec.json.decode(_bytes(exchange, name), type=Page)


def book(exchange: str, name: str) -> Book:
    return msgspec.json.decode(_bytes(exchange, name), type=Book)


def _bytes(exchange: str, name: str) -> bytes:
    return (payloads.FOLDER / exchange / f"{name}.json").read_bytes()


def answer(payload: Page | Book, body: object = None) -> Answer:
    content = bytes(payload.body) if body is None else json.dumps(body).encode()
    return Answer(200, payload.headers, content, micro(payload.time))


def request_of(question: Question) -> Request:
    return Request(question.path, question.params)


def instruments(exchange: str) -> list[Instrument]:
    """All markets of the instrument payloads of an exchange."""
    found: list[Instrument] = []
    for pattern in ("instruments", "instruments_*"):
        for file in payloads.names(exchange, pattern):
            one = payloads.payload(exchange, file)
            assert one.request is not None
            listed = load(exchange).instruments(one.answer(), request_of(one.request))
            found += listed.instruments
    return found


def instrument_of(exchange: str, symbol: str) -> Instrument:
    return next(found for found in instruments(exchange) if str(found.symbol) == symbol)


def asked(exchange: str, payload: Stream) -> list[Asked]:
    """The subscriptions of a payload."""
    return [
        Asked(
            instrument_of(exchange, one.symbol),
            Channel(one.channel),
            parse_span(one.span) if one.span else 0,
            one.depth,
        )
        for one in payload.subscriptions
    ]


def session_of(exchange: str, subscriptions: list[Asked]) -> Session:
    """A session that has opened and subscribed."""
    live = load(exchange)
    assert isinstance(live, Live)
    session = live.session()
    session.opening()
    session.subscribe(subscriptions)
    return session


def size(inbox: Inbox) -> tuple[int, ...]:
    """How much was read into an inbox: rows and answers."""
    tables: list[dict[Any, list[Any]]] = [inbox.trades, inbox.candles, inbox.books]  # type: ignore[list-item]
    rows = [sum(map(len, table.values())) for table in tables]
    return (*rows, len(inbox.accepted), len(inbox.refused))


def trade_rows(rows: list[Trade]) -> list[tuple[Any, ...]]:
    return [(t.time, t.trade_id, t.price, t.amount, "buy" if t.buy else "sell") for t in rows]


def expected_trades(rows: list[TradeRow]) -> list[tuple[Any, ...]]:
    return [(micro(time), *rest) for time, *rest in rows]


def candle_rows(rows: list[LiveCandle]) -> list[tuple[Any, ...]]:
    return [tuple(row[:-1]) for row in rows]


def expected_candles(rows: list[CandleRow]) -> list[tuple[Any, ...]]:
    return [(micro(time), *rest) for time, *rest in rows]


def change_row(row: BookChange) -> tuple[Any, ...]:
    snapshot, bids, asks, _, *rest = row
    return (snapshot, bids, asks, *rest)


def expected_change(row: Change) -> tuple[Any, ...]:
    time = micro(row.time) if row.time else None
    numbers = (row.first, row.last, row.previous, row.checksum, row.keep)
    return (row.snapshot, row.bids, row.asks, time, *numbers)


def breaks(changes: list[BookChange]) -> list[int]:
    """Which changes do not follow, by the rule of BookChange, the one before them."""
    found, number = [], None
    for place, change in enumerate(changes):
        follows = change.previous is None or number is None or change.previous == number
        if not change.snapshot and not follows:
            found.append(place)
        number = change.last
    return found


def history(exchange: str) -> TradesHistory:
    found = load(exchange)
    assert isinstance(found, TradesHistory)
    return found


def depth_of(exchange: str) -> Depth:
    found = load(exchange)
    assert isinstance(found, Depth)
    return found
