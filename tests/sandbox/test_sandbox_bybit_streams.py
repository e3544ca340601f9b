"""Bybit's trades, books and streams: as documented, and equal to the truth."""

import itertools
import json
from typing import Any

import pytest
from sandbox_client import ask
from stream_client import NOW_MS, PATIENCE, asked, messages, opened, step
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from dccd_sandbox import Sandbox, StreamFault

SPOT, LINEAR = "/bybit/v5/public/spot", "/bybit/v5/public/linear"


def subscribe(ws: ClientConnection, *topics: str) -> Any:
    return asked(ws, req_id="7", op="subscribe", args=list(topics))


def result(box: Sandbox, path: str, **query: object) -> Any:
    content = ask(box, f"/bybit/v5/market/{path}", **query).json
    return content["result"] if content["retCode"] == 0 else content["retMsg"]


def test_recent_trades_are_the_newest_first_and_sixty_of_spot(box: Sandbox) -> None:
    rows = result(box, "recent-trade", category="spot", symbol="BTCUSDT")["list"]
    truth = box.trades_truth("spot BTCUSDT", NOW_MS - 7_200_000, NOW_MS + 1, exchange="bybit")
    assert [row["execId"] for row in rows] == truth["trade_id"].to_list()[:-61:-1]
    assert [float(row["price"]) for row in rows] == truth["price"].to_list()[:-61:-1]
    assert [row["side"].lower() for row in rows] == truth["side"].to_list()[:-61:-1]
    more = {"category": "linear", "symbol": "BTCUSDT"}
    assert len(result(box, "recent-trade", **more)["list"]) == 500
    assert len(result(box, "recent-trade", **more, limit=1_000)["list"]) == 1_000
    for category, limit in (("spot", 61), ("linear", 1_001)):
        question = {"category": category, "symbol": "BTCUSDT", "limit": limit}
        assert "limit invalid" in result(box, "recent-trade", **question)
    assert "symbol" in result(box, "recent-trade", category="linear", symbol="NOUSDT")


def test_the_book_has_one_level_of_spot_and_25_of_contracts_unless_asked(box: Sandbox) -> None:
    for category, fewest in (("spot", 1), ("linear", 25)):
        truth = box.book_truth(f"{category} BTCUSDT", NOW_MS, exchange="bybit")
        for limit in (None, 50, 1_000):
            question = {"limit": limit} if limit else {}
            found = result(box, "orderbook", category=category, symbol="BTCUSDT", **question)
            bids = [(float(price), float(size)) for price, size in found["b"]]
            assert bids == truth.bids[: limit or fewest]
            assert (found["u"], found["cts"], found["s"]) == (truth.sequence, truth.time, "BTCUSDT")


def test_a_contract_trades_higher_than_its_pair_with_the_same_ids(box: Sandbox) -> None:
    both = [
        box.trades_truth(f"{kind} BTCUSDT", NOW_MS - 600_000, NOW_MS, exchange="bybit")
        for kind in ("spot", "linear")
    ]
    assert both[0]["trade_id"].to_list() == both[1]["trade_id"].to_list()
    assert (both[0]["price"] < both[1]["price"]).all()


def test_answers_are_in_bybits_words(box: Sandbox) -> None:
    with opened(box, SPOT) as ws:
        good = subscribe(ws, "publicTrade.BTCUSDT")
        assert good | {"conn_id": ""} == {
            "success": True, "ret_msg": "", "conn_id": "", "req_id": "7", "op": "subscribe",
        }  # fmt: skip
        again = subscribe(ws, "publicTrade.BTCUSDT")
        assert (again["success"], "already subscribed" in again["ret_msg"]) == (False, True)
        for wrong in ("publicTrade.NOUSDT", "orderbook.7.BTCUSDT", "kline.2.BTCUSDT", "x.BTCUSDT"):
            refused = subscribe(ws, wrong)
            assert (refused["success"], wrong in refused["ret_msg"]) == (False, True)
        assert "args size" in subscribe(ws, *[f"kline.{n}.BTCUSDT" for n in range(11)])["ret_msg"]
        assert asked(ws, op="ping")["ret_msg"] == "pong"
        assert asked(ws, op="dance")["success"] is False
        ws.send("{")
        assert json.loads(ws.recv(PATIENCE))["success"] is False


def test_a_request_with_one_wrong_topic_is_refused_whole(box: Sandbox) -> None:
    with opened(box, LINEAR) as ws:
        assert not subscribe(ws, "publicTrade.BTCUSDT", "publicTrade.NOUSDT")["success"]
        assert subscribe(ws, "publicTrade.BTCUSDT")["success"]


def test_numbers_of_a_book_go_on_by_one_and_levels_stay_in_bounds(box: Sandbox) -> None:
    with opened(box, LINEAR) as ws:
        assert subscribe(ws, "orderbook.50.BTCUSDT")["success"]
        step(box, 10_000)
        found = messages(ws)
    assert [one["type"] for one in found] == ["snapshot"] + ["delta"] * (len(found) - 1)
    assert len(found) > 30
    numbers = [one["data"]["u"] for one in found]
    assert all(after == before + 1 for before, after in itertools.pairwise(numbers))
    sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}
    for one in found:
        for name, side in sides.items():
            side |= dict(one["data"][name])
            sides[name] = {price: size for price, size in side.items() if float(size)}
        assert len(sides["b"]) == len(sides["a"]) == 50


def test_one_level_is_always_whole_and_repeated_after_three_seconds(box: Sandbox) -> None:
    with opened(box, SPOT) as ws:
        subscribe(ws, "orderbook.1.BTCUSDT")
        step(box, 3_000)
        found = messages(ws)
        step(box, 60)
        found += messages(ws)
    assert {one["type"] for one in found} == {"snapshot"}
    assert {len(one["data"]["b"]) for one in found} == {1}


def test_candles_are_confirmed_once(box: Sandbox) -> None:
    with opened(box, SPOT) as ws:
        subscribe(ws, "kline.1.BTCUSDT")
        step(box, 20_000)
        step(box, 20_000)
        found = [row for one in messages(ws) for row in one["data"]]
    closed = [row["start"] for row in found if row["confirm"]]
    assert closed == [NOW_MS - 30_000]
    assert found[-1]["end"] - found[-1]["start"] == 59_999


def test_another_path_is_none_and_a_refusal_can_be_had(box: Sandbox) -> None:
    with pytest.raises(InvalidStatus), opened(box, "/bybit/v5/public/margin"):
        pass
    box.set_stream_faults(StreamFault("refuse", path="/bybit", contains="publicTrade"))
    with opened(box, SPOT) as ws:
        refused = subscribe(ws, "publicTrade.BTCUSDT")
    assert (refused["success"], refused["req_id"], refused["op"]) == (False, "7", "subscribe")
