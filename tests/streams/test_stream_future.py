"""Times of the future: nothing is called covered by them, and one market's harm no other's."""

import json
import time
from pathlib import Path

from fake_exchange import Fake
from stream_lab import lab, wait

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.live import BookChange, LiveCandle, Subscription
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.journal import JournalWriter
from dccd_streams.book import OrderBook
from dccd_streams.book_feed import BookFeed
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.feed import FUTURE
from dccd_streams.heal_plan import Hole
from dccd_streams.link import Link
from dccd_streams.timing import Timing
from dccd_streams.trade_feed import TradeFeed

BTC, ETH = "BTC-USD", "ETH-USD"
SYMBOL = Symbol("BTC", "USD")
CANDLES = Series("bybit", Channel.LIVE_OHLC, SYMBOL, 60)
START = int(time.time()) // 60 * 60 * SECOND - 600 * SECOND
MICRO = 1_000
"""What times are multiplied by where an exchange gives microseconds for milliseconds."""


def trade(second: int, number: int, time: int | None = None) -> Trade:
    at = START + second * SECOND
    return Trade(at if time is None else time, at, str(number), 1.0, 1.0, True)


def trade_feed(
    journal: JournalWriter, holes: list[Hole], *, contiguous: bool
) -> tuple[TradeFeed, Series]:
    feed = TradeFeed(
        Subscription(Instrument(SYMBOL, "X", True), Channel.TRADES),
        journal,
        lambda _, hole: holes.append(hole),
        contiguous=contiguous,
        healable=True,
        settle=1.0,
    )
    feed.written.record = Series("bybit", Channel.TRADES, SYMBOL)
    return feed, feed.written.record


def candle_feed(journal: JournalWriter, holes: list[Hole]) -> CandleFeed:
    return CandleFeed(
        Subscription(Instrument(SYMBOL, "X", True), Channel.OHLC, 60),
        journal,
        lambda _, hole: holes.append(hole),
        CANDLES,
        gapless=False,
    )


def test_a_time_in_another_unit_is_refused_and_asked_for(tmp_path: Path) -> None:
    for contiguous in (True, False):
        holes: list[Hole] = []
        store = DataStore(tmp_path / str(contiguous))
        journal = JournalWriter(store.journal)
        feed, series = trade_feed(journal, holes, contiguous=contiguous)
        link = Link(feed, Timing())
        feed.opened(link)
        feed.take(link, [trade(0, 1)])
        holes.clear()
        feed.take(link, [trade(1, 2), trade(2, 3, START * MICRO)])
        assert feed.tally.problem == FUTURE
        for second in (3, 4):
            feed.take(link, [trade(second, second + 1)])
        [hole] = holes
        assert hole.start <= START + SECOND < START + 3 * SECOND <= (hole.end or 0)
        feed.fetched(hole, [trade(2, 3)])
        journal.close()
        assert store.load(series)["trade_id"].to_list() == ["1", "2", "3", "4", "5"]


def test_the_service_lives_on_though_one_market_gives_another_unit(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", fold=0.2, first_fold=0.1) as found:
        found.wait_live()
        found.server.trade(BTC, 3)
        found.wait_trades()
        now = time.time_ns() // 1_000
        rows = [[4, now * MICRO, 1.0, 1.0, True]]
        found.server.say(json.dumps({"k": "t", "s": BTC, "rows": rows}))
        wait(lambda: found.status()["problem"], "nobody tells of it")
        found.server.trade(BTC, 3)
        found.server.trade(ETH, 3)
        found.wait_trades(ETH)
        found.wait_trades(BTC)
        wait(lambda: found.store.existing_periods(Series("fake", Channel.TRADES, SYMBOL)))
        assert not found.manager.failed


def test_rest_that_gives_another_unit_is_not_believed(tmp_path: Path) -> None:
    exchange = Fake()
    exchange.contiguous = False
    with lab(tmp_path, "trades", exchange=exchange, heal_tries=2) as found:
        ask = found.server._ask
        found.wait_live()
        found.server.trade(BTC, 3)
        found.wait_trades()
        found.server._ask = (
            lambda path, query: [  # type: ignore[method-assign]
                [row[0], row[1] * MICRO, *row[2:]] if path == "/trades" else row
                for row in ask(path, query)
            ]
        )
        found.server.cut()
        wait(lambda: len(found.server.connects) == 2)
        found.wait_live()
        found.server.trade(BTC, 3)
        wait(lambda: found.status()["lost"], "it is not given up")
        series = Series("fake", Channel.TRADES, SYMBOL)
        wait(lambda: any(FUTURE in loss.cause for loss in found.store.lost(series)))


def test_a_book_has_the_time_of_receipt_where_its_own_is_none(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = BookFeed(Subscription(Instrument(SYMBOL, "X", True), Channel.BOOK), journal)
    rows = Series("bybit", Channel.BOOK, SYMBOL)
    feed.write_rows(rows, 1, 5)
    link = Link(feed, Timing(), OrderBook(from_rest=False))
    feed.opened(link)

    def change(second: int, *, snapshot: bool = False, factor: int = 1) -> BookChange:
        at = START + second * SECOND
        return BookChange(snapshot, [(9.0, 1.0 + second)], [(10.0, 1.0)], at, at * factor)

    feed.take(link, [change(0, snapshot=True), change(1)])
    feed.take(link, [change(2, factor=MICRO)])
    feed.take(link, [change(3), change(4)])
    journal.close()
    stored = store.load(rows)
    assert stored["time"].to_physical().to_list() == [START + n * SECOND for n in range(4)]
    assert [levels[0] for levels in stored["bid_amount"]] == [1.0, 2.0, 3.0, 4.0]


def test_a_candle_of_the_future_is_refused_and_what_it_stood_for_asked_for(tmp_path: Path) -> None:
    holes: list[Hole] = []
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = candle_feed(journal, holes)
    link = Link(feed, Timing())
    feed.opened(link)

    def candle(minute: int, factor: int = 1) -> LiveCandle:
        at = START + minute * 60 * SECOND
        rest = (None, None, None, None, at + 60 * SECOND)
        return LiveCandle(at * factor, 1.0, 1.0, 1.0, 1.0, 1.0, *rest)

    feed.take(link, [candle(0)])
    feed.take(link, [candle(1, MICRO)])
    feed.take(link, [candle(2)])
    journal.close()
    minutes = [START + n * 60 * SECOND for n in range(4)]
    assert [(hole.start, hole.end) for hole in holes] == [(minutes[1], minutes[2])]
    assert store.load(CANDLES)["time"].to_physical().to_list() == [minutes[0], minutes[2]]
    assert store.covered(CANDLES) == [
        Window(minutes[0], minutes[1]),
        Window(minutes[2], minutes[3]),
    ]


def test_a_time_that_is_ahead_covers_nothing_and_a_later_outage_is_a_hole(tmp_path: Path) -> None:
    """One trade of an hour later, first, in a batch, or where ids have a hole."""
    for contiguous in (True, False):
        for odd in (0, 2):
            holes: list[Hole] = []
            store = DataStore(tmp_path / f"{contiguous}-{odd}")
            journal = JournalWriter(store.journal)
            feed, series = trade_feed(journal, holes, contiguous=contiguous)
            link = Link(feed, Timing())
            feed.opened(link)
            for n in range(4):
                time = START + 3_600 * SECOND if n == odd else None
                feed.take(link, [trade(n, 2 * n, time)])  # every second one is missing
            feed.tick(True)
            feed.closed(link, "cut")
            holes.clear()
            link = Link(feed, Timing())
            feed.opened(link)
            for second in (600, 601, 602):
                feed.take(link, [trade(second, second)])
            feed.tick(True)
            journal.close()
            assert len(store.load(series)) == 7
            assert any(
                hole.start <= START + 8 * SECOND and (hole.end or 0) >= START + 600 * SECOND
                for hole in holes
            )
            covered = store.covered(series)
            latest = START + 8 * SECOND  # what is told of so far ends with the seconds of grace
            assert all(w.end <= latest or w.start >= START + 600 * SECOND for w in covered)
            assert covered[-1].end <= START + 602 * SECOND


def test_candles_of_the_next_hour_cover_nothing(tmp_path: Path) -> None:
    holes: list[Hole] = []
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = candle_feed(journal, holes)
    link = Link(feed, Timing())
    feed.opened(link)
    minutes = [START + n * 60 * SECOND for n in range(70)]

    def candle(minute: int, received: int) -> LiveCandle:
        rest = (None, None, None, None, minutes[received])
        return LiveCandle(minutes[minute], 1.0, 1.0, 1.0, 1.0, 1.0, *rest)

    for minute in (0, 60, 2):
        feed.take(link, [candle(minute, 3)])
    journal.close()
    assert [(hole.start, hole.end) for hole in holes] == [(minutes[1], minutes[2])]
    assert store.covered(CANDLES) == [
        Window(minutes[0], minutes[1]),
        Window(minutes[2], minutes[3]),
    ]


def test_a_book_of_the_next_hour_fills_no_rows_ahead(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = BookFeed(Subscription(Instrument(SYMBOL, "X", True), Channel.BOOK), journal)
    rows = Series("bybit", Channel.BOOK, SYMBOL)
    feed.write_rows(rows, 1, 5)
    link = Link(feed, Timing(), OrderBook(from_rest=False))
    feed.opened(link)
    for second in range(5):
        at = START + second * SECOND
        time = at + 3_600 * SECOND if second == 2 else at
        feed.take(link, [BookChange(second == 0, [(9.0, 1.0)], [(10.0, 1.0)], at, time)])
        feed.tick(True)
    journal.close()
    assert store.load(rows)["time"].to_physical().to_list() == [
        START + n * SECOND for n in range(4)
    ]
    assert store.covered(rows) == [Window(START, START + 4 * SECOND)]
