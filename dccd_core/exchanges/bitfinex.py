"""Bitfinex, spot and perpetuals, API v2. https://docs.bitfinex.com/reference/rest-public-candles"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Blocked,
    Candles,
    Exchange,
    ExchangeError,
    Instrument,
    Limits,
    Listed,
    RateLimited,
    Rejected,
    Request,
    Unavailable,
    UnknownSymbol,
    decode,
    floats,
    integers,
    nameable,
    retry_after,
)
from dccd_core.models import SECOND, Channel, Symbol, Window


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A candle: times in milliseconds, volume in base units. Fields may be added at its end."""

    time: int
    open: float
    close: float
    high: float
    low: float
    volume: float


class Refusal(msgspec.Struct, array_like=True):
    """The body of most errors, whatever the HTTP status: ["error", 10020, "symbol: invalid"]."""

    tag: str
    code: int
    text: str


class Problem(msgspec.Struct):
    """The other form: {"error": "ERR_RATE_LIMIT"}, {"code": 503, "error": …}."""

    error: str


# spot pairs, perpetual pairs, and the names that the world has for Bitfinex's own codes
Lists = tuple[list[str], list[str], list[tuple[str, str]]]

LISTS = "pub:list:pair:exchange,pub:list:pair:futures,pub:map:currency:sym"
ROWS = msgspec.json.Decoder(list[Row])
CONF = msgspec.json.Decoder(Lists)
REFUSAL = msgspec.json.Decoder(Refusal)
PROBLEM = msgspec.json.Decoder(Problem)
PARAMETERS, NOT_READY, TOO_MANY, MAINTENANCE = 10_020, 11_000, 11_010, 20_060
# An endpoint stays closed for 10 to 60 seconds after too many requests; no header says which.
BLOCKED = 60.0


class Bitfinex(Exchange):
    """Candles only where there were trades, ascending on demand, times in milliseconds."""

    name = "bitfinex"
    title = "Bitfinex"
    docs = "https://docs.bitfinex.com/reference/rest-public-candles"
    rest_url = "https://api-pub.bitfinex.com/v2"
    # Candles: 30 a minute and address (Bitfinex's own bfx-reports-framework, pull request 316).
    # The other endpoints have budgets of their own, of 90, and are asked once a day.
    limits = Limits(weight=27, seconds=60, burst=3, page=10_000)
    # Not 1W, 14D and 1M: on which day the first two open is not documented.
    spans: ClassVar[Mapping[int, str]] = {
        60: "1m", 300: "5m", 900: "15m", 1_800: "30m", 3_600: "1h", 10_800: "3h", 21_600: "6h",
        43_200: "12h", 86_400: "1D",
    }  # fmt: skip
    # "candles will not be generated if there was no trading volume" (bitfinex-api-py, issue 198)
    gapless = False
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for: by its code, else by its HTTP status."""
        refusal = _refusal(answer.body)
        if answer.status == 200 and refusal is None:
            return
        code, text = refusal or (None, repr(answer.body[:80]))
        if answer.status == 429 or code == TOO_MANY or "RATE_LIMIT" in text:
            wait = retry_after(answer)
            raise RateLimited(
                f"Bitfinex: too many requests: {text}", BLOCKED if wait is None else wait
            )
        if answer.status in (403, 451):
            raise Blocked(
                f"Bitfinex refuses this address (HTTP {answer.status}): {text}. Set a proxy, or "
                f"another rest_url, under exchanges.bitfinex"
            )
        raise _error(answer.status, code, text)

    def instruments_requests(self) -> list[Request]:
        """All pairs and the map of names in one request."""
        return [Request(f"/conf/{LISTS}")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Every pair of the lists trades; there is no listing date. BadAnswer if a list is empty.

        Where ours cannot hold the world's name ("ORS Group", "LEO-EOS"), the code stays the name.
        """
        spot, perpetual, names = decode(CONF, answer.body)
        if not (spot and perpetual and names):
            raise BadAnswer("Bitfinex: an empty list of pairs or names")
        pairs = [*spot, *perpetual]
        world = {code: code for pair in pairs for code in _codes(pair)}
        world |= {code: name.upper() for code, name in names if nameable(name.upper())}
        return Listed(list(_instruments(pairs, world)))

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Candles of a window, oldest first.

        Whether `end` is inclusive is not documented: a millisecond before the window's end no
        candle opens. Without sort=1 a full page would keep the newest rows.
        """
        count = (window.end - window.start) // (span * SECOND)
        bounds = {"start": str(window.start // 1_000), "end": str(window.end // 1_000 - 1)}
        return self._history(instrument, span, count, bounds | {"sort": "1"})

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The oldest candle there is."""
        return self._history(instrument, span, 1, {"sort": "1"})

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest; it may be running."""
        return self._history(instrument, span, 1, {"sort": "-1"})

    def _history(
        self, instrument: Instrument, span: int, limit: int, rest: dict[str, str]
    ) -> Request:
        path = f"/candles/trade:{self.spans[span]}:{instrument.name}/hist"
        return Request(path, {"limit": str(limit)} | rest, self.limits.page_weight)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows as documented: the close comes before high and low."""
        rows = decode(ROWS, answer.body)
        return Candles(
            integers([row.time for row in rows], 1_000),
            floats([row.open for row in rows]),
            floats([row.high for row in rows]),
            floats([row.low for row in rows]),
            floats([row.close for row in rows]),
            floats([row.volume for row in rows]),
        )


def _instruments(pairs: Iterable[str], world: Mapping[str, str]) -> Iterable[Instrument]:
    """Pairs as instruments. A code without another name goes before one that is mapped to it."""
    taken: set[Symbol] = set()
    for pair in sorted(pairs, key=lambda pair: (any(world[c] != c for c in _codes(pair)), pair)):
        base, quote = _codes(pair)
        symbol = Symbol(world[base], world[quote], "PERP" if _perpetual(pair) else "")
        if symbol not in taken and nameable(symbol.base, symbol.quote):
            taken.add(symbol)
            yield Instrument(symbol, f"t{pair}", trading=True)


def _perpetual(pair: str) -> bool:
    """Both codes of a perpetual end in F0: BTCF0:USTF0."""
    return all(code.endswith("F0") for code in pair.split(":")) and ":" in pair


def _codes(pair: str) -> tuple[str, str]:
    """Base and quote: BTCUSD, DUSK:USD, and without their F0 those of BTCF0:USTF0.

    Raises BadAnswer for a pair of another form.
    """
    base, colon, quote = pair.partition(":")
    if not colon:
        base, quote = pair[:3], pair[3:]
        if len(quote) != 3:
            raise BadAnswer(f"Bitfinex: {pair!r} is not a pair")
    if _perpetual(pair):
        return base.removesuffix("F0"), quote.removesuffix("F0")
    return base, quote


def _refusal(body: bytes) -> tuple[int | None, str] | None:
    """Code and text of an error body; None if the body is none."""
    try:
        refusal = REFUSAL.decode(body)
        return (refusal.code, refusal.text) if refusal.tag == "error" else None
    except (msgspec.DecodeError, msgspec.ValidationError):
        pass
    try:
        return None, PROBLEM.decode(body).error
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _error(status: int, code: int | None, text: str) -> ExchangeError:
    """The error of a code: parameters are wrong for good, the rest may pass."""
    if code == PARAMETERS and "symbol: invalid" in text:
        return UnknownSymbol(f"Bitfinex: {text}")
    message = f"Bitfinex: HTTP {status}: {text if code is None else f'{code} {text}'}"
    passing = code in (NOT_READY, MAINTENANCE) or (status >= 500 and code != PARAMETERS)
    return (Unavailable if passing or "unavailable" in text else Rejected)(message)
