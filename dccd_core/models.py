"""The nouns of the domain: a symbol, a channel, a span, a window of time and a series.

All times inside the program are integers: microseconds since 1970-01-01 UTC. Windows are half open.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple, Self

SECOND = 1_000_000
DAY = 86_400
WEEK = 7 * DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PART = re.compile(r"[A-Z0-9.]+")
_SPAN = re.compile(r"([1-9]\d*)([smhdw]?)")
_UNITS = {"w": WEEK, "d": DAY, "h": 3_600, "m": 60, "s": 1}


def nameable(*codes: str) -> bool:
    """Whether our names can hold these codes of an exchange: capitals, digits and dots."""
    return all(_PART.fullmatch(code) for code in codes)


def microseconds(moment: datetime) -> int:
    """A time-zone-aware datetime as microseconds since the epoch; ValueError if it has no zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    # three times as fast as a division by timedelta(microseconds=1): each streamed trade pays it
    since = moment - EPOCH
    return (since.days * DAY + since.seconds) * SECOND + since.microseconds


def moment(time: int) -> datetime:
    """Microseconds since the epoch as an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=time)


def iso(time: int) -> str:
    """Microseconds since the epoch as `2026-01-31T23:59:00Z`."""
    return moment(time).isoformat().replace("+00:00", "Z")


def parse_span(value: int | str) -> int:
    """Seconds of a span written as seconds or as a label: 3600, "3600", "1h"; else ValueError."""
    found = _SPAN.fullmatch(str(value).strip())
    if isinstance(value, bool) or not found:
        raise ValueError(
            f"{value!r} is not a span: write seconds (3600) or a label (1m, 1h, 1d, 1w)"
        )
    return int(found[1]) * _UNITS[found[2] or "s"]


def span_label(span: int) -> str:
    """The shortest label of a span in seconds: 60 -> 1m, 14400 -> 4h, 604800 -> 1w."""
    unit = next(unit for unit, size in _UNITS.items() if span % size == 0)
    return f"{span // _UNITS[unit]}{unit}"


class Channel(StrEnum):
    """What is recorded of a market; the value is the folder's name."""

    OHLC = "ohlc"
    TRADES = "trades"
    BOOK = "book"
    BOOK_DELTAS = "book_deltas"
    LIVE_OHLC = "live_ohlc"
    """Candles of a stream, by day, beside those that the exchange serves by REST."""


class Window(NamedTuple):
    """Times from `start` up to, not including, `end`, in microseconds."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{iso(self.start)} … {iso(self.end)}"


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """A market's name, the same on every exchange: BTC/USDT, or BTC/USDT:PERP for a derivative."""

    base: str
    quote: str
    contract: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The symbol of `BASE/QUOTE[:CONTRACT]`; ValueError says what would be right."""
        pair, _, contract = text.partition(":")
        base, slash, quote = pair.partition("/")
        parts = [base, quote, *([contract] if ":" in text else [])]
        if slash and all(_PART.fullmatch(part) for part in parts):
            return cls(base, quote, contract)
        raise ValueError(f"{text!r} is not a pair: write BASE/QUOTE in upper case, as BTC/USDT")

    @classmethod
    def from_slug(cls, slug: str) -> Self:
        """The symbol of a folder's name, as BTC-USDT or BTC-USDT-PERP."""
        base, quote, *contract = slug.split("-")
        return cls(base, quote, *contract)

    @property
    def slug(self) -> str:
        """The name in paths and asset keys: BTC-USDT, BTC-USDT-PERP."""
        return "-".join(part for part in (self.base, self.quote, self.contract) if part)

    def __str__(self) -> str:
        return f"{self.base}/{self.quote}" + (f":{self.contract}" if self.contract else "")


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """One stored series. The one place that knows its folder, its asset key and its periods.

    `span` is in seconds for candles, live ones too, and 0 for every other channel.
    """

    exchange: str
    channel: Channel
    symbol: Symbol
    span: int = 0

    @classmethod
    def parse(cls, key: str) -> Self:
        """The series of an asset key: binance/ohlc/1h/BTC-USDT, binance/trades/BTC-USDT."""
        try:
            exchange, channel, *span, slug = key.split("/")
            seconds = parse_span(*span) if span else 0
            series = cls(exchange, Channel(channel), Symbol.from_slug(slug), seconds)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{key!r} is not a series: write binance/ohlc/1h/BTC-USDT") from error
        if series.key != tuple(key.split("/")):
            raise ValueError(f"{key!r} is not a series: did you mean {'/'.join(series.key)!r}?")
        return series

    @property
    def key(self) -> tuple[str, ...]:
        """The asset key. It ends in the pair: Dagster's lineage shows the last part only."""
        span = (span_label(self.span),) if self.span else ()
        return (self.exchange, str(self.channel), *span, self.symbol.slug)

    @property
    def path(self) -> PurePosixPath:
        """The folder below the data path."""
        span = (span_label(self.span),) if self.span else ()
        return PurePosixPath(self.exchange, str(self.channel), self.symbol.slug, *span)

    def __str__(self) -> str:
        return "/".join(self.key)

    def floor(self, time: int) -> int:
        """The open time of the candle that holds `time`; weeks open on Monday."""
        size = self.span * SECOND
        anchor = 4 * DAY * SECOND if self.span % WEEK == 0 else 0
        return (time - anchor) // size * size + anchor

    def ceil(self, time: int) -> int:
        """The first open time at or after `time`."""
        return self.floor(time - 1) + self.span * SECOND

    def grid(self, window: Window) -> Window:
        """The window from the first open time inside `window` to past the last one; `window` itself
        where there is no grid."""
        if not self.span:
            return window
        start = self.ceil(window.start)
        return Window(start, max(start, self.ceil(window.end)))

    def count(self, window: Window) -> int:
        """How many candles open inside a window."""
        start, end = self.grid(window)
        return (end - start) // (self.span * SECOND)

    def period(self, time: int) -> str:
        """The file's stem and partition key of a time: the year of candles, the day of the rest."""
        return moment(time).strftime("%Y" if self.channel is Channel.OHLC else "%Y-%m-%d")

    def is_period(self, stem: str) -> bool:
        """Whether the stem of a file is that of a period: that of a copy, 2026-old, is not."""
        return _is_date(stem if self.channel is not Channel.OHLC else f"{stem}-01-01")

    def period_window(self, period: str) -> Window:
        """The window of a partition key, 2026 or 2026-11-22; ValueError if it is neither."""
        if self.channel is Channel.OHLC:
            start = datetime.strptime(period, "%Y").replace(tzinfo=UTC)
            return Window(microseconds(start), microseconds(start.replace(year=start.year + 1)))
        start = datetime.strptime(period, "%Y-%m-%d").replace(tzinfo=UTC)
        return Window(microseconds(start), microseconds(start + timedelta(days=1)))

    def periods(self, window: Window) -> Iterator[tuple[str, Window]]:
        """Each period that a window touches and the part of it inside, oldest first."""
        start = window.start
        while start < window.end:
            period = self.period(start)
            end = min(self.period_window(period).end, window.end)
            yield period, Window(start, end)
            start = end


@cache
def _is_date(text: str) -> bool:
    try:
        return str(date.fromisoformat(text)) == text
    except ValueError:
        return False
