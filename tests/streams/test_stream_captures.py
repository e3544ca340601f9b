"""Recorded traffic over a real socket into the store: every trade is there, no book has a gap."""

import json
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from dccd_core.exchanges import load
from dccd_core.exchanges.base import Answer, Instrument, Request
from dccd_core.exchanges.live import BookChange, Frame, Inbox, Live, Subscription
from dccd_core.exchanges.trades import Depth
from dccd_core.models import Channel, Series, Symbol
from dccd_core.store.books import Ladder, replay
from dccd_core.store.datastore import DataStore
from dccd_core.store.fold import fold
from dccd_core.store.journal import JournalWriter
from dccd_streams.book import OrderBook
from dccd_streams.transport import Disconnected, SocketTransport

sys.path.insert(0, str(Path(__file__).parents[1] / "exchanges"))
from test_live_okx import MARKETS

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


def binance(file: str) -> list[Instrument]:
    """Those whose books were fetched besides."""
    names = [one["url"].split("symbol=")[1].split("&")[0] for one in lines(file)]
    return [Instrument(Symbol(name, "X"), name, trading=True) for name in names]


def bitfinex() -> list[Instrument]:
    names = [name for channel, name in asked_of_bitfinex() if channel == "book"]
    return [Instrument(Symbol(f"A{n}", "B"), name, True) for n, name in enumerate(names)]


def asked_of_bitfinex() -> list[tuple[str, str]]:
    asked = [one["msg"] for one in lines("bitfinex.ws.jsonl") if one["dir"] == "out"]
    return [(one["channel"], one["symbol"]) for one in asked if "channel" in one]


def kraken_futures() -> list[Instrument]:
    names = [name.upper() for name in lines("kraken_futures.ws.jsonl")[1]["msg"]["product_ids"]]
    return [Instrument(Symbol(name, "USD", "PERP"), name, trading=True) for name in names]


Said = list[tuple[int, str]]


def as_it_was(said: Said) -> Said:
    return said


def okx_of_today(then: Said) -> Said:
    """With the numbers that OKX added since, and trades of the channel that sums nothing."""
    number, said = defaultdict[str, int](int), []
    for moment, text in then:
        one = json.loads(text)
        if "data" not in one:
            continue  # an answer of then, without the id of the question
        arg, name = one["arg"], one["arg"]["instId"]
        if arg["channel"] == "books":
            before = number[name] if one["action"] == "update" else -1
            number[name] += 3
            one["data"][0] |= {"prevSeqId": before, "seqId": number[name]}
        if arg["channel"] == "trades":
            arg["channel"] = "trades-all"
        said.append((moment, json.dumps(one)))
    return said


@dataclass(frozen=True)
class Case:
    """A recording: its markets, what begins a message of a feed that we never ask for, how many
    trades and changes of books are in it, and where its books were fetched if not in it."""

    file: str
    instruments: Callable[[], list[Instrument]]
    unwanted: str
    trades: int
    changes: int
    books: str = ""
    today: Callable[[Said], Said] = as_it_was

    def said(self) -> Said:
        """What the exchange said and when, but what we never ask for."""
        heard = [one for one in lines(self.file) if one["dir"] == "in"]
        said = [(int(one["t"] * 1e6), json.dumps(one["msg"])) for one in heard]
        return self.today([one for one in said if self.unwanted not in one[1][:90]])


CASES = {
    "binance": Case(
        "binance_spot.ws.jsonl",
        lambda: binance("binance_spot.depth.jsonl"),
        "bookTicker",
        trades=0,
        changes=64,
        books="binance_spot.depth.jsonl",
    ),
    "binance_usdm": Case(
        "binance_usdm.ws.jsonl",
        lambda: binance("binance_usdm.depth.jsonl"),
        "bookTicker",
        trades=22,
        changes=219,
        books="binance_usdm.depth.jsonl",
    ),
    "bitfinex": Case("bitfinex.ws.jsonl", bitfinex, "ticker", trades=0, changes=431),
    "bitmex": Case("bitmex.ws.jsonl", bitmex, "quote", trades=3, changes=559),
    "coinbase": Case("coinbase_exchange.ws.jsonl", coinbase, "ticker", trades=15, changes=1_933),
    "kraken_futures": Case(
        "kraken_futures.ws.jsonl", kraken_futures, "ticker_lite", trades=2, changes=1_360
    ),
    "okx": Case(
        "okx.ws.jsonl", lambda: MARKETS, "tickers", trades=17, changes=77, today=okx_of_today
    ),
}


def heard(url: str, name: str, instruments: list[Instrument], moments: list[int]) -> Inbox:
    """All that a session reads of a real connection, as if received at these moments, until the
    server closes it."""
    session, transport, inbox = live(name).session(), SocketTransport(), Inbox()
    feeds, then = (Channel.TRADES, Channel.BOOK), iter(moments)
    session.subscribe([Subscription(one, feed, depth=100) for one in instruments for feed in feeds])
    transport.connect(url, None)

    def take(frames: list[Frame]) -> bool:
        session.read_all([Frame(one.payload, next(then)) for one in frames], inbox)
        return True

    with closing(transport), pytest.raises(Disconnected, match="closed with code 1000"):
        transport.listen(take, 0.25)
    return inbox


def live(name: str) -> Live:
    exchange = load(name)
    assert isinstance(exchange, Live)
    return exchange


def kept(
    name: str, case: Case, one: Instrument, changes: list[BookChange]
) -> tuple[OrderBook, list[BookChange]]:
    """The book after all changes by the rules of the service, and what was applied to it."""
    exchange = live(name)
    session, depth = exchange.session(), exchange.checksum_depth
    checksum = partial(session.checksum, one) if depth else None
    book = OrderBook(from_rest=bool(case.books), checksum=checksum, checksum_depth=depth)
    applied = [done for change in changes for done in book.apply(change)]
    if not case.books:
        assert len(applied) == len(changes), "a change does not follow"
        return book, applied
    assert isinstance(exchange, Depth)
    assert applied == []
    [found] = [line for line in lines(case.books) if f"symbol={one.name}&" in line["url"] + "&"]
    answer = Answer(200, {}, json.dumps(found["msg"]).encode(), 0)
    begun = book.start(exchange.book(answer, one), int(found["t"] * 1e6))
    assert begun is not None, "the book is older than the changes"
    return book, begun


@needs_captures
@pytest.mark.parametrize("name", CASES)
def test_a_recorded_connection_is_stored_whole(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    instruments = case.instruments()
    said = case.said()
    with server([text for _, text in said]) as url:
        inbox = heard(url, name, instruments, [moment for moment, _ in said])
    assert (inbox.bad, inbox.lost, inbox.reconnect) == ([], [], None)
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    books = {}
    for one in instruments:
        series = Series(name, Channel.TRADES, one.symbol)
        journal.append_trades(series, inbox.trades[one.name])
        series = replace(series, channel=Channel.BOOK_DELTAS)
        books[series], applied = kept(name, case, one, inbox.books[one.name])
        assert not books[series].crossed()
        journal.append_deltas(series, applied)
    journal.sync()
    journal.close()
    assert not fold(store).failed
    trades = [replace(one, channel=Channel.TRADES) for one in books]
    assert sum(len(store.load(one)) for one in trades) == case.trades
    assert sum(len(store.load(one)) for one in books) == case.changes
    for series, book in books.items():
        *_, ladder = (Ladder(), *(one for _, one in replay(store, series)))  # some never began
        stored = ladder.book()
        assert (stored.bids, stored.asks) == book.levels(), series
