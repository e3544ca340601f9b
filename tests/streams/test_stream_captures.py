"""Recorded traffic over a real socket into the store: every trade is there, no book has a gap."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from dccd_core.exchanges import load
from dccd_core.exchanges.base import Answer, Instrument, Request
from dccd_core.exchanges.live import Inbox, Live, Subscription
from dccd_core.models import Channel, Series, Symbol
from dccd_core.store.datastore import DataStore
from dccd_core.store.fold import fold
from dccd_core.store.journal import JournalWriter
from dccd_streams.book import OrderBook
from dccd_streams.transport import Disconnected, SocketTransport

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
needs_captures = pytest.mark.skipif(not CAPTURES.exists(), reason="needs ../shared/captures")


def lines(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CAPTURES / file).read_text().splitlines()]


@contextmanager
def server(messages: list[str]) -> Iterator[str]:
    """Says all messages to whoever comes, and closes; its address."""

    def talk(connection: ServerConnection) -> None:
        for message in messages:
            connection.send(message)

    running: Server
    with serve(talk, "127.0.0.1", 0, compression=None) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}"
        finally:
            running.shutdown()
            thread.join()


def bitmex() -> list[Instrument]:
    """Those that were recorded; of quanto contracts as if their size were fixed."""
    body = json.dumps(lines("bitmex.instruments.jsonl")[0]["msg"]).encode()
    found = load("bitmex").instruments(Answer(200, {}, body, 0), Request("", {"start": "0"}))
    listed = {one.name: one for one in found.instruments}
    names = [arg.split(":")[1] for arg in lines("bitmex.ws.jsonl")[1]["msg"]["args"]]
    return [replace(listed[name], size=listed[name].size or 1.0) for name in names]


def coinbase() -> list[Instrument]:
    names = lines("coinbase_exchange.ws.jsonl")[1]["msg"]["product_ids"]
    return [Instrument(Symbol(*name.split("-")), name, trading=True) for name in names]


CASES = {
    "bitmex": ("bitmex.ws.jsonl", bitmex, "quote", 3, 559),
    "coinbase": ("coinbase_exchange.ws.jsonl", coinbase, "ticker", 15, 1_933),
}


def heard(url: str, name: str, instruments: list[Instrument]) -> Inbox:
    """All that a session reads of a real connection, until the server closes it."""
    exchange = load(name)
    assert isinstance(exchange, Live)
    session, transport, inbox = exchange.session(), SocketTransport(), Inbox()
    feeds = (Channel.TRADES, Channel.BOOK)
    session.subscribe([Subscription(one, feed) for one in instruments for feed in feeds])
    transport.connect(url, None)
    try:
        while True:
            session.read_all(transport.receive(1.0), inbox)
    except Disconnected as end:
        assert "closed with code 1000" in str(end)  # noqa: PT017 - it ends so, it always raises
    finally:
        transport.close()
    return inbox


@needs_captures
@pytest.mark.parametrize("name", CASES)
def test_a_recorded_connection_is_stored_whole(tmp_path: Path, name: str) -> None:
    file, listed, unwanted, trades, changes = CASES[name]
    instruments = listed()
    texts = [json.dumps(one["msg"]) for one in lines(file) if one["dir"] == "in"]
    with server([text for text in texts if unwanted not in text[:90]]) as url:
        inbox = heard(url, name, instruments)
    assert (inbox.bad, inbox.lost, inbox.reconnect) == ([], [], None)
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    for one in instruments:
        series = Series(name, Channel.TRADES, one.symbol)
        journal.append_trades(series, inbox.trades[one.name])
        book = OrderBook(from_rest=False)
        applied = [done for change in inbox.books[one.name] for done in book.apply(change)]
        assert len(applied) == len(inbox.books[one.name]), "a change does not follow"
        assert not book.crossed()
        journal.append_deltas(replace(series, channel=Channel.BOOK_DELTAS), applied)
    journal.sync()
    journal.close()
    assert not fold(store).failed
    series = [Series(name, Channel.TRADES, one.symbol) for one in instruments]
    assert sum(len(store.load(one)) for one in series) == trades
    deltas = [replace(one, channel=Channel.BOOK_DELTAS) for one in series]
    assert sum(len(store.load(one)) for one in deltas) == changes
