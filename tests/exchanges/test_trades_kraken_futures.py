"""Kraken Futures' past trades, book and stream, against its sandbox."""

import json
from collections.abc import Iterator

import pytest
import walk

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.kraken_futures import KrakenFutures
from dccd_core.exchanges.live import Subscription
from dccd_core.models import Channel, Symbol
from dccd_sandbox import Sandbox, Settings

NOW = "2026-06-01T12:34:30Z"
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


def test_an_unknown_product_is_refused_and_the_other_is_not(box: Sandbox) -> None:
    known = Subscription(walk.market(box, FUTURES, PERP), Channel.TRADES)
    nowhere = Instrument(Symbol("FOO", "USD", "PERP"), "PF_FOOUSD", trading=True)
    unknown = Subscription(nowhere, Channel.BOOK)
    with walk.Client(box, FUTURES, [unknown, known]) as client:
        assert client.inbox.refused == [(unknown, "Invalid product id")]
        assert client.inbox.accepted == [known]
