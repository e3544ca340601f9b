"""An exchange and its sandbox, joined by clients that are not ours: http.client and websockets."""

import http.client
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from urllib.parse import urlencode

import polars as pl
from websockets.sync.client import ClientConnection, connect

from dccd_core.exchanges.base import Answer, Exchange, Instrument, Request
from dccd_core.exchanges.live import BookChange, Frame, Inbox, Live, Session, Subscription
from dccd_core.exchanges.trades import Book, Depth, Trade, TradesHistory
from dccd_core.models import Symbol
from dccd_sandbox import Sandbox

QUIET = 0.15
"""Seconds after which nothing more comes from a clock that stands still."""


def ask(box: Sandbox, name: str, request: Request) -> Answer:
    """The sandbox's answer."""
    query = f"?{urlencode(request.params)}" if request.params else ""
    path = f"/api/v1{request.path}" if name == "bitmex" else request.path
    connection = http.client.HTTPConnection(box.host, box.port, timeout=20)
    try:
        connection.request("GET", f"/{name}{path}{query}")
        reply = connection.getresponse()
        status, body = reply.status, reply.read()
    finally:
        connection.close()
    lower = {key.lower(): value for key, value in reply.getheaders()}
    return Answer(status, lower, body, box.now() * 1_000)


def market(box: Sandbox, exchange: Exchange, pair: str) -> Instrument:
    """A market as the sandbox lists it."""
    found: list[Instrument] = []
    for request in exchange.instruments_requests():
        found += exchange.instruments(ask(box, exchange.name, request), request).instruments
    return next(one for one in found if one.symbol == Symbol.parse(pair))


def walk(
    box: Sandbox, exchange: Exchange, instrument: Instrument, start: int
) -> tuple[list[Trade], list[Request]]:
    """All trades from a time on, each once in the order of the answers, and what was asked."""
    assert isinstance(exchange, TradesHistory)
    found: dict[str, Trade] = {}
    requests = []
    request: Request | None = exchange.trades_request(instrument, start)
    while request is not None:
        requests.append(request)
        assert len(requests) < 500, "it never ends"
        answer = ask(box, exchange.name, request)
        exchange.check(answer)
        page = exchange.trades(answer, instrument, request)
        for trade in page.trades:
            assert found.setdefault(trade.trade_id, trade) == trade
        request = page.next
    return [trade for trade in found.values() if trade.time >= start], requests


def book(box: Sandbox, exchange: Exchange, instrument: Instrument, depth: int) -> Book:
    """The book by REST."""
    assert isinstance(exchange, Depth)
    answer = ask(box, exchange.name, exchange.book_request(instrument, depth))
    exchange.check(answer)
    return exchange.book(answer, instrument)


def rows(trades: Sequence[Trade]) -> list[tuple[int, float, float, str]]:
    """Time, price, amount, side."""
    return [(one.time, one.price, one.amount, "buy" if one.buy else "sell") for one in trades]


def truth(frame: pl.DataFrame) -> list[tuple[int, float, float, str]]:
    """The same of the sandbox's trades."""
    times = frame["time"].dt.epoch("us").to_list()
    return list(
        zip(times, *(frame[name].to_list() for name in ("price", "amount", "side")), strict=True)
    )


class Client:
    """One connection to a sandbox whose clock stands still between steps."""

    def __init__(
        self, box: Sandbox, exchange: Exchange, subscriptions: Sequence[Subscription]
    ) -> None:
        assert isinstance(exchange, Live)
        self.inbox = Inbox()
        self.session: Session = exchange.session()
        self._box, self._stack = box, ExitStack()
        url = f"{box.ws_url}/{exchange.name}{exchange.live_path(subscriptions[0])}"
        self._ws: ClientConnection = self._stack.enter_context(
            connect(url, compression=None, max_size=None)
        )
        self.say(self.session.opening() + self.session.subscribe(subscriptions))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def say(self, messages: Sequence[bytes]) -> None:
        """Send, and hear what comes of it."""
        for message in messages:
            self._ws.send(message.decode())
        self.hear()

    def hear(self) -> None:
        """Everything until nothing comes any more."""
        texts: list[str] = []
        try:
            while True:
                texts.append(str(self._ws.recv(QUIET)))
        except TimeoutError:
            received = self._box.now() * 1_000
            self.session.read_all([Frame(text.encode(), received) for text in texts], self.inbox)

    def step(self, ms: int, times: int = 1) -> None:
        """Move the clock on."""
        for _ in range(times):
            self._box.set_clock(self._box.now() + ms, frozen=True)
            self.hear()


def last_of(changes: Sequence[BookChange], change: Callable[[BookChange], bool]) -> BookChange:
    """The last change of which something is true."""
    return [one for one in changes if change(one)][-1]
