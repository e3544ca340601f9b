"""BitMEX's stream: recorded traffic, and what its messages alone do not show."""

import json
from dataclasses import replace

import pytest
from recorded import frames, heard, kept, lines, needs_captures

from dccd_core.exchanges.base import Answer, Instrument, Rejected, Request
from dccd_core.exchanges.bitmex import Bitmex, _amount
from dccd_core.exchanges.live import Inbox, Session, Subscription
from dccd_core.models import Channel, Symbol

FILE = "bitmex.ws.jsonl"
XBT = Instrument(Symbol("BTC", "USD", "PERP"), "XBTUSD", trading=True, inverse=True)


def markets() -> dict[str, Instrument]:
    """The instruments as they were listed."""
    body = json.dumps(lines("bitmex.instruments.jsonl")[0]["msg"]).encode()
    listed = Bitmex().instruments(Answer(200, {}, body, 0), Request("", {"start": "0"}))
    return {one.name: one for one in listed.instruments}


def asked(*instruments: Instrument) -> tuple[Session, list[Subscription]]:
    feeds = (Channel.BOOK, Channel.TRADES)
    subscriptions = [Subscription(one, feed) for feed in feeds for one in instruments]
    session = Bitmex().session()
    session.subscribe(subscriptions)
    return session, subscriptions


@needs_captures
def test_a_recorded_connection_is_read_whole() -> None:
    """Of 2021; of quanto contracts as if their size were fixed."""
    names = [arg.split(":")[1] for arg in lines(FILE)[1]["msg"]["args"]]
    listed = markets()
    session, subscriptions = asked(*(replace(listed[n], size=listed[n].size or 1.0) for n in names))
    inbox = Inbox()
    session.read_all(frames(FILE, lambda message: "quote" not in str(message)[:90]), inbox)
    assert (inbox.bad, inbox.lost) == ([], [])
    assert set(inbox.accepted) == set(subscriptions)
    assert sum(map(len, inbox.trades.values())) == 3
    assert sum(map(len, inbox.books.values())) == 10 + 296 + 130 + 123
    assert {name for name in names if all(kept(inbox.books[name]))} == set(names)


@needs_captures
def test_the_base_units_of_contracts_are_those_that_trades_tell() -> None:
    listed = markets()
    trades = [
        row
        for line in lines(FILE)
        if line["dir"] == "in" and line["msg"].get("table") == "trade"
        for row in line["msg"]["data"]
    ]
    fixed = [row for row in trades if listed[row["symbol"]].size]
    assert {listed[row["symbol"]].inverse for row in fixed} == {True, False}
    for row in fixed:
        found = _amount(row["size"], row["price"], listed[row["symbol"]])
        # BitMEX rounds the worth of a contract to a satoshi, of some 3,100
        assert found == pytest.approx(row["homeNotional"], rel=2e-4)


def test_a_quanto_contract_has_trades_and_no_book() -> None:
    quanto = Instrument(Symbol("ETH", "USD", "PERP"), "ETHUSD", trading=True, size=0.0)
    with pytest.raises(Rejected, match="ETHUSD is in base units depends on the price"):
        Bitmex().book_request(quanto, 25)
    session, (book, trades) = asked(quanto)
    inbox = heard(session, {"success": True, "subscribe": "trade:ETHUSD"})
    assert [one for one, _ in inbox.refused] == [book]
    assert inbox.accepted == [trades]


def test_after_an_unsubscription_changes_wait_for_the_next_partial() -> None:
    session, (book, _) = asked(XBT)
    level = {"symbol": "XBTUSD", "id": 1, "side": "Buy", "size": 10, "price": 10}
    table = {"table": "orderBookL2", "filter": {"symbol": "XBTUSD"}, "data": [level]}
    assert len(heard(session, table | {"action": "partial"}).books["XBTUSD"]) == 1
    session.unsubscribe([book])
    session.subscribe([book])
    late = heard(session, table | {"action": "insert"}, table | {"action": "delete"})
    assert (dict(late.books), late.lost) == ({}, [])
    again = heard(session, table | {"action": "partial"}, table | {"action": "update"})
    assert [change.snapshot for change in again.books["XBTUSD"]] == [True, False]


@pytest.mark.parametrize(
    ("depth", "topic"),
    [(0, "orderBookL2"), (10, "orderBookL2_25"), (25, "orderBookL2_25"), (26, "orderBookL2")],
)
def test_the_smallest_feed_that_is_deep_enough_is_asked_for(depth: int, topic: str) -> None:
    (message,) = Bitmex().session().subscribe([Subscription(XBT, Channel.BOOK, depth=depth)])
    assert json.loads(message)["args"] == [f"{topic}:XBTUSD"]


@pytest.mark.parametrize(
    ("contracts", "price", "size", "inverse", "amount"),
    [
        (1_100_000, 64_000.5, 1e-06, False, 1.1),
        (7, 64_000.5, 1e-05, False, 7e-05),
        (1_500, 0.5, 1.0, False, 1_500.0),
        (3, 0.5, 100.0, False, 300.0),
        (1_000, 32_000.0, 1.0, True, 0.03125),
    ],
)
def test_contracts_in_base_units(
    contracts: float, price: float, size: float, inverse: bool, amount: float
) -> None:
    assert _amount(contracts, price, replace(XBT, size=size, inverse=inverse)) == amount
