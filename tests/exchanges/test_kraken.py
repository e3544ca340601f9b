"""The whole way of Kraken from its sandbox to stored rows: the newest candles, candles older than
those, all trades, and the stream."""

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
from websockets.sync.client import ClientConnection, connect

from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges.base import Answer, Instrument, Limits, Request
from dccd_core.exchanges.kraken import Kraken
from dccd_core.exchanges.live import Frame, Inbox, Subscription
from dccd_core.exchanges.trades import Trade
from dccd_core.history import Outcome
from dccd_core.models import SECOND, Channel, Series, Symbol, Window, iso, parse_span
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings
from dccd_streams.book import OrderBook

MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND
# which candles the exchange still serves depends on the real time
NOW = time.time_ns() // 10**9 * SECOND
MIDNIGHT = NOW // (24 * HOUR) * 24 * HOUR
BEGAN, LISTED = MIDNIGHT - 288 * HOUR, NOW // MINUTE * MINUTE - 14 * HOUR
SYMBOLS = (f"BTCUSD:BTC:USD:{iso(BEGAN)[:16]}", f"DOGEUSDT:DOGE:USDT:{iso(LISTED)[:16]}")
COLUMNS = ["time", "open", "high", "low", "close", "volume", "trades"]
KINDS = ("429", "5xx", "cut", "truncated", "wrong")
BTC_TRADES = Series("kraken", Channel.TRADES, Symbol("BTC", "USD"))


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(symbols=SYMBOLS, now=iso(NOW), frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Kraken's budget of a request a second would make these tests wait for minutes."""
    monkeypatch.setattr(Kraken, "limits", Limits(600_000, 60, 10_000, page=720))
    running.reset()
    running.set_clock(iso(NOW), frozen=True)
    yield running
    running.reset()


def collect(box: Sandbox, folder: Path, series: Series, start: int, end: int) -> list[Outcome]:
    jobs = "trades_jobs" if series.channel is Channel.TRADES else "histo_jobs"
    span = "" if series.channel is Channel.TRADES else f" span: {series.span},"
    text = f"""
settings: {{data_path: {folder}}}
{jobs}:
  - {{exchange: kraken, pairs: ["{series.symbol}"],{span} start: 2020-01-01, max_retries: 10,
     retry_delay: 0.001}}
exchanges: {{kraken: {{rest_url: {box.url}/kraken}}}}
"""
    config = parse_config(text, folder / "config.yml")
    with open_collector(config, "kraken") as collector:
        return list(collector.collect(cells(series, Window(start, end))))


def candles(pair: str, span: str) -> Series:
    return Series("kraken", Channel.OHLC, Symbol.parse(pair), parse_span(span))


def assert_true(box: Sandbox, folder: Path, series: Series, start: int, end: int) -> None:
    found = DataStore(folder).load(series)
    market = str(series.symbol).replace("/", "")
    want = box.truth(market, series.span, start // 1_000, end // 1_000)
    assert len(want) > 0
    assert found.select(COLUMNS).equals(want.select(COLUMNS))
    assert found["quote_volume"].null_count() == len(found)


@pytest.mark.parametrize(
    ("span", "back"), [("1m", 690 * MINUTE), ("1h", 280 * HOUR), ("1d", 264 * HOUR)]
)
def test_the_newest_candles_are_the_truth_in_one_request(
    box: Sandbox, tmp_path: Path, span: str, back: int
) -> None:
    series = candles("BTC/USD", span)
    start, end = series.ceil(NOW - back), series.floor(NOW)
    outcomes = collect(box, tmp_path, series, start, end)
    assert {(outcome.error, outcome.requests) for outcome in outcomes} == {(None, 1)}
    assert_true(box, tmp_path, series, start, end)
    again = collect(box, tmp_path, series, start, end)
    assert sum(outcome.requests for outcome in again) == 0


@pytest.mark.parametrize(("span", "hours"), [("1m", 20), ("5m", 70)])
def test_older_candles_are_built_from_trades_and_are_the_truth(
    box: Sandbox, tmp_path: Path, span: str, hours: int
) -> None:
    series = candles("BTC/USD", span)
    start, end = series.floor(NOW - hours * HOUR), series.floor(NOW)
    outcomes = collect(box, tmp_path, series, start, end)
    assert {outcome.error for outcome in outcomes} == {None}
    assert_true(box, tmp_path, series, start, end)


def test_a_window_that_begins_before_the_first_trade(box: Sandbox, tmp_path: Path) -> None:
    series = candles("DOGE/USDT", "5m")
    first, end = series.floor(LISTED), series.floor(NOW)
    outcomes = collect(box, tmp_path, series, MIDNIGHT - 200 * HOUR, end)
    assert {outcome.error for outcome in outcomes} == {None}
    assert_true(box, tmp_path, series, first, end)
    assert DataStore(tmp_path).read_listing(series) == first
    assert DataStore(tmp_path).gaps(series) == []


def test_faults_of_every_kind_change_nothing(box: Sandbox, tmp_path: Path) -> None:
    box.set_faults(*(Rule(kind, rate=0.12, path="/kraken", retry_after=0) for kind in KINDS))
    series = candles("BTC/USD", "1h")
    outcomes = collect(box, tmp_path, series, BEGAN, series.floor(NOW))
    assert {outcome.error for outcome in outcomes} == {None}
    assert_true(box, tmp_path, series, BEGAN, series.floor(NOW))


def test_a_refusal_is_told_in_plain_words(box: Sandbox, tmp_path: Path) -> None:
    (outcome,) = collect(box, tmp_path, candles("BTC/USDX", "1h"), NOW - HOUR, NOW)
    assert "BTC/USDX: Kraken has no such pair; did you mean BTC/USD" in str(outcome.error)


def truth(box: Sandbox, symbol: str, start: int, end: int) -> pl.DataFrame:
    found = box.trades_truth(symbol, start // 1_000, end // 1_000, exchange="kraken")
    return found.with_columns(pl.col("time").dt.epoch("us"))


def test_days_of_trades_are_the_truth(box: Sandbox, tmp_path: Path) -> None:
    box.set_faults(*(Rule(kind, rate=0.05, path="/kraken", retry_after=0) for kind in KINDS))
    start, end = MIDNIGHT - 48 * HOUR, MIDNIGHT
    outcomes = collect(box, tmp_path, BTC_TRADES, start, end)
    assert [outcome.error for outcome in outcomes] == [None, None]
    found = DataStore(tmp_path).load(BTC_TRADES).with_columns(pl.col("time").dt.epoch("us"))
    columns = ("time", "trade_id", "price", "amount", pl.col("side").cast(pl.String))
    assert found.select(columns).rows() == truth(box, "BTCUSD", start, end).select(columns).rows()


# --- without the collector ---------------------------------------------------------------------


def get(box: Sandbox, request: Request) -> Answer:
    connection = HTTPConnection(box.host, box.port, timeout=20)
    with closing(connection):
        connection.request("GET", f"/kraken{request.path}?{urlencode(request.params)}")
        answer = Answer(200, {}, connection.getresponse().read(), NOW)
    Kraken().check(answer)
    return answer


def market(box: Sandbox, symbol: str) -> Instrument:
    request = Kraken().instruments_requests()[0]
    listed = Kraken().instruments(get(box, request), request).instruments
    return next(one for one in listed if str(one.symbol) == symbol)


def test_hundreds_in_a_millisecond_at_a_page_border_are_neither_lost_nor_many_times_fetched(
    box: Sandbox,
) -> None:
    want = truth(box, "BTCUSD", MIDNIGHT - 72 * HOUR, MIDNIGHT)
    times = want["time"].to_list()
    most = max(set(times), key=times.count)
    assert times.count(most) > 200
    # the first page ends in the middle of the burst
    start = times.index(most) + 100 - 1_000
    assert start > 0
    instrument, pages = market(box, "BTC/USD"), 0
    found: dict[str, Trade] = {}
    request: Request | None = Kraken().trades_request(instrument, times[start])
    while request is not None and pages < 20:
        page = Kraken().trades(get(box, request), instrument, request)
        found |= {trade.trade_id: trade for trade in page.trades if trade.time <= times[-1]}
        request, pages = page.next, pages + 1
    assert request is None
    first = times.index(times[start])
    assert list(found) == want["trade_id"].to_list()[first:]
    assert pages <= -(-(len(want) - first) // 1_000) + 5


class Listener:
    """A session of ours on a connection that is not."""

    def __init__(self, ws: ClientConnection, feeds: list[Subscription]) -> None:
        self.ws, self.session, self.inbox = ws, Kraken().session(), Inbox()
        for message in self.session.subscribe(feeds):
            ws.send(message.decode())
        self.hear()

    def hear(self) -> None:
        """All that comes until nothing comes any more."""
        frames = []
        try:
            while True:
                frames.append(Frame(str(self.ws.recv(0.4)).encode(), 1))
        except TimeoutError:
            self.session.read_all(frames, self.inbox)


def test_the_stream_brings_trades_books_and_candles_as_they_are(box: Sandbox) -> None:
    instruments = {symbol: market(box, symbol) for symbol in ("BTC/USD", "DOGE/USDT")}
    feeds = [
        Subscription(one, channel, 60 if channel is Channel.OHLC else 0, depth)
        for one in instruments.values()
        for channel, depth in ((Channel.TRADES, 0), (Channel.BOOK, 50), (Channel.OHLC, 0))
    ]
    with connect(f"{box.ws_url}/kraken{Kraken().live_path(feeds[0])}") as ws:
        listener = Listener(ws, feeds)
        for minute in range(5):
            box.set_clock(NOW // 1_000 + (minute + 1) * 60_000, frozen=True)
            listener.hear()
    inbox = listener.inbox
    assert (inbox.bad, inbox.refused, inbox.lost, inbox.reconnect) == ([], [], [], None)
    assert sorted(map(repr, inbox.accepted)) == sorted(map(repr, feeds))
    end = NOW + 5 * MINUTE
    for symbol, instrument in instruments.items():
        name = symbol.replace("/", "")
        heard = [(t.trade_id, t.time, t.price, t.amount) for t in inbox.trades[instrument.name]]
        want = truth(box, name, NOW + 1_000, end + 1_000)
        assert heard == want.select("trade_id", "time", "price", "amount").rows()
        bars = [(c.time // 1_000, c.volume, c.trades) for c in inbox.candles[instrument.name, 60]]
        made = box.truth(name, "1m", bars[0][0], bars[-1][0] + 1).filter(pl.col("trades") > 0)
        assert bars == made.select(pl.col("time").dt.epoch("ms"), "volume", "trades").rows()
        book = OrderBook(
            from_rest=False,
            checksum=partial(listener.session.checksum, instrument),
            checksum_depth=Kraken.checksum_depth,
        )
        for change in inbox.books[instrument.name]:
            assert change.checksum is not None
            book.apply(change)
        assert book.valid
        want_book = box.book_truth(name, end // 1_000, depth=100)
        assert book.levels(100) == (want_book.bids, want_book.asks)
