"""Questions to one exchange about its series, and the memory of what need not be asked."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Banned,
    Blocked,
    Exchange,
    ExchangeError,
    Instrument,
    Request,
    UnknownSymbol,
)
from dccd_core.instruments import Instruments
from dccd_core.models import Series, Window
from dccd_core.pages import Page, fetch_page, no_candles, read_candles, settles
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore

T = TypeVar("T")

STEPS = 20  # of a search for the first candle; those that we know need at most eight


class Questions:
    """Asks one exchange; safe to use from several threads."""

    def __init__(
        self,
        exchange: Exchange,
        client: RestClient,
        store: DataStore,
        retries: Callable[[Series], Retries],
    ) -> None:
        self._exchange, self._client, self._store = exchange, client, store
        self._retries = retries
        path = store.private / "instruments" / f"{exchange.name}.json"
        self._instruments = Instruments(exchange, client, path)
        self._refused: dict[Series | None, ExchangeError] = {}
        self._newest: dict[Series, int] = {}

    def instrument(self, series: Series) -> Instrument:
        """The exchange's market of a series; UnknownSymbol if there is none."""
        return self._instruments.find(series.symbol, _now())

    def listing(self, series: Series) -> int:
        """When a series begins, in microseconds; found once and remembered in the store."""
        known = self._store.read_listing(series)
        if known is not None:
            return known
        with self._watch(series):
            instrument = self.instrument(series)
            listed = instrument.listed
            if listed is None:
                listed = self._agreed(series, lambda: self._first(series, instrument))
            self._store.write_listing(series, listed)
            return listed

    def page(self, series: Series, window: Window) -> Page:
        """The candles of at most one page; see `fetch_page`.

        Once an exchange has refused a series or this address, that answer is given again at once.
        """
        with self._watch(series):
            return self._page(series, window)

    def _page(self, series: Series, window: Window) -> Page:
        instrument = self.instrument(series)
        newest = self._newest.get(series)
        if newest is not None and window.start > newest:
            # the market has ended: it is not asked page by page what is after its last candle
            end = min(window.end, series.floor(_now() - settles(self._exchange)))
            covered = [Window(window.start, end)] if window.start < end else []
            return Page(no_candles(), covered, 0)
        page = fetch_page(self._asker(series), self._exchange, instrument, series, window)
        if page.covered and not len(page.candles) and newest is None:
            self._newest[series] = self._agreed(series, lambda: self._last(series, instrument))
        return page

    def _asker(self, series: Series) -> Callable[[Request, Callable[[Answer], T]], T]:
        retries = self._retries(series)
        return lambda request, read: self._client.call(request, read, retries=retries)

    def _first(self, series: Series, instrument: Instrument) -> int:
        def read(answer: Answer) -> int | Request:
            found = self._exchange.first_candle(answer, instrument, series.span)
            if found is None:
                raise BadAnswer(f"{self._exchange.title} has no candle of {series.symbol}")
            return found

        found: int | Request = self._exchange.first_candle_request(instrument, series.span)
        for _ in range(STEPS):
            if not isinstance(found, Request):
                return series.floor(found)
            found = self._asker(series)(found, read)
        raise BadAnswer(f"{self._exchange.title}: no beginning of {series} after {STEPS} requests")

    def _last(self, series: Series, instrument: Instrument) -> int:
        def read(answer: Answer) -> int:
            candles = read_candles(self._exchange, instrument, series, answer).candles
            if not len(candles):
                raise BadAnswer(f"{self._exchange.title} has no candle of {series.symbol}")
            return int(candles.time[-1])

        request = self._exchange.last_candle_request(instrument, series.span)
        return self._asker(series)(request, read)

    def _agreed(self, series: Series, ask: Callable[[], int]) -> int:
        """A time that decides over much, once two answers in a row agree on it."""
        previous = None
        for _ in range(6):
            found = ask()
            if found == previous:
                return found
            previous = found
        raise BadAnswer(f"{self._exchange.title}: answers about {series} contradict each other")

    @contextmanager
    def _watch(self, series: Series) -> Iterator[None]:
        """Remember a refusal: of the series, or of everything if the whole address is refused.
        One that is known is raised at once."""
        refused = self._refused.get(None) or self._refused.get(series)
        if refused:
            raise refused
        try:
            yield
        except (Banned, Blocked, UnknownSymbol) as error:
            everything = isinstance(error, Banned | Blocked)
            self._refused.setdefault(None if everything else series, error)
            raise


def _now() -> int:
    return time.time_ns() // 1_000
