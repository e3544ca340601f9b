"""Binance's trades, books and streams: as documented, and equal to the truth."""

import itertools
import json
from typing import Any

import polars as pl
import pytest
from sandbox_client import NOW, ask
from stream_client import NOW_MS, PATIENCE, asked, messages, opened, step
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

SYMBOL = {"symbol": "BTCUSDT"}
MINUTE = 60_000


def frame(rows: list[dict[str, Any]], names: tuple[str, str, str, str, str]) -> pl.DataFrame:
    """Trades as the truth has them, from rows with these names."""
    time, number, price, amount, maker = names
    found = [
        (
            row[time] * 1_000,
            str(row[number]),
            float(row[price]),
            float(row[amount]),
            "sell" if row[maker] else "buy",
        )
        for row in rows
    ]
    columns = ("time", "trade_id", "price", "amount", "side")
    return pl.DataFrame(found, schema=columns, orient="row").with_columns(
        pl.col("time").cast(pl.Datetime("us", "UTC"))
    )


AGGREGATE = ("T", "a", "p", "q", "m")
PLAIN = ("time", "id", "price", "qty", "isBuyerMaker")
STREAMED = ("T", "t", "p", "q", "m")

# --- by request --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/binance/api/v3", "/binance_usdm/fapi/v1"])
@pytest.mark.parametrize("limit", [1_000, 7])
def test_aggregate_trades_paged_by_id_are_the_truth(box: Sandbox, prefix: str, limit: int) -> None:
    start = NOW_MS - (3_600_000 if limit > 7 else 600_000)
    rows = ask(box, f"{prefix}/aggTrades", **SYMBOL, startTime=start, limit=limit).json
    assert len(rows) <= limit
    while True:
        page = ask(box, f"{prefix}/aggTrades", **SYMBOL, fromId=rows[-1]["a"] + 1, limit=limit).json
        if not page:
            break
        rows += page
    truth = box.trades_truth("BTCUSDT", start, NOW_MS + 1, aggregate=True)
    assert frame(rows, AGGREGATE).equals(truth)
    assert all(row["l"] - row["f"] in (0, 1) for row in rows)
    assert all(after["f"] == before["l"] + 1 for before, after in itertools.pairwise(rows))


def test_aggregate_trades_of_a_window_and_the_newest(box: Sandbox) -> None:
    path, start, end = "/binance/api/v3/aggTrades", NOW_MS - 20 * MINUTE, NOW_MS - 10 * MINUTE
    rows = ask(box, path, **SYMBOL, startTime=start, endTime=end, limit=1_000).json
    assert frame(rows, AGGREGATE).equals(
        box.trades_truth("BTCUSDT", start, end + 1, aggregate=True)
    )
    newest = ask(box, path, **SYMBOL, limit=5).json
    assert [row["a"] for row in newest] == list(range(newest[0]["a"], newest[0]["a"] + 5))
    assert newest[-1]["T"] <= NOW_MS
    assert ask(box, path, **SYMBOL, fromId=newest[-1]["a"] + 1).json == []
    before = ask(box, path, **SYMBOL, endTime=end, limit=3).json
    assert [row["a"] for row in before] == [row["a"] for row in rows[-3:]]
    assert ask(box, path, **SYMBOL, fromId=0, limit=1).json[0]["a"] == 0


def test_times_in_microseconds_on_demand(box: Sandbox) -> None:
    for name, key in (("aggTrades", "T"), ("trades", "time")):
        path = f"/binance/api/v3/{name}"
        micro = ask(box, path, {"X-MBX-TIME-UNIT": "MICROSECOND"}, **SYMBOL, limit=1).json[0]
        assert micro[key] == ask(box, path, **SYMBOL, limit=1).json[0][key] * 1_000


def test_historical_trades_continue_by_id(box: Sandbox) -> None:
    path, start = "/binance/api/v3/historicalTrades", NOW_MS - 20 * MINUTE
    truth = box.trades_truth("BTCUSDT", start, NOW_MS + 1)
    rows = ask(box, path, **SYMBOL, fromId=truth["trade_id"][0], limit=1_000).json
    assert frame(rows, PLAIN).equals(truth)
    row = rows[0]
    assert row["isBestMatch"] is True
    assert float(row["quoteQty"]) == pytest.approx(float(row["price"]) * float(row["qty"]))
    newest = ask(box, "/binance/api/v3/trades", **SYMBOL, limit=4).json
    assert newest == rows[-4:]


def test_the_futures_want_a_key_for_old_trades_and_short_windows(box: Sandbox) -> None:
    answer = ask(box, "/binance_usdm/fapi/v1/historicalTrades", **SYMBOL)
    assert (answer.status, answer.json["code"]) == (401, -2014)
    path, start = "/binance_usdm/fapi/v1/aggTrades", NOW_MS - 5 * 3_600_000
    wide = ask(box, path, **SYMBOL, startTime=start, endTime=start + 3_600_001)
    assert (wide.status, wide.json["code"]) == (400, -1127)
    assert ask(box, path, **SYMBOL, startTime=start, endTime=start + 3_600_000).status == 200
    old = ask(box, path, **SYMBOL, startTime=NOW_MS - 400 * 86_400_000)
    assert (old.status, old.json["code"]) == (400, -4166)
    both = ask(box, path, **SYMBOL, startTime=start, fromId=5)
    assert (both.status, both.json["code"]) == (400, -1128)
    assert ask(box, path, symbol="NOPE").json["code"] == -1121


def test_a_book_is_the_truth_at_that_moment(box: Sandbox) -> None:
    truth = box.book_truth("BTCUSDT", NOW_MS, 10)
    book = ask(box, "/binance/api/v3/depth", **SYMBOL, limit=10).json
    assert book["lastUpdateId"] == truth.sequence * 3
    for side, levels in ((book["bids"], truth.bids), (book["asks"], truth.asks)):
        assert [(float(price), float(amount)) for price, amount in side] == levels
    assert set(book) == {"lastUpdateId", "bids", "asks"}
    whole = ask(box, "/binance/api/v3/depth", **SYMBOL, limit=5_000).json
    assert 200 < len(whole["bids"]) < 400
    futures = ask(box, "/binance_usdm/fapi/v1/depth", **SYMBOL, limit=10).json
    assert set(futures) == {"lastUpdateId", "E", "T", "bids", "asks"}
    assert futures["E"] == NOW_MS
    assert ask(box, "/binance_usdm/fapi/v1/depth", **SYMBOL, limit=30).json["code"] == -4021


# --- by stream ---------------------------------------------------------------------------------


def test_trades_of_a_stream_are_the_truth_in_order(box: Sandbox) -> None:
    with opened(box, "/binance/ws") as ws:
        names = ["btcusdt@trade", "btcusdt@aggTrade", "ethusdt@trade"]
        assert asked(ws, method="SUBSCRIBE", params=names, id=1) == {"result": None, "id": 1}
        end = step(box, 10 * MINUTE)
        found = messages(ws)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        rows = [row for row in found if row["e"] == "trade" and row["s"] == symbol]
        assert frame(rows, STREAMED).equals(box.trades_truth(symbol, NOW_MS + 1, end + 1))
    rows = [row for row in found if row["e"] == "aggTrade"]
    truth = box.trades_truth("BTCUSDT", NOW_MS + 1, end + 1, aggregate=True)
    assert frame(rows, AGGREGATE).equals(truth)


def test_spot_depth_joins_the_snapshot_by_the_documented_rule(box: Sandbox) -> None:
    with opened(box, "/binance/stream?streams=btcusdt@depth@100ms/ethusdt@depth") as ws:
        step(box, 1_020)
        snapshot = ask(box, "/binance/api/v3/depth", **SYMBOL, limit=5_000).json
        end = step(box, MINUTE)
        found = messages(ws)
    events = [one["data"] for one in found if one["stream"] == "btcusdt@depth@100ms"]
    assert {one["stream"] for one in found} == {"btcusdt@depth@100ms", "ethusdt@depth"}
    last = snapshot["lastUpdateId"]
    assert any(event["u"] <= last for event in events)
    fresh = [event for event in events if event["u"] > last]
    assert fresh[0]["U"] <= last + 1 <= fresh[0]["u"]
    for before, after in itertools.pairwise(fresh):
        assert after["U"] == before["u"] + 1
        assert after["E"] % 100 == 0
    assert any(event["u"] - event["U"] > 2 for event in events)
    book = {side: dict(snapshot[side]) for side in ("bids", "asks")}
    for event in fresh:
        apply(book, event)
    assert_book(book, box, "BTCUSDT", end // 100 * 100 - 1)


def test_futures_depth_follows_by_its_own_rule(box: Sandbox) -> None:
    with opened(box, "/binance_usdm/public/ws/btcusdt@depth@100ms") as ws:
        step(box, 1_020)
        snapshot = ask(box, "/binance_usdm/fapi/v1/depth", **SYMBOL, limit=1_000).json
        end = step(box, MINUTE)
        events = messages(ws)
    last = snapshot["lastUpdateId"]
    fresh = [event for event in events if event["u"] >= last]
    assert fresh[0]["U"] <= last <= fresh[0]["u"]
    for before, after in itertools.pairwise(fresh):
        assert after["pu"] == before["u"]
        assert after["U"] > before["u"] + 1  # the spot rule would see gaps
    book = {side: dict(snapshot[side]) for side in ("bids", "asks")}
    for event in fresh:
        apply(book, event)
    assert_book(book, box, "BTCUSDT", end // 100 * 100 - 1)


def apply(book: dict[str, dict[str, str]], event: dict[str, Any]) -> None:
    for side, levels in (("bids", event["b"]), ("asks", event["a"])):
        for price, amount in levels:
            book[side][price] = amount
            if float(amount) == 0:
                del book[side][price]


def assert_book(book: dict[str, dict[str, str]], box: Sandbox, symbol: str, moment: int) -> None:
    truth = box.book_truth(symbol, moment)
    for side, levels in (("bids", truth.bids), ("asks", truth.asks)):
        assert {float(p): float(q) for p, q in book[side].items()} == dict(levels)


def test_partial_books_are_the_best_levels(box: Sandbox) -> None:
    with opened(box, "/binance/stream?streams=btcusdt@depth5@100ms") as ws:
        end = step(box, 1_000)
        found = [one["data"] for one in messages(ws)]
    assert len(found) == 10
    truth = box.book_truth("BTCUSDT", end // 100 * 100, 5)
    assert set(found[-1]) == {"lastUpdateId", "bids", "asks"}
    assert [(float(p), float(q)) for p, q in found[-1]["bids"]] == truth.bids


@pytest.mark.parametrize("path", ["/binance", "/binance_usdm/market"])
def test_candles_of_a_stream_close_as_the_truth(box: Sandbox, path: str) -> None:
    with opened(box, f"{path}/ws/btcusdt@kline_1m") as ws:
        end = step(box, 5 * MINUTE)
        closed = [one["k"] for one in messages(ws) if one["k"]["x"]]
    truth = box.truth("BTCUSDT", "1m", NOW_MS - 30_000, end).to_dicts()
    assert len(truth) == 5
    for k, row in zip(closed, truth, strict=True):
        assert k["t"] * 1_000 == int(row["time"].timestamp()) * 1_000_000
        numbers = [float(k[name]) for name in "ohlcvq"]
        assert numbers == [
            row[name] for name in ("open", "high", "low", "close", "volume", "quote_volume")
        ]
        assert k["n"] == row["trades"] == (k["L"] - k["f"] + 1 if k["n"] else 0)
        assert k["T"] == k["t"] + MINUTE - 1


def test_the_futures_deliver_by_route(box: Sandbox) -> None:
    names = ["btcusdt@aggTrade", "btcusdt@depth@100ms"]
    got = {}
    for route in ("/public", "/market", ""):
        with opened(box, f"/binance_usdm{route}/ws") as ws:
            assert asked(ws, method="SUBSCRIBE", params=names, id="a") == {
                "result": None,
                "id": "a",
            }
            step(box, 5 * MINUTE)
            got[route] = {one["e"] for one in messages(ws)}
    assert got == {"/public": {"depthUpdate"}, "/market": {"aggTrade"}, "": {"depthUpdate"}}
    with opened(box, "/binance_usdm/market/ws/btcusdt@aggTrade") as ws:
        step(box, 5 * MINUTE)
        one = messages(ws)[0]
    assert one["nq"] == one["q"]
    assert "M" not in one


def test_requests_of_a_stream_are_answered_as_documented(box: Sandbox) -> None:
    with opened(box, "/binance/ws") as ws:
        assert asked(ws, method="SUBSCRIBE", params=["nope@trade"], id=1)["result"] is None
        assert asked(ws, method="LIST_SUBSCRIPTIONS", id=2) == {"result": ["nope@trade"], "id": 2}
        assert asked(ws, method="UNSUBSCRIBE", params=["nope@trade"], id=3)["result"] is None
        assert asked(ws, method="LIST_SUBSCRIPTIONS", id=4)["result"] == []
        assert asked(ws, method="FOO", id=5)["code"] == 2
        assert asked(ws, method="SUBSCRIBE", params=[1], id=6) == {
            "code": 2,
            "msg": "Invalid request: params must be a list of strings",
            "id": 6,
        }
        ws.send("{")
        assert json.loads(ws.recv())["code"] == 3


def test_a_stream_that_was_left_is_silent(box: Sandbox) -> None:
    with opened(box, "/binance/ws/btcusdt@trade/ethusdt@trade") as ws:
        asked(ws, method="UNSUBSCRIBE", params=["btcusdt@trade"], id=1)
        step(box, 10 * MINUTE)
        assert {one["s"] for one in messages(ws)} == {"ETHUSDT"}


def test_times_of_a_stream_in_microseconds(box: Sandbox) -> None:
    with opened(box, "/binance/ws/btcusdt@trade?timeUnit=MICROSECOND") as ws:
        end = step(box, 10 * MINUTE)
        assert all(NOW_MS * 1_000 < one["T"] <= end * 1_000 for one in messages(ws))


def test_symbols_are_written_small(box: Sandbox) -> None:
    with opened(box, "/binance/ws/BTCUSDT@trade/dogeusdt@trade") as ws:
        step(box, 30 * MINUTE)
        assert {one["s"] for one in messages(ws)} == {"DOGEUSDT"}


def test_a_quarterly_contract_streams(box: Sandbox) -> None:
    with opened(box, "/binance_usdm/market/ws/btcusdt_260626@aggTrade") as ws:
        end = step(box, 10 * MINUTE)
        found = messages(ws)
    truth = box.trades_truth("BTCUSDT_260626", NOW_MS + 1, end + 1, "binance_usdm", aggregate=True)
    assert frame(found, AGGREGATE).equals(truth)


def chatter(ws: ClientConnection, count: int) -> None:
    """Ask so often, and hear the answers and one message more."""
    for number in range(count):
        ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
    for _ in range(count + 1):
        ws.recv(PATIENCE)


def test_with_limits_who_talks_too_much_is_closed() -> None:
    with Sandbox(Settings(now=NOW, frozen=True)) as box, opened(box, "/binance/ws") as ws:
        with pytest.raises(ConnectionClosed) as closed:
            chatter(ws, 100)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert box.stats()["streams"]["exchanges"]["binance"]["too_many"] == 1


def test_a_path_without_a_stream_is_404(box: Sandbox) -> None:

    for path in ("/binance/nope", "/nope/ws", "/binance_usdm/other/ws"):
        with pytest.raises(InvalidStatus, match="404"), opened(box, path):
            pass


def test_a_rate_makes_more_trades() -> None:
    with Sandbox(Settings(now=NOW, frozen=True, rate=600)) as box:
        hour = box.trades_truth("BTCUSDT", NOW_MS - 3_600_000, NOW_MS)
    assert 20_000 < len(hour) < 70_000
    assert hour["time"].is_sorted()
    assert epoch_ms(NOW) == NOW_MS
