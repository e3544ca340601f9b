"""Candles that are closed by the next one, and messages that could not be read."""

from pathlib import Path

import msgspec
import pytest

from dccd_core.exchanges import load
from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.live import Frame, Inbox, Live, LiveCandle, Session, Subscription
from dccd_core.models import SECOND, Channel, Series, Symbol, Window, iso
from dccd_core.store.datastore import DataStore
from dccd_core.store.journal import JournalWriter
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.heal_plan import Hole
from dccd_streams.link import Link
from dccd_streams.timing import Timing

MINUTE = 60 * SECOND
START = 1_795_000_020 // 60 * 60 * SECOND
SYMBOL = Symbol("BTC", "USD")
MARKET = Instrument(SYMBOL, "XBTUSD", True, price_digits=1, amount_digits=8)
SERIES = Series("kraken", Channel.LIVE_OHLC, SYMBOL, 60)
WHY = "an unreadable message"


def times(*minutes: int) -> list[int]:
    return [START + minute * MINUTE for minute in minutes]


def bar(minute: int, volume: float) -> bytes:
    """What Kraken says of a candle that goes on."""
    begin, end = (iso(START + n * MINUTE).replace("Z", ".000000000Z") for n in (minute, minute + 1))
    row = {"symbol": "BTC/USD", "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "trades": 1}
    row |= {"volume": volume, "vwap": 1.0, "interval_begin": begin, "interval": 1, "timestamp": end}
    frame = {"channel": "ohlc", "type": "update", "timestamp": end, "data": [row]}
    return msgspec.json.encode(frame)


class Stream:
    """A feed of candles and what became of it; messages may come in one batch."""

    def __init__(self, folder: Path, *, gapless: bool = True) -> None:
        self.store = DataStore(folder)
        self.journal = JournalWriter(self.store.journal)
        self.holes: list[Hole] = []
        subscription = Subscription(MARKET, Channel.OHLC, 60)
        self.feed = CandleFeed(
            subscription,
            self.journal,
            lambda _, hole: self.holes.append(hole),
            SERIES,
            gapless=gapless,
        )
        exchange = load("kraken")
        assert isinstance(exchange, Live)
        self.session: Session = exchange.session()
        self.session.subscribe([subscription])
        self.link = Link(self.feed, Timing())
        self.feed.opened(self.link)

    def hear(self, *messages: bytes) -> None:
        inbox = Inbox()
        self.session.read_all([Frame(one, START + 3_600 * SECOND) for one in messages], inbox)
        if inbox.bad:
            self.feed.gap(self.link, WHY)
        for candles in inbox.candles.values():
            self.feed.take(self.link, candles)

    def end(self) -> None:
        self.journal.close()

    @property
    def asked(self) -> list[int]:
        """The minutes that are in a hole."""
        return [
            minute
            for minute, time in enumerate(times(*range(12)))
            if any(hole.start <= time < (hole.end or 0) for hole in self.holes)
        ]

    def assert_true(self, last: dict[int, float]) -> None:
        """Each minute is as it was or asked for, and no other is called covered before it came."""
        self.end()
        stored = self.store.load(SERIES)
        found = dict(zip(stored["time"].to_physical(), stored["volume"], strict=True))
        for minute, volume in last.items():
            [time] = times(minute)
            assert minute in self.asked or found[time] == volume, minute
            covered = Window(time, time + MINUTE)
            told = any(
                w.start <= covered.start and covered.end <= w.end
                for w in self.store.covered(SERIES)
            )
            assert told != (minute in self.asked)


@pytest.mark.parametrize("together", [False, True])
def test_a_candle_whose_last_change_was_not_read_is_fetched(tmp_path: Path, together: bool) -> None:
    stream = Stream(tmp_path)
    stream.hear(bar(0, 1.0))
    if together:  # what closes the minute before comes with it
        stream.hear(bar(1, 1.0), bar(1, 9.0)[:-20])
    else:
        stream.hear(bar(1, 1.0))
        stream.hear(bar(1, 9.0)[:-20])
    for minute in range(2, 8):
        stream.hear(bar(minute, 1.0))
    assert 1 in stream.asked
    assert stream.asked == ([0, 1] if together else [1, 2])
    stream.assert_true({0: 1.0, 1: 9.0, **dict.fromkeys(range(2, 7), 1.0)})


@pytest.mark.parametrize("gapless", [False, True])
def test_a_candle_that_was_not_sent_is_asked_for_where_each_minute_has_one(
    tmp_path: Path, gapless: bool
) -> None:
    stream = Stream(tmp_path, gapless=gapless)
    for minute in (0, 1, 3, 4):
        stream.hear(bar(minute, 1.0))
    stream.end()
    hole = Hole(*times(2, 3), "a candle was not sent")
    assert stream.holes == ([hole] if gapless else [])
    before, empty, after = (Window(*times(*pair)) for pair in ((0, 2), (2, 3), (3, 4)))
    covered = [before, after] if gapless else [Window(before.start, after.end)]
    assert stream.store.covered(SERIES) == covered
    assert [loss.cause for loss in stream.store.lost(SERIES, empty)] == [hole.cause] * gapless


def test_a_candle_of_which_nothing_was_read_is_fetched(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.hear(bar(0, 1.0))
    stream.hear(bar(1, 1.0))
    stream.hear(bar(2, 9.0)[:-20])
    for minute in range(3, 9):
        stream.hear(bar(minute, 1.0))
    assert stream.asked == [1, 2, 3]
    stream.assert_true({0: 1.0, 1: 1.0, 2: 9.0, **dict.fromkeys(range(3, 8), 1.0)})


def test_a_doubtful_candle_does_not_replace_what_another_connection_gave(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    other = Link(stream.feed, Timing())
    stream.feed.opened(other)

    def give(link: Link, minute: int, volume: float) -> None:
        rest = (None, None, None, None, START + 3_600 * SECOND)
        [time] = times(minute)
        stream.feed.take(link, [LiveCandle(time, 1.0, 1.0, 1.0, 1.0, volume, *rest)])

    give(stream.link, 0, 1.0)
    stream.feed.gap(stream.link, WHY)
    give(other, 1, 9.0)
    give(stream.link, 1, 1.0)  # as it knew it before
    give(other, 2, 2.0)
    stream.assert_true({0: 1.0, 1: 9.0, 2: 2.0})
    assert stream.store.load(SERIES)["volume"].to_list() == [1.0, 9.0, 2.0]
