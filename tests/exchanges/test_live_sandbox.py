"""Contracts of the sandbox, heard in base units; test_live_whole.py has the pairs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from websockets.sync.client import ClientConnection, connect

from dccd_core.exchanges import load
from dccd_core.exchanges.base import Answer, Exchange, Instrument, Request
from dccd_core.exchanges.live import Frame, Inbox, Live, Subscription
from dccd_core.exchanges.trades import Depth, Trade, TradesHistory
from dccd_core.models import SECOND, Channel, Symbol
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms
from dccd_streams.book import OrderBook

NOW = "2026-06-01T11:58:30Z"
SETTINGS = Settings(
    symbols=("BTCUSDT:BTC:USDT:2026-05-30T04:00", "ETHUSD:ETH:USD:2026-05-31T05:00"),
    now=NOW,
    frozen=True,
    rate=200,
    weight_limit=0,
)
# Milliseconds by which the clock goes on, over two ends of minutes.
STEPS = [40, 333, 5_000, 60_000, 30_000, 45_000]
# Our pair, and the name that the sandbox has for its market.
MARKETS = [
    ("bybit", "BTC/USDT:PERP", "linear BTCUSDT"),
    ("okx", "ETH/USD:PERP", "ETH-USD-SWAP"),
    ("bitfinex", "ETH/USD:PERP", "tETHF0:USDF0"),
]
PATIENCE, QUIET = 10.0, 0.05
FOLDERS = {"bitfinex": "/bitfinex/v2"}
MARKET = pytest.mark.parametrize(("name", "pair", "market"), MARKETS)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as sandbox:
        yield sandbox


def ask(box: Sandbox, exchange: Exchange, request: Request) -> Answer:
    """What the sandbox answers to one of our requests."""
    folder = FOLDERS.get(exchange.name, f"/{exchange.name}")
    query = f"?{urlencode(request.params)}" if request.params else ""
    with urlopen(f"{box.url}{folder}{request.path}{query}") as response:  # noqa: S310
        headers = {key.lower(): value for key, value in response.headers.items()}
        answer = Answer(response.status, headers, response.read(), box.now() * 1_000)
    exchange.check(answer)
    return answer


def find(box: Sandbox, exchange: Exchange, pair: str) -> Instrument:
    """A market of the exchange's own list."""
    pending = list(exchange.instruments_requests())
    while pending:
        request = pending.pop(0)
        part = exchange.instruments(ask(box, exchange, request), request)
        found = [one for one in part.instruments if one.symbol == Symbol.parse(pair)]
        if found:
            return found[0]
        pending += [part.next] if part.next else []
    raise KeyError(pair)


@dataclass
class Ear:
    """One connection of one feed, and all that was heard."""

    live: Live
    feed: Subscription
    ws: ClientConnection
    inbox: Inbox = field(default_factory=Inbox)
    frames: int = 0

    def __post_init__(self) -> None:
        self.session = self.live.session()
        for message in [*self.session.opening(), *self.session.subscribe([self.feed])]:
            self.ws.send(message.decode())

    def hear(self, now: int) -> None:
        """All that comes until nothing comes any more."""
        patience = QUIET if self.frames else PATIENCE
        with suppress(TimeoutError):
            while True:
                text = self.ws.recv(patience)
                self.frames += 1
                self.session.read(Frame(str(text).encode(), now), self.inbox)
                patience = QUIET

    def hear_until(self, now: int, done: Callable[[], bool]) -> None:
        """All that comes until it is enough; what is late on a slow machine is waited for."""
        for _ in range(int(PATIENCE / QUIET)):
            self.hear(now)
            if done():
                return


@contextmanager
def subscribed(box: Sandbox, name: str, feed: Subscription) -> Iterator[Ear]:
    live = load(name)
    assert isinstance(live, Live)
    with connect(f"{box.ws_url}/{name}{live.live_path(feed)}", max_size=None) as ws:
        yield Ear(live, feed, ws)


def same(one: object, two: object) -> bool:
    """Whether numbers are the same, but for the last bit: contracts of dollars are divided."""
    if isinstance(one, float):
        return one == pytest.approx(two, rel=1e-14)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def rows(trades: list[Trade]) -> list[tuple[object, ...]]:
    return [(t.time, t.trade_id, t.price, t.amount, "buy" if t.buy else "sell") for t in trades]


def truth(box: Sandbox, name: str, market: str, start: int, stop: int) -> list[tuple[Any, ...]]:
    """Trades of [start, stop) ms, times in µs."""
    found = box.trades_truth(market, start, stop, exchange=name).rows()
    return [(int(row[0].timestamp() * SECOND), *row[1:]) for row in found]


@MARKET
def test_trades_arrive_whole(box: Sandbox, name: str, pair: str, market: str) -> None:
    begin = now = box.set_clock(epoch_ms(NOW), frozen=True) or epoch_ms(NOW)
    feed = Subscription(find(box, load(name), pair), Channel.TRADES)
    with subscribed(box, name, feed) as ear:
        ear.hear(now)
        for ms in STEPS:
            now += ms
            box.set_clock(now, frozen=True)
            ear.hear(now)
        expected = truth(box, name, market, begin + 1, now + 1)
        heard = ear.inbox.trades[feed.instrument.name]
        ear.hear_until(now, lambda: len(heard) >= len(expected))
    assert ear.inbox.accepted == [feed]
    assert len(expected) > 300
    assert same(rows(ear.inbox.trades[feed.instrument.name]), expected)


@MARKET
@pytest.mark.parametrize("depth", [5])
def test_books_are_the_exchanges_at_each_change(
    box: Sandbox, name: str, pair: str, market: str, depth: int
) -> None:
    now = epoch_ms(NOW)
    box.set_clock(now, frozen=True)
    exchange = load(name)
    feed = Subscription(find(box, exchange, pair), Channel.BOOK, depth=depth)
    deep = exchange.checksum_depth  # type: ignore[attr-defined]
    seen = 0
    with subscribed(box, name, feed) as ear:

        def checksum(bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> int:
            return ear.session.checksum(feed.instrument, bids, asks)

        book = OrderBook(from_rest=False, checksum=checksum if deep else None, checksum_depth=deep)

        def is_the_truth() -> bool:
            """Apply what came, and hold the book against the truth."""
            nonlocal seen
            for change in ear.inbox.books.pop(feed.instrument.name, []):
                book.apply(change)
                seen += 1
            bids, asks = book.levels()
            fewest = min(depth or 250, 250, len(whole.bids), len(whole.asks))
            enough = min(len(bids), len(asks)) >= fewest
            right = same(bids, whole.bids[: len(bids)]) and same(asks, whole.asks[: len(asks)])
            return enough and right

        for ms in [0, 40, 333, 8_000]:
            now += ms
            box.set_clock(now, frozen=True)
            whole = box.book_truth(market, now, exchange=name)
            ear.hear_until(now, is_the_truth)
            assert is_the_truth()
    assert seen > 60
    assert ear.inbox.accepted == [feed]


@MARKET
def test_closed_candles_arrive(box: Sandbox, name: str, pair: str, market: str) -> None:
    now = epoch_ms(NOW)
    box.set_clock(now, frozen=True)
    feed = Subscription(find(box, load(name), pair), Channel.OHLC, span=60)
    with subscribed(box, name, feed) as ear:
        ear.hear(now)
        for ms in STEPS:
            now += ms
            box.set_clock(now, frozen=True)
            ear.hear(now)
        candles = ear.inbox.candles[feed.instrument.name, 60]
        ear.hear_until(now, lambda: len(candles) >= 2)
    expected = []
    for start in (epoch_ms("2026-06-01T11:58:00Z"), epoch_ms("2026-06-01T11:59:00Z")):
        found = truth(box, name, market, start, start + 60_000)
        prices, volume = [row[2] for row in found], sum(row[3] for row in found)
        columns = (prices[0], max(prices), min(prices), prices[-1], pytest.approx(volume))
        expected.append((start * 1_000, *columns))
    heard = [candle[:6] for candle in candles]
    assert heard == expected
    assert len(heard) == 2


@MARKET
def test_past_trades_by_rest_are_those_of_the_stream(
    box: Sandbox, name: str, pair: str, market: str
) -> None:
    now = epoch_ms(NOW)
    box.set_clock(now, frozen=True)
    exchange = load(name)
    assert isinstance(exchange, TradesHistory)
    instrument = find(box, exchange, pair)
    back = 10 if exchange.reach is not None and exchange.reach < 86_400 else 7_200
    start = now - back * 1_000
    found: list[Trade] = []
    request: Request | None = exchange.trades_request(instrument, start * 1_000)
    while request is not None:
        page = exchange.trades(ask(box, exchange, request), instrument, request)
        found += page.trades
        request = page.next
    expected = truth(box, name, market, start, now + 1)
    unique = dict.fromkeys(rows([trade for trade in found if trade.time >= start * 1_000]))
    assert same(list(unique), expected)
    assert len(expected) > back


@MARKET
def test_a_book_by_rest_is_the_exchanges(box: Sandbox, name: str, pair: str, market: str) -> None:
    now = epoch_ms(NOW)
    box.set_clock(now, frozen=True)
    exchange = load(name)
    assert isinstance(exchange, Depth)
    instrument, whole = find(box, exchange, pair), box.book_truth(market, now, exchange=name)
    for depth in exchange.depths:
        request = exchange.book_request(instrument, depth)
        book = exchange.book(ask(box, exchange, request), instrument)
        assert same(book.bids, whole.bids[:depth])
        assert same(book.asks, whole.asks[:depth])


def test_every_word_is_json_or_a_ping(box: Sandbox) -> None:
    for name in {one for one, *_ in MARKETS}:
        live = load(name)
        assert isinstance(live, Live)
        ping = live.session().ping()
        assert not ping or ping == b"ping" or json.loads(ping)
