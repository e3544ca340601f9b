"""Coinbase Exchange. https://docs.cdp.coinbase.com/exchange/introduction/welcome"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

import msgspec

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Blocked,
    Candles,
    Exchange,
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
from dccd_core.models import SECOND, Channel, Symbol, Window, iso, microseconds

# open time in seconds, LOW, HIGH, open, close, volume: all of them numbers
Row = tuple[int, float, float, float, float, float]


class Error(msgspec.Struct):
    """The body of a refusal."""

    message: str


class Product(msgspec.Struct):
    """One entry of the product list. What was delisted stays in it; there is no listing date."""

    id: str
    base_currency: str
    quote_currency: str
    status: str
    trading_disabled: bool


class Trade(msgspec.Struct):
    """One trade, read for its time only."""

    time: datetime
    price: float
    size: float


ROWS = msgspec.json.Decoder(list[Row])
TRADES = msgspec.json.Decoder(list[Trade], strict=False)
PRODUCTS = msgspec.json.Decoder(list[Product])
ERROR = msgspec.json.Decoder(Error)

# How a list of trades begins, and a list of candles never.
OBJECTS = re.compile(rb"\s*\[\s*\{")
# The most trades of one answer.
TAPE = 1_000


class Coinbase(Exchange):
    """Coinbase Exchange: candles newest first, both bounds inclusive, as ISO texts."""

    name = "coinbase"
    title = "Coinbase Exchange"
    docs = "https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-candles"
    rest_url = "https://api.exchange.coinbase.com"
    # 10 requests a second and address, 15 at once. A page has 301 rows where its bounds are 300
    # bars apart, but 300 is what is documented.
    limits = Limits(weight=9, seconds=1, burst=5, page=300)
    spans: ClassVar[Mapping[int, str]] = {
        60: "60", 300: "300", 900: "900", 3_600: "3600", 21_600: "21600", 86_400: "86400",
    }  # fmt: skip
    # Intervals without a trade are left out.
    gapless = False
    # There is no live channel of candles: they are made of trades. The book is level2_batch.
    channels = frozenset({Channel.OHLC, Channel.TRADES, Channel.BOOK, Channel.BOOK_DELTAS})

    def check(self, answer: Answer) -> None:
        """Raise what an answer stands for. Errors carry {"message"} with HTTP 4XX."""
        if answer.status == 200:
            return
        text = _error_text(answer.body)
        if answer.status == 429:
            raise RateLimited(f"Coinbase: too many requests: {text}", retry_after(answer))
        if answer.status in (403, 451):
            raise Blocked(
                f"Coinbase refuses this address (HTTP {answer.status}): {text}. Set a proxy under "
                f"exchanges.coinbase"
            )
        if answer.status >= 500:
            raise Unavailable(f"Coinbase: HTTP {answer.status}: {text}")
        if answer.status == 404 and text in ("NotFound", "Product not found"):
            raise UnknownSymbol(f"Coinbase: no such product ({text})")
        raise Rejected(f"Coinbase: HTTP {answer.status}: {text}")

    def instruments_requests(self) -> list[Request]:
        """All products, also those that were delisted."""
        return [Request("/products")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        """Products by their own codes of base and quote."""
        return Listed(
            [
                Instrument(
                    Symbol(p.base_currency, p.quote_currency),
                    p.id,
                    p.status == "online" and not p.trading_disabled,
                )
                for p in decode(PRODUCTS, answer.body)
                if nameable(p.base_currency, p.quote_currency)
            ]
        )

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        """Both bounds: one alone would be ignored, and the newest rows come, minutes old.

        The bounds of a single bar are moved apart, since they must not be the same.
        """
        size = span * SECOND
        end = max(window.end - size, window.start + size)
        bounds = {"start": iso(window.start), "end": iso(end)}
        question = {"granularity": self.spans[span]}
        return Request(f"/products/{instrument.name}/candles", question | bounds)

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        """Rows from the oldest on; of a trade, which `last_candle_request` asks for, the candle
        that it is in, as far as one trade tells."""
        if OBJECTS.match(answer.body):
            rows = [_row(trade, span) for trade in decode(TRADES, answer.body)]
        else:
            rows = decode(ROWS, answer.body)
        columns = list(zip(*reversed(rows), strict=True)) or [()] * 6
        low, high, opened, close, volume = map(floats, columns[1:])
        return Candles(integers(columns[0], SECOND), opened, high, low, close, volume)

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The first thousand trades: a product's ids are contiguous and begin with 1."""
        return self._tape(instrument, TAPE, {"after": str(TAPE + 1)})

    def first_candle(self, answer: Answer, instrument: Instrument, span: int) -> int | None:
        """The candle of the oldest trade. Of BTC/USD, whose candles of a span begin months after
        its trades, that is too early, which costs a few empty pages."""
        trades = decode(TRADES, answer.body)
        return min(_row(trade, span)[0] for trade in trades) * SECOND if trades else None

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        """The newest trade: a market may be quiet for longer than any page of candles."""
        return self._tape(instrument, 1, {})

    def _tape(self, instrument: Instrument, limit: int, bounds: dict[str, str]) -> Request:
        return Request(f"/products/{instrument.name}/trades", {"limit": str(limit)} | bounds)


def _row(trade: Trade, span: int) -> Row:
    """The candle of one trade; BadAnswer if its time has no zone."""
    try:
        seconds = microseconds(trade.time) // SECOND
    except ValueError as error:
        raise BadAnswer(f"Coinbase: the time of a trade: {error}") from error
    price = trade.price
    return seconds // span * span, price, price, price, price, trade.size


def _error_text(body: bytes) -> str:
    try:
        return ERROR.decode(body).message
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return repr(body[:80])
