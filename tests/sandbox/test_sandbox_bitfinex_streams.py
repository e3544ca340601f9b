"""Bitfinex' trades, books and streams: as documented, and equal to the truth."""

import json
import zlib
from typing import Any

from sandbox_client import ask
from stream_client import NOW_MS, PATIENCE, asked, messages, opened, step, texts
from websockets.sync.client import ClientConnection

from dccd_sandbox import Sandbox, StreamFault

PATH, SYMBOL = "/bitfinex/ws/2", "tBTCUST"
TRADES = f"/bitfinex/v2/trades/{SYMBOL}/hist"
FLAGS = 65_536 + 131_072


def begin(ws: ClientConnection, flags: int = FLAGS) -> None:
    info = json.loads(ws.recv(PATIENCE))
    assert (info["event"], info["version"], info["platform"]) == ("info", 2, {"status": 1})
    if flags:
        assert asked(ws, event="conf", flags=flags) == {
            "event": "conf", "status": "OK", "flags": flags,
        }  # fmt: skip


def subscribe(ws: ClientConnection, channel: str, **more: object) -> Any:
    named = {} if "key" in more else {"symbol": SYMBOL}
    return asked(ws, event="subscribe", channel=channel, **(named | more))


def test_trades_are_the_oldest_with_sort_and_else_the_newest(box: Sandbox) -> None:
    start = NOW_MS - 3_600_000
    truth = box.trades_truth(SYMBOL, start, NOW_MS + 1, exchange="bitfinex")
    rows = ask(box, TRADES, start=start, sort=1, limit=10_000).json
    assert [str(row[0]) for row in rows] == truth["trade_id"].to_list()
    assert [abs(row[2]) for row in rows] == truth["amount"].to_list()
    assert [("buy" if row[2] > 0 else "sell") for row in rows] == truth["side"].to_list()
    assert [row[3] for row in rows] == truth["price"].to_list()
    assert ask(box, TRADES, start=start, sort=1, limit=5).json == rows[:5]
    assert ask(box, TRADES, limit=5).json == rows[:-6:-1]
    assert len(ask(box, TRADES).json) == 125
    middle = rows[40][1]
    inside = ask(box, TRADES, start=middle, end=middle, sort=1).json
    assert inside == [row for row in rows if row[1] == middle]
    assert ask(box, TRADES, start=NOW_MS + 1, sort=1).json == []
    assert ask(box, TRADES, limit=10_001).json == ["error", 10_020, "limit: invalid"]
    assert ask(box, "/bitfinex/v2/trades/tNOUSD/hist").json[2] == "symbol: invalid"


def test_a_book_has_bids_above_zero_and_asks_below(box: Sandbox) -> None:
    truth = box.book_truth(SYMBOL, NOW_MS, exchange="bitfinex")
    for length in (1, 25, 100, 250):
        rows = ask(box, f"/bitfinex/v2/book/{SYMBOL}/P0", len=length).json
        assert [(row[0], row[2]) for row in rows if row[2] > 0] == truth.bids[:length]
        assert [(row[0], -row[2]) for row in rows if row[2] < 0] == truth.asks[:length]
    assert ask(box, f"/bitfinex/v2/book/{SYMBOL}/P0", len=7).json[0] == "error"


def test_answers_are_in_bitfinex_words(box: Sandbox) -> None:
    with opened(box, PATH) as ws:
        begin(ws)
        good = subscribe(ws, "trades")
        assert (good["event"], good["symbol"], good["pair"]) == ("subscribed", SYMBOL, "BTCUST")
        number, first, count = json.loads(ws.recv(PATIENCE))
        assert (number, len(first), count) == (good["chanId"], 30, 1)
        assert [row[1] for row in first] == sorted((row[1] for row in first), reverse=True)
        again = subscribe(ws, "trades")
        assert (again["event"], again["code"], again["channel"]) == ("error", 10_301, "trades")
        for more in ({"symbol": "tNOUSD"}, {"prec": "R0"}, {"len": "7"}):
            assert subscribe(ws, "book", **more)["code"] == 10_300
        assert subscribe(ws, "candles", key=f"trade:2m:{SYMBOL}")["code"] == 10_300
        assert asked(ws, event="dance")["code"] == 10_000
        assert asked(ws, event="ping", cid=5)["cid"] == 5
        assert asked(ws, event="unsubscribe", chanId=1)["code"] == 10_400
        done = asked(ws, event="unsubscribe", chanId=number)
        assert done == {"event": "unsubscribed", "status": "OK", "chanId": number}


def test_arrays_are_numbered_over_all_channels_and_only_if_asked_for(box: Sandbox) -> None:
    with opened(box, PATH) as ws:
        begin(ws)
        subscribe(ws, "trades")
        first = messages(ws)
        subscribe(ws, "candles", key=f"trade:1m:{SYMBOL}")
        first += messages(ws)
        step(box, 120_000)
        found = first + messages(ws)
    assert [one[-1] for one in found] == list(range(1, len(found) + 1))
    assert len({one[0] for one in found}) == 2
    with opened(box, PATH) as ws:
        begin(ws, flags=0)
        subscribe(ws, "trades")
        (only,) = messages(ws)
    assert len(only) == 2


def test_a_trade_comes_twice_with_the_same_id(box: Sandbox) -> None:
    with opened(box, PATH) as ws:
        begin(ws)
        subscribe(ws, "trades")
        messages(ws)
        step(box, 300_000)
        found = [one for one in messages(ws) if one[1] != "hb"]
    assert [one[1] for one in found] == ["te", "tu"] * (len(found) // 2)
    assert [one[2] for one in found[::2]] == [one[2] for one in found[1::2]]
    truth = box.trades_truth(SYMBOL, NOW_MS + 1, NOW_MS + 300_001, exchange="bitfinex")
    assert [str(one[2][0]) for one in found[::2]] == truth["trade_id"].to_list()


def test_a_checksum_is_of_the_digits_that_were_sent(box: Sandbox) -> None:
    """Kept as text, so that no number is ever printed again."""
    with opened(box, PATH) as ws:
        begin(ws)
        subscribe(ws, "book", prec="P0", freq="F0", len="25")
        step(box, 20_000)
        found = texts(ws)
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    checked = 0
    for text in found:
        inner = text[text.index(",") + 1 : text.rindex(",")]
        if inner.startswith('"cs"'):
            best = [sorted(side.items(), key=lambda one: float(one[0])) for side in sides]
            turns = zip(best[0][::-1], best[1], strict=True)
            line = ":".join(":".join([*bid, *ask]) for bid, ask in turns)
            assert int(inner.partition(",")[2]) % 2**32 == zlib.crc32(line.encode())
            checked += 1
            continue
        for row in inner.strip("[]").split("],["):
            price, count, amount = row.split(",")
            side = sides[amount.startswith("-")]
            if count == "0":
                del side[price]
            else:
                side[price] = amount
    assert checked > 50
    assert [len(side) for side in sides] == [25, 25]


def test_a_channel_that_is_silent_has_heartbeats(box: Sandbox) -> None:
    with opened(box, PATH) as ws:
        begin(ws)
        subscribe(ws, "candles", key=f"trade:1D:{SYMBOL}")
        messages(ws)
        beats = 0
        for _ in range(5):
            step(box, 16_000)
            beats += sum(one[1] == "hb" for one in messages(ws))
    assert beats >= 1


def test_candles_have_their_close_second_and_only_those_with_trades(box: Sandbox) -> None:
    with opened(box, PATH) as ws:
        begin(ws)
        subscribe(ws, "candles", key=f"trade:1m:{SYMBOL}")
        _, rows, _ = json.loads(ws.recv(PATIENCE))
    times = [row[0] for row in rows]
    assert times == sorted(times, reverse=True)
    truth = box.truth("BTCUSDT", "1m", times[-1], times[0]).rows()
    wanted = [(row[1], row[4], row[2], row[3], row[5]) for row in truth if row[7]]
    assert [tuple(row[1:]) for row in rows[:0:-1]] == wanted


def test_25_channels_a_connection_a_refusal_and_a_stop(box: Sandbox) -> None:
    with opened(box, PATH) as ws:
        begin(ws, flags=0)
        keys = [f"trade:{span}:{one}" for span in ("1m", "5m", "15m", "30m", "1h", "3h", "6h")
                for one in ("tBTCUST", "tETHUST", "tBTCF0:USTF0", "tETHF0:USTF0")]  # fmt: skip
        for key in keys[:26]:
            ws.send(json.dumps({"event": "subscribe", "channel": "candles", "key": key}))
        answers = [one for one in messages(ws) if isinstance(one, dict)]
        assert [one["event"] for one in answers] == ["subscribed"] * 25 + ["error"]
        assert answers[-1]["code"] == 10_305
        box.end_streams("shutdown", "/bitfinex")
        while True:
            found = json.loads(ws.recv(PATIENCE))
            if isinstance(found, dict):
                break
        assert (found["event"], found["code"]) == ("info", 20_051)
    box.set_stream_faults(StreamFault("refuse", path="/bitfinex", contains="trades"))
    with opened(box, PATH) as ws:
        begin(ws)
        assert subscribe(ws, "trades")["code"] == 10_300
