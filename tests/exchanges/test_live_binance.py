"""What is special of Binance's streams: where a book fetched by REST meets them, messages within
the size that is taken, and recorded traffic."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument
from dccd_core.exchanges.binance import Binance
from dccd_core.exchanges.live import BookChange, Frame, Inbox, Subscription
from dccd_core.models import Channel, Symbol

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
recorded = pytest.mark.skipif(not CAPTURES.exists(), reason="no captures here")
BTC = Instrument(Symbol("BTC", "USDT"), "BTCUSDT", trading=True)


def capture(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CAPTURES / name).read_text().splitlines()]


def frames(name: str, streams: tuple[str, ...]) -> list[Frame]:
    """What came over the streams of these names."""
    return [
        Frame(msgspec.json.encode(one["msg"]), round(one["t"] * 1e6))
        for one in capture(name)
        if one["dir"] == "in" and one["msg"]["stream"].split("@")[1] in streams
    ]


def follow(number: int, changes: list[BookChange]) -> tuple[int, int]:
    """Apply changes to a book of REST by the rule of BookChange: how many fit, how many not."""
    fit = gaps = 0
    for change in changes:
        assert None not in (change.first, change.last, change.previous)
        first, last, previous = change.first or 0, change.last or 0, change.previous or 0
        if last <= number:
            continue
        if previous == number or (not fit and first <= number + 1 <= last):
            fit, number = fit + 1, last
        else:
            gaps += 1
    return fit, gaps


@recorded
def test_recorded_books_meet_their_snapshots_and_have_no_gap() -> None:
    inbox = Inbox()
    Binance().session().read_all(frames("binance_spot.ws.jsonl", ("depth",)), inbox)
    assert inbox.bad == []
    found = {}
    for one in capture("binance_spot.depth.jsonl"):
        name = one["url"].split("symbol=")[1].split("&")[0]
        market = Instrument(Symbol("X", "Y"), name, trading=True)
        book = Binance().book(Answer(200, {}, msgspec.json.encode(one["msg"]), 0), market)
        assert book.bids == sorted(book.bids, reverse=True)
        assert book.asks == sorted(book.asks)
        found[name] = follow(book.sequence or 0, inbox.books[name])
    assert set(found) == set(inbox.books)
    assert all(gaps == 0 for _, gaps in found.values())
    assert sum(map(len, inbox.books.values())) == 65


def test_messages_are_shorter_than_what_binance_takes() -> None:
    longest = Instrument(Symbol("X", "Y"), "X" * 20, trading=True)
    feeds = [Subscription(longest, Channel.BOOK)] * 1_024
    session = Binance().session()
    for messages in (session.subscribe(feeds), session.unsubscribe(feeds)):
        assert max(map(len, messages)) < 4_096
        assert sum(len(json.loads(message)["params"]) for message in messages) == 1_024


def test_a_refusal_names_what_was_in_its_message_and_no_more() -> None:
    feeds = [
        Subscription(Instrument(Symbol("X", "Y"), f"N{i}", trading=True), Channel.TRADES)
        for i in range(150)
    ]
    session, inbox = Binance().session(), Inbox()
    session.subscribe(feeds)
    session.read(Frame(b'{"code":2,"msg":"Invalid request","id":2}', 1), inbox)
    session.read(Frame(b'{"result":null,"id":1}', 1), inbox)
    assert [one for one, _ in inbox.refused] == feeds[100:]
    assert inbox.accepted == feeds[:100]


def test_the_end_of_a_feed_is_no_acceptance() -> None:
    session, inbox = Binance().session(), Inbox()
    feed = Subscription(BTC, Channel.TRADES)
    session.subscribe([feed])
    session.unsubscribe([feed])
    session.read_all([Frame(b'{"result":null,"id":2}', 1)], inbox)
    assert (inbox.accepted, inbox.bad) == ([], [])


def test_changes_that_run_backwards_are_bad() -> None:
    frame = (
        b'{"stream":"x","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":9,"u":8,"b":[],"a":[]}}'
    )
    with pytest.raises(BadAnswer):
        Binance().session().read(Frame(frame, 1), Inbox())
