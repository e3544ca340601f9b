"""Kraken Futures' executions, book and feeds as documented; that they are the truth is tested with
our own reader of them, in tests/exchanges/test_trades_kraken_futures.py."""

from typing import Any

import pytest
from sandbox_client import ask
from stream_client import NOW_MS, asked, messages, opened, step

from dccd_sandbox import Sandbox, StreamFault

API = "/kraken_futures/derivatives/api/v3"
EXECUTIONS = "/kraken_futures/api/history/v3/market/PF_XBTUSD/executions"
XBT = {"product_ids": ["PF_XBTUSD"]}


def uids(content: Any) -> list[str]:
    return [one["event"]["Execution"]["execution"]["uid"] for one in content["elements"]]


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_executions_continue_by_a_token(box: Sandbox, sort: str) -> None:
    start, end = NOW_MS - 3_600_000, NOW_MS - 600_000
    query: dict[str, Any] = {"since": start, "before": end, "sort": sort, "count": 40}
    found: list[str] = []
    while True:
        answer = ask(box, EXECUTIONS, **query)
        found += uids(answer.json)
        if "next-continuation-token" not in answer.headers:
            break
        token = answer.headers["next-continuation-token"]
        assert answer.json["continuationToken"] == token
        query["continuation_token"] = token
    truth = box.trades_truth("BTCUSDT", start, end)["trade_id"].cast(int).to_list()
    assert len(truth) > 40
    numbers = [int(uid[-12:], 16) for uid in found]
    assert numbers == (truth if sort == "asc" else truth[::-1])


def test_the_newest_hundred_and_an_unknown_market(box: Sandbox) -> None:
    rows = ask(box, f"{API}/history", symbol="pf_xbtusd").json["history"]
    assert [row["trade_id"] for row in rows] == list(range(100, 0, -1))
    newest = ask(box, EXECUTIONS, count=100).json
    assert [row["uid"] for row in rows] == uids(newest)
    assert ask(box, EXECUTIONS.replace("XBT", "FOO")).json["error"] == "notFound"
    assert ask(box, f"{API}/orderbook", symbol="PF_FOOUSD").status == 404


def test_a_feed_is_answered_for_each_product_and_begins_with_a_snapshot(box: Sandbox) -> None:
    with opened(box, "/kraken_futures/ws/v1") as ws:
        assert messages(ws) == [{"event": "info", "version": 1}]
        both = ["pf_xbtusd", "PF_ETHUSD"]
        first = asked(ws, event="subscribe", feed="trade", product_ids=both)
        assert first == {"event": "subscribed", "feed": "trade", "product_ids": ["PF_XBTUSD"]}
        rest = messages(ws)
        assert [one.get("event") or one["feed"] for one in rest] == [
            "trade_snapshot", "subscribed", "trade_snapshot",
        ]  # fmt: skip
        times = [trade["time"] for trade in rest[0]["trades"]]
        assert (len(times), times) == (100, sorted(times, reverse=True))
        assert asked(ws, event="subscribe", feed="book", **XBT)["event"] == "subscribed"
        (snapshot,) = messages(ws)
        step(box, 20_000)
        found = messages(ws)
        changes = [one for one in found if one["feed"] == "book"]
        assert [one["seq"] for one in changes] == list(
            range(snapshot["seq"] + 1, snapshot["seq"] + 1 + len(changes))
        )
        assert {one["qty"] == 0 for one in changes} == {True, False}
        again = asked(ws, event="subscribe", feed="book", **XBT)
        assert again["event"] == "alert"
        assert [one.get("event") or one["feed"] for one in messages(ws)] == [
            "subscribed", "book_snapshot",
        ]  # fmt: skip
        assert asked(ws, event="unsubscribe", feed="book", **XBT)["event"] == "unsubscribed"
        assert asked(ws, event="subscribe", feed="heartbeat")["event"] == "subscribed"
        step(box, 5_000)
        last = messages(ws)
        assert "book" not in {one["feed"] for one in last}
        assert [one["time"] % 1_000 for one in last if one["feed"] == "heartbeat"] == [0] * 5


@pytest.mark.parametrize(
    ("request_", "kind", "text"),
    [
        ({"event": "subscribe", "feed": "book", "product_ids": ["PF_FOOUSD"]}, "error", "product"),
        ({"event": "subscribe", "feed": "book"}, "error", "Invalid product id"),
        ({"event": "subscribe", "feed": "candles", **XBT}, "error", "Invalid feed"),
        ({"event": "dance"}, "alert", "Bad request"),
    ],
)
def test_errors_do_not_say_of_what_they_are(
    box: Sandbox, request_: dict[str, Any], kind: str, text: str
) -> None:
    with opened(box, "/kraken_futures/ws/v1") as ws:
        ws.recv(20)
        answer = asked(ws, **request_)
        assert set(answer) == {"event", "message"}
        assert answer["event"] == kind
        assert text in answer["message"]


def test_a_subscription_refused_by_a_fault_is_an_error(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("refuse", path="/kraken_futures"))
    with opened(box, "/kraken_futures/ws/v1") as ws:
        ws.recv(20)
        assert asked(ws, event="subscribe", feed="trade", **XBT)["event"] == "error"
    box.set_stream_faults()
