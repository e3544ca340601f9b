"""The shape of an exchange: what it offers, how a question is built, how an answer is read.

An exchange file is pure: it makes requests and parses answers, and does no I/O. The errors:

ExchangeError
├── BadAnswer      the answer cannot be read, lacks a field or contradicts itself  (asked again)
├── Unavailable    no answer: 5xx, maintenance, connection cut, time-out           (asked again)
├── RateLimited    too many requests; says how long to wait                 (asked again, later)
│   └── Banned     this address may not ask until a moment                  (nothing is asked)
├── Blocked        this address or country is refused: HTTP 403, 451         (not asked again)
├── UnknownSymbol  the exchange has no such market                           (not asked again)
└── Rejected       any other refusal of the request                          (not asked again)
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import ClassVar, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dccd_core.models import SECOND, Channel, Symbol, Window
from dccd_core.quotes import quoted

T = TypeVar("T")
_NUMBERS = msgspec.json.Decoder(list[float])
_ROWS_BEGIN = re.compile(rb"\s*\[\s*[\[\]]")
_ROWS_END = re.compile(rb"[\[\]]\s*\]\s*\Z")


class ExchangeError(Exception):
    """An exchange did not give what was asked; the message is one plain sentence."""


class BadAnswer(ExchangeError):
    """The answer cannot be read, lacks a required field or contradicts itself."""


class Unavailable(ExchangeError):
    """There was no answer: server error, maintenance, connection cut or time-out."""


class RateLimited(ExchangeError):
    """Too many requests. `retry_after` is in seconds, None if the exchange did not say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Banned(RateLimited):
    """The address is banned for `retry_after` seconds: asking again makes it worse."""


class Blocked(ExchangeError):
    """The address or its country is refused."""


class UnknownSymbol(ExchangeError):
    """The exchange has no such market."""


class Rejected(ExchangeError):
    """The exchange refused the request for another reason."""


@dataclass(frozen=True, slots=True)
class Request:
    """One GET: path below the base URL, parameters as text, and what it costs of the budget.

    `base` stands in for the exchange's `rest_url` where that does not serve this; it is not used
    where the configuration names a URL of its own.
    """

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: header names in lower case; `time` is the server's clock in microseconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    time: int

    @property
    def quote(self) -> str:
        """The start of the body as one line of plain text, for messages."""
        return quoted(self.body)


@dataclass(frozen=True, slots=True)
class Limits:
    """The request budget: `weight` units in each `seconds`; `burst` of them may come at once.

    `page` is the most candles that one request returns, `page_weight` what it costs.
    """

    weight: float
    seconds: float
    burst: float
    page: int
    page_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Instrument:
    """A market as the exchange lists it: its own name for it, and what the instrument list says.

    `listed` is the listing time in microseconds, None where the list does not tell.
    `size` is the base units of one contract, 1 for spot; of an `inverse` contract it is units of
    the quote, worth size / price of the base; 0 where neither is fixed. The digits are those after
    the decimal point of a price and of an amount, where the exchange's checksums need them.
    """

    symbol: Symbol
    name: str
    trading: bool
    listed: int | None = None
    size: float = 1.0
    price_digits: int | None = None
    amount_digits: int | None = None
    inverse: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """A part of an instrument list, and the request for the next part, None at the end."""

    instruments: list[Instrument]
    next: Request | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Parsed candles as arrays of equal length; times are open times in microseconds.

    Volumes are in base units. A column that the exchange does not have is None.
    """

    time: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    quote_volume: NDArray[np.float64] | None = None
    trades: NDArray[np.int64] | None = None
    taker_buy_volume: NDArray[np.float64] | None = None
    taker_buy_quote_volume: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.time)


class Exchange(ABC):
    """One exchange (one product of it): class attributes say what it has, methods are pure.

    `spans` maps seconds to the exchange's own name of a candle span. `gapless` says that it serves
    a candle for every interval in which the market traded or could trade, so that a hole is a
    reason to ask again; where it omits intervals without trades, a hole is an ordinary answer.
    `opens_at_last_close`: a candle's open is the last close, and may lie outside of low and high.
    `candles_depth`: only so many of the newest candles are served, older ones are built from the
    trades: with a flat candle where none was made if `fills_empty`, and with those optional columns
    that the exchange's own candles have, `candle_columns`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    docs: ClassVar[str]
    rest_url: ClassVar[str]
    limits: ClassVar[Limits]
    spans: ClassVar[Mapping[int, str]]
    gapless: ClassVar[bool]
    channels: ClassVar[frozenset[Channel]] = frozenset()
    opens_at_last_close: ClassVar[bool] = False
    candles_depth: ClassVar[int | None] = None
    fills_empty: ClassVar[bool] = False
    candle_columns: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def check(self, answer: Answer) -> None:
        """Raise the ExchangeError that an answer stands for; return if it is a good one."""

    def used(self, answer: Answer) -> float | None:
        """The part of the budget, 0 to 1, that the exchange says is used; None if it is silent."""
        return None

    @abstractmethod
    def instruments_requests(self) -> Sequence[Request]:
        """Ask for the list of all markets; several requests where products are listed apart."""

    @abstractmethod
    def instruments(self, answer: Answer, request: Request) -> Listed:
        """The markets of an answer, and the request for the rest of the list if there is more."""

    @abstractmethod
    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Ask for the candles that open in a window of at most `limits.page` candles."""

    @abstractmethod
    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """The candles of an answer, oldest first; BadAnswer if a field is missing or malformed."""

    @abstractmethod
    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """Ask for the oldest candle of a market, or for what tells when that is."""

    def first_candle(
        self, answer: Answer, instrument: Instrument, span: int
    ) -> "int | Request | None":
        """The open time of the oldest candle in microseconds, or the next request on the way to
        it; None if the market has none."""
        times = self.candles(answer, instrument, span).time
        return int(times[0]) if len(times) else None

    @abstractmethod
    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """Ask for the newest candle of a market, the running one or the last before its end; it
        is the last one that `candles` reads in the answer."""


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Decode JSON into the decoder's type; BadAnswer names what is wrong and quotes it."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadAnswer(f"unreadable answer: {error}; it begins with {quoted(body)}") from error


def integers(values: Sequence[int], scale: int = 1) -> NDArray[np.int64]:
    """A column of integers, each multiplied by `scale` (1000 turns milliseconds into ours).

    BadAnswer if one does not fit 64 bits.
    """
    try:
        column = np.fromiter(values, np.int64, len(values))
    except OverflowError as error:
        raise BadAnswer("a number of more than 64 bits") from error
    most = np.iinfo(np.int64).max // scale
    if scale != 1 and ((column > most) | (column < -most)).any():
        raise BadAnswer("a number that is no time")
    return column * scale


def number_rows(body: bytes, width: int) -> NDArray[np.float64]:
    """JSON rows of `width` numbers each, quoted or not, as columns; BadAnswer if it is not that.

    For pages of a thousand candles: a third cheaper than typed rows, since no row is made. Integers
    are exact up to 2 ** 53; take them out with `whole`. In which row a number is missing it cannot
    see: hold two columns against each other.
    """
    if not (_ROWS_BEGIN.match(body) and _ROWS_END.search(body[-80:])):
        raise BadAnswer(f"rows of numbers were expected, the answer begins with {quoted(body)}")
    flat = decode(_NUMBERS, b"[%b]" % body.translate(None, b'"[]'))
    if len(flat) % width:
        raise BadAnswer(f"{len(flat)} numbers in rows of {width}")
    return _finite(np.fromiter(flat, np.float64, len(flat)).reshape(-1, width).T.copy())


def _finite(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(columns).all():
        raise BadAnswer("a number that is not finite")
    return columns


def whole(column: NDArray[np.float64], scale: int = 1) -> NDArray[np.int64]:
    """A column of `number_rows` as integers, times `scale`; BadAnswer if one is none."""
    if (np.abs(column) > 2**53 / scale).any() or (np.rint(column) != column).any():
        raise BadAnswer("a number that is no time and no count")
    return column.astype(np.int64) * scale


def floats(values: Sequence[float]) -> NDArray[np.float64]:
    """A column of prices or amounts; BadAnswer if one is NaN or infinite."""
    return _finite(np.fromiter(values, np.float64, len(values)))


def retry_after(answer: Answer) -> float | None:
    """Seconds to wait from the Retry-After header, given as seconds or as an HTTP date."""
    value = answer.headers.get("retry-after")
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # "-0000" makes a date without a zone: it is UTC all the same
    return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - answer.time / SECOND)
