"""Kraken Futures' stream: recorded traffic, and what its messages alone do not show."""

from contextlib import closing

from helpers import next_heard
from recorded import frames, heard, kept, lines, needs_captures

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.kraken_futures import KrakenFutures
from dccd_core.exchanges.live import Inbox, Session, Subscription
from dccd_core.models import Channel, Symbol
from dccd_sandbox import Sandbox, Settings
from dccd_streams.transport import SocketTransport

FILE = "kraken_futures.ws.jsonl"


def asked(*names: str, size: float = 1.0) -> tuple[Session, list[Subscription]]:
    markets = [
        Instrument(Symbol(name, "USD", "PERP"), name, trading=True, size=size) for name in names
    ]
    feeds = (Channel.BOOK, Channel.TRADES)
    subscriptions = [Subscription(market, feed) for feed in feeds for market in markets]
    session = KrakenFutures().session()
    session.subscribe(subscriptions)
    return session, subscriptions


@needs_captures
def test_a_recorded_connection_is_read_whole() -> None:
    """Of 2021 and of inverse contracts: the same messages."""
    names = [name.upper() for name in lines(FILE)[1]["msg"]["product_ids"]]
    session, subscriptions = asked(*names)
    inbox = Inbox()
    session.read_all(frames(FILE, lambda message: message.get("feed") != "ticker_lite"), inbox)
    assert inbox.bad == []
    assert set(inbox.accepted) == set(subscriptions)
    assert sum(map(len, inbox.trades.values())) == 2
    assert sum(map(len, inbox.books.values())) == 10 + 1_350
    assert {name for name in names if all(kept(inbox.books[name]))} == set(names)


def test_a_lower_case_name_is_that_of_the_stream() -> None:
    session, subscriptions = asked("pf_xbtusd")
    inbox = heard(session, {"event": "subscribed", "feed": "book", "product_ids": ["PF_XBTUSD"]})
    assert inbox.accepted == subscriptions[:1]


def test_what_is_not_traded_in_the_book_is_no_trade() -> None:
    session, _ = asked("PF_XBTUSD")
    fill = {
        "feed": "trade",
        "product_id": "PF_XBTUSD",
        "side": "buy",
        "seq": 1,
        "time": 1_787_400_000_000,
    }
    kinds = ("fill", "liquidation", "assignment", "termination", "block")
    fills = [fill | {"uid": kind, "type": kind, "qty": 1, "price": 2} for kind in kinds]
    inbox = heard(session, *fills)
    assert [trade.trade_id for trade in inbox.trades["PF_XBTUSD"]] == ["fill", "liquidation"]
    assert inbox.bad == []


def test_the_ping_is_a_frame_and_no_text() -> None:
    """As a text it would be answered with an error, which would be one of a request of ours."""
    ping = KrakenFutures().session().ping()
    with Sandbox(Settings()) as box, closing(SocketTransport()) as transport:
        transport.connect(f"{box.ws_url}/kraken_futures/ws/v1", None)
        assert b"info" in next_heard(transport)[0].payload
        transport.send(ping or b"")
        transport.send(b"{")
        answers = next_heard(transport)
        assert [b"Json Error" in answer.payload for answer in answers] == [True]
