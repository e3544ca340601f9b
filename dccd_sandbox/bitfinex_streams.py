"""Bitfinex' public channels, WebSocket 2. https://docs.bitfinex.com/docs/ws-general

From general knowledge and not documented: codes of refusals, 15 seconds between heartbeats, the
checksum after each change of a book. The count of orders of a level is made up.
"""

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from typing import ClassVar

from dccd_sandbox.book import Book, Level
from dccd_sandbox.candles import COUNT, Rows, Trades, texts
from dccd_sandbox.feeds import BookFeed, CandleFeed, TradeFeed
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Kind, Message, Stream

SEQ_ALL, OB_CHECKSUM = 65_536, 131_072
LENGTHS = (1, 25, 100, 250)
MOST_CHANNELS = 25
_FIRST_TRADES, _FIRST_CANDLES, _CHECKED = 30, 240, 25
_BEAT_MS = 15_000

Find = Callable[[str], Market | None]


class Channel(ABC):
    """What one channel sends: the contents of its arrays, without its number."""

    kind: ClassVar[Kind]

    def __init__(self, market: Market, now: int) -> None:
        self.market = market
        self.sent = now

    @abstractmethod
    def first(self, now: int) -> str:
        """The snapshot."""

    @abstractmethod
    def due(self, now: int) -> Iterator[str]:
        """What has happened since the last call."""


class TradesChannel(Channel):
    """The newest trades, newest first; then each trade at once, and again when it is stored."""

    kind = Kind.TRADES

    def __init__(self, market: Market, now: int) -> None:
        super().__init__(market, now)
        self._feed = TradeFeed(market, now)

    def first(self, now: int) -> str:
        """Thirty trades from before."""
        found = deals(self.market.tape.newest(_FIRST_TRADES, now), self.market)
        return f"[{','.join(found[::-1])}]"

    def due(self, now: int) -> Iterator[str]:
        """te, then tu."""
        for deal in deals(self._feed.due(now), self.market):
            yield f'"te",{deal}'
            yield f'"tu",{deal}'


class BookChannel(Channel):
    """P0: a message for each level that changes."""

    kind = Kind.BOOK

    def __init__(self, market: Market, now: int, length: int, checked: bool) -> None:
        super().__init__(market, now)
        self._feed = BookFeed(market, now, length)
        self._checked = min(length, _CHECKED) if checked else 0

    def first(self, now: int) -> str:
        """All levels, bids before asks."""
        return f"[{','.join(levels(self._feed.book, self.market))}]"

    def due(self, now: int) -> Iterator[str]:
        """The levels of a change, then the checksum."""
        for change in self._feed.due(now):
            yield from levels(
                Book(change.sequence, change.time, change.bids, change.asks), self.market
            )
            if self._checked and (change.bids or change.asks):
                book = self.market.book.after(change.sequence).top(self._checked)
                yield f'"cs",{checksum(book, self.market)}'


class CandlesChannel(Channel):
    """Candles with trades: the newest first, then one by one."""

    kind = Kind.OHLC

    def __init__(self, market: Market, span: int, now: int) -> None:
        super().__init__(market, now)
        self._feed = CandleFeed(market, span, now)

    def first(self, now: int) -> str:
        """The last four hours of minutes, and so on."""
        start = now - _FIRST_CANDLES * self._feed.span * 1_000
        found = candles(self.market.candles(self._feed.span, start, now, now), self.market)
        return f"[{','.join(found[::-1])}]"

    def due(self, now: int) -> Iterator[str]:
        """Those that closed and the running one."""
        yield from candles(self._feed.due(now), self.market)


class BitfinexStream(Stream):
    """One connection. `find` knows the symbols, `spans` the lengths of time frames."""

    def __init__(self, find: Find, spans: dict[str, int]) -> None:
        super().__init__()
        self._find = find
        self._spans = spans
        self._flags = 0
        self._count = 0
        self._number = 17_470
        self._live: dict[int, tuple[str, Channel]] = {}

    def opened(self, now: int) -> list[Message]:
        """The version."""
        return [_event("info", version=2, serverId="083bd8d4", platform={"status": 1})]

    def heard(self, text: str, now: int) -> list[Message]:
        """conf, subscribe, unsubscribe, ping."""
        try:
            asked = json.loads(text)
            action = asked["event"]
        except (ValueError, KeyError, TypeError):
            return [_event("error", msg="event: invalid", code=10_000)]
        match action:
            case "conf":
                self._flags = asked["flags"]
                return [_event("conf", status="OK", flags=self._flags)]
            case "subscribe":
                return self._subscribe(asked, now)
            case "unsubscribe":
                return [self._unsubscribe(asked.get("chanId"))]
            case "ping":
                return [_event("pong", ts=now, cid=asked.get("cid", 0))]
        return [_event("error", msg="event: invalid", code=10_000)]

    def _subscribe(self, asked: dict[str, object], now: int) -> list[Message]:
        about = {name: value for name, value in asked.items() if name != "event"}
        symbol = str(asked.get("symbol") or str(asked.get("key")).split(":", 2)[-1])
        about |= {"pair": symbol[1:]} if "symbol" in about else {}
        key = json.dumps(about, sort_keys=True)
        channel = self._channel(asked, symbol, now)
        if isinstance(channel, str):
            return [_event("error", msg=channel, code=10_300, **about)]
        if key in self.topics:
            return [_event("error", msg="subscribe: dup", code=10_301, **about)]
        if len(self._live) >= MOST_CHANNELS:
            return [_event("error", msg="subscribe: limit", code=10_305, **about)]
        self._number += 1
        self._live[self._number] = key, channel
        self.topics.add(key)
        said = _event("subscribed", chanId=self._number, **about)
        return [said, self._array(self._number, channel, channel.first(now))]

    def _channel(self, asked: dict[str, object], symbol: str, now: int) -> Channel | str:
        """The channel that is asked for, or what is wrong with it."""
        market = self._find(symbol)
        if market is None:
            return "symbol: invalid"
        match asked:
            case {"channel": "trades"}:
                return TradesChannel(market, now)
            case {"channel": "candles", "key": str(key)} if key.split(":")[1] in self._spans:
                return CandlesChannel(market, self._spans[key.split(":")[1]], now)
            case {"channel": "book"}:
                return self._book(asked, market, now)
        return "channel: invalid"

    def _book(self, asked: dict[str, object], market: Market, now: int) -> Channel | str:
        if asked.get("prec", "P0") != "P0" or asked.get("freq", "F0") != "F0":
            return "prec: invalid"
        length = str(asked.get("len", "25"))
        if length not in map(str, LENGTHS):
            return "len: invalid"
        return BookChannel(market, now, int(length), bool(self._flags & OB_CHECKSUM))

    def _unsubscribe(self, number: object) -> Message:
        if not isinstance(number, int) or number not in self._live:
            return _event("error", msg="unsubscribe: invalid", code=10_400)
        key, _ = self._live.pop(number)
        self.topics.discard(key)
        return _event("unsubscribed", status="OK", chanId=number)

    def due(self, now: int) -> list[Message]:
        """Channel by channel; a heartbeat where nothing happened for a while."""
        found = []
        for number, (_, channel) in self._live.items():
            for content in channel.due(now):
                channel.sent = now
                found.append(self._array(number, channel, content))
            if now - channel.sent >= _BEAT_MS:
                channel.sent = now
                beat = self._array(number, channel, '"hb"')
                found.append(Message(beat.text, Kind.BEAT, beat.symbol))
        return found

    def _array(self, number: int, channel: Channel, content: str) -> Message:
        tail = ""
        if self._flags & SEQ_ALL:
            self._count += 1
            tail = f",{self._count}"
        return Message(f"[{number},{content}{tail}]", channel.kind, channel.market.symbol)

    def refused(self, text: str, now: int) -> list[Message]:
        """As a symbol that is not there."""
        about = {name: value for name, value in json.loads(text).items() if name != "event"}
        return [_event("error", msg="symbol: invalid", code=10_300, **about)]

    def shutdown(self, now: int) -> list[Message]:
        """The connection ends soon."""
        return [_event("info", code=20_051, msg="Stopping. Please try to reconnect")]


def deals(found: Trades, market: Market) -> list[str]:
    """Trades as arrays, oldest first: id, time, amount (sold: below 0), price."""
    columns = (found.time.tolist(), found.ticks.tolist(), found.lots.tolist(), found.buy.tolist())
    return [
        f"[{found.first_id + place},{time},{'' if buy else '-'}{number(market.amount(lots))},"
        f"{number(market.price(ticks))}]"
        for place, (time, ticks, lots, buy) in enumerate(zip(*columns, strict=True))
    ]


def levels(book: Book, market: Market) -> list[str]:
    """Levels as arrays, bids first: price, count, amount (asks: below 0); a count of 0 removes."""

    def side(found: list[Level], sign: str) -> Iterator[str]:
        for ticks, lots in found:
            amount = number(market.amount(lots)) if lots else "1"
            count = 1 + lots % 5 if lots else 0
            yield f"[{number(market.price(ticks))},{count},{sign}{amount}]"

    return [*side(book.bids, ""), *side(book.asks, "-")]


def candles(rows: Rows, market: Market) -> list[str]:
    """Candles with trades as arrays, oldest first: time, open, close, high, low, volume."""
    opened, *decimals = texts(rows[rows[:, COUNT] > 0], market.digits)[:6]
    columns = (map(number, column) for column in decimals)
    return [
        f"[{time},{open_},{close},{high},{low},{volume}]"
        for time, open_, high, low, close, volume in zip(opened, *columns, strict=True)
    ]


def checksum(book: Book, market: Market) -> int:
    """Signed CRC32 of price and amount of bids and asks in turns, as their numbers are sent."""

    def words(level: Level | None, sign: str) -> list[str]:
        if level is None:
            return []
        return [number(market.price(level[0])), sign + number(market.amount(level[1]))]

    turns = zip_longest(book.bids, book.asks)
    parts = chain.from_iterable(words(bid, "") + words(ask, "-") for bid, ask in turns)
    found = zlib.crc32(":".join(parts).encode())
    return found if found < 2**31 else found - 2**32


def number(text: str) -> str:
    """As JavaScript prints it: 9131, 0.00002, but 1e-7."""
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return repr(float(text)).replace("e-0", "e-") if 0 < float(text) < 1e-6 else text


def _event(name: str, **content: object) -> Message:
    return Message(json.dumps({"event": name} | content, separators=(",", ":")))
