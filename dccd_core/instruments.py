"""The markets of an exchange, asked at most once a day and remembered for ever."""

import logging
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from threading import Lock

import msgspec

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Exchange,
    ExchangeError,
    Instrument,
    Listed,
    Request,
    UnknownSymbol,
)
from dccd_core.models import DAY, SECOND, Symbol
from dccd_core.rest import RestClient, Retries
from dccd_core.store import files

log = logging.getLogger(__name__)
NO_SUCH_PAIR = "has no such pair"


class Saved(msgspec.Struct):
    """The list on disk. `asked` is when the exchange was asked, in microseconds.

    A market that left the exchange's list stays in ours, as not trading.
    """

    asked: int
    instruments: list[Instrument]


class Instruments:
    """Finds an exchange's own name of a symbol, in its instrument list and nowhere else."""

    def __init__(self, exchange: Exchange, client: RestClient, path: Path) -> None:
        self._exchange, self._client, self._path = exchange, client, path
        self._lock = Lock()
        self._known: dict[Symbol, Instrument] | None = None
        self._failed: ExchangeError | None = None

    def find(self, symbol: Symbol, now: int) -> Instrument:
        """The market of a symbol; UnknownSymbol if the exchange never had it."""
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if self._known is None:
                self._known = self._first(now)
            found = self._known.get(symbol)
            if found is None and self._age(now) > 300 * SECOND:
                self._known = self._ask(now, self._known)
                found = self._known.get(symbol)
        if found is None:
            raise UnknownSymbol(self._unknown(symbol))
        return found

    def renew(self, now: int, seconds: float) -> None:
        """Look at the list again: the saved one, or the exchange's if that is older than this."""
        with self._lock:
            known = self._saved()
            fresh = known and self._age(now) <= seconds * SECOND
            self._known = known if fresh else self._ask(now, known or self._known or {})

    def _first(self, now: int) -> dict[Symbol, Instrument]:
        """The list, or the error that all who ask get: a thousand pairs must not wait in turn."""
        try:
            return self._load(now)
        except ExchangeError as error:
            self._failed = error
            raise

    def _load(self, now: int) -> dict[Symbol, Instrument]:
        known = self._saved()
        if known and self._age(now) <= DAY * SECOND:
            return known
        try:
            return self._ask(now, known)
        except ExchangeError:
            if not known:
                raise
            return known  # yesterday's list is better than no candles today

    def _ask(self, now: int, known: dict[Symbol, Instrument]) -> dict[Symbol, Instrument]:
        listed: list[Instrument] = []
        pending = list(self._exchange.instruments_requests())
        asked: list[Request] = []
        while pending:
            asked.append(pending.pop(0))
            part = self._ask_part(asked[-1])
            listed += part.instruments
            if part.next in asked:
                raise BadAnswer(f"{self._exchange.title}: the list of markets leads back to itself")
            pending += [part.next] if part.next else []
        gone = {s: replace(i, trading=False) for s, i in known.items()}
        merged = gone | {instrument.symbol: instrument for instrument in listed}
        content = msgspec.json.encode(Saved(now, list(merged.values())))
        try:
            files.write_bytes(self._path, content)
        except OSError as error:
            log.warning("%s: the list of markets cannot be saved: %s", self._exchange.title, error)
        return merged

    def _ask_part(self, request: Request) -> Listed:
        def read(answer: Answer) -> Listed:
            return self._exchange.instruments(answer, request)

        return self._client.call(request, read, retries=Retries())

    def _read(self) -> Saved:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Saved)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Saved(0, [])  # a damaged list is asked for again

    def _saved(self) -> dict[Symbol, Instrument]:
        return {instrument.symbol: instrument for instrument in self._read().instruments}

    def _age(self, now: int) -> int:
        return abs(now - self._read().asked)

    def _unknown(self, symbol: Symbol) -> str:
        names = [str(known) for known in self._known or ()]
        near = get_close_matches(str(symbol), names, n=3, cutoff=0.7)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"{symbol}: {self._exchange.title} {NO_SUCH_PAIR}{hint}"
