"""BitMEX's past trades, book and stream, against its sandbox: each row as the market made it."""

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
import walk
from recorded import kept

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.bitmex import WHOLE, Bitmex
from dccd_core.exchanges.live import Subscription
from dccd_core.models import SECOND, Channel, Symbol
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.exchanges import bitmex as simulated

NOW = "2026-06-01T12:34:30Z"
BITMEX = Bitmex()
PERP = "BTC/USDT:PERP"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    symbols = ("BTCUSDT:BTC:USDT:2026-01-03T03:17", "BTCUSD:BTC:USD:2026-01-03T03:17")
    with Sandbox(Settings(symbols, now=NOW, frozen=True, weight_limit=0, rate=60)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Sandbox:
    running.set_clock(NOW, frozen=True)
    return running


@pytest.mark.parametrize("page", [1, 2, 7])
def test_no_trade_is_lost_where_a_millisecond_is_longer_than_a_page(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("dccd_core.exchanges.bitmex.MOST_TRADES", page)
    market, start = walk.market(box, BITMEX, PERP), epoch_ms(NOW) - 300_000
    found, _ = walk.walk(box, BITMEX, market, start * 1_000)
    truth = walk.truth(box.trades_truth("BTCUSDT", start, box.now() + 1))
    assert walk.rows(found) == truth
    assert any(one[0] == two[0] for one, two in pairwise(truth))


@pytest.mark.parametrize("exclusive", [False, True])
def test_it_does_not_matter_whether_bounds_are_inclusive(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, exclusive: bool
) -> None:
    plain = simulated._moment

    def moment(sent: dict[str, str], name: str, default: int) -> int:
        return plain(sent, name, default) + (exclusive and name == "startTime" and name in sent)

    monkeypatch.setattr(simulated, "_moment", moment)
    monkeypatch.setattr("dccd_core.exchanges.bitmex.MOST_TRADES", 50)
    market, start = walk.market(box, BITMEX, PERP), epoch_ms(NOW) - 600_000
    truth = walk.truth(box.trades_truth("BTCUSDT", start, box.now() + 1))
    begin = truth[0][0]
    found, _ = walk.walk(box, BITMEX, market, begin)
    assert walk.rows(found) == truth


def test_rows_that_go_back_in_time_are_no_page() -> None:
    xbt = Instrument(Symbol("BTC", "USD", "PERP"), "XBTUSD", trading=True)
    row = {"symbol": "XBTUSD", "trdMatchID": "a", "price": 1, "side": "Buy", "homeNotional": 1}
    rows = [row | {"timestamp": f"2026-06-01T00:00:0{n}.000Z"} for n in (2, 1)]
    answer = Answer(200, {}, json.dumps(rows).encode(), 0)
    with pytest.raises(BadAnswer, match="not in order"):
        BITMEX.trades(answer, xbt, Request("/trade"))


def test_a_book_in_dollars_is_one_of_coins_to_a_dollar(box: Sandbox) -> None:
    market = walk.market(box, BITMEX, "BTC/USD:PERP")
    assert market.inverse
    found, truth = walk.book(box, BITMEX, market, WHOLE), box.book_truth("BTCUSD", NOW)
    assert [price for price, _ in found.bids] == [price for price, _ in truth.bids]
    for (price, amount), (_, real) in zip(found.asks, truth.asks, strict=True):
        assert amount == pytest.approx(real, abs=1 / price)


def test_what_is_streamed_is_the_truth(box: Sandbox) -> None:
    market = walk.market(box, BITMEX, PERP)
    feeds = [
        Subscription(market, Channel.TRADES),
        Subscription(market, Channel.BOOK, depth=25),
        Subscription(market, Channel.OHLC, 60),
    ]
    with walk.Client(box, BITMEX, feeds) as client:
        client.step(61_013, times=4)
        client.say([client.session.ping() or b""])
        assert client.inbox.accepted == feeds
        assert (client.inbox.bad, client.inbox.lost, client.inbox.notices) == ([], [], [])
        found, changes = client.inbox.trades[market.name], client.inbox.books[market.name]
        candles = client.inbox.candles[market.name, 60]
        client.say(client.session.unsubscribe(feeds))
        before = len(found), len(changes), len(candles)
        client.step(60_000)
        assert (len(found), len(changes), len(candles)) == before
    start, end = epoch_ms(NOW) + 1, epoch_ms(NOW) + 4 * 61_013
    assert walk.rows(found) == walk.truth(box.trades_truth("BTCUSDT", start, end + 1))
    rest, _ = walk.walk(box, BITMEX, market, start * 1_000)
    assert [one._replace(received=None) for one in found] == rest[: len(found)]
    bids, asks = kept(changes)
    truth = box.book_truth("BTCUSDT", end, 25)
    assert (sorted(bids.items(), reverse=True), sorted(asks.items())) == (truth.bids, truth.asks)
    closed = box.truth("BTCUSDT", "1m", "2026-06-01T12:33", end // 60_000 * 60_000)
    assert [one.time for one in candles] == closed["time"].dt.epoch("us").to_list()
    for name in ("close", "volume", "quote_volume", "trades"):
        assert [getattr(one, name) for one in candles] == closed[name].to_list()
    assert [two.open for two in candles[1:]] == [one.close for one in candles[:-1]]
    assert candles[0].time % (60 * SECOND) == 0


def test_an_unknown_market_is_refused_and_the_other_is_not(box: Sandbox) -> None:
    known = Subscription(walk.market(box, BITMEX, PERP), Channel.TRADES)
    nowhere = Instrument(Symbol("FOO", "USD", "PERP"), "FOOUSD", trading=True)
    unknown = Subscription(nowhere, Channel.TRADES)
    with walk.Client(box, BITMEX, [unknown, known]) as client:
        assert client.inbox.refused == [(unknown, "Unknown or expired symbol.")]
        assert client.inbox.accepted == [known]
