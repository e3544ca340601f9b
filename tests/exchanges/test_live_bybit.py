"""Bybit's streams: recorded traffic, and what its messages alone do not show."""

import json
import zipfile
from pathlib import Path
from typing import Any

import live_payloads
import pytest

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.bybit import Bybit
from dccd_core.exchanges.live import Frame, Inbox, Session, Subscription
from dccd_core.models import Channel, Symbol

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
ARCHIVE = CAPTURES / "bybit_v5_orderbook500_xrpusdt.data.zip"
TARDIS = (CAPTURES / "tardis_bybit.jsonl", CAPTURES / "tardis_bybit_spot.jsonl")
BTC = Instrument(Symbol("BTC", "USDT"), "spot BTCUSDT", trading=True)
TRADES = Subscription(BTC, Channel.TRADES)
PUSH = json.dumps(
    {
        "topic": "publicTrade.BTCUSDT",
        "data": [{"T": 1_784_894_430_050, "S": "Sell", "v": "2", "p": "3", "i": "7"}],
    }
).encode()


def heard(session: Session, *frames: bytes) -> Inbox:
    inbox = Inbox()
    session.read_all([Frame(frame, place) for place, frame in enumerate(frames)], inbox)
    return inbox


def asked(*subscriptions: Subscription) -> Session:
    session = Bybit().session()
    session.subscribe(subscriptions)
    return session


def applied(side: dict[float, float], levels: list[tuple[float, float]]) -> None:
    """Every level that is taken away must have been there."""
    for price, amount in levels:
        if amount:
            side[price] = amount
        else:
            del side[price]


@pytest.mark.skipif(not ARCHIVE.exists(), reason="recorded traffic is not here")
def test_a_recorded_book_is_unbroken_and_never_crossed() -> None:
    """Of 2024-12-01: 500 levels a side, a depth that is streamed no more."""
    market = Instrument(Symbol("XRP", "USDT", "PERP"), "linear XRPUSDT", trading=True)
    with zipfile.ZipFile(ARCHIVE) as archive:
        lines = archive.read(archive.namelist()[0]).splitlines()
    frames = [line.replace(b"orderbook.500.", b"orderbook.1000.") for line in lines]
    inbox = heard(asked(Subscription(market, Channel.BOOK)), *frames)
    assert inbox.bad == []
    changes = inbox.books[market.name]
    assert [change.snapshot for change in changes] == [True] + [False] * 49
    assert live_payloads.breaks(changes) == []
    bids, asks = dict(changes[0].bids), dict(changes[0].asks)
    for change in changes[1:]:
        applied(bids, change.bids)
        applied(asks, change.asks)
        assert (len(bids), len(asks)) == (500, 500)
        assert max(bids) < min(asks)


def recorded() -> list[dict[str, Any]]:
    """The messages of the present protocol in the samples, which are of 2023."""
    lines = [json.loads(line) for path in TARDIS for line in path.read_text().splitlines()]
    return [line["msg"] for line in lines if line["var"] == "messagesV5"]


@pytest.mark.skipif(not all(path.exists() for path in TARDIS), reason="no recorded traffic here")
def test_recorded_trades_are_all_read() -> None:
    pushes = [one for one in recorded() if one["topic"].startswith("publicTrade.")]
    assert len(pushes) > 3
    count = 0
    for push in pushes:
        name = push["topic"].partition(".")[2]
        market = Instrument(Symbol(name, "X"), f"spot {name}", trading=True)
        inbox = heard(asked(Subscription(market, Channel.TRADES)), json.dumps(push).encode())
        assert inbox.bad == []
        rows = inbox.trades[market.name]
        assert [(row.trade_id, row.buy) for row in rows] == [
            (one["i"], one["S"] == "Buy") for one in push["data"]
        ]
        assert [(row.time, row.price, row.amount) for row in rows] == [
            (one["T"] * 1_000, float(one["p"]), float(one["v"])) for one in push["data"]
        ]
        count += len(rows)
    assert count > 5


def test_what_comes_after_the_end_of_a_feed_is_dropped_and_no_error() -> None:
    session = asked(TRADES)
    assert len(heard(session, PUSH).trades[BTC.name]) == 1
    session.unsubscribe([TRADES])
    inbox = heard(session, PUSH, b'{"success":true,"ret_msg":"","req_id":"2","op":"unsubscribe"}')
    assert (dict(inbox.trades), inbox.bad, inbox.accepted) == ({}, [], [])
    session.subscribe([TRADES])
    assert len(heard(session, PUSH).trades[BTC.name]) == 1


def test_a_feed_that_was_refused_may_be_asked_for_again() -> None:
    session = asked(TRADES)
    no = b'{"success":false,"ret_msg":"Invalid symbol","req_id":"1","op":"subscribe"}'
    assert [one for one, _ in heard(session, no).refused] == [TRADES]
    (again,) = session.subscribe([TRADES])
    number = json.loads(again)["req_id"]
    yes = json.dumps({"success": True, "ret_msg": "", "req_id": number, "op": "subscribe"})
    assert heard(session, yes.encode()).accepted == [TRADES]


def test_the_ping_is_what_the_exchange_asks_for() -> None:
    assert json.loads(Bybit().session().ping() or b"") == {"op": "ping"}
    assert Bybit.live_limits.ping == 20


@pytest.mark.parametrize(
    ("depth", "topic"),
    [(0, 1000), (1, 1), (2, 50), (50, 50), (51, 200), (200, 200), (201, 1000), (5000, 1000)],
)
def test_the_smallest_depth_that_is_enough_is_taken(depth: int, topic: int) -> None:
    (message,) = Bybit().session().subscribe([Subscription(BTC, Channel.BOOK, depth=depth)])
    assert json.loads(message)["args"] == [f"orderbook.{topic}.BTCUSDT"]
