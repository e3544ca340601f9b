"""Questions to one exchange about its past trades."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Exchange,
    Instrument,
    Request,
)
from dccd_core.exchanges.trades import TradesHistory, TradesPage
from dccd_core.models import SECOND, Series, iso
from dccd_core.pages import EARLIEST
from dccd_core.questions import STEPS, Questions
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore

# A clock of an exchange may be ahead of ours, and its trades' times of its clock.
AHEAD = 60 * SECOND


@dataclass(frozen=True, slots=True)
class AskedTrades:
    """The trades of one answer, and the exchange's clock when it answered."""

    page: TradesPage
    time: int


class TradesQuestions(Questions):
    """Asks one exchange for trades; safe to use from several threads.

    TypeError if the exchange serves no past trades.
    """

    def __init__(
        self,
        exchange: Exchange,
        client: RestClient,
        store: DataStore,
        retries: Callable[[Series], Retries],
    ) -> None:
        super().__init__(exchange, client, store, retries)
        if not isinstance(exchange, TradesHistory):
            raise TypeError(f"{exchange.title} serves no past trades")
        self.history: TradesHistory = exchange

    def trades(self, series: Series, since: Request | int) -> AskedTrades:
        """One page: what a request asks for, or from a time on. Raises ExchangeError.

        Once an exchange has refused a series or this address, that answer is given again at once.
        """
        with self._watch(series):
            instrument = self.instrument(series)
            request = self._request(instrument, since)

            def read(answer: Answer) -> AskedTrades:
                return self._read(answer, instrument, request)

            return self._asker(series)(request, read)

    def listing(self, series: Series) -> int:
        """When the first trade was made, in microseconds; found once and remembered."""
        known = self._store.read_listing(series)
        if known is not None:
            return known
        first = self._agreed(series, lambda: self._first_trade(series))
        self._store.write_listing(series, first)
        return first

    def rate(self, series: Series, time: int) -> float | None:
        """How many trades a second there were about a time, by one page of them; None if it does
        not tell. Raises ExchangeError."""
        since: Request | int = time
        for _ in range(STEPS):
            page = self.trades(series, since).page
            if page.trades or page.next is None:
                break
            since = page.next
        times = [trade.time for trade in page.trades]
        seconds = (max(times) - min(times)) / SECOND if times else 0.0
        return len(times) / seconds if seconds else None

    def _first_trade(self, series: Series) -> int:
        since: Request | int = 0
        for _ in range(STEPS):
            page = self.trades(series, since).page
            if page.trades:
                return page.trades[0].time
            if page.next is None:
                raise BadAnswer(f"{self._exchange.title} has no trade of {series.symbol}")
            since = page.next
        raise BadAnswer(f"{self._exchange.title}: no trade of {series} after {STEPS} requests")

    def _request(self, instrument: Instrument, since: Request | int) -> Request:
        if isinstance(since, Request):
            return since
        return self.history.trades_request(instrument, since)

    def _read(self, answer: Answer, instrument: Instrument, request: Request) -> AskedTrades:
        """Parse an answer; BadAnswer if its times cannot be true."""
        page = self.history.trades(answer, instrument, request)
        ends = [trade.time for trade in page.trades]
        clock = max(answer.time, time.time_ns() // 1_000)
        if ends and (min(ends) < EARLIEST or max(ends) > clock + AHEAD):
            raise BadAnswer(f"{self._exchange.title}: a trade of {iso(max(ends))}")
        if page.next == request:
            raise BadAnswer(f"{self._exchange.title}: a page of trades that continues with itself")
        return AskedTrades(page, answer.time)
