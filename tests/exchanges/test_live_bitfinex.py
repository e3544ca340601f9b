"""Bitfinex' streams: recorded traffic, numbers as JavaScript writes them, gaps of a connection."""

import json
import random
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.bitfinex import Bitfinex
from dccd_core.exchanges.live import Frame, Inbox, Session, Subscription
from dccd_core.exchanges.trades import Levels
from dccd_core.models import Channel, Symbol

CAPTURE = Path(__file__).parents[3] / "shared" / "captures" / "bitfinex.ws.jsonl"
BTC = Instrument(Symbol("BTC", "USD"), "tBTCUSD", trading=True)
BOOK = Subscription(BTC, Channel.BOOK, depth=25)
TRADES = Subscription(BTC, Channel.TRADES)


def heard(session: Session, *messages: Any) -> Inbox:
    inbox = Inbox()
    session.read_all([Frame(json.dumps(one).encode(), 1) for one in messages], inbox)
    return inbox


def acknowledged(channel: str, number: int) -> dict[str, Any]:
    return {"event": "subscribed", "channel": channel, "chanId": number, "symbol": "tBTCUSD"}


@pytest.mark.skipif(not CAPTURE.exists(), reason="recorded traffic is not here")
def test_recorded_traffic_is_unbroken() -> None:
    """Of 2021-04-17: books of 100 levels, trades of which only the first messages came."""
    lines = [json.loads(line) for line in CAPTURE.read_text().splitlines()]
    asked = [line["msg"] for line in lines if line["dir"] == "out" and "channel" in line["msg"]]
    feeds = [
        Subscription(Instrument(Symbol("A", "B"), one["symbol"], True), channel, depth=100)
        for one in asked
        for channel in Channel
        if channel.value == {"book": "book", "trades": "trades"}.get(one["channel"])
    ]
    session = Bitfinex().session()
    session.subscribe(feeds)
    inbox = heard(session, *[line["msg"] for line in lines if line["dir"] == "in"])
    assert (inbox.bad, inbox.reconnect, inbox.lost, dict(inbox.trades)) == ([], None, [], {})
    assert len(inbox.accepted) == 12
    assert len(inbox.books) == 5
    for changes in inbox.books.values():
        assert [change.snapshot for change in changes] == [True] + [False] * (len(changes) - 1)
        bids, asks = dict(changes[0].bids), dict(changes[0].asks)
        for change in changes[1:]:
            for side, levels in ((bids, change.bids), (asks, change.asks)):
                for price, amount in levels:
                    if amount:
                        side[price] = amount
                    else:
                        del side[price]  # it was there
            assert max(bids) < min(asks)
            assert max(len(bids), len(asks)) <= 100
    assert sum(map(len, inbox.books.values())) > 300


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (57000.0, "57000"), (0.5, "0.5"), (0.00002, "0.00002"), (0.000001, "0.000001"),
        (1.5e-6, "0.0000015"), (1e-7, "1e-7"), (2.34e-8, "2.34e-8"), (1e-10, "1e-10"),
        (123456789.125, "123456789.125"), (1e16, "10000000000000000"), (-2.25, "-2.25"),
        (-1e-7, "-1e-7"),
    ],
)  # fmt: skip
def test_checksums_are_of_numbers_as_javascript_writes_them(number: float, text: str) -> None:
    expected = zlib.crc32(f"1:2:{text}:-3".encode())
    found = Bitfinex().session().checksum(BTC, [(1.0, 2.0)], [(number, 3.0)])
    assert found % 2**32 == expected
    assert -(2**31) <= found < 2**31


def test_a_checksum_takes_turns_and_ends_with_the_25th_level() -> None:
    rng = random.Random(5)
    bids: Levels = [(100.0 - n, float(rng.randint(1, 9))) for n in range(30)]
    asks: Levels = [(101.0 + n, float(rng.randint(1, 9))) for n in range(20)]
    parts = []
    for place in range(25):
        parts += [f"{bids[place][0]:.0f}:{bids[place][1]:.0f}"]
        parts += [f"{asks[place][0]:.0f}:-{asks[place][1]:.0f}"] if place < 20 else []
    expected = zlib.crc32(":".join(parts).encode())
    assert Bitfinex().session().checksum(BTC, bids, asks) % 2**32 == expected
    assert Bitfinex().session().checksum(BTC, [], []) == 0


def test_after_a_gap_a_book_is_read_again_only_when_it_was_subscribed_anew() -> None:
    session = Bitfinex().session()
    session.subscribe([BOOK])
    first = heard(session, acknowledged("book", 7), [7, [[5, 1, 1]], 1], [7, [5, 1, 2], 3])
    assert len(first.books["tBTCUSD"]) == 1
    assert re.search("message 3 came after 1", first.reconnect or "")
    assert len(first.bad) == 1
    assert heard(session, [7, [5, 1, 4], 4]).books == {}
    (end,) = session.unsubscribe([BOOK])
    assert json.loads(end) == {"event": "unsubscribe", "chanId": 7}
    session.subscribe([BOOK])
    again = heard(session, acknowledged("book", 7), [7, [[5, 1, 9]], 5], [7, [5, 1, 8], 6])
    assert (again.bad, again.reconnect) == ([], None)
    assert [change.bids for change in again.books["tBTCUSD"]] == [[(5.0, 9.0)], [(5.0, 8.0)]]


def test_a_feed_that_ended_before_it_had_a_number_is_not_read() -> None:
    session = Bitfinex().session()
    session.subscribe([TRADES])
    assert session.unsubscribe([TRADES]) == []
    inbox = heard(session, acknowledged("trades", 7), [7, "te", [1, 2, 3, 4], 1])
    assert (dict(inbox.trades), inbox.accepted, inbox.bad) == ({}, [], [])


def test_the_flags_that_are_refused_make_a_new_connection() -> None:
    inbox = heard(Bitfinex().session(), {"event": "conf", "status": "FAILED", "flags": 3})
    assert inbox.reconnect


@pytest.mark.parametrize(
    ("depth", "length"), [(0, 250), (1, 25), (2, 25), (25, 25), (26, 100), (999, 250)]
)
def test_the_smallest_depth_that_is_enough_is_taken(depth: int, length: int) -> None:
    feed = Subscription(BTC, Channel.BOOK, depth=depth)
    (message,) = Bitfinex().session().subscribe([feed])
    assert json.loads(message)["len"] == str(length)
