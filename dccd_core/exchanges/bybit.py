"""Bybit v5: spot and linear contracts. https://bybit-exchange.github.io/docs/v5/market/kline"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, ClassVar, Generic, TypeVar

import msgspec
import numpy as np

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Banned,
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
from dccd_core.models import DAY, SECOND, WEEK, Channel, Symbol, Window

T = TypeVar("T")
HOUR = 3_600
INSTRUMENTS = "/v5/market/instruments-info"
# A contract that is listed again has one Symbol with its closed namesake: the last one read stays,
# so the statuses are asked one after the other, what trades at the end.
STATUSES = ("Closed", "Delivering", "PreLaunch", "Trading")
# Who has passed the limit of an address must be silent for ten minutes.
BAN = 600.0

# up to the year 9999, so that a date can be made of it
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
# open time, open, high, low, close, volume in base units, turnover in quote units: all text
Kline = tuple[Milliseconds, float, float, float, float, float, float]


class Envelope(msgspec.Struct, rename="camel"):
    """What every answer begins with; errors come with HTTP 200 as well."""

    ret_code: int
    ret_msg: str


class Klines(msgspec.Struct):
    """Candles, newest first."""

    category: str
    symbol: str
    list: list[Kline]


class Pair(msgspec.Struct, rename="camel"):
    """One spot market: there is no listing date in it."""

    symbol: str
    base_coin: str
    quote_coin: str
    status: str


class Contract(Pair, rename="camel"):
    """One linear contract; `delivery_time` of a perpetual is 0, or when it was delisted."""

    contract_type: str
    launch_time: Milliseconds
    delivery_time: Milliseconds


class Pairs(msgspec.Struct):
    list: list[Pair]


class Contracts(msgspec.Struct, rename="camel"):
    next_page_cursor: str
    list: list[Contract]


class Result(msgspec.Struct, Generic[T]):
    result: T


ENVELOPE = msgspec.json.Decoder(Envelope)
KLINES = msgspec.json.Decoder(Result[Klines], strict=False)
PAIRS = msgspec.json.Decoder(Result[Pairs])
CONTRACTS = msgspec.json.Decoder(Result[Contracts], strict=False)

# https://bybit-exchange.github.io/docs/v5/error
LIMITED, BANNED, PARAMETER = (429, 10006, 10018, 10429), 10009, 10001
PLAIN = {5004: Unavailable, 10000: Unavailable, 10016: Unavailable, 10024: Blocked}


class Bybit(Exchange):
    """Bybit: candles newest first, both bounds inclusive on the open time, in milliseconds.

    BTCUSDT is a spot pair and a perpetual: so `Instrument.name` has the category, "linear BTCUSDT".
    """

    name = "bybit"
    title = "Bybit"
    docs = "https://bybit-exchange.github.io/docs/v5/intro"
    rest_url = "https://api.bybit.com"
    # 600 in 5 seconds and address. A tenth is kept as burst, so that no 5 seconds see more.
    limits = Limits(weight=540, seconds=5, burst=60, page=1_000)
    spans: ClassVar[Mapping[int, str]] = {
        60: "1", 180: "3", 300: "5", 900: "15", 1_800: "30", 3_600: "60", 7_200: "120",
        14_400: "240", 21_600: "360", 43_200: "720", 86_400: "D", 604_800: "W",
    }  # fmt: skip
    gapless = True
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for: by its HTTP status, or by retCode in HTTP 200."""
        text = f"Bybit: HTTP {answer.status}: {answer.body[:80]!r}"
        if answer.status == 403 and b"too frequent" in answer.body:
            raise Banned(text, BAN)
        if answer.status in (403, 451):
            raise Blocked(f"{text}. Set a proxy, or another rest_url, under exchanges.bybit")
        if answer.status == 429:
            raise RateLimited(text, _wait(answer))
        if answer.status != 200:
            raise Unavailable(text) if answer.status >= 500 else Rejected(text)
        head = decode(ENVELOPE, answer.body)
        if head.ret_code:
            raise _refusal(answer, head)

    def instruments_requests(self) -> list[Request]:
        """Spot, which is one list, and linear contracts, which are pages of each status."""
        return [Request(INSTRUMENTS, {"category": "spot"}), _contracts(STATUSES[0])]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Markets of one page; after the last page of a status comes the next status."""
        if request.params["category"] == "spot":
            pairs = decode(PAIRS, answer.body).result.list
            return Listed([_spot(p) for p in pairs if nameable(p.base_coin, p.quote_coin)])
        page, status = decode(CONTRACTS, answer.body).result, request.params["status"]
        found = [_linear(c) for c in page.list if _kind(c) and nameable(c.base_coin, c.quote_coin)]
        if page.next_page_cursor:
            return Listed(found, _contracts(status, page.next_page_cursor))
        following = [_contracts(b) for a, b in pairwise(STATUSES) if a == status]
        return Listed(found, *following)

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Candles of a window. Both bounds are sent, and `limit` counts all that open between them:
        which end of a longer range is kept is not documented."""
        count = -(-(window.end - window.start) // (span * SECOND))
        bounds = {"start": str(window.start // 1_000), "end": str(window.end // 1_000 - 1)}
        return self._klines(instrument, span, count, bounds)

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest 1,000 hours: the first of up to five steps, see `first_candle`."""
        return self._klines(instrument, HOUR, self.limits.page, {})

    def first_candle(
        self, answer: Answer, instrument: Instrument, span: int
    ) -> int | Request | None:
        """The oldest candle, or the next step on the way to it: the newest hours, days, weeks
        until a page is not full, then the hours of its first candle, then the candles of that hour.
        A market in its first hour is listed at its full hour."""
        times = self.candles(answer, instrument, span).time
        if len(times) < 2:
            return int(times[0]) if len(times) else None
        first, step = int(times[0]), int(np.diff(times).min()) // SECOND
        if len(times) == self.limits.page and step < WEEK:
            return self._klines(instrument, DAY if step < DAY else WEEK, self.limits.page, {})
        if step <= span:
            return first
        finer = HOUR if step > HOUR else span
        return self.candles_request(instrument, finer, Window(first, first + step * SECOND))

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """Without bounds the newest rows come back."""
        return self._klines(instrument, span, 1, {})

    def _klines(
        self, instrument: Instrument, span: int, limit: int, bounds: dict[str, str]
    ) -> Request:
        category, _, symbol = instrument.name.partition(" ")
        question = {"category": category, "symbol": symbol, "interval": self.spans[span]}
        return Request("/v5/market/kline", question | bounds | {"limit": str(limit)})

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows as documented; the running candle may be the newest one, which comes first."""
        result = decode(KLINES, answer.body).result
        rows = result.list[::-1]
        if rows and f"{result.category} {result.symbol}" != instrument.name:
            raise BadAnswer(f"Bybit: {result.category} {result.symbol}, not {instrument.name}")
        columns = list(zip(*rows, strict=True)) or [()] * 7
        o, h, low, c, volume, turnover = map(floats, columns[1:])
        return Candles(integers(columns[0], 1_000), o, h, low, c, volume, turnover)


def _contracts(status: str, cursor: str = "") -> Request:
    question = {"category": "linear", "status": status, "limit": "1000"}
    return Request(INSTRUMENTS, question | ({"cursor": cursor} if cursor else {}))


def _spot(pair: Pair) -> Instrument:
    symbol = Symbol(pair.base_coin, pair.quote_coin)
    return Instrument(symbol, f"spot {pair.symbol}", pair.status == "Trading")


def _linear(contract: Contract) -> Instrument:
    symbol = Symbol(contract.base_coin, contract.quote_coin, _kind(contract))
    listed, trading = contract.launch_time * 1_000 or None, contract.status == "Trading"
    return Instrument(symbol, f"linear {contract.symbol}", trading, listed)


def _kind(contract: Contract) -> str:
    """PERP, or the day of delivery as YYMMDD; nothing for a type that is not documented."""
    if contract.contract_type == "LinearPerpetual":
        return "PERP"
    if contract.contract_type == "LinearFutures" and contract.delivery_time:
        return datetime.fromtimestamp(contract.delivery_time / 1e3, UTC).strftime("%y%m%d")
    return ""


def _refusal(answer: Answer, head: Envelope) -> ExchangeError:
    """The error of a retCode that is not 0."""
    code, text = head.ret_code, f"Bybit: {head.ret_code} {head.ret_msg}"
    if code in LIMITED:
        return RateLimited(text, _wait(answer))
    if code == BANNED:
        return Banned(text, BAN)
    if code in PLAIN:
        return PLAIN[code](text)
    # "Not supported symbols", "params error: symbol invalid"
    unknown = code == PARAMETER and "symbol" in head.ret_msg.lower()
    return UnknownSymbol(text) if unknown else Rejected(text)


def _wait(answer: Answer) -> float | None:
    """Retry-After, else the seconds until X-Bapi-Limit-Reset-Timestamp (milliseconds)."""
    wait, reset = retry_after(answer), answer.headers.get("x-bapi-limit-reset-timestamp")
    if wait is not None or reset is None or not (reset.isascii() and reset.isdigit()):
        return wait
    return max(0.0, int(reset) / 1e3 - answer.time / SECOND)
