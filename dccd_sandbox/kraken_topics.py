"""The feeds of Kraken's WebSocket, version 2; https://docs.kraken.com/api/docs/websocket-v2.

From general knowledge: numbers come without zeros at their ends, a snapshot of candles has five.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from zlib import crc32

from dccd_sandbox import spans
from dccd_sandbox.book import Level
from dccd_sandbox.candles import COUNT, LOW, OPEN, QUOTE, TIME, VOLUME, Rows, decimal
from dccd_sandbox.feeds import BookFeed, CandleFeed, TradeFeed
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Kind

DEPTHS = (10, 25, 100, 500, 1_000)
INTERVALS = (1, 5, 15, 30, 60, 240, 1_440, 10_080, 21_600)
_PLACES = 8
_SNAPSHOT = 5


def wire_name(market: Market) -> str:
    """BTC/USD, also where version 1 and the list of markets say XBT."""
    return f"{market.base}/{market.quote}"


@dataclass(slots=True)
class Copy:
    """A subscriber's book: what a right client has, cut to the depth."""

    depth: int
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)

    def apply(self, bids: list[Level], asks: list[Level]) -> None:
        """Set levels, remove those of 0 lots, cut."""
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            side.update(levels)
            for ticks in [ticks for ticks, lots in levels if lots == 0]:
                del side[ticks]
        self.bids = dict(sorted(self.bids.items(), reverse=True)[: self.depth])
        self.asks = dict(sorted(self.asks.items())[: self.depth])

    def checksum(self, scale: int) -> int:
        """CRC32 of the best ten of each side, asks first; amounts in `scale` to a lot."""
        best = [*list(self.asks.items())[:10], *list(self.bids.items())[:10]]
        return crc32("".join(f"{ticks}{lots * scale}" for ticks, lots in best).encode())


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for of one market."""

    channel: str
    market: Market
    option: int = 0

    @property
    def topic(self) -> str:
        """Its name; a market has one book and one span of candles on a connection."""
        return f"{self.channel} {wire_name(self.market)}"


class Trading:
    """The trades of a market."""

    def __init__(self, wanted: Wanted, now: int) -> None:
        self._market = wanted.market
        self._feed = TradeFeed(wanted.market, now)

    def begin(self, now: int) -> list[str]:
        """Nothing: snapshots are not what `snapshot` is by default."""
        return []

    def due(self, now: int) -> list[str]:
        """A message for each moment in which was traded."""
        found = self._feed.due(now)
        rows = zip(
            range(found.first_id, found.first_id + len(found)),
            *(column.tolist() for column in (found.time, found.ticks, found.lots, found.buy)),
            strict=True,
        )
        return [
            _data("trade", "update", [self._trade(*row) for row in moment])
            for _, moment in groupby(rows, lambda row: row[1])
        ]

    def _trade(self, number: int, moment: int, ticks: int, lots: int, buy: bool) -> str:
        price, amount = number_of(self._market.price(ticks)), number_of(self._market.amount(lots))
        return (
            f'{{"symbol":"{wire_name(self._market)}","side":"{"buy" if buy else "sell"}",'
            f'"price":{price},"qty":{amount},"ord_type":"{"market" if number % 3 else "limit"}",'
            f'"trade_id":{number},"timestamp":"{stamp(moment)}"}}'
        )


class Booking:
    """The book of a market, of so many levels."""

    def __init__(self, wanted: Wanted, now: int) -> None:
        self._market = wanted.market
        self._feed = BookFeed(wanted.market, now, wanted.option, dropped=False)
        self._copy = Copy(wanted.option)
        self._scale = 10 ** (_PLACES - wanted.market.digits.amount)

    def begin(self, now: int) -> list[str]:
        """The whole of it."""
        book = self._feed.book
        return [self._message("snapshot", book.bids, book.asks, book.time)]

    def due(self, now: int) -> list[str]:
        """Its changes; those too deep are none."""
        return [
            self._message("update", change.bids, change.asks, change.time)
            for change in self._feed.due(now)
            if change.bids or change.asks
        ]

    def _message(self, kind: str, bids: list[Level], asks: list[Level], moment: int) -> str:
        known = (self._copy.bids, self._copy.asks)
        # what the subscriber has cut off is not removed again
        bids, asks = (
            [one for one in levels if one[1] or one[0] in side]
            for levels, side in zip((bids, asks), known, strict=True)
        )
        self._copy.apply(bids, asks)
        sides = f'"bids":{self._levels(bids)},"asks":{self._levels(asks)}'
        return _data(
            "book",
            kind,
            [
                f'{{"symbol":"{wire_name(self._market)}",{sides},'
                f'"checksum":{self._copy.checksum(self._scale)},"timestamp":"{stamp(moment)}"}}'
            ],
        )

    def _levels(self, levels: list[Level]) -> str:
        texts = [
            f'{{"price":{number_of(self._market.price(ticks))},'
            f'"qty":{number_of(self._market.amount(lots))}}}'
            for ticks, lots in levels
        ]
        return f"[{','.join(texts)}]"


class Charting:
    """The candles of a market and span: with each trade, and none without."""

    def __init__(self, wanted: Wanted, now: int) -> None:
        self._market, self._minutes = wanted.market, wanted.option
        self._feed = CandleFeed(wanted.market, wanted.option * 60, now)

    def begin(self, now: int) -> list[str]:
        """Some that have closed, and the running one."""
        span = self._minutes * 60
        rows = self._market.candles(span, now - (_SNAPSHOT + 1) * span * 1_000, now, now)
        return self._messages("snapshot", rows, now)

    def due(self, now: int) -> list[str]:
        """The running one, and those before it that have changed."""
        return self._messages("update", self._feed.due(now), now)

    def _messages(self, kind: str, rows: Rows, now: int) -> list[str]:
        bars = [self._bar(row) for row in rows if row[COUNT] > 0]
        return [_data("ohlc", kind, bars, f'"timestamp":"{stamp(now)}",')] if bars else []

    def _bar(self, row: Rows) -> str:
        digits = self._market.digits
        prices = [number_of(decimal(int(ticks), digits.price)) for ticks in row[OPEN : LOW + 2]]
        average = number_of(decimal(round(int(row[QUOTE]) / int(row[VOLUME])), digits.price))
        names = ("open", "high", "low", "close")
        opened = int(row[TIME])
        return (
            f'{{"symbol":"{wire_name(self._market)}",'
            + "".join(f'"{name}":{text},' for name, text in zip(names, prices, strict=True))
            + f'"trades":{int(row[COUNT])},"volume":'
            f'{number_of(decimal(int(row[VOLUME]), digits.amount))},"vwap":{average},'
            f'"interval_begin":"{stamp(opened, 9)}","interval":{self._minutes},'
            f'"timestamp":"{stamp(spans.end_of(opened, self._minutes * 60))}"}}'
        )


CHANNELS: dict[str, tuple[type[Trading | Booking | Charting], Kind]] = {
    "trade": (Trading, Kind.TRADES),
    "book": (Booking, Kind.BOOK),
    "ohlc": (Charting, Kind.OHLC),
}
OPTIONS = {"book": ("depth", DEPTHS), "ohlc": ("interval", INTERVALS)}


def number_of(text: str) -> str:
    """A JSON number without zeros at its end; tiny ones with an exponent."""
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text or "0"


def stamp(moment: int, digits: int = 6) -> str:
    """RFC 3339 of milliseconds, with so many digits of the second."""
    text = datetime.fromtimestamp(moment // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{moment % 1_000:03}{'0' * (digits - 3)}Z"


def _data(channel: str, kind: str, rows: list[str], extra: str = "") -> str:
    return f'{{"channel":"{channel}","type":"{kind}",{extra}"data":[{",".join(rows)}]}}'
