"""The whole way of both Binances from their sandboxes: past trades, a day of them stored, streams,
and books that begin by REST."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
from payloads import micro
from websockets.sync.client import connect

from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges.base import Answer, Instrument, Request
from dccd_core.exchanges.binance import Binance
from dccd_core.exchanges.binance_usdm import BinanceUsdm
from dccd_core.exchanges.live import Frame, Inbox, Subscription
from dccd_core.exchanges.trades import Book
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings
from dccd_streams.book import OrderBook

NOW = "2026-06-01T12:34:30Z"
END = micro(NOW) + 120 * SECOND
SYMBOLS = ("BTCUSDT:BTC:USDT:2026-05-29", "ETHUSDT:ETH:USDT:2026-05-29")
KINDS = ("429", "5xx", "cut", "truncated", "wrong")
SPOT = Instrument(Symbol("BTC", "USDT"), "BTCUSDT", trading=True)
PERPETUAL = Instrument(Symbol("BTC", "USDT", "PERP"), "BTCUSDT", trading=True)


@dataclass(frozen=True)
class Way:
    """An exchange with one of its markets, and the sandbox that plays it."""

    box: Sandbox
    exchange: Binance | BinanceUsdm
    market: Instrument

    @property
    def name(self) -> str:
        return self.exchange.name

    def get(self, request: Request) -> Answer:
        with closing(HTTPConnection(self.box.host, self.box.port, timeout=20)) as connection:
            target = f"/{self.name}{request.path}?{urlencode(request.params)}"
            connection.request("GET", target)
            answer = Answer(200, {}, connection.getresponse().read(), micro(NOW))
        self.exchange.check(answer)
        return answer

    def book(self, depth: int) -> Book:
        request = self.exchange.book_request(self.market, depth)
        return self.exchange.book(self.get(request), self.market)

    def truth(self, start: int, end: int) -> pl.DataFrame:
        """Trades, of the futures the aggregates, with times in microseconds."""
        found = self.box.trades_truth(
            "BTCUSDT",
            start // 1_000,
            end // 1_000,
            exchange=self.name,
            aggregate=self.market is PERPETUAL,
        )
        return found.with_columns(pl.col("time").dt.epoch("us"))

    def listen(self, *feeds: Subscription) -> Inbox:
        """What a connection brings in two minutes of the market."""
        session, inbox = self.exchange.session(), Inbox()
        (path,) = {self.exchange.live_path(feed) for feed in feeds}
        with connect(f"{self.box.ws_url}/{self.name}{path}", max_size=None) as ws:
            for message in session.subscribe(feeds):
                ws.send(message.decode())
            for seconds in (0, 30, 60, 90, 120):
                self.box.set_clock(micro(NOW) // 1_000 + seconds * 1_000, frozen=True)
                try:
                    while True:
                        frame = Frame(str(ws.recv(0.3)).encode(), END)
                        session.read_all([frame], inbox)
                except TimeoutError:
                    continue
        assert (inbox.bad, inbox.refused, inbox.accepted) == ([], [], [*feeds])
        return inbox


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(symbols=SYMBOLS, now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture(params=["binance", "binance_usdm"])
def way(running: Sandbox, request: pytest.FixtureRequest) -> Iterator[Way]:
    running.reset()
    running.set_clock(NOW, frozen=True)
    if request.param == "binance":
        yield Way(running, Binance(), SPOT)
    else:
        yield Way(running, BinanceUsdm(), PERPETUAL)
    running.reset()


@pytest.mark.parametrize("faults", [False, True])
def test_a_day_of_trades_is_the_truth(way: Way, tmp_path: Path, faults: bool) -> None:
    if faults:
        kinds = [Rule(kind, rate=0.08, path=f"/{way.name}", retry_after=0) for kind in KINDS]
        way.box.set_faults(*kinds)
    text = f"""
settings: {{data_path: {tmp_path}}}
trades_jobs:
  - {{exchange: {way.name}, pairs: ["{way.market.symbol}"], start: 2026-05-29,
     max_retries: 10, retry_delay: 0}}
exchanges: {{{way.name}: {{rest_url: {way.box.url}/{way.name}}}}}
"""
    config = parse_config(text, tmp_path / "config.yml")
    series = Series(way.name, Channel.TRADES, way.market.symbol)
    start, end = micro("2026-05-30T00:00Z"), micro("2026-05-31T00:00Z")
    with open_collector(config, way.name) as collector:
        (outcome,) = collector.collect(cells(series, Window(start, end)))
    assert outcome.error is None
    found = DataStore(tmp_path).load(series).with_columns(pl.col("time").dt.epoch("us"))
    columns = ("time", "trade_id", "price", "amount", pl.col("side").cast(pl.String))
    want = way.truth(start, end).select(columns).rows()
    assert found.select(columns).rows() == want
    assert faults or outcome.requests <= len(want) // 1_000 + 4


def test_a_walk_from_before_the_first_trade_gives_all_and_each_once(way: Way) -> None:
    early = "1970-01-01T00:00Z" if way.market is SPOT else "2026-05-01T00:00Z"
    request: Request | None = way.exchange.trades_request(way.market, micro(early))
    found: list[str] = []
    while request is not None:
        page = way.exchange.trades(way.get(request), way.market, request)
        found += [trade.trade_id for trade in page.trades]
        request = page.next
    want = way.truth(micro("2026-05-29T00:00Z"), micro(NOW) + 1_000)
    assert found == want["trade_id"].to_list()


def test_the_streams_trades_and_candles_are_the_truth(way: Way) -> None:
    trades, bars = Subscription(way.market, Channel.TRADES), Channel.OHLC
    inbox = way.listen(trades, Subscription(way.market, bars, 60))
    heard = [(t.time, t.trade_id, t.price, t.amount, t.buy) for t in inbox.trades["BTCUSDT"]]
    buy = (pl.col("side") == "buy").alias("buy")
    want = way.truth(micro(NOW) + 1_000, END + 1_000)
    assert heard == want.select("time", "trade_id", "price", "amount", buy).rows()
    candles = [(row.time, *row[1:-1]) for row in inbox.candles["BTCUSDT", 60]]
    start = micro("2026-06-01T12:34Z") // 1_000
    made = way.box.truth("BTCUSDT", "1m", start, start + 120_000)
    assert candles == made.with_columns(pl.col("time").dt.epoch("us")).rows()


@pytest.mark.parametrize("depth", [100, 1_000])
def test_the_book_of_rest_is_met_and_kept(way: Way, depth: int) -> None:
    before = way.book(depth)
    inbox = way.listen(Subscription(way.market, Channel.BOOK))
    book = OrderBook(from_rest=True)
    for change in inbox.books["BTCUSDT"]:
        book.apply(change)
    way.box.set_clock(micro(NOW) // 1_000 + 60_000, frozen=True)
    within = way.book(1_000)
    way.box.set_clock(END // 1_000, frozen=True)
    assert before.bids == way.box.book_truth("BTCUSDT", NOW, depth=depth).bids
    assert book.start(within, END, END) is not None
    assert book.valid
    want = way.box.book_truth("BTCUSDT", END // 1_000, depth=1_000)
    assert book.levels() == (want.bids, want.asks)
