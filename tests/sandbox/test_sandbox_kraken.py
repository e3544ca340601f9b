"""Kraken as documented: 720 rows, a cursor of nanoseconds, errors in HTTP 200, books with
checksums. The client knows nothing of ours."""

import json
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zlib import crc32

import polars as pl
import pytest
from sandbox_client import NOW, Answer, Ask, ask
from stream_client import NOW_MS, asked, messages, opened, step

from dccd_sandbox import Rule, Sandbox, Settings, StreamFault
from dccd_sandbox.clock import epoch_ms

MINUTE, HOUR = 60_000, 3_600_000
NS = 1_000_000


@pytest.fixture
def public(box: Sandbox) -> Ask:
    def get(method: str, **query: object) -> Answer:
        return ask(box, f"/kraken/0/public/{method}", None, **query)

    return get


def ohlc(public: Ask, minutes: int, **query: object) -> list[list[Any]]:
    content = public("OHLC", pair="XBTUSDT", interval=minutes, **query).json
    assert content["error"] == []
    rows: list[list[Any]] = content["result"]["XBTUSDT"]
    # the last committed one is before the last one
    assert len(rows) == 1 or content["result"]["last"] == rows[-2][0]
    return rows


@pytest.mark.parametrize(("label", "minutes"), [("1m", 1), ("1h", 60)])
def test_the_newest_720_are_served_whatever_is_asked(
    box: Sandbox, public: Ask, label: str, minutes: int
) -> None:
    rows = ohlc(public, minutes)
    assert len(rows) == 720
    step_s = minutes * 60
    assert [row[0] for row in rows] == [rows[-1][0] + n * step_s for n in range(-719, 1)]
    assert rows[-1][0] == NOW_MS // 1_000 // step_s * step_s
    assert ohlc(public, minutes, since=rows[0][0] - 10**7) == rows
    truth = box.truth("BTCUSDT", label, rows[0][0] * 1_000, NOW_MS)
    for row, want in zip(rows[:-1], truth.rows(named=True), strict=True):
        found = [float(cell) for cell in (*row[1:5], row[6])]
        assert found == [want[n] for n in ("open", "high", "low", "close", "volume")]
        assert row[7] == want["trades"]


def test_since_is_exclusive_and_the_running_one_is_always_there(public: Ask) -> None:
    rows = ohlc(public, 60)
    assert ohlc(public, 60, since=rows[-4][0]) == rows[-3:]
    assert ohlc(public, 60, since=rows[-4][0] - 1) == rows[-4:]
    assert ohlc(public, 60, since=rows[-1][0]) == rows[-1:]
    assert ohlc(public, 60, since=9_999_999_999) == rows[-1:]


def test_a_minute_without_trades_is_flat(public: Ask) -> None:
    rows = ohlc(public, 1)
    flat = [(before, row) for before, row in pairwise(rows) if not row[7]]
    assert flat
    for before, row in flat:
        assert row[1:] == [before[4]] * 4 + ["0.0", "0.00000000", 0]


def test_weeks_open_on_thursdays_and_all_are_served_of_a_young_market() -> None:
    with Sandbox(Settings(symbols=("BTCUSD:BTC:USD:2026-05-10",), now=NOW, frozen=True)) as box:
        path = "/kraken/0/public/OHLC"
        weeks, days = (
            ask(box, path, None, pair="XBTUSD", interval=minutes).json["result"]["XXBTZUSD"]
            for minutes in (10_080, 1_440)
        )
    opens = [row[0] * 1_000 for row in weeks]
    assert opens == [epoch_ms(f"2026-05-{day:02}") for day in (7, 14, 21, 28)]
    assert days[0][0] * 1_000 == epoch_ms("2026-05-10")
    assert sum(row[7] for row in weeks) == sum(row[7] for row in days) > 100


def page(public: Ask, **query: object) -> tuple[list[list[Any]], int]:
    """Rows, and the cursor: when the last of them was, in nanoseconds."""
    content = json.loads(public("Trades", pair="XBTUSDT", **query).body, parse_float=Decimal)
    found, last = content["result"]["XBTUSDT"], content["result"]["last"]
    assert isinstance(last, str)
    assert not found or int(last) // NS == found[-1][2] * 1_000
    return found, int(last)


def trades(public: Ask, **query: object) -> list[list[Any]]:
    return page(public, **query)[0]


def numbers(rows: list[list[Any]]) -> list[str]:
    return [str(row[6]) for row in rows]


@pytest.mark.parametrize(("count", "start"), [(1_000, "2026-05-31"), (1, "2026-06-01T12:00")])
def test_trades_go_on_after_a_cursor_of_nanoseconds(
    box: Sandbox, public: Ask, count: int, start: str
) -> None:
    truth = box.trades_truth("BTCUSDT", start, NOW_MS + 1, exchange="kraken")
    found: list[list[Any]] = []
    rows, last = page(public, since=epoch_ms(start) * NS - 1, count=count)
    while rows:
        assert len(rows) <= count
        found += rows
        rows, last = page(public, since=last, count=count)
    assert numbers(found) == truth["trade_id"].to_list()
    for row, want in zip(found, truth.rows(named=True), strict=True):
        assert (float(row[0]), float(row[1])) == (want["price"], want["amount"])
        assert {"b": "buy", "s": "sell"}[row[3]] == want["side"]


def test_trades_of_a_millisecond_are_a_nanosecond_apart_but_not_all_of_hundreds(
    box: Sandbox, public: Ask
) -> None:
    truth = box.trades_truth("BTCUSDT", "2026-05-31", "2026-06-01", exchange="kraken")
    time = int(truth["time"].dt.epoch("ms").mode()[0])
    same = truth.filter(truth["time"].dt.epoch("ms") == time)["trade_id"].to_list()
    assert len(same) >= 200
    first = time * NS
    assert page(public, since=first - 1, count=1)[1] == first
    assert page(public, since=first - 1, count=50)[1] == first + 49
    assert numbers(trades(public, since=first, count=5)) == same[1:6]
    assert numbers(trades(public, since=first + 98, count=len(same) - 99)) == same[99:]
    assert page(public, since=first + 98, count=1)[1] == first + 99
    # a cursor is exclusive: of those that share a moment the rest is lost
    assert numbers(trades(public, since=first + 99, count=1)) == [str(int(same[-1]) + 1)]


def test_since_of_seconds_of_zero_and_of_none(public: Ask) -> None:
    assert trades(public, since=0, count=1)[0][6] == 0
    start = epoch_ms("2026-05-31")
    assert trades(public, since=start // 1_000, count=5) == trades(
        public, since=start * NS, count=5
    )
    newest = trades(public, count=3)
    assert [row[6] for row in newest] == list(range(newest[-1][6] - 2, newest[-1][6] + 1))
    assert trades(public, since=(NOW_MS + 1) * NS) == []


def test_the_book_of_rest(box: Sandbox, public: Ask) -> None:
    book = public("Depth", pair="XBTUSDT", count=25).json["result"]["XBTUSDT"]
    truth = box.book_truth("BTCUSDT", NOW_MS, depth=25)
    for side, want in ((book["bids"], truth.bids), (book["asks"], truth.asks)):
        assert [(float(price), float(amount)) for price, amount, _ in side] == want
    assert len(public("Depth", pair="XBTUSDT").json["result"]["XBTUSDT"]["bids"]) == 100


@pytest.mark.parametrize(
    ("method", "query", "text"),
    [
        ("OHLC", {"pair": "NOPE"}, "EQuery:Unknown asset pair"),
        ("Trades", {"pair": "NOPE"}, "EQuery:Unknown asset pair"),
        ("OHLC", {}, "EGeneral:Invalid arguments"),
        ("OHLC", {"pair": "XBTUSDT", "interval": 7}, "EGeneral:Invalid arguments:interval"),
        ("OHLC", {"pair": "XBTUSDT", "since": "soon"}, "EGeneral:Invalid arguments:since"),
        ("Trades", {"pair": "XBTUSDT", "count": 1_001}, "EGeneral:Invalid arguments:count"),
        ("Depth", {"pair": "XBTUSDT", "count": 501}, "EGeneral:Invalid arguments:count"),
        ("Nothing", {}, "EGeneral:Unknown method"),
    ],
)
def test_errors_are_lists_in_http_200(
    public: Ask, method: str, query: dict[str, object], text: str
) -> None:
    answer = public(method, **query)
    assert (answer.status, answer.json) == (200, {"error": [text]})


def test_pairs_have_three_names(public: Ask) -> None:
    with Sandbox(Settings(symbols=("BTCUSD:BTC:USD:2026-05-01",), now=NOW, frozen=True)) as box:
        pairs = ask(box, "/kraken/0/public/AssetPairs").json["result"]
        assert list(pairs) == ["XXBTZUSD"]
        pair = pairs["XXBTZUSD"]
        assert (pair["altname"], pair["wsname"]) == ("XBTUSD", "XBT/USD")
        assert (pair["base"], pair["quote"], pair["lot_decimals"]) == ("XXBT", "ZUSD", 8)
        for name in ("XBTUSD", "XXBTZUSD", "BTC/USD"):
            found = ask(box, "/kraken/0/public/OHLC", None, pair=name, interval=60).json
            assert list(found["result"]) == ["XXBTZUSD", "last"]
        assets = ask(box, "/kraken/0/public/Assets").json["result"]
        assert assets["XXBT"]["altname"] == "XBT"
    assert public("SystemStatus").json["result"]["status"] == "online"
    assert public("Time").json["result"]["unixtime"] == NOW_MS // 1_000


def test_thirteen_requests_in_ten_seconds_are_too_many() -> None:
    with Sandbox(Settings(now=NOW, frozen=True)) as box:
        path = "/kraken/0/public/OHLC"
        answers = [ask(box, path, None, pair="XBTUSDT").json["error"] for _ in range(13)]
        assert answers == [[]] * 12 + [["EGeneral:Too many requests"]]
        # counted by pair
        assert ask(box, path, None, pair="ETHUSDT").json["error"] == []
        box.reset()
        assert ask(box, path, None, pair="XBTUSDT").json["error"] == []


def test_faults_are_cloudflares_and_change_rows(box: Sandbox, public: Ask) -> None:
    box.set_faults(Rule("429", retry_after=7, count=1))
    answer = public("OHLC", pair="XBTUSDT")
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    whole = ohlc(public, 1)
    box.set_faults(Rule("empty", count=1))
    assert public("OHLC", pair="XBTUSDT").json["result"]["XBTUSDT"] == []
    box.set_faults(Rule("missing_hour", count=1))
    assert len(public("OHLC", pair="XBTUSDT").json["result"]["XBTUSDT"]) < len(whole)


# --- the stream --------------------------------------------------------------------------------


def subscribe(channel: str, *symbols: str, **options: object) -> dict[str, Any]:
    params = {"channel": channel, "symbol": list(symbols)} | options
    return {"method": "subscribe", "params": params, "req_id": 7}


def data(found: list[Any], channel: str) -> list[Any]:
    return [row for one in found if one.get("channel") == channel for row in one["data"]]


def test_each_symbol_is_acknowledged_or_refused(box: Sandbox) -> None:
    with opened(box, "/kraken/v2") as ws:
        status = json.loads(ws.recv(5))
        assert (status["channel"], status["data"][0]["system"]) == ("status", "online")
        ws.send(json.dumps(subscribe("trade", "BTC/USDT", "XBT/USDT", "DOGE/USDT")))
        told = messages(ws)
        assert [one["success"] for one in told] == [True, False, True]
        assert told[1]["error"] == "Currency pair not supported XBT/USDT"
        assert (told[1]["symbol"], told[1]["req_id"]) == ("XBT/USDT", 7)
        assert told[0]["result"] == {"channel": "trade", "symbol": "BTC/USDT"}
        again = asked(ws, **subscribe("trade", "BTC/USDT"))
        assert (again["success"], again["error"]) == (False, "Already subscribed")
        assert asked(ws, method="ping", req_id=3)["method"] == "pong"
        assert asked(ws, method="dance")["success"] is False
        assert "error" in asked(ws, nothing=1)


@pytest.mark.parametrize(
    ("channel", "options", "text"),
    [
        ("book", {"depth": 11}, "Unsupported depth 11"),
        ("ohlc", {"interval": 2}, "Unsupported interval 2"),
        ("level3", {}, "Channel not found level3"),
    ],
)
def test_what_is_not_offered_is_refused(
    box: Sandbox, channel: str, options: dict[str, object], text: str
) -> None:
    with opened(box, "/kraken/v2") as ws:
        ws.recv(5)
        assert asked(ws, **subscribe(channel, "BTC/USDT", **options))["error"] == text


def test_a_second_span_of_a_market_needs_another_connection(box: Sandbox) -> None:
    with opened(box, "/kraken/v2") as ws, opened(box, "/kraken/v2?interval=5") as other:
        ws.recv(5)
        other.recv(5)
        assert asked(ws, **subscribe("ohlc", "BTC/USDT", interval=1))["success"]
        messages(ws)
        refused = asked(ws, **subscribe("ohlc", "BTC/USDT", interval=5))
        assert refused["error"] == "Already subscribed to one ohlc interval on this symbol"
        assert asked(other, **subscribe("ohlc", "BTC/USDT", interval=5))["success"]


def test_trades_of_the_stream_are_the_truth(box: Sandbox) -> None:
    with opened(box, "/kraken/v2") as ws:
        ws.recv(5)
        asked(ws, **subscribe("trade", "BTC/USDT"))
        step(box, HOUR)
        rows = data(messages(ws), "trade")
    truth = box.trades_truth("BTCUSDT", NOW_MS + 1, NOW_MS + HOUR + 1)
    assert [str(row["trade_id"]) for row in rows] == truth["trade_id"].to_list()
    assert [row["price"] for row in rows] == truth["price"].to_list()
    assert [row["qty"] for row in rows] == truth["amount"].to_list()
    assert [row["side"] for row in rows] == truth["side"].to_list()


def applied(side: dict[Decimal, Decimal], levels: list[Any], depth: int, *, bids: bool) -> None:
    for level in levels:
        side[level["price"]] = level["qty"]
        if level["qty"] == 0:
            del side[level["price"]]
    for price in sorted(side, reverse=bids)[depth:]:
        del side[price]


@pytest.mark.parametrize("depth", [10, 25, 1_000])
def test_books_are_the_truth_and_match_their_checksums(box: Sandbox, depth: int) -> None:
    with opened(box, "/kraken/v2") as ws:
        ws.recv(5)
        asked(ws, **subscribe("book", "BTC/USDT", depth=depth))
        for _ in range(3):
            step(box, 20_000)
        found = [json.loads(text, parse_float=Decimal, parse_int=Decimal) for text in _texts(ws)]
    assert [one["type"] for one in found if one["channel"] == "book"][:2] == ["snapshot", "update"]
    bids: dict[Decimal, Decimal] = {}
    asks: dict[Decimal, Decimal] = {}
    for row in data(found, "book"):
        applied(bids, row["bids"], depth, bids=True)
        applied(asks, row["asks"], depth, bids=False)
        best = [*sorted(asks.items())[:10], *sorted(bids.items(), reverse=True)[:10]]
        text = "".join(f"{int(p * 100)}{int(q * 10**8)}" for p, q in best)
        assert crc32(text.encode()) == row["checksum"]
    truth = box.book_truth("BTCUSDT", box.now(), depth=depth)
    assert [(float(p), float(q)) for p, q in sorted(bids.items(), reverse=True)] == truth.bids
    assert [(float(p), float(q)) for p, q in sorted(asks.items())] == truth.asks


def _texts(ws: Any) -> list[str]:
    found = []
    try:
        while True:
            found.append(str(ws.recv(1.0)))
    except TimeoutError:
        return found


def test_the_last_update_of_a_candle_is_the_candle(box: Sandbox) -> None:
    with opened(box, "/kraken/v2") as ws:
        ws.recv(5)
        asked(ws, **subscribe("ohlc", "BTC/USDT", interval=1))
        for _ in range(40):
            step(box, 15_000)
        rows = data(_all(ws), "ohlc")
    last = {row["interval_begin"]: row for row in rows}
    assert all(row["trades"] > 0 for row in rows)
    begins = list(last)
    assert begins == sorted(begins)
    truth = box.truth("BTCUSDT", "1m", epoch_ms(begins[0]), NOW_MS + 9 * MINUTE)
    traded = truth.filter(pl.col("trades") > 0)
    for row, want in zip(list(last.values()), traded.rows(named=True), strict=False):
        names = ("open", "high", "low", "close", "volume", "trades")
        assert [row[name] for name in names] == [want[name] for name in names]
    assert len(last) >= len(traded)


def _all(ws: Any) -> list[Any]:
    return [json.loads(text) for text in _texts(ws)]


def test_a_heartbeat_each_second_without_data(box: Sandbox) -> None:
    with opened(box, "/kraken/v2") as ws:
        ws.recv(5)
        asked(ws, **subscribe("ohlc", "BTC/USDT", interval=1_440))
        messages(ws)
        box.set_stream_faults(StreamFault("stall", path="/kraken", channel="ohlc"))
        for _ in range(3):
            step(box, 1_100)
            assert {"channel": "heartbeat"} in messages(ws)


def test_unsubscribing_needs_the_same_option_and_ends_the_feed(box: Sandbox) -> None:
    with opened(box, "/kraken/v2") as ws:
        ws.recv(5)
        asked(ws, **subscribe("book", "BTC/USDT", depth=10))
        messages(ws)
        ended = subscribe("book", "BTC/USDT", depth=25) | {"method": "unsubscribe"}
        assert asked(ws, **ended)["error"] == "Subscription Not Found"
        ended["params"]["depth"] = 10
        told = asked(ws, **ended)
        assert (told["method"], told["success"]) == ("unsubscribe", True)
        step(box, 5_000)
        with pytest.raises(TimeoutError):
            ws.recv(0.3)


def test_maintenance_is_told_and_refusals_are_made(box: Sandbox) -> None:
    with opened(box, "/kraken/v2") as ws:
        ws.recv(5)
        box.end_streams("shutdown", "/kraken")
        assert json.loads(ws.recv(5))["data"][0]["system"] == "maintenance"
    box.set_stream_faults(StreamFault("refuse", path="/kraken"))
    with opened(box, "/kraken/v2") as ws:
        ws.recv(5)
        assert asked(ws, **subscribe("trade", "BTC/USDT"))["success"] is False
