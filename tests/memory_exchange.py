"""An exchange in memory that knows what it has, and a client that asks it without a network."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from helpers import at

from dccd_core.exchanges.base import (
    Answer,
    ExchangeError,
    Instrument,
    Limits,
    Listed,
    Request,
)
from dccd_core.exchanges.binance import Binance
from dccd_core.exchanges.trades import Trade, TradesPage
from dccd_core.models import SECOND, Symbol


def market(start: str, end: str, every: float, seed: int = 1) -> list[Trade]:
    """Trades about `every` seconds apart, hundreds of them in one millisecond now and then."""
    random = np.random.default_rng(seed)
    count = int((at(end) - at(start)) / SECOND / every)
    times = np.sort(random.integers(at(start) // 1_000, at(end) // 1_000, count)) * 1_000
    for first in range(0, count, 500):
        times[first : first + 200] = times[first]
    prices = np.round(100 + np.cumsum(random.integers(-9, 10, count)) / 10 % 50, 1)
    amounts = np.round(random.integers(1, 10**9, count) / 10**8, 8)
    return [
        Trade(int(t), None, str(number), float(p), float(a), number % 3 == 0)
        for number, (t, p, a) in enumerate(zip(np.sort(times), prices, amounts, strict=True), 1)
    ]


class Memory(Binance):
    """An exchange with lists of trades, in pages by number; `breaks` may spoil an answer."""

    limits = Limits(weight=1e9, seconds=1, burst=1e9, page=1_000)
    contiguous: ClassVar[bool] = True
    reach: ClassVar[int | None] = None
    trades_page: ClassVar[int] = 100
    trades_weight: ClassVar[float] = 1.0

    def __init__(self, **markets: list[Trade]) -> None:
        self.markets = markets
        self.breaks: Callable[[Request, TradesPage], TradesPage] = lambda _, page: page

    def instruments_requests(self) -> list[Request]:
        return [Request("/instruments")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        return Listed([Instrument(Symbol(name, "USDT"), name, True) for name in self.markets])

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        times = [trade.time for trade in self.markets[instrument.name]]
        return self.from_number(instrument, bisect_left(times, time))

    def from_number(self, instrument: Instrument, number: int) -> Request:
        return Request("/trades", {"symbol": instrument.name, "from": str(number)})

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        first = int(request.params["from"])
        known = self.markets[instrument.name]
        page = known[first : first + self.trades_page]
        more = first + len(page) < len(known)
        following = self.from_number(instrument, first + len(page)) if more else None
        return self.breaks(request, TradesPage(page, following))


@dataclass
class Client:
    """Stands in for the REST client: what was asked, and errors on demand."""

    now: int
    asked: list[Request] = field(default_factory=list)
    error: Callable[[int], ExchangeError | None] = lambda _: None
    latency: float = 0.1
    work: float = 0.001
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        return len(self.asked)

    def call(self, request: Request, parse: Callable[[Answer], Any], *, retries: Any) -> Any:
        with self.lock:
            self.asked.append(request)
            error = self.error(len(self.asked))
        if error:
            raise error
        return parse(Answer(200, {}, b"", self.now))

    def clock(self) -> int:
        """As RestClient's."""
        return self.now

    def pages(self, path: str = "/trades") -> int:
        """The requests to a path."""
        return sum(request.path == path for request in self.asked)


def sequence(trades: Sequence[Trade]) -> list[tuple[int, str, float, float, bool]]:
    """Trades as tuples that can be compared with stored ones."""
    return sorted((t.time, t.trade_id, t.price, t.amount, t.buy) for t in trades)
