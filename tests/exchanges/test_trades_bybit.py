"""What is special of Bybit's trades: only the newest are served, and it is said where they end."""

import json
from typing import Any

import pytest

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Rejected
from dccd_core.exchanges.bybit import Bybit
from dccd_core.models import SECOND, Symbol

BYBIT = Bybit()
SPOT = Instrument(Symbol("BTC", "USDT"), "spot BTCUSDT", trading=True)
NOW = 1_784_894_430


def answer(rows: list[dict[str, Any]]) -> Answer:
    body = {"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": rows}}
    return Answer(200, {}, json.dumps(body).encode(), NOW * SECOND)


def newest(count: int) -> list[dict[str, Any]]:
    """Two trades a second up to NOW, newest first."""
    return [
        {
            "execId": str(10_000 - place),
            "price": "1",
            "size": "2",
            "side": "Buy",
            "time": str((NOW - place // 2) * 1_000),
        }
        for place in range(count)
    ]


def test_a_full_page_that_reaches_back_far_enough_is_taken_whole() -> None:
    request = BYBIT.trades_request(SPOT, (NOW - 20) * SECOND)
    page = BYBIT.trades(answer(newest(60)), SPOT, request)
    assert [trade.trade_id for trade in page.trades] == [str(n) for n in range(9_941, 10_001)]
    assert page.next is None


@pytest.mark.parametrize("back", [29, 30, 86_400])
def test_a_full_page_that_does_not_reach_back_says_where_it_ends(back: int) -> None:
    # of the oldest second one trade may be cut off
    request = BYBIT.trades_request(SPOT, (NOW - back) * SECOND)
    with pytest.raises(Rejected, match=r"BTC/USDT reach back only to 2026-07-24T12:00:01Z, asked"):
        BYBIT.trades(answer(newest(60)), SPOT, request)


def test_a_page_that_is_not_full_holds_all_there_are() -> None:
    request = BYBIT.trades_request(SPOT, 0)
    assert len(BYBIT.trades(answer(newest(59)), SPOT, request).trades) == 59


def test_the_book_of_another_market_is_refused() -> None:
    result = {"s": "ETHUSDT", "b": [["1", "2"]], "a": [], "ts": 1, "u": 2, "seq": 3, "cts": 4}
    body = json.dumps({"retCode": 0, "retMsg": "OK", "result": result}).encode()
    with pytest.raises(BadAnswer, match="the book of ETHUSDT"):
        BYBIT.book(Answer(200, {}, body, 0), SPOT)
