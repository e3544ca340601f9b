"""OKX's trades, books and streams: as documented, and equal to the truth."""

import itertools
import json
from typing import Any

import pytest
from sandbox_client import ask
from stream_client import NOW_MS, PATIENCE, messages, opened, step
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from dccd_sandbox import Sandbox, StreamFault

PUBLIC, BUSINESS = "/okx/ws/v5/public", "/okx/ws/v5/business"
OLD = "history-trades"


def answer(ws: ClientConnection) -> str:
    """The next message that is no data: a candle's may come at any moment."""
    while '"data"' in (text := str(ws.recv(PATIENCE))):
        pass
    return text


def subscribe(ws: ClientConnection, channel: str, name: str, op: str = "subscribe") -> Any:
    request = {"id": "7", "op": op, "args": [{"channel": channel, "instId": name}]}
    ws.send(json.dumps(request))
    return json.loads(answer(ws))


def data(box: Sandbox, path: str, **query: object) -> Any:
    content = ask(box, f"/okx/api/v5/market/{path}", **query).json
    return content["data"] if content["code"] == "0" else content["code"]


def numbers(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["tradeId"]) for row in rows]


def test_after_means_before_and_the_newest_come_first(box: Sandbox) -> None:
    asked: dict[str, object] = {"instId": "BTC-USDT"}
    newest = numbers(data(box, OLD, **asked))
    assert len(newest) == 100
    assert newest == sorted(newest, reverse=True)
    truth = box.trades_truth("BTC-USDT", NOW_MS - 7_200_000, NOW_MS + 1, exchange="okx")
    assert list(map(str, newest)) == truth["trade_id"].to_list()[:-101:-1]
    last = newest[0]
    assert numbers(data(box, OLD, **asked, after=last)) == list(range(last - 1, last - 101, -1))
    assert numbers(data(box, OLD, **asked, after=last + 50, limit=3)) == newest[:3]
    assert numbers(data(box, OLD, **asked, before=last - 4)) == newest[:4]
    rows = data(box, OLD, **asked, type="2", after=NOW_MS - 60_000)
    assert max(int(row["ts"]) for row in rows) < NOW_MS - 60_000
    assert data(box, OLD, **asked, type="2", before=1) == "50039"
    assert data(box, OLD, **asked, after=0) == []
    assert data(box, OLD, instId="NO-USDT") == "51001"


def test_trades_are_kept_for_three_months(box: Sandbox) -> None:
    asked: dict[str, object] = {"instId": "BTC-USDT", "type": "2"}
    assert data(box, OLD, **asked, after=NOW_MS - 95 * 86_400_000) == []
    assert len(data(box, OLD, **asked, after=NOW_MS - 80 * 86_400_000)) == 100
    assert len(data(box, "trades", instId="BTC-USDT", limit=500)) == 500


def test_a_contract_counts_contracts(box: Sandbox) -> None:
    spot, swap = (data(box, "trades", instId=name)[0] for name in ("BTC-USDT", "BTC-USDT-SWAP"))
    assert float(swap["sz"]) == pytest.approx(float(spot["sz"]) * 100)
    books = [data(box, "books", instId=name, sz=3)[0] for name in ("BTC-USDT", "BTC-USDT-SWAP")]
    assert [len(book["bids"]) for book in books] == [3, 3]
    sizes = [float(book["asks"][0][1]) for book in books]
    assert sizes[1] == pytest.approx(sizes[0] * 100)


def test_a_book_has_one_level_unless_more_are_asked_for(box: Sandbox) -> None:
    truth = box.book_truth("BTC-USDT", NOW_MS, exchange="okx")
    for depth in (None, 5, 400):
        (book,) = data(box, "books", instId="BTC-USDT", **({"sz": depth} if depth else {}))
        bids = [(float(price), float(size)) for price, size, _, _ in book["bids"]]
        assert bids == truth.bids[: depth or 1]
        assert int(book["ts"]) == truth.time


def test_each_channel_has_its_path(box: Sandbox) -> None:
    for path, good, wrong in ((PUBLIC, "trades", "trades-all"), (BUSINESS, "candle1m", "books")):
        with opened(box, path) as ws:
            yes = subscribe(ws, good, "BTC-USDT")
            assert (yes["id"], yes["event"], yes["arg"]["channel"]) == ("7", "subscribe", good)
            no = subscribe(ws, wrong, "BTC-USDT")
            assert (no["id"], no["event"], no["code"]) == ("7", "error", "60018")
            assert f"channel:{wrong},instId:BTC-USDT doesn't exist" in no["msg"]
            assert subscribe(ws, good, "NO-USDT")["code"] == "60018"
            ws.send("ping")
            assert answer(ws) == "pong"
            ws.send("{}")
            assert json.loads(answer(ws))["code"] == "60012"
    with pytest.raises(InvalidStatus), opened(box, "/okx/ws/v5/private"):
        pass


def test_each_message_of_a_book_names_the_one_before(box: Sandbox) -> None:
    with opened(box, PUBLIC) as ws:
        subscribe(ws, "books", "BTC-USDT")
        step(box, 5_000)
        found = messages(ws)
    assert [one["action"] for one in found] == ["snapshot"] + ["update"] * (len(found) - 1)
    rows = [row for one in found for row in one["data"]]
    assert rows[0]["prevSeqId"] == -1
    assert all(b["prevSeqId"] == a["seqId"] for a, b in itertools.pairwise(rows))
    assert {row["checksum"] for row in rows} == {0}


@pytest.mark.parametrize(("channel", "depth"), [("books5", 5), ("bbo-tbt", 1)])
def test_the_best_levels_come_whole(box: Sandbox, channel: str, depth: int) -> None:
    with opened(box, PUBLIC) as ws:
        subscribe(ws, channel, "BTC-USDT-SWAP")
        step(box, 3_000)
        found = messages(ws)
    assert len(found) > 3
    for one in found:
        assert "action" not in one
        (row,) = one["data"]
        assert len(row["asks"]) == len(row["bids"]) == depth
        assert "prevSeqId" not in row


def test_trades_are_summed_and_all_trades_are_not(box: Sandbox) -> None:
    found: dict[str, list[dict[str, str]]] = {}
    for path, channel in ((PUBLIC, "trades"), (BUSINESS, "trades-all")):
        box.set_clock(NOW_MS, frozen=True)
        with opened(box, path) as ws:
            subscribe(ws, channel, "BTC-USDT")
            step(box, 600_000)
            found[channel] = [row for one in messages(ws) for row in one["data"]]
    single, summed = found["trades-all"], found["trades"]
    assert sum(int(row["count"]) for row in summed) == len(single) > len(summed)
    assert sum(float(r["sz"]) for r in summed) == pytest.approx(sum(float(r["sz"]) for r in single))
    assert all(b == a + 1 for a, b in itertools.pairwise(numbers(single)))
    assert set(numbers(summed)) <= set(numbers(single))


def test_an_end_a_refusal_and_an_upgrade(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("refuse", path="/okx", contains="candle5m"))
    with opened(box, BUSINESS) as ws:
        subscribe(ws, "trades-all", "BTC-USDT")
        assert subscribe(ws, "trades-all", "BTC-USDT", "unsubscribe")["event"] == "unsubscribe"
        step(box, 300_000)
        assert subscribe(ws, "candle5m", "BTC-USDT")["code"] == "60018"
        box.end_streams("shutdown", "/okx")
        notice = json.loads(ws.recv(PATIENCE))
        assert (notice["event"], notice["code"]) == ("notice", "64008")


def test_more_than_480_requests_an_hour_are_refused(box: Sandbox) -> None:
    with opened(box, PUBLIC) as ws:
        codes = [subscribe(ws, "trades", "NO-USDT")["code"] for _ in range(482)]
    assert codes == ["60018"] * 480 + ["60014"] * 2
