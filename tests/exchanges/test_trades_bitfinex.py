"""The walk through Bitfinex' past trades, against a model of its endpoint: nothing is left out."""

import json
from dataclasses import dataclass, replace

import pytest

from dccd_core.exchanges.base import Answer, Instrument, Rejected, Request
from dccd_core.exchanges.bitfinex import Bitfinex
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Symbol

SPOT = Instrument(Symbol("BTC", "USD"), "tBTCUSD", trading=True)
START = 1_787_400_000_000


class Small(Bitfinex):
    """With pages of ten."""

    trades_page = 10


@dataclass
class Model:
    """Times (ms) of trades; their ids count on from 1,000 by 7."""

    times: list[int]
    requests: int = 0

    def answer(self, request: Request) -> Answer:
        """The oldest from a time on."""
        self.requests += 1
        assert self.requests < 100
        sent = request.params
        assert sent["sort"] == "1"
        found = [[1_000 + 7 * n, time, 1, 2] for n, time in enumerate(self.times)]
        rows = [row for row in found if row[1] >= int(sent["start"])][: int(sent["limit"])]
        return Answer(200, {}, json.dumps(rows).encode(), START * 1_000)


def walk(model: Model, time: int) -> list[Trade]:
    exchange, found = Small(), list[Trade]()
    request: Request | None = exchange.trades_request(SPOT, time * 1_000)
    while request is not None:
        page = exchange.trades(model.answer(request), SPOT, request)
        found += page.trades
        request = page.next
    return found


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 19, 20, 95])
@pytest.mark.parametrize("together", [1, 3, 7, 9])
def test_pages_overlap_and_lose_nothing(count: int, together: int) -> None:
    model = Model([START + 50 * (n // together) for n in range(count)])
    found = walk(model, START)
    wanted = [str(1_000 + 7 * n) for n in range(count)]
    assert sorted({int(trade.trade_id) for trade in found}) == [int(one) for one in wanted]
    assert [trade.trade_id for trade in found if trade.time == START * 1_000][:together] == wanted[
        : min(together, count)
    ]


def test_a_page_that_is_one_millisecond_is_said_and_not_walked_for_ever() -> None:
    model = Model([START] * 10 + [START + 5])
    with pytest.raises(Rejected, match="10 trades of BTC/USD at 2026-08-22T12:00:00Z fill a page"):
        walk(model, START - 1)


def test_a_page_in_another_order_is_sorted() -> None:
    body = b"[[3,1787400000002,1,1],[2,1787400000001,1,1],[1,1787400000001,1,1]]"
    request = Bitfinex().trades_request(SPOT, 0)
    page = Bitfinex().trades(Answer(200, {}, body, 0), SPOT, request)
    assert [trade.trade_id for trade in page.trades] == ["1", "2", "3"]


def test_trades_cost_twice_what_candles_do() -> None:
    exchange = Bitfinex()
    assert exchange.trades_request(SPOT, SECOND).weight == 2
    assert exchange.book_request(SPOT, 25).weight == pytest.approx(30 / 240)
    assert exchange.limits.weight / 2 < 15
    assert replace(exchange.limits, weight=1).seconds == 60
