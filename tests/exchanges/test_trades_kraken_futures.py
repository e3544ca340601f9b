"""Kraken Futures' past trades, book and stream, against its sandbox."""

import json
from collections.abc import Iterator

import pytest
import walk
from recorded import kept

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.kraken_futures import WHOLE, KrakenFutures
from dccd_core.exchanges.live import Subscription
from dccd_core.models import Channel, Symbol
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW = "2026-06-01T12:34:30Z"
HOUR = 3_600_000
FUTURES = KrakenFutures()
PERP = "BTC/USD:PERP"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    symbols = ("BTCUSD:BTC:USD:2026-01-03T03:17",)
    with Sandbox(Settings(symbols, now=NOW, frozen=True, weight_limit=0, rate=60)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Sandbox:
    running.set_clock(NOW, frozen=True)
    return running


@pytest.mark.parametrize("back", [HOUR // 4, 9 * HOUR])
@pytest.mark.parametrize("page", [1_000, 137])
def test_trades_from_a_time_on_are_the_truth(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, back: int, page: int
) -> None:
    monkeypatch.setattr("dccd_core.exchanges.kraken_futures.EXECUTIONS_PAGE", page)
    market, start = walk.market(box, FUTURES, PERP), epoch_ms(NOW) - back
    found, requests = walk.walk(box, FUTURES, market, start * 1_000)
    truth = box.trades_truth("PF_XBTUSD", start, box.now() + 1, exchange="kraken_futures")
    assert walk.rows(found) == walk.truth(truth)
    assert [int(one.trade_id[-12:], 16) for one in found] == truth["trade_id"].cast(int).to_list()
    assert len(requests) <= len(truth) // page + 1


def test_a_time_before_the_first_trade_begins_with_it(box: Sandbox) -> None:
    market = walk.market(box, FUTURES, PERP)
    request = FUTURES.trades_request(market, 0)
    page = FUTURES.trades(walk.ask(box, "kraken_futures", request), market, request)
    assert int(page.trades[0].trade_id[-12:], 16) == 0
    assert page.next is not None


def test_executions_that_go_back_in_time_are_no_page() -> None:
    xbt = Instrument(Symbol("BTC", "USD", "PERP"), "PF_XBTUSD", trading=True)
    taker = {"direction": "Buy", "orderType": "IoC"}
    one = {"uid": "a", "takerOrder": taker, "quantity": "1", "price": "1"}
    rows = [{"event": {"Execution": {"execution": one | {"timestamp": n}}}} for n in (2, 1)]
    request = Request("/", {})
    answer = Answer(200, {}, json.dumps({"elements": rows}).encode(), 0)
    with pytest.raises(BadAnswer, match="not in order"):
        FUTURES.trades(answer, xbt, request)
    answer = Answer(200, {}, b'{"elements": [{"event": {}}]}', 0)
    with pytest.raises(BadAnswer, match="no execution"):
        FUTURES.trades(answer, xbt, request)


def test_the_book_is_the_truth(box: Sandbox) -> None:
    market = walk.market(box, FUTURES, PERP)
    found, truth = walk.book(box, FUTURES, market, WHOLE), box.book_truth("BTCUSD", NOW)
    assert (found.bids, found.asks, found.time) == (truth.bids, truth.asks, epoch_ms(NOW) * 1_000)


def test_what_is_streamed_is_the_truth(box: Sandbox) -> None:
    market = walk.market(box, FUTURES, PERP)
    trades, book = (Subscription(market, one) for one in (Channel.TRADES, Channel.BOOK))
    with walk.Client(box, FUTURES, [trades, book]) as client:
        client.step(37_013, times=4)
        assert client.inbox.accepted == [trades, book]
        assert (client.inbox.bad, client.inbox.lost, client.inbox.notices) == ([], [], [])
        found, changes = client.inbox.trades[market.name], client.inbox.books[market.name]
        client.say(client.session.unsubscribe([trades, book]))
        client.say(client.session.subscribe([book]))
        assert [change.snapshot for change in changes].count(True) == 2
        kept(changes)
    start, end = epoch_ms(NOW) + 1, epoch_ms(NOW) + 4 * 37_013
    assert walk.rows(found) == walk.truth(box.trades_truth("BTCUSD", start, end + 1))
    rest, _ = walk.walk(box, FUTURES, market, start * 1_000)
    assert [one._replace(received=None) for one in found] == rest[: len(found)]
    truth = box.book_truth("BTCUSD", end)
    bids, asks = kept(changes[:-1])
    assert (sorted(bids.items(), reverse=True), sorted(asks.items())) == (truth.bids, truth.asks)


def test_an_unknown_product_is_refused_and_the_other_is_not(box: Sandbox) -> None:
    known = Subscription(walk.market(box, FUTURES, PERP), Channel.TRADES)
    nowhere = Instrument(Symbol("FOO", "USD", "PERP"), "PF_FOOUSD", trading=True)
    unknown = Subscription(nowhere, Channel.BOOK)
    with walk.Client(box, FUTURES, [unknown, known]) as client:
        assert client.inbox.refused == [(unknown, "Invalid product id")]
        assert client.inbox.accepted == [known]
