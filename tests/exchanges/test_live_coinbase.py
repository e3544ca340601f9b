"""Coinbase's stream: recorded traffic, and what its messages alone do not show."""

import pytest
from recorded import frames, heard, kept, lines, needs_captures

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.coinbase import Coinbase
from dccd_core.exchanges.live import Inbox, Session, Subscription
from dccd_core.models import Channel, Symbol

OLD, LIVE = "coinbase_exchange.ws.jsonl", "coinbase_exchange.live_2026-08-25.jsonl"


def market(name: str) -> Instrument:
    return Instrument(Symbol(*name.split("-")), name, trading=True)


def asked(*names: str) -> tuple[Session, list[Subscription]]:
    feeds = (Channel.TRADES, Channel.BOOK)
    subscriptions = [Subscription(market(name), feed) for name in names for feed in feeds]
    session = Coinbase().session()
    session.subscribe(subscriptions)
    return session, subscriptions


def listed(*names: str) -> dict[str, object]:
    return {"type": "subscriptions", "channels": [{"name": "matches", "product_ids": names}]}


@needs_captures
def test_a_recorded_connection_is_read_whole() -> None:
    """Of 2021: the same messages, of a channel level2 that wants a key today."""
    names = lines(OLD)[1]["msg"]["product_ids"]
    session, subscriptions = asked(*names)
    inbox = Inbox()
    session.read_all(frames(OLD, lambda message: message["type"] != "ticker"), inbox)
    assert inbox.bad == []
    assert sum(map(len, inbox.trades.values())) == 15
    trades = {one for one in subscriptions if one.channel is Channel.TRADES}
    assert set(inbox.accepted) == trades
    assert {len(name) > 0 and bool(kept(inbox.books[name])[0]) for name in names} == {True}
    assert sum(map(len, inbox.books.values())) == 10 + 1_923
    for rows in inbox.trades.values():
        ids = [int(row.trade_id) for row in rows]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


@needs_captures
def test_frames_of_today_are_read() -> None:
    session, subscriptions = asked("BTC-USD")
    inbox = heard(session, *lines(LIVE)[1:])
    assert inbox.bad == []
    (trade,) = inbox.trades["BTC-USD"]
    assert (trade.trade_id, trade.price, trade.amount, trade.buy) == (
        "1081862675", 80_691.53, 1e-08, True,
    )  # fmt: skip
    assert [change.snapshot for change in inbox.books["BTC-USD"]] == [False, True]
    assert inbox.accepted == subscriptions
    assert [text for text in inbox.notices if "require authentication" in text]


def test_an_error_is_of_the_oldest_request_and_the_others_are_not_touched() -> None:
    session, (first, _, second, _) = asked("A-USD", "B-USD")
    inbox = heard(session, {"type": "error", "message": "no"}, listed("B-USD"))
    assert {one.instrument.name for one, _ in inbox.refused} == {"A-USD"}
    assert first in [one for one, _ in inbox.refused]
    assert inbox.accepted == [second]


def test_the_answer_to_an_unsubscription_is_none_of_a_subscription() -> None:
    session, (trades, book) = asked("A-USD")
    heard(session, listed("A-USD"))
    session.unsubscribe([book])
    session.subscribe([Subscription(market("B-USD"), Channel.TRADES)])
    inbox = heard(session, listed("A-USD"), {"type": "error", "message": "no such product"})
    assert [one.instrument.name for one, _ in inbox.refused] == ["B-USD"]
    assert trades not in inbox.accepted


@pytest.mark.parametrize("depth", [0, 1, 50, 5_000])
def test_whatever_the_depth_the_whole_book_is_asked_for(depth: int) -> None:
    one = Subscription(market("BTC-USD"), Channel.BOOK, depth=depth)
    (message,) = Coinbase().session().subscribe([one])
    assert b'"channels":["level2_batch"]' in message
