"""Every exchange that streams, against its sandbox: what is heard is true, all losses are known."""

from collections.abc import Iterator

import polars as pl
import pytest
from sandboxed import Ear, ask, instrument_of, true_market

from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import Exchange, Instrument
from dccd_core.exchanges.live import Live, Subscription
from dccd_core.exchanges.trades import Depth, Levels
from dccd_core.models import Channel
from dccd_sandbox import Sandbox, Settings, StreamFault
from dccd_sandbox.clock import epoch_ms
from dccd_streams.book import Broken, OrderBook

NOW = "2026-06-01T12:00:30Z"
MINUTE = 60_000
SETTINGS = Settings(
    symbols=("BTCUSDT:BTC:USDT:2026-05-30T06:00", "BTCUSD:BTC:USD:2026-05-30T06:00"),
    now=NOW,
    frozen=True,
    rate=200,
    weight_limit=0,
)
STREAMS = {name: one for name, one in load_all().items() if isinstance(one, Live)}
AGGREGATED = {"binance_usdm"}
"""Whose trades are those that the fills of an order make together."""


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as sandbox:
        yield sandbox


@pytest.fixture
def box(running: Sandbox) -> Sandbox:
    running.reset()
    running.set_clock(NOW, frozen=True)
    return running


def offering(channel: Channel) -> pytest.MarkDecorator:
    names = [name for name, one in STREAMS.items() if channel in one.channels]
    return pytest.mark.parametrize("exchange", [STREAMS[name] for name in names], ids=names)


@offering(Channel.TRADES)
def test_ten_minutes_of_trades_arrive_whole(box: Sandbox, exchange: Exchange) -> None:
    instrument = instrument_of(box, exchange)
    with Ear(box, exchange, [Subscription(instrument, Channel.TRADES)]) as ear:
        known = {one.trade_id for one in ear.inbox.trades[instrument.name]}
        end = ear.advance(10 * MINUTE)
    heard = [one for one in ear.inbox.trades[instrument.name] if one.trade_id not in known]
    symbol, market = true_market(box, exchange, instrument)
    start = epoch_ms(NOW) + 1
    truth = box.trades_truth(symbol, start, end + 1, market, aggregate=exchange.name in AGGREGATED)
    assert ear.inbox.accepted == [Subscription(instrument, Channel.TRADES)]
    assert (ear.inbox.bad, ear.inbox.refused, ear.inbox.reconnect) == ([], [], None)
    assert len({one.trade_id for one in heard}) == len(heard) == len(truth) > 1_000
    assert [(one.time, one.price, "buy" if one.buy else "sell") for one in heard] == list(
        zip(truth["time"].dt.epoch("us"), truth["price"], truth["side"], strict=True)
    )
    assert [one.amount for one in heard] == pytest.approx(
        truth["amount"].to_list(), rel=1e-9, abs=tolerance(instrument, heard[0].price)
    )


def tolerance(instrument: Instrument, price: float) -> float:
    """Contracts are whole: what a market of coins has is rounded to one."""
    whole = instrument.size / price if instrument.inverse else instrument.size
    return 0.0 if whole == 1 else whole


MINUTELY = [name for name, one in STREAMS.items() if 60 in one.live_spans]


@pytest.mark.parametrize("exchange", [STREAMS[name] for name in MINUTELY], ids=MINUTELY)
def test_candles_that_closed_are_the_truth(box: Sandbox, exchange: Exchange) -> None:
    instrument = instrument_of(box, exchange)
    with Ear(box, exchange, [Subscription(instrument, Channel.OHLC, 60)]) as ear:
        for _ in range(7):
            end = ear.advance(MINUTE)
    begin = epoch_ms(NOW) - 30_000
    # Some begin with candles of the past.
    candles = ear.inbox.candles[instrument.name, 60]
    heard = {one.time: one for one in candles if one.time >= begin * 1_000}
    symbol, market = true_market(box, exchange, instrument)
    truth = box.truth(symbol, "1m", begin, end, market)
    rows = {int(row["time"].timestamp()) * 1_000_000: row for row in truth.iter_rows(named=True)}
    # Where no flag tells, a candle is over when the next one begins.
    assert sorted(rows)[:-1] == sorted(heard)[: len(rows) - 1]
    assert len(heard) >= 6
    for time, candle in heard.items():
        row = rows[time]
        assert candle[2:5] == (row["high"], row["low"], row["close"])
        # BitMEX opens a candle where the one before ended.
        assert exchange.name == "bitmex" or candle.open == row["open"]
        whole = tolerance(instrument, candle.close) * (row["trades"] + 1)
        assert candle.volume == pytest.approx(row["volume"], rel=1e-9, abs=whole)


class Follower:
    """A book that is kept by the exchange's rules, and what became of it."""

    def __init__(self, box: Sandbox, exchange: Exchange) -> None:
        assert isinstance(exchange, Live)
        self.box, self.exchange = box, exchange
        self.instrument = instrument_of(box, exchange)
        self.market = true_market(box, exchange, self.instrument)
        deep = exchange.checksum_depth
        self.book = OrderBook(
            from_rest=exchange.book_from_rest,
            checksum=self._checksum if deep else None,
            checksum_depth=deep,
        )
        self.compared = self.changes = 0

    def listen(self) -> Ear:
        return Ear(self.box, self.exchange, [Subscription(self.instrument, Channel.BOOK)])

    def follow(self, ear: Ear, ms: int) -> None:
        """Let time pass; the book is the truth afterwards. Raises Broken where it cannot be."""
        self._ear = ear
        now = ear.advance(ms)
        if ear.inbox.lost or ear.inbox.reconnect:
            raise Broken(f"{ear.inbox.lost} {ear.inbox.reconnect}")
        if ear.inbox.bad:
            raise Broken(str(ear.inbox.bad[0]))
        for change in ear.inbox.books.pop(self.instrument.name, []):
            self.changes += 1
            self.book.apply(change)
        if not self.book.valid and self.exchange.book_from_rest:  # type: ignore[attr-defined]
            assert isinstance(self.exchange, Depth)
            request = self.exchange.book_request(self.instrument, self.exchange.depths[-1])
            whole = self.exchange.book(ask(self.box, self.exchange, request), self.instrument)
            self.book.start(whole, now * 1_000)
        if self.book.valid:
            self.compare(now)

    def compare(self, now: int) -> None:
        """The book as far as it goes is the sandbox's."""
        symbol, exchange = self.market
        truth = self.box.book_truth(symbol, now, exchange=exchange)
        if now - truth.time < 5:
            return  # of the same moment: whether it is sent already is the exchange's affair
        bids, asks = self.book.levels()
        assert min(len(bids), len(asks)) >= 10
        for ours, theirs in ((bids, truth.bids), (asks, truth.asks)):
            self._same(ours, theirs[: len(ours)])
        self.compared += 1

    def _same(self, ours: Levels, theirs: Levels) -> None:
        assert [price for price, _ in ours] == [price for price, _ in theirs]
        whole = tolerance(self.instrument, ours[0][0])
        assert [amount for _, amount in ours] == pytest.approx(
            [amount for _, amount in theirs], rel=1e-9, abs=whole
        )

    def _checksum(self, bids: Levels, asks: Levels) -> int:
        return self._ear.session.checksum(self.instrument, bids, asks)


@offering(Channel.BOOK)
def test_a_book_is_the_exchanges_at_every_moment(box: Sandbox, exchange: Exchange) -> None:
    follower = Follower(box, exchange)
    with follower.listen() as ear:
        for ms in (1_000, 1_000, 3_000, 5_000, 20_000, 60_000, 1_000, 9_000):
            follower.follow(ear, ms)
    assert follower.compared >= 5
    assert follower.changes > 100
    assert ear.inbox.accepted == [Subscription(follower.instrument, Channel.BOOK)]


SPOILT = [
    (name, kind)
    for name in STREAMS
    for kind in ("gap", "reorder", "checksum", "truncated")
    # Coinbase's level2_batch and BitMEX's table have no numbers, OKX's checksum is always 0.
    if not (name in ("coinbase", "bitmex") and kind in ("gap", "reorder"))
    and not (kind == "checksum" and not STREAMS[name].checksum_depth)
]


@pytest.mark.parametrize(("name", "kind"), SPOILT)
def test_a_spoilt_book_is_noticed(box: Sandbox, name: str, kind: str) -> None:
    exchange = load_all()[name]
    follower = Follower(box, exchange)
    with follower.listen() as ear:
        for _ in range(3):
            follower.follow(ear, 2_000)
        box.set_stream_faults(StreamFault(kind, channel="book", after=5))
        noticed = False
        try:
            for _ in range(3):
                follower.follow(ear, 5_000)
        except Broken:
            noticed = True
        hit = next(iter(box.stats()["streams"]["faults"].values()))
    assert (noticed, hit) == (True, 1)


@offering(Channel.TRADES)
@pytest.mark.parametrize("kind", ["duplicate", "garbage", "fragment", "truncated", "replay"])
def test_spoilt_trades_bring_nothing_wrong(box: Sandbox, exchange: Exchange, kind: str) -> None:
    instrument = instrument_of(box, exchange)
    symbol, market = true_market(box, exchange, instrument)
    box.set_stream_faults(StreamFault(kind, after=0 if kind == "replay" else 20, seconds=60))
    with Ear(box, exchange, [Subscription(instrument, Channel.TRADES)]) as ear:
        end = ear.advance(3 * MINUTE)
    truth = box.trades_truth(
        symbol, epoch_ms(NOW) - 3_600_000, end + 1, market, aggregate=exchange.name in AGGREGATED
    )
    times = truth["time"].dt.epoch("us").to_list()
    true = set(zip(times, truth["price"], truth["side"], strict=True))
    heard = {one.trade_id: one for one in ear.inbox.trades[instrument.name]}
    assert {(one.time, one.price, "buy" if one.buy else "sell") for one in heard.values()} <= true
    fresh = truth.filter(pl.col("time").dt.epoch("ms") > epoch_ms(NOW))
    missing = len(fresh) - sum(one.time > epoch_ms(NOW) * 1_000 for one in heard.values())
    assert missing >= 0
    # What cannot be read is known to be lost, and nothing else is.
    assert bool(missing) == (kind == "truncated")
    if kind in ("truncated", "garbage"):
        assert ear.inbox.bad or ear.inbox.reconnect
