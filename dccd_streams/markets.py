"""The markets of one exchange, for a service that asks again and again until it has them."""

import math
import threading
import time
from pathlib import Path

from dccd_core.exchanges.base import (
    Banned,
    Blocked,
    Exchange,
    ExchangeError,
    Instrument,
    UnknownSymbol,
)
from dccd_core.instruments import Instruments
from dccd_core.models import Symbol
from dccd_core.rest import RestClient

_RETRY = 30.0
_REFUSED_RETRY = 600.0  # of an address that is refused: asking makes it worse


class Markets:
    """Finds markets. A failure is the answer to all who ask for a while, `most` seconds at most:
    a hundred pairs must not ask a hundred times."""

    def __init__(self, exchange: Exchange, client: RestClient, path: Path, most: float) -> None:
        self._exchange, self._client, self._path = exchange, client, path
        self._most = most
        self._lock = threading.Lock()
        self._instruments, self._until = self._new(), math.inf

    def find(self, symbol: Symbol) -> Instrument:
        """The exchange's market of a symbol; ExchangeError if there is none or no answer."""
        with self._lock:
            if time.monotonic() > self._until:
                self._instruments, self._until = self._new(), math.inf
            instruments = self._instruments
        try:
            return instruments.find(symbol, time.time_ns() // 1_000)
        except ExchangeError as error:
            with self._lock:
                until = time.monotonic() + min(_patience(error), self._most)
                self._until = min(self._until, until)
            raise

    def renew(self, seconds: float) -> None:
        """Look at the list again, which may be so old; ExchangeError if there is no answer."""
        with self._lock:
            instruments = self._instruments
        instruments.renew(time.time_ns() // 1_000, seconds)

    def _new(self) -> Instruments:
        """One that knows of no failure: each remembers its first for ever."""
        return Instruments(self._exchange, self._client, self._path)


def _patience(error: ExchangeError) -> float:
    """For how many seconds a failure is the answer."""
    if isinstance(error, UnknownSymbol):
        return 0.0  # the list is there
    if isinstance(error, Banned) and error.retry_after:
        return max(_RETRY, error.retry_after)
    return _REFUSED_RETRY if isinstance(error, Banned | Blocked) else _RETRY
