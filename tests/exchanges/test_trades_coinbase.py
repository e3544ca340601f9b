"""Coinbase's past trades, book and stream, against its sandbox: each row as the market made it."""

import json
from collections.abc import Iterator

import pytest
import walk

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.coinbase import TAPE, Coinbase
from dccd_core.exchanges.live import Subscription
from dccd_core.models import Channel, Symbol
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW = "2026-06-01T12:34:30Z"
HOUR = 3_600_000
COINBASE = Coinbase()


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    symbols = ("BTCUSD:BTC:USD:2026-01-03T03:17", "NEWUSD:NEW:USD:2026-06-01T12:00")
    with Sandbox(Settings(symbols, now=NOW, frozen=True, weight_limit=0, rate=60)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Sandbox:
    running.set_clock(NOW, frozen=True)
    return running


@pytest.mark.parametrize(("back", "search"), [(HOUR // 4, 0), (5 * 24 * HOUR, 15)])
def test_trades_from_a_time_on_are_the_truth(box: Sandbox, back: int, search: int) -> None:
    market, start = walk.market(box, COINBASE, "BTC/USD"), epoch_ms(NOW) - back
    if back > 24 * HOUR:
        box.set_clock(start + 30 * HOUR, frozen=True)
    found, requests = walk.walk(box, COINBASE, market, start * 1_000)
    truth = box.trades_truth("BTCUSD", start, box.now() + 1)
    assert walk.rows(found) == walk.truth(truth)
    assert [int(one.trade_id) - 1 for one in found] == truth["trade_id"].cast(int).to_list()
    assert len(requests) <= search + len(truth) // TAPE + 2


def test_a_time_before_the_first_trade_begins_with_it(box: Sandbox) -> None:
    market = walk.market(box, COINBASE, "NEW/USD")
    found, requests = walk.walk(box, COINBASE, market, 0)
    assert found[0].trade_id == "1"
    assert walk.rows(found) == walk.truth(box.trades_truth("NEWUSD", 0, box.now() + 1))
    assert len(requests) < 5


def test_a_time_that_has_not_come_has_no_trades(box: Sandbox) -> None:
    market = walk.market(box, COINBASE, "BTC/USD")
    found, requests = walk.walk(box, COINBASE, market, (epoch_ms(NOW) + HOUR) * 1_000)
    assert (found, len(requests)) == ([], 1)


def page(*rows: tuple[int, str]) -> Answer:
    found = [
        {"trade_id": n, "side": "buy", "size": "1", "price": "2", "time": f"2026-06-01T{time}:00Z"}
        for n, time in rows
    ]
    return Answer(200, {}, json.dumps(found).encode(), 0)


def test_a_hole_at_the_end_of_a_page_is_not_taken_for_the_newest_trade() -> None:
    btc = Instrument(Symbol("BTC", "USD"), "BTC-USD", trading=True)
    request = Request("/products/BTC-USD/trades", {"limit": "1000", "after": "5001"})
    following = COINBASE.trades(page((4_997, "12:00"), (4_996, "12:00")), btc, request).next
    assert following is not None
    assert following.params["after"] == "5998"
    assert COINBASE.trades(page((4_400, "12:00")), btc, request).next is None
    with pytest.raises(BadAnswer, match="newest first"):
        COINBASE.trades(page((4_996, "12:00"), (4_997, "12:00")), btc, request)


def test_an_unknown_product_is_refused_and_the_other_is_not(box: Sandbox) -> None:
    known = Subscription(walk.market(box, COINBASE, "BTC/USD"), Channel.TRADES)
    nowhere = Instrument(Symbol("FOO", "USD"), "FOO-USD", trading=True)
    unknown = [Subscription(nowhere, one) for one in (Channel.TRADES, Channel.BOOK)]
    with walk.Client(box, COINBASE, [*unknown, known]) as client:
        assert [one for one, _ in client.inbox.refused] == unknown
        assert {reason for _, reason in client.inbox.refused} == {
            "Failed to subscribe: FOO-USD is not a valid product"
        }
        assert client.inbox.accepted == [known]
