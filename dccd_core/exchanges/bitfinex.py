"""Bitfinex, spot and perpetuals, API v2. https://docs.bitfinex.com/reference/rest-public-candles"""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Annotated, ClassVar

import msgspec

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Blocked,
    Candles,
    Exchange,
    ExchangeError,
    Instrument,
    Limits,
    Listed,
    RateLimited,
    Rejected,
    Request,
    Unavailable,
    UnknownSymbol,
    decode,
    floats,
    integers,
    retry_after,
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
from dccd_core.models import SECOND, Channel, Symbol, Window, iso, nameable

# up to the year 9999, so that a date can be made of it
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A candle: times in milliseconds, volume in base units. Fields may be added at its end."""

    time: Milliseconds
    open: float
    close: float
    high: float
    low: float
    volume: float


class Deal(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A trade, by REST and in the stream: the taker bought where the amount is above 0."""

    id: int
    time: Milliseconds
    amount: float
    price: Positive


class Level(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A level: gone if the count is 0; a bid if the amount is above 0, else an ask."""

    price: Positive
    count: int
    amount: float


class Event(msgspec.Struct, tag_field="event"):
    """What is no array: it is not numbered."""


class Info(Event, tag="info"):
    """The first message has no code."""

    code: int = 0
    msg: str = ""


class Conf(Event, tag="conf"):
    """The answer to the flags."""

    status: str


class Subscribed(Event, tag="subscribed", rename="camel"):
    """A channel has a number; candles have a key, the others a symbol."""

    channel: str
    chan_id: int
    symbol: str = ""
    key: str = ""


class Unsubscribed(Event, tag="unsubscribed"):
    """A channel is no more."""


class Failed(Event, tag="error"):
    """A subscription that was refused, quoted."""

    msg: str
    code: int
    channel: str = ""
    symbol: str = ""
    key: str = ""


class Refusal(msgspec.Struct, array_like=True):
    """The body of most errors, whatever the HTTP status: ["error", 10020, "symbol: invalid"]."""

    tag: str
    code: int
    text: str


class Problem(msgspec.Struct):
    """The other form: {"error": "ERR_RATE_LIMIT"}, {"code": 503, "error": …}."""

    error: str


# spot pairs, perpetual pairs, and the names that the world has for Bitfinex's own codes
Lists = tuple[list[str], list[str], list[tuple[str, str]]]

LISTS = "pub:list:pair:exchange,pub:list:pair:futures,pub:map:currency:sym"
ROWS = msgspec.json.Decoder(list[Row])
ROW = msgspec.json.Decoder(Row)
DEALS = msgspec.json.Decoder(list[Deal])
DEAL = msgspec.json.Decoder(Deal)
LEVELS = msgspec.json.Decoder(list[Level])
LEVEL = msgspec.json.Decoder(Level)
EVENT = msgspec.json.Decoder(Info | Conf | Subscribed | Unsubscribed | Failed)
PARTS = msgspec.json.Decoder(list[msgspec.Raw])
NUMBER = msgspec.json.Decoder(int)
CONF = msgspec.json.Decoder(Lists)
REFUSAL = msgspec.json.Decoder(Refusal)
PROBLEM = msgspec.json.Decoder(Problem)
PARAMETERS, NOT_READY, TOO_MANY, MAINTENANCE = 10_020, 11_000, 11_010, 20_060
# An endpoint stays closed for 10 to 60 seconds after too many requests; no header says which.
BLOCKED = 60.0
# SEQ_ALL numbers all arrays, OB_CHECKSUM adds checksums of books:
# https://docs.bitfinex.com/docs/ws-general#configuration-flags
FLAGS = 65_536 + 131_072
LENGTHS = (1, 25, 100, 250)
RECONNECT, PAUSE, RESUME = 20_051, 20_060, 20_061


class Bitfinex(Exchange, TradesHistory, Depth, Live):
    """Candles only where there were trades, ascending on demand, times in milliseconds."""

    name = "bitfinex"
    title = "Bitfinex"
    docs = "https://docs.bitfinex.com/reference/rest-public-candles"
    rest_url = "https://api-pub.bitfinex.com/v2"
    # Candles: 30 a minute and address (Bitfinex's own bfx-reports-framework, pull request 316).
    # The other endpoints have budgets of their own, of 90, and are asked once a day.
    limits = Limits(weight=27, seconds=60, burst=3, page=10_000)
    # Not 1W, 14D and 1M: on which day the first two open is not documented.
    spans: ClassVar[Mapping[int, str]] = {
        60: "1m", 300: "5m", 900: "15m", 1_800: "30m", 3_600: "1h", 10_800: "3h", 21_600: "6h",
        43_200: "12h", 86_400: "1D",
    }  # fmt: skip
    # "candles will not be generated if there was no trading volume" (bitfinex-api-py, issue 198)
    gapless = False
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    contiguous = False  # all markets share the ids
    reach = None
    trades_page = 10_000
    trades_weight = 2.0  # 15 a minute, half as many as candles
    depths = LENGTHS

    ws_url = "wss://api-pub.bitfinex.com"
    # https://docs.bitfinex.com/docs/ws-general: 25 channels a connection, 20 connections a minute.
    # How many messages may be sent is not said.
    live_limits = LiveLimits(streams=25, messages=25, seconds=1, connects=20, connect_seconds=60)
    live_spans = frozenset(spans)
    checksum_depth = 25

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for: by its code, else by its HTTP status."""
        refusal = _refusal(answer.body)
        if answer.status == 200 and refusal is None:
            return
        code, text = refusal or (None, answer.quote)
        if answer.status == 429 or code == TOO_MANY or "RATE_LIMIT" in text:
            wait = retry_after(answer)
            raise RateLimited(
                f"Bitfinex: too many requests: {text}", BLOCKED if wait is None else wait
            )
        if answer.status in (403, 451):
            raise Blocked(
                f"Bitfinex refuses this address (HTTP {answer.status}): {text}. Set a proxy, or "
                f"another rest_url, under exchanges.bitfinex"
            )
        raise _error(answer.status, code, text)

    def instruments_requests(self) -> list[Request]:
        """All pairs and the map of names in one request."""
        return [Request(f"/conf/{LISTS}")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Every pair of the lists trades; there is no listing date. BadAnswer if a list is empty.

        Where ours cannot hold the world's name ("ORS Group", "LEO-EOS"), the code stays the name.
        """
        spot, perpetual, names = decode(CONF, answer.body)
        if not (spot and perpetual and names):
            raise BadAnswer("Bitfinex: an empty list of pairs or names")
        pairs = [*spot, *perpetual]
        world = {code: code for pair in pairs for code in _codes(pair)}
        world |= {code: name.upper() for code, name in names if nameable(name.upper())}
        return Listed(list(_instruments(pairs, world)))

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Candles of a window, oldest first.

        Whether `end` is inclusive is not documented: a millisecond before the window's end no
        candle opens. Without sort=1 a full page would keep the newest rows.
        """
        count = (window.end - window.start) // (span * SECOND)
        bounds = {"start": str(window.start // 1_000), "end": str(window.end // 1_000 - 1)}
        return self._history(instrument, span, count, bounds | {"sort": "1"})

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The oldest candle there is."""
        return self._history(instrument, span, 1, {"sort": "1"})

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest; it may be running."""
        return self._history(instrument, span, 1, {"sort": "-1"})

    def _history(
        self, instrument: Instrument, span: int, limit: int, rest: dict[str, str]
    ) -> Request:
        path = f"/candles/trade:{self.spans[span]}:{instrument.name}/hist"
        return Request(path, {"limit": str(limit)} | rest, self.limits.page_weight)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows as documented: the close comes before high and low."""
        rows = decode(ROWS, answer.body)
        return Candles(
            integers([row.time for row in rows], 1_000),
            floats([row.open for row in rows]),
            floats([row.high for row in rows]),
            floats([row.low for row in rows]),
            floats([row.close for row in rows]),
            floats([row.volume for row in rows]),
        )

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        """The oldest trades from a time on."""
        path = f"/trades/{instrument.name}/hist"
        question = {"limit": str(self.trades_page), "start": str(time // 1_000), "sort": "1"}
        return Request(path, question, self.trades_weight)

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        """Full pages overlap by the trades of their last millisecond. Rejected if it fills a page:
        there is no way past it."""
        rows = decode(DEALS, answer.body)
        rows.sort(key=lambda row: (row.time, row.id))
        found = [_trade(row, None) for row in rows]
        if not found:
            return TradesPage([], None)
        following = self.trades_request(instrument, found[-1].time)
        if len(rows) < self.trades_page:
            return TradesPage(found, None, following)
        if following.params == request.params:
            raise Rejected(
                f"Bitfinex: {len(rows)} trades of {instrument.symbol} at {iso(found[-1].time)} "
                f"fill a page, and there is no other way to go on"
            )
        return TradesPage(found, following)

    def book_request(self, instrument: Instrument, depth: int) -> Request:
        """Exact prices; 240 requests a minute."""
        return Request(f"/book/{instrument.name}/P0", {"len": str(depth)}, 0.125)

    def book(self, answer: Answer, instrument: Instrument) -> Book:
        """It has neither a number nor a time."""
        rows = decode(LEVELS, answer.body)
        bids, asks = _sides(rows)
        return Book(bids, asks, None, None)

    def live_path(self, subscription: Subscription) -> str:
        """One connection for all."""
        return "/ws/2"

    def session(self) -> Session:
        """The only kind of connection."""
        return BitfinexSession()


class BitfinexSession(Session):
    """Channels have numbers. The numbers of the arrays count what a connection sends: where one is
    missing, nobody knows of which channel it was."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], Subscription] = {}
        self._channels: dict[int, Subscription] = {}
        self._running: dict[int, Row | None] = {}
        self._count = 0
        self._broken: set[int] = set()  # channels of which something may be missing

    def opening(self) -> list[bytes]:
        """The flags, before anything is numbered."""
        return [msgspec.json.encode({"event": "conf", "flags": FLAGS})]

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """One message a channel."""
        return [self._subscribe(one) for one in subscriptions]

    def _subscribe(self, one: Subscription) -> bytes:
        name = one.instrument.name
        if one.channel is Channel.OHLC:
            question = {"channel": "candles", "key": f"trade:{Bitfinex.spans[one.span]}:{name}"}
        elif one.channel is Channel.TRADES:
            question = {"channel": "trades", "symbol": name}
        else:
            # of fewer than 25 levels no checksum could be made
            wanted = max(one.depth or LENGTHS[-1], 25)
            length = next((n for n in LENGTHS if n >= wanted), LENGTHS[-1])
            question = {"channel": "book", "symbol": name}
            question |= {"prec": "P0", "freq": "F0", "len": str(length)}
        self._asked[question["channel"], question.get("key") or name] = one
        return msgspec.json.encode({"event": "subscribe"} | question)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[bytes]:
        """By the numbers of the channels; what has none yet is not read once it comes."""
        self._asked = {key: one for key, one in self._asked.items() if one not in subscriptions}
        ended = [number for number, one in self._channels.items() if one in subscriptions]
        for number in ended:
            del self._channels[number]
        return [msgspec.json.encode({"event": "unsubscribe", "chanId": one}) for one in ended]

    def checksum(self, instrument: Instrument, bids: Levels, asks: Levels) -> int:
        """Signed CRC32 of bid and ask in turns, amounts of asks below 0, numbers as JavaScript
        writes them. https://docs.bitfinex.com/docs/ws-websocket-checksum"""
        parts: list[float] = []
        for bid, ask in zip_longest(bids[:25], asks[:25]):
            parts += bid or ()
            parts += (ask[0], -ask[1]) if ask else ()
        number = zlib.crc32(":".join(map(_text, parts)).encode())
        return number - (number >> 31 << 32)

    def read(self, frame: Frame, inbox: Inbox) -> None:
        """An event, or an array: number of the channel, content, number of the array."""
        if frame.payload.startswith(b"{"):
            return self._hear(decode(EVENT, frame.payload), inbox)
        parts = [bytes(part) for part in decode(PARTS, frame.payload)]
        if len(parts) < 3:
            raise BadAnswer(f"Bitfinex: an array of {len(parts)}: {frame.payload[:80]!r}")
        channel, count = decode(NUMBER, parts[0]), decode(NUMBER, parts[-1])
        before, self._count = self._count, count
        if count != before + 1:
            self._broken |= self._channels.keys()
            inbox.reconnect = f"Bitfinex: message {count} came after {before}"
            raise BadAnswer(inbox.reconnect)
        subscription = self._channels.get(channel)
        if subscription is None or parts[1] == b'"hb"':
            return None
        if subscription.channel is Channel.TRADES:
            return _read_trade(subscription, parts, frame, inbox)
        if subscription.channel is Channel.OHLC:
            return self._read_candles(channel, parts[1], frame, inbox)
        return self._read_book(channel, parts, frame, inbox)

    def _hear(self, event: Event, inbox: Inbox) -> None:
        match event:
            case Subscribed():
                subscription = self._answered(event)
                if subscription is not None:
                    self._channels[event.chan_id] = subscription
                    self._broken.discard(event.chan_id)
                    self._running[event.chan_id] = None
                    inbox.accepted.append(subscription)
            case Failed():
                subscription = self._answered(event)
                text = f"Bitfinex: {event.code} {event.msg}"
                if subscription is not None:
                    inbox.refused.append((subscription, text))
                else:
                    inbox.notices.append(text)
            case Info(code=code, msg=text) if code:
                inbox.notices.append(f"Bitfinex: {code} {text}")
                if code in (RECONNECT, RESUME):
                    inbox.reconnect = f"Bitfinex: {code} {text}"
            case Conf() if event.status != "OK":
                inbox.reconnect = f"Bitfinex: the flags were answered with {event.status}"

    def _answered(self, event: Subscribed | Failed) -> Subscription | None:
        key = event.channel, event.key or event.symbol
        return self._asked.pop(key) if key in self._asked else None

    def _read_book(self, channel: int, parts: list[bytes], frame: Frame, inbox: Inbox) -> None:
        """Nothing of it after a gap: a book has no numbers of its own that would tell."""
        checksum, levels, content = None, [], parts[1]
        if content == b'"cs"' and len(parts) > 3:
            checksum = decode(NUMBER, parts[2])
        else:
            levels = decode(LEVELS, content) if _is_list(content) else [decode(LEVEL, content)]
        if channel not in self._broken:
            bids, asks = _sides(levels)
            change = BookChange(_is_list(content), bids, asks, frame.received, checksum=checksum)
            inbox.books[self._channels[channel].instrument.name].append(change)

    def _read_candles(self, channel: int, content: bytes, frame: Frame, inbox: Inbox) -> None:
        """A candle is closed when a later one has come. Of the first message, which is history,
        only the running one counts; a closed one that is sent again was revised."""
        rows = decode(ROWS, content) if _is_list(content) else [decode(ROW, content)]
        rows.sort(key=lambda row: row.time)
        known = self._running[channel]
        if known is None or not rows:
            self._running[channel] = rows[-1] if rows else known
            return
        subscription = self._channels[channel]
        for row in rows:
            closed, known = (row, known) if row.time < known.time else (known, row)
            if closed.time < known.time:
                key = (subscription.instrument.name, subscription.span)
                inbox.candles[key].append(_candle(closed, frame.received))
        self._running[channel] = known


def _is_list(content: bytes) -> bool:
    """Whether an array holds arrays, or nothing."""
    return re.match(rb"\[\s*[\[\]]", content) is not None


def _sides(rows: Iterable[Level]) -> tuple[Levels, Levels]:
    """Bids and asks; an amount of 0 where a level is gone."""
    bids: Levels = []
    asks: Levels = []
    for row in rows:
        amount = abs(row.amount) if row.count else 0.0
        (bids if row.amount > 0 else asks).append((row.price, amount))
    return bids, asks


def _trade(deal: Deal, received: int | None) -> Trade:
    amount, buy = abs(deal.amount), deal.amount > 0
    return Trade(deal.time * 1_000, received, str(deal.id), deal.price, amount, buy)


def _read_trade(subscription: Subscription, parts: list[bytes], frame: Frame, inbox: Inbox) -> None:
    """`te` comes at once, `tu` repeats it. The first message is of trades from before."""
    if parts[1] == b'"te"':
        trade = _trade(decode(DEAL, parts[2]), frame.received)
        inbox.trades[subscription.instrument.name].append(trade)
    elif parts[1] != b'"tu"':
        decode(DEALS, parts[1])


def _candle(row: Row, received: int) -> LiveCandle:
    columns = (row.time * 1_000, row.open, row.high, row.low, row.close, row.volume)
    return LiveCandle(*columns, None, None, None, None, received)


def _text(number: float) -> str:
    """A number as JavaScript writes it: 9131, 0.00002, but 1e-7."""
    text = repr(number)
    if 0 < abs(number) < 1e-6:
        return text.replace("e-0", "e-")
    return text.removesuffix(".0") if "e" not in text else f"{Decimal(text):f}"


def _instruments(pairs: Iterable[str], world: Mapping[str, str]) -> Iterable[Instrument]:
    """Pairs as instruments. A code without another name goes before one that is mapped to it."""
    taken: set[Symbol] = set()
    for pair in sorted(pairs, key=lambda pair: (any(world[c] != c for c in _codes(pair)), pair)):
        base, quote = _codes(pair)
        symbol = Symbol(world[base], world[quote], "PERP" if _perpetual(pair) else "")
        if symbol not in taken and nameable(symbol.base, symbol.quote):
            taken.add(symbol)
            yield Instrument(symbol, f"t{pair}", trading=True)


def _perpetual(pair: str) -> bool:
    """Both codes of a perpetual end in F0: BTCF0:USTF0."""
    return all(code.endswith("F0") for code in pair.split(":")) and ":" in pair


def _codes(pair: str) -> tuple[str, str]:
    """Base and quote: BTCUSD, DUSK:USD, and without their F0 those of BTCF0:USTF0.

    Raises BadAnswer for a pair of another form.
    """
    base, colon, quote = pair.partition(":")
    if not colon:
        base, quote = pair[:3], pair[3:]
        if len(quote) != 3:
            raise BadAnswer(f"Bitfinex: {pair!r} is not a pair")
    if _perpetual(pair):
        return base.removesuffix("F0"), quote.removesuffix("F0")
    return base, quote


def _refusal(body: bytes) -> tuple[int | None, str] | None:
    """Code and text of an error body; None if the body is none."""
    try:
        refusal = REFUSAL.decode(body)
        return (refusal.code, refusal.text) if refusal.tag == "error" else None
    except (msgspec.DecodeError, msgspec.ValidationError):
        pass
    try:
        return None, PROBLEM.decode(body).error
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _error(status: int, code: int | None, text: str) -> ExchangeError:
    """The error of a code: parameters are wrong for good, the rest may pass."""
    if code == PARAMETERS and "symbol: invalid" in text:
        return UnknownSymbol(f"Bitfinex: {text}")
    message = f"Bitfinex: HTTP {status}: {text if code is None else f'{code} {text}'}"
    passing = code in (NOT_READY, MAINTENANCE) or (status >= 500 and code != PARAMETERS)
    return (Unavailable if passing or "unavailable" in text else Rejected)(message)
