"""An exchange of ours and its sandbox: what it lists, answers and streams, and what is true."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

from dccd_core.exchanges.base import Answer, Exchange, Instrument, Request
from dccd_core.exchanges.live import Frame, Inbox, Live, Subscription
from dccd_core.models import Symbol
from dccd_sandbox import Sandbox

PAIRS = ("BTC/USDT", "BTC/USD", "BTC/USDT:PERP", "BTC/USD:PERP")
QUIET = 0.1
"""Seconds without a message after which all is there that the sandbox has sent."""


def ask(box: Sandbox, exchange: Exchange, request: Request) -> Answer:
    """What the sandbox answers to one of our requests; ExchangeError for a refusal."""
    folder = urlsplit(exchange.rest_url).path
    query = f"?{urlencode(request.params)}" if request.params else ""
    try:
        response = urlopen(f"{box.url}/{exchange.name}{folder}{request.path}{query}")  # noqa: S310
    except HTTPError as error:
        response = error
    with response:
        headers = {key.lower(): value for key, value in response.headers.items()}
        answer = Answer(response.status, headers, response.read(), box.now() * 1_000)
    exchange.check(answer)
    return answer


def instruments_of(box: Sandbox, exchange: Exchange) -> dict[Symbol, Instrument]:
    """All markets of an exchange."""
    found: dict[Symbol, Instrument] = {}
    pending = list(exchange.instruments_requests())
    while pending:
        request = pending.pop(0)
        part = exchange.instruments(ask(box, exchange, request), request)
        found |= {one.symbol: one for one in part.instruments}
        pending += [part.next] if part.next else []
    return found


def instrument_of(box: Sandbox, exchange: Exchange) -> Instrument:
    """The first of our pairs that the exchange lists."""
    found = instruments_of(box, exchange)
    return next(found[Symbol.parse(pair)] for pair in PAIRS if Symbol.parse(pair) in found)


def true_market(box: Sandbox, exchange: Exchange, instrument: Instrument) -> tuple[str, str]:
    """By what names the sandbox knows the truth of a market: symbol and exchange."""
    plain = f"{instrument.symbol.base}{instrument.symbol.quote}"
    for names in ((instrument.name, exchange.name), (plain, exchange.name), (plain, "")):
        try:
            box.book_truth(names[0], 0, exchange=names[1])
        except KeyError:
            continue
        return names
    raise KeyError(instrument.name)


class Ear:
    """One connection and all that was heard of it."""

    def __init__(
        self, box: Sandbox, exchange: Exchange, subscriptions: Sequence[Subscription]
    ) -> None:
        assert isinstance(exchange, Live)
        self.box = box
        self.inbox = Inbox()
        self.session = exchange.session()
        url = f"{box.ws_url}/{exchange.name}{exchange.live_path(subscriptions[0])}"
        self._stack = ExitStack()
        opening = connect(url, compression=None, max_size=None)
        self.ws: ClientConnection = self._stack.enter_context(opening)
        for message in [*self.session.opening(), *self.session.subscribe(subscriptions)]:
            self.ws.send(message.decode())
        self.hear(5.0)

    def __enter__(self) -> "Ear":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def hear(self, patience: float = QUIET) -> None:
        """Read all that has been sent."""
        now, frames = self.box.now() * 1_000, []
        try:
            while True:
                payload = self.ws.recv(patience)
                frames.append(payload if isinstance(payload, bytes) else payload.encode())
                patience = QUIET
        except TimeoutError:
            self.session.read_all([Frame(one, now) for one in frames], self.inbox)

    def advance(self, ms: int) -> int:
        """Let market time pass and hear what it brings; the new time in milliseconds."""
        now = self.box.advance(ms)
        for _ in range(1_000):  # a busy machine may pause for longer than QUIET
            if not self.box.stats(last=0)["streams"]["behind_ms"]:
                break
            time.sleep(0.01)
        self.hear()
        return now
