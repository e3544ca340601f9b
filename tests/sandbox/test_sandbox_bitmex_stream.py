"""BitMEX's trades, book and stream as documented; that they are the truth is tested with our own
reader of them, in tests/exchanges/test_trades_bitmex.py."""

import json
from typing import Any

import pytest
from sandbox_client import NOW, ask
from stream_client import asked, messages, opened, step

from dccd_sandbox import Sandbox, StreamFault

V1 = "/bitmex/api/v1"
XBT: dict[str, Any] = {"symbol": "XBTUSDT"}


def subscribe(*topics: str) -> dict[str, Any]:
    return {"op": "subscribe", "args": list(topics)}


def test_trades_by_time_offset_and_from_the_end(box: Sandbox) -> None:
    rows = ask(box, f"{V1}/trade", **XBT, startTime="2026-06-01T12:00:00.000Z", count=50).json
    truth = box.trades_truth("BTCUSDT", "2026-06-01T12:00", NOW)
    assert [row["price"] for row in rows] == truth["price"].to_list()[:50]
    assert [row["homeNotional"] for row in rows] == truth["amount"].to_list()[:50]
    assert [row["side"].lower() for row in rows] == truth["side"].to_list()[:50]
    begin = rows[7]["timestamp"]
    later = ask(box, f"{V1}/trade", **XBT, startTime=begin, count=5).json
    assert next(row["timestamp"] for row in later) == begin
    assert ask(box, f"{V1}/trade", **XBT, startTime=begin, count=5, start=2).json[0] == later[2]
    newest = ask(box, f"{V1}/trade", **XBT, count=3, reverse="true").json
    assert [row["price"] for row in newest][::-1] == truth["price"].to_list()[-3:]
    assert ask(box, f"{V1}/trade", symbol="FOO").json == []
    assert ask(box, f"{V1}/trade", **XBT, count=1_001).status == 400


def test_a_book_is_a_list_of_levels_from_the_highest_price_down(box: Sandbox) -> None:
    rows = ask(box, f"{V1}/orderBook/L2", **XBT, depth=0).json
    prices = [row["price"] for row in rows]
    assert prices == sorted(prices, reverse=True)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert len(ask(box, f"{V1}/orderBook/L2", **XBT).json) == 50
    assert len(ask(box, f"{V1}/orderBook/L2", **XBT, depth=3).json) == 6
    dollars = ask(box, f"{V1}/orderBook/L2", symbol="SOLUSDT", depth=1).json
    assert all(isinstance(row["size"], int) for row in dollars)


def test_a_welcome_an_answer_a_partial_and_then_changes(box: Sandbox) -> None:
    with opened(box, "/bitmex/realtime") as ws:
        (welcome,) = messages(ws)
        assert welcome["info"].startswith("Welcome")
        ws.send(json.dumps(subscribe("trade:XBTUSDT", "orderBookL2:XBTUSDT", "tradeBin1m:XBTUSDT")))
        found = messages(ws)
        assert [one.get("subscribe") or one["table"] for one in found] == [
            *("trade:XBTUSDT", "trade", "orderBookL2:XBTUSDT", "orderBookL2"),
            *("tradeBin1m:XBTUSDT", "tradeBin1m"),
        ]
        trade, book, candle = (one for one in found if "table" in one)
        assert {one["action"] for one in (trade, book, candle)} == {"partial"}
        assert book["keys"] == ["symbol", "id", "side"]
        assert book["filter"] == XBT
        assert (len(trade["data"]), len(candle["data"])) == (1, 1)
        assert candle["data"][0]["timestamp"] == "2026-06-01T12:34:00.000Z"
        known = {(row["id"], row["side"]) for row in book["data"]}
        step(box, 61_000)
        for one in messages(ws):
            if one["table"] == "orderBookL2":
                rows = {(row["id"], row["side"]) for row in one["data"]}
                names = {"update": {"size"}, "insert": {"size", "price"}, "delete": set()}
                for row in one["data"]:
                    assert set(row) & {"size", "price"} == names[one["action"]]
                assert (rows <= known) == (one["action"] != "insert")
                known = known - rows if one["action"] == "delete" else known | rows
            elif one["table"] == "tradeBin1m":
                assert [row["timestamp"] for row in one["data"]] == ["2026-06-01T12:35:00.000Z"]
            else:
                assert len({row["timestamp"] for row in one["data"]}) == 1


def test_topics_in_the_address_the_ping_and_the_end_of_a_topic(box: Sandbox) -> None:
    with opened(box, "/bitmex/realtime?subscribe=orderBookL2_25:XBTUSDT") as ws:
        welcome, done, partial = messages(ws)
        assert (done["success"], done["subscribe"]) == (True, "orderBookL2_25:XBTUSDT")
        assert len(partial["data"]) == 50
        ws.send("ping")
        assert ws.recv(20) == "pong"
        done = asked(ws, op="unsubscribe", args="orderBookL2_25:XBTUSDT")
        assert (done["success"], done["unsubscribe"]) == (True, "orderBookL2_25:XBTUSDT")
        step(box, 10_000)
        ws.send("ping")
        assert ws.recv(20) == "pong"
    assert welcome["limit"] == {"remaining": 59}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (subscribe("trade:FOO"), "Unknown or expired symbol."),
        (subscribe("foo:XBTUSDT"), "Unknown table: foo"),
        ({"op": "unsubscribe", "args": ["trade:XBTUSDT"]}, "User was not subscribed"),
        ({"op": "dance"}, "Unrecognized request"),
    ],
)
def test_errors_carry_the_request(box: Sandbox, request_: dict[str, Any], error: str) -> None:
    with opened(box, "/bitmex/realtime") as ws:
        ws.recv(20)
        answer = asked(ws, **request_)
        assert (answer["status"], answer["request"]) == (400, request_)
        assert error in answer["error"]
        twice = subscribe("tradeBin1m:XBTUSDT", "tradeBin1m:XBTUSDT")
        ws.send(json.dumps(twice))
        assert next(one for one in messages(ws) if "error" in one)["error"].startswith(
            "You are already"
        )


def test_a_subscription_refused_by_a_fault_is_an_error(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("refuse", path="/bitmex", contains="trade:"))
    with opened(box, "/bitmex/realtime") as ws:
        ws.recv(20)
        assert asked(ws, **subscribe("trade:XBTUSDT"))["request"] == subscribe("trade:XBTUSDT")
    box.set_stream_faults()
