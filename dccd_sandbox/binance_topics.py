"""What Binance's streams bring: trades, aggregate trades, candles, book changes, partial books."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from dccd_sandbox import spans
from dccd_sandbox.book import Change, Level, merged
from dccd_sandbox.candles import TIME, texts
from dccd_sandbox.feeds import BookFeed, CandleFeed, TradeFeed
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Kind
from dccd_sandbox.tape import aggregated, first_trade_of


@dataclass(frozen=True, slots=True)
class Dialect:
    """What spot and USD-M do differently.

    `places` pads decimals with zeros. Of each change of a book Binance's numbers go on by
    `numbers`; spot's next event begins where the last one ended, USD-M's tells where that was.
    """

    is_spot: bool
    places: int | None
    numbers: int
    kline_ms: int
    intervals: dict[str, int]

    def last_id(self, sequence: int) -> int:
        """Number of the book after a change."""
        return sequence * self.numbers

    def first_id(self, sequence: int) -> int:
        """Number at which the change begins; USD-M leaves some out."""
        return (sequence - 1) * self.numbers + (1 if self.is_spot else 3)


@dataclass(frozen=True, slots=True)
class Place:
    """Whose stream begins when: `now` in ms; `unit` is 1,000 where times are sent in µs."""

    market: Market
    dialect: Dialect
    unit: int
    now: int


class Topic(ABC):
    """One stream of one market, from a moment on."""

    kind: ClassVar[Kind]

    def __init__(self, place: Place) -> None:
        self.market = place.market
        self.dialect = place.dialect
        self.unit = place.unit

    @abstractmethod
    def due(self, now: int) -> Iterator[str]:
        """JSON of what has happened since the last call."""

    def levels(self, levels: Iterable[Level]) -> str:
        """A side of a book."""
        market, places = self.market, self.dialect.places
        return ",".join(
            f'["{market.price(ticks, places)}","{market.amount(lots, places)}"]'
            for ticks, lots in levels
        )


class TradeTopic(Topic):
    """<symbol>@trade."""

    kind = Kind.TRADES

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.feed = TradeFeed(place.market, place.now)
        self.tail = ',"M":true}' if place.dialect.is_spot else ',"X":"MARKET"}'

    def due(self, now: int) -> Iterator[str]:
        """A message for each trade."""
        market, places = self.market, self.dialect.places
        found = self.feed.due(now)
        columns = (found.time.tolist(), found.ticks.tolist(), found.lots.tolist())
        for index, (time, ticks, lots, buy) in enumerate(
            zip(*columns, found.buy.tolist(), strict=True)
        ):
            at, maker = time * self.unit, "false" if buy else "true"
            yield (
                f'{{"e":"trade","E":{at},"s":"{market.symbol}","t":{found.first_id + index},'
                f'"p":"{market.price(ticks, places)}","q":"{market.amount(lots, places)}",'
                f'"T":{at},"m":{maker}{self.tail}'
            )


class AggregateTopic(Topic):
    """<symbol>@aggTrade."""

    kind = Kind.TRADES

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.feed = TradeFeed(place.market, place.now)

    def due(self, now: int) -> Iterator[str]:
        """A message for each aggregate trade."""
        market, places, is_spot = self.market, self.dialect.places, self.dialect.is_spot
        found, counts = aggregated(self.feed.due(now))
        columns = (found.time.tolist(), found.ticks.tolist(), found.lots.tolist())
        for index, (time, ticks, lots, buy, count) in enumerate(
            zip(*columns, found.buy.tolist(), counts.tolist(), strict=True)
        ):
            at, number = time * self.unit, found.first_id + index
            first, amount = first_trade_of(number), market.amount(lots, places)
            normal = "" if is_spot else f'"nq":"{amount}",'
            tail = ',"M":true}' if is_spot else "}"
            yield (
                f'{{"e":"aggTrade","E":{at},"s":"{market.symbol}","a":{number},'
                f'"p":"{market.price(ticks, places)}","q":"{amount}",{normal}"f":{first},'
                f'"l":{first + count - 1},"T":{at},"m":{"false" if buy else "true"}{tail}'
            )


class KlineTopic(Topic):
    """<symbol>@kline_<interval>."""

    kind = Kind.OHLC

    def __init__(self, place: Place, interval: str) -> None:
        super().__init__(place)
        every = 1_000 if interval == "1s" else place.dialect.kline_ms
        self.interval = interval
        self.feed = CandleFeed(place.market, place.dialect.intervals[interval], place.now, every)

    def due(self, now: int) -> Iterator[str]:
        """A message for each candle that closed or has changed."""
        rows = self.feed.due(now)
        places = None if self.market.verbatim else self.dialect.places
        for open_ms, cells in zip(
            rows[:, TIME].tolist(),
            zip(*texts(rows, self.market.digits, places), strict=True),
            strict=True,
        ):
            yield self._message(open_ms, cells, now)

    def _message(self, start: int, cells: tuple[object, ...], now: int) -> str:
        _, opened, high, low, close, volume, quote, count, taker, taker_quote = cells
        stop, symbol, tape = (
            spans.end_of(start, self.feed.span),
            self.market.symbol,
            self.market.tape,
        )
        first, last = (
            (tape.next_id(start - 1), tape.next_id(min(stop - 1, now)) - 1) if count else (-1, -1)
        )
        ended = "true" if self.feed.is_closed(start, now) else "false"
        end = stop * self.unit - 1
        return (
            f'{{"e":"kline","E":{now * self.unit},"s":"{symbol}","k":{{"t":{start * self.unit},'
            f'"T":{end},"s":"{symbol}","i":"{self.interval}","f":{first},"L":{last},'
            f'"o":"{opened}","c":"{close}","h":"{high}","l":"{low}","v":"{volume}","n":{count},'
            f'"x":{ended},"q":"{quote}","V":"{taker}","Q":"{taker_quote}","B":"0"}}}}'
        )


class DepthTopic(Topic):
    """<symbol>@depth and <symbol>@depth@100ms: what changed in each so many milliseconds."""

    kind = Kind.BOOK

    def __init__(self, place: Place, every: int) -> None:
        super().__init__(place)
        self.every = every
        self.feed = BookFeed(place.market, place.now // every * every - 1)
        self.last = self.feed.book.sequence

    def due(self, now: int) -> Iterator[str]:
        """An event for each window that has ended and brought something."""
        window: list[Change] = []
        for change in self.feed.due(now // self.every * self.every - 1):
            if window and change.time // self.every != window[0].time // self.every:
                yield self._event(merged(window))
                window = []
            window.append(change)
        if window:
            yield self._event(merged(window))

    def _event(self, change: Change) -> str:
        dialect = self.dialect
        ended = (change.time // self.every + 1) * self.every * self.unit
        time = "" if dialect.is_spot else f'"T":{change.time},'
        before = "" if dialect.is_spot else f'"pu":{dialect.last_id(self.last)},'
        self.last = change.sequence
        return (
            f'{{"e":"depthUpdate","E":{ended},{time}"s":"{self.market.symbol}",'
            f'"U":{dialect.first_id(change.first)},"u":{dialect.last_id(change.sequence)},{before}'
            f'"b":[{self.levels(change.bids)}],"a":[{self.levels(change.asks)}]}}'
        )


class PartialTopic(Topic):
    """<symbol>@depth5, 10 or 20: the best levels, whole, each so many milliseconds."""

    kind = Kind.BOOK

    def __init__(self, place: Place, every: int, depth: int) -> None:
        super().__init__(place)
        self.every = every
        self.depth = depth
        self.next = (place.now // every + 1) * every

    def due(self, now: int) -> Iterator[str]:
        """The book as it was at each border of time."""
        for moment in range(self.next, now + 1, self.every):
            yield self._event(moment)
            self.next = moment + self.every

    def _event(self, moment: int) -> str:
        book, dialect = self.market.book.at(moment).top(self.depth), self.dialect
        number, bids, asks = (
            dialect.last_id(book.sequence),
            self.levels(book.bids),
            self.levels(book.asks),
        )
        if dialect.is_spot:
            return f'{{"lastUpdateId":{number},"bids":[{bids}],"asks":[{asks}]}}'
        return (
            f'{{"e":"depthUpdate","E":{moment},"T":{book.time},"s":"{self.market.symbol}",'
            f'"U":{dialect.first_id(book.sequence)},"u":{number},'
            f'"pu":{dialect.last_id(book.sequence - 1)},"b":[{bids}],"a":[{asks}]}}'
        )


_EVERY_SPOT = {"": 1_000, "100ms": 100, "1000ms": 1_000}
_EVERY_USDM = {"": 250, "100ms": 100, "250ms": 250, "500ms": 500}


def topic_of(feed: str, place: Place) -> Topic | None:
    """The stream of that name, without its symbol; None: there is none."""
    what, _, speed = feed.partition("@")
    interval = what.removeprefix("kline_")
    every = (_EVERY_SPOT if place.dialect.is_spot else _EVERY_USDM).get(speed)
    match what:
        case "trade":
            return TradeTopic(place)
        case "aggTrade":
            return AggregateTopic(place)
        case "depth" if every:
            return DepthTopic(place, every)
        case "depth5" | "depth10" | "depth20" if every:
            return PartialTopic(place, every, int(what[5:]))
        case _ if what != interval and interval in place.dialect.intervals:
            return KlineTopic(place, interval)
        case _:
            return None
