"""OKX's streams: recorded traffic, with the checksums that it had then, and refusals."""

import json
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import live_payloads
import pytest

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.live import BookChange, Frame, Inbox, Subscription
from dccd_core.exchanges.okx import Okx
from dccd_core.models import Channel, Symbol

CAPTURE = Path(__file__).parents[3] / "shared" / "captures" / "okx.ws.jsonl"
# so that amounts stay as they came: the checksum is of contracts
MARKETS = [
    Instrument(Symbol("BTC", "USD", "220527"), "BTC-USD-220527", trading=True),
    Instrument(Symbol("UNI", "USD", "PERP"), "UNI-USD-SWAP", trading=True),
    Instrument(Symbol("BTC", "USDT"), "BTC-USDT", trading=True),
]


def pushes(channel: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in CAPTURE.read_text().splitlines()]
    found = [line["msg"] for line in lines if line["dir"] == "in" and "data" in line["msg"]]
    return [one for one in found if one["arg"]["channel"] == channel]


def heard(subscriptions: list[Subscription], messages: list[dict[str, Any]]) -> Inbox:
    session, inbox = Okx().session(), Inbox()
    session.subscribe(subscriptions)
    session.read_all([Frame(json.dumps(one).encode(), n) for n, one in enumerate(messages)], inbox)
    return inbox


Texts = dict[tuple[float, float], list[str]]


def checksum(bids: dict[float, float], asks: dict[float, float], texts: Texts) -> int:
    """CRC32 of the best 25 levels, bid and ask in turns, signed: what OKX sent until it stopped."""
    best = (sorted(bids.items(), reverse=True)[:25], sorted(asks.items())[:25])
    parts = [
        text
        for place in range(25)
        for side in best
        for level in side[place : place + 1]
        for text in texts[level]
    ]
    number = zlib.crc32(":".join(parts).encode())
    return number - (number >> 31 << 32)


@pytest.mark.skipif(not CAPTURE.exists(), reason="recorded traffic is not here")
def test_recorded_books_match_their_checksums() -> None:
    """Of 2022-05-13: with a checksum and without sequence numbers, which are added here."""
    messages, numbers = pushes("books"), defaultdict[str, int](int)
    for push in messages:
        number, (data,) = numbers[push["arg"]["instId"]], push["data"]
        data |= {"prevSeqId": number if push["action"] == "update" else -1, "seqId": number + 3}
        numbers[push["arg"]["instId"]] += 3
    inbox = heard([Subscription(market, Channel.BOOK) for market in MARKETS], messages)
    assert inbox.bad == []
    assert set(inbox.books) == {market.name for market in MARKETS}
    checked = 0
    for market in MARKETS:
        changes = inbox.books[market.name]
        assert live_payloads.breaks(changes) == []
        data = [one["data"][0] for one in messages if one["arg"]["instId"] == market.name]
        rows = [row for one in data for row in one["bids"] + one["asks"]]
        texts = {(float(price), float(amount)): [price, amount] for price, amount, *_ in rows}
        assert states(changes, texts) == [one["checksum"] for one in data]
        checked += len(data)
    assert checked > 50


def states(changes: list[BookChange], texts: Texts) -> list[int]:
    """The checksum after each change."""
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    found = []
    for change in changes:
        for side, levels in ((bids, change.bids), (asks, change.asks)):
            if change.snapshot:
                side.clear()
            side.update(levels)
            for price in [price for price, amount in side.items() if not amount]:
                del side[price]
        found.append(checksum(bids, asks, texts))
    return found


@pytest.mark.skipif(not CAPTURE.exists(), reason="recorded traffic is not here")
def test_recorded_trades_are_all_read() -> None:
    """They are of the channel `trades`, which summed nothing yet and had the same fields."""
    messages = pushes("trades")
    sent = [row for push in messages for row in push["data"]]
    for push in messages:
        push["arg"]["channel"] = "trades-all"
    inbox = heard([Subscription(market, Channel.TRADES) for market in MARKETS], messages)
    assert inbox.bad == []
    rows = [row for market in MARKETS for row in inbox.trades[market.name]]
    assert len(rows) == len(sent) == 17
    assert {(r.trade_id, r.time, r.price, r.amount, r.buy) for r in rows} == {
        (r["tradeId"], int(r["ts"]) * 1_000, float(r["px"]), float(r["sz"]), r["side"] == "buy")
        for r in sent
    }


def test_what_comes_after_the_end_of_a_feed_is_dropped() -> None:
    feed = Subscription(MARKETS[2], Channel.TRADES)
    row = {"tradeId": "1", "px": "2", "sz": "3", "side": "buy", "ts": "4"}
    push = {"arg": {"channel": "trades-all", "instId": "BTC-USDT"}, "data": [row]}
    session, inbox = Okx().session(), Inbox()
    session.subscribe([feed])
    session.unsubscribe([feed])
    done = {"id": "2", "event": "unsubscribe", "arg": push["arg"]}
    session.read_all([Frame(json.dumps(one).encode(), 1) for one in (push, done)], inbox)
    assert live_payloads.size(inbox) == (0,) * 5
    assert inbox.bad == []


def test_a_feed_that_was_refused_may_be_asked_for_again() -> None:
    feed = Subscription(MARKETS[2], Channel.BOOK)
    session, inbox = Okx().session(), Inbox()
    session.subscribe([feed])
    session.read(Frame(b'{"id":"1","event":"error","code":"60014","msg":"busy"}', 1), inbox)
    assert inbox.refused == [(feed, "OKX: error 60014 busy")]
    (message,) = session.subscribe([feed])
    yes = {"id": json.loads(message)["id"], "event": "subscribe", "arg": {}}
    session.read(Frame(json.dumps(yes).encode(), 2), inbox)
    assert inbox.accepted == [feed]


def test_the_ping_is_a_text_and_comes_in_time() -> None:
    assert Okx().session().ping() == b"ping"
    assert Okx.live_limits.ping is not None
    assert Okx.live_limits.ping < 30


@pytest.mark.parametrize(
    ("depth", "channel"), [(0, "books"), (1, "bbo-tbt"), (2, "books5"), (5, "books5"), (6, "books")]
)
def test_the_smallest_depth_that_is_enough_is_taken(depth: int, channel: str) -> None:
    feed = Subscription(MARKETS[2], Channel.BOOK, depth=depth)
    (message,) = Okx().session().subscribe([feed])
    assert json.loads(message)["args"] == [{"channel": channel, "instId": "BTC-USDT"}]
