"""Coinbase's trades, book and feed as documented; that they are the truth is tested with our own
reader of them, in tests/exchanges/test_trades_coinbase.py."""

import json
from itertools import pairwise
from typing import Any

import pytest
from sandbox_client import ask
from stream_client import asked, messages, opened, step

from dccd_sandbox import Sandbox, StreamFault

PRODUCT = "BTC-USDT"
PATH = f"/coinbase/products/{PRODUCT}"


def subscribe(*channels: object, products: tuple[str, ...] = (PRODUCT,)) -> dict[str, Any]:
    return {"type": "subscribe", "product_ids": list(products), "channels": list(channels)}


def kinds(found: list[Any]) -> list[str]:
    return [one["type"] for one in found]


def test_trades_are_newest_first_below_an_id_with_the_makers_side(box: Sandbox) -> None:
    answer = ask(box, f"{PATH}/trades", limit=1_000)
    rows = answer.json
    assert [one["trade_id"] - two["trade_id"] for one, two in pairwise(rows)] == [1] * 999
    truth = box.trades_truth("BTCUSDT", "2026-05-31", box.now() + 1).tail(1_000)
    assert [row["side"] for row in rows][::-1] == [
        "sell" if side == "buy" else "buy" for side in truth["side"]
    ]
    assert answer.headers["cb-before"] == str(rows[0]["trade_id"])
    assert answer.headers["cb-after"] == str(rows[-1]["trade_id"])
    older = ask(box, f"{PATH}/trades", limit=3, after=rows[10]["trade_id"]).json
    assert older == rows[11:14]
    first = ask(box, f"{PATH}/trades", after=4).json
    assert [row["trade_id"] for row in first] == [3, 2, 1]
    assert len(ask(box, f"{PATH}/trades", limit=5_000).json) == 1_000


def test_a_book_has_a_level_or_all(box: Sandbox) -> None:
    best, whole = (ask(box, f"{PATH}/book", level=level).json for level in (1, 2))
    assert (len(best["bids"]), len(best["asks"])) == (1, 1)
    assert len(whole["bids"]) > 200
    assert all(len(level) == 3 and isinstance(level[2], int) for level in whole["asks"])
    assert whole["bids"][0] == best["bids"][0]
    assert ask(box, f"{PATH}/book").json == best
    assert ask(box, f"{PATH}/book", level=3).status == 401
    assert ask(box, f"{PATH}/book", level=4).status == 400


def test_a_subscription_is_answered_with_all_there_are_and_then_begins(box: Sandbox) -> None:
    with opened(box, "/coinbase") as ws:
        ws.send(json.dumps(subscribe("matches", "level2_batch", "heartbeat")))
        listed, last, snapshot = messages(ws)
        assert [one["name"] for one in listed["channels"]] == ["matches", "level2_50", "heartbeat"]
        assert {tuple(one["product_ids"]) for one in listed["channels"]} == {(PRODUCT,)}
        assert (last["type"], snapshot["type"]) == ("last_match", "snapshot")
        assert last["trade_id"] == ask(box, f"{PATH}/trades", limit=1).json[0]["trade_id"]
        step(box, 30_000)
        found = messages(ws)
        matches = [one for one in found if one["type"] == "match"]
        assert [one["trade_id"] for one in matches] == list(
            range(last["trade_id"] + 1, last["trade_id"] + 1 + len(matches))
        )
        assert all(two["sequence"] > one["sequence"] for one, two in pairwise(matches))
        beats = [one for one in found if one["type"] == "heartbeat"]
        assert len(beats) == 30
        assert beats[-1]["last_trade_id"] == matches[-1]["trade_id"]
        updates = [one for one in found if one["type"] == "l2update"]
        assert 200 < len(updates) < 30_000 // 50
        assert {change[0] for one in updates for change in one["changes"]} == {"buy", "sell"}
        again = asked(ws, **subscribe("matches"))
        assert again["type"] == "subscriptions"
        less = asked(ws, type="unsubscribe", product_ids=[PRODUCT], channels=["matches"])
        assert [one["name"] for one in less["channels"]] == ["level2_50", "heartbeat"]
        step(box, 30_000)
        assert "match" not in kinds(messages(ws))


def test_channels_may_carry_their_own_products(box: Sandbox) -> None:
    channels = [{"name": "matches", "product_ids": ["ETH-USDT"]}, "heartbeat"]
    with opened(box, "/coinbase/") as ws:
        answer = asked(ws, type="subscribe", product_ids=[PRODUCT], channels=channels)
        assert [(one["name"], one["product_ids"]) for one in answer["channels"]] == [
            ("matches", ["ETH-USDT"]),
            ("heartbeat", [PRODUCT]),
        ]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (subscribe("level2"), "level2, level3, and full channels now require authentication"),
        (subscribe("candles"), "candles is not a valid channel"),
        (subscribe("matches", products=(PRODUCT, "FOO-USD")), "FOO-USD is not a valid product"),
        (subscribe("matches", products=()), "must be provided"),
        ({"type": "hello"}, "Type has to be"),
    ],
)
def test_refusals(box: Sandbox, request_: dict[str, Any], reason: str) -> None:
    with opened(box, "/coinbase") as ws:
        answer = asked(ws, **request_)
        assert (answer["type"], answer["message"]) == ("error", "Failed to subscribe")
        assert reason in answer["reason"]
        ws.send("{")
        assert json.loads(ws.recv(20))["reason"] == "Malformed JSON"
        assert asked(ws, **subscribe("heartbeat"))["type"] == "subscriptions"


def test_a_subscription_refused_by_a_fault_is_an_error(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("refuse", path="/coinbase"))
    with opened(box, "/coinbase") as ws:
        assert asked(ws, **subscribe("matches"))["type"] == "error"
        assert asked(ws, **subscribe("matches"))["type"] == "subscriptions"
    box.set_stream_faults()
