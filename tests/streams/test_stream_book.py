"""The rules by which a book is kept, one by one, and small parts beside it."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from stream_lab import FAST

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.live import BookChange, Subscription
from dccd_core.exchanges.trades import Book, Levels, Trade
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store.books import replay
from dccd_core.store.datastore import DataStore
from dccd_core.store.journal import JournalWriter
from dccd_streams import pacing as pacing_module
from dccd_streams.book import FETCHED, KNOWN, MOST_WAITING, Broken, OrderBook
from dccd_streams.book_feed import BookFeed
from dccd_streams.candle_builder import CandleBuilder
from dccd_streams.coverage import Coverage
from dccd_streams.jobs import Jobs
from dccd_streams.link import Link
from dccd_streams.pacing import Pacing


def change(
    bids: Levels, asks: Levels, *, snapshot: bool = False, numbers: tuple[int, int] | None = None,
    previous: int | None = None, checksum: int | None = None, keep: int | None = None,
) -> BookChange:  # fmt: skip
    """A change of a moment."""
    first, last = numbers or (None, None)
    return BookChange(snapshot, bids, asks, 1, 1, first, last, previous, checksum, keep)


def no_checksum(bids: Levels, asks: Levels) -> int:
    return 0


def streamed() -> OrderBook:
    """A book that began by a snapshot of number 10."""
    book = OrderBook(from_rest=False)
    book.apply(change([(9, 1), (8, 2)], [(10, 1), (11, 2)], snapshot=True, numbers=(10, 10)))
    return book


def test_levels_are_set_and_removed_and_best_first() -> None:
    book = streamed()
    book.apply(change([(9, 0), (8.5, 3)], [(10.5, 4), (12, 0)], numbers=(11, 11), previous=10))
    assert book.levels() == ([(8.5, 3), (8, 2)], [(10, 1), (10.5, 4), (11, 2)])
    assert book.levels(1) == ([(8.5, 3)], [(10, 1)])


@pytest.mark.parametrize("ordered", [False, True])
def test_many_levels_are_cut_to_what_is_kept(ordered: bool) -> None:
    book = OrderBook(from_rest=False, checksum=no_checksum if ordered else None, checksum_depth=5)
    bids = [(float(price), 1.0) for price in range(1, 100)]
    asks = [(float(price), 1.0) for price in range(100, 200)]
    book.apply(change(bids, asks, snapshot=True, keep=10))
    found = book.levels()
    assert found == (bids[::-1][:10], asks[:10])
    assert book.levels(3) == (found[0][:3], found[1][:3])


def test_changes_before_the_first_book_are_nothing() -> None:
    book = OrderBook(from_rest=False)
    assert book.apply(change([(1, 1)], [], numbers=(1, 1))) == []
    assert not book.valid


def test_a_change_that_is_known_is_left_out_and_a_missing_one_breaks() -> None:
    book = streamed()
    assert book.apply(change([(9, 7)], [], numbers=(10, 10), previous=9)) == []
    assert book.levels()[0][0] == (9, 1)
    with pytest.raises(Broken, match="after number 10 came one from 11"):
        book.apply(change([(9, 7)], [], numbers=(12, 12), previous=11))
    assert not book.valid
    assert book.levels() == ([], [])


def test_a_number_that_is_reset_is_followed_by_previous() -> None:
    book = streamed()
    assert book.apply(change([(9, 7)], [], numbers=(3, 3), previous=10))
    assert book.number == 3


def test_a_checksum_is_of_the_best_levels_after_the_change() -> None:
    asked = []

    def checksum(bids: Levels, asks: Levels) -> int:
        asked.append((bids, asks))
        return 7

    book = OrderBook(from_rest=False, checksum=checksum, checksum_depth=1)
    book.apply(change([(9, 1), (8, 1)], [(10, 1)], snapshot=True, checksum=7))
    book.apply(change([(9, 0)], []))
    with pytest.raises(Broken, match="checksum 7, the exchange says 8"):
        book.apply(change([(9.5, 2)], [], checksum=8))
    assert asked == [([(9, 1)], [(10, 1)]), ([(9.5, 2)], [(10, 1)])]


@pytest.mark.parametrize("ordered", [False, True])
def test_crossed(ordered: bool) -> None:
    book = OrderBook(from_rest=False, checksum=no_checksum if ordered else None)
    assert not book.crossed()
    book.apply(change([(9, 1)], [(10, 1)], snapshot=True))
    assert not book.crossed()
    book.apply(change([(10, 1)], []))
    assert book.crossed()


def from_rest(*numbers: tuple[int, int]) -> OrderBook:
    """A book to which these changes came before its snapshot."""
    book = OrderBook(from_rest=True)
    for first, last in numbers:
        assert book.apply(change([(9, last)], [], numbers=(first, last), previous=first - 1)) == []
    return book


def test_a_book_from_rest_takes_the_changes_after_its_number() -> None:
    book = from_rest((5, 7), (8, 10), (11, 12))
    whole = book.start(Book([(9, 1)], [(10, 1)], 9, None), received=5)
    assert whole is not None
    assert [one.snapshot for one in whole] == [True, False, False]
    assert (book.number, book.levels()[0]) == (12, [(9, 12)])
    assert book.valid


def test_a_book_from_rest_that_is_too_old_is_fetched_again() -> None:
    book = from_rest((5, 7))
    assert book.start(Book([], [], 3, None), 5) is None
    assert not book.valid
    assert book.start(Book([], [], 4, None), 5)
    assert book.number == 7


def test_a_book_from_rest_before_any_change_has_no_time_of_its_own() -> None:
    book = from_rest()
    [whole] = book.start(Book([(1, 1)], [], 3, None), 5) or []
    assert (whole.time, whole.received) == (None, 5)
    with pytest.raises(Broken):
        book.apply(change([], [], numbers=(6, 7), previous=5))


def test_changes_do_not_wait_for_ever() -> None:
    book = OrderBook(from_rest=True)
    one = change([(9, 1)], [], numbers=(1, 1))
    for _ in range(MOST_WAITING):
        book.apply(one)
    with pytest.raises(Broken, match="no first book"):
        book.apply(one)
    assert book._waiting == []


def fetched(levels: int) -> OrderBook:
    """A book of which so many levels a side came by REST, with prices of whole numbers."""
    book = OrderBook(from_rest=True)
    bids = [(-1.0 - n, 1.0) for n in range(levels)]
    book.start(Book(bids, [(-price, amount) for price, amount in bids], 5, None), 1)
    return book


def test_best_levels_that_were_not_fetched_are_not_known() -> None:
    book = fetched(FETCHED)
    gone = [(-1.0 - n, 0.0) for n in range(FETCHED - 20)]
    book.apply(change(gone, [], numbers=(6, 6)))
    assert len(book.best(20)[0]) == 20
    book.apply(change([(-1_002.0, 9.0)], [], numbers=(7, 7)))
    assert len(book.best(20)[0]) == 20
    book.apply(change([(-1_000.0, 0.0)], [], numbers=(8, 8)))
    with pytest.raises(Broken, match="left the levels"):
        book.best(20)  # what is between -1,000 and -1,002 nobody has told
    assert not book.valid


def test_of_a_deep_row_what_is_known_is_enough() -> None:
    book = fetched(FETCHED)
    book.apply(change([(-1.0, 0.0), (-1_001.0, 9.0)], [], numbers=(6, 6)))
    bids, asks = book.best(FETCHED)
    assert (bids[0][0], bids[-1][0], len(bids)) == (-2.0, -1_000.0, FETCHED - 1)
    assert len(asks) == FETCHED
    gone = [(-1.0 - n, 0.0) for n in range(FETCHED // 2)]
    book.apply(change(gone, [], numbers=(7, 7)))
    assert len(book.best(FETCHED)[0]) == FETCHED // 2
    book.apply(change([(-1_000.0, 0.0)], [], numbers=(8, 8)))
    with pytest.raises(Broken, match="left the levels"):
        book.best(FETCHED)


def test_a_book_whose_changes_are_stored_has_more_levels_than_a_row() -> None:
    book = fetched(FETCHED)
    gone = [(-1.0 - n, 0.0) for n in range(FETCHED - KNOWN)]
    book.apply(change(gone, [], numbers=(6, 6)))
    assert [len(side) for side in book.best(20, KNOWN)] == [20, 20]
    assert book.best(0, KNOWN) == ([], [])
    book.apply(change([(-1_000.0, 0.0)], [], numbers=(7, 7)))
    assert len(book.best(20)[0]) == 20
    with pytest.raises(Broken, match="left the levels"):
        book.best(0, KNOWN)


def test_a_book_that_has_fewer_levels_than_were_asked_for_is_whole() -> None:
    book = fetched(FETCHED - 1)
    assert len(book.best(2_000)[0]) == FETCHED - 1
    book.apply(change([(-1.0, 0.0), (-5_000.0, 9.0)], [], numbers=(6, 6)))
    assert book.best(2_000)[0][-1] == (-5_000.0, 9.0)


# --- candles, coverage, jobs, pacing ------------------------------------------------------------

MINUTE = 60 * SECOND
CANDLES = Series("fake", Channel.LIVE_OHLC, Symbol("BTC", "USD"), 60)


def trade(number: int, time: int, price: float = 1.0) -> Trade:
    return Trade(time, time, str(number), price, 1.0, number % 2 == 0)


def test_a_candle_is_given_when_all_of_it_is_known() -> None:
    builder = CandleBuilder(CANDLES)
    builder.add([trade(1, 30 * SECOND), trade(2, 70 * SECOND, 5), trade(3, 119 * SECOND, 2)])
    assert builder.cover(Window(40 * SECOND, 119 * SECOND)) == []
    assert builder.complete() == []
    [candle] = builder.cover(Window(119 * SECOND, 121 * SECOND))
    assert (candle.time, candle.open, candle.close, candle.trades) == (MINUTE, 5, 2, 2)
    assert builder.complete() == [Window(MINUTE, 2 * MINUTE)]
    assert builder.cover(Window(121 * SECOND, 130 * SECOND)) == []
    builder.add([trade(4, 118 * SECOND, 9), trade(2, 70 * SECOND, 5)])  # late, and repeated
    [again] = builder.cover(Window(130 * SECOND, 140 * SECOND))
    assert (again.time, again.high, again.trades) == (MINUTE, 9, 3)


def test_a_lost_stretch_makes_no_candle() -> None:
    builder = CandleBuilder(CANDLES)
    builder.add([trade(1, 10), trade(2, MINUTE + 1), trade(3, 2 * MINUTE + 1)])
    builder.lose(Window(MINUTE - 5, MINUTE + 5))
    found = builder.cover(Window(0, 3 * MINUTE))
    assert [candle.time for candle in found] == [2 * MINUTE]


def test_trades_that_were_dropped_are_missing_though_what_was_lost_is_found() -> None:
    builder = CandleBuilder(CANDLES)
    builder.add([trade(1, 10), trade(2, 20 * SECOND), trade(3, MINUTE + 1)])
    builder.cover(Window(0, 20 * SECOND))
    builder.lose(Window(20 * SECOND, 30 * SECOND))
    builder.add([trade(4, 40 * SECOND)])
    builder.cover(Window(30 * SECOND, 2 * MINUTE))
    builder.complete()
    builder.add([trade(5, 25 * SECOND)])
    assert builder.cover(Window(20 * SECOND, 30 * SECOND)) == []
    assert builder.complete() == []


def test_what_waited_too_long_is_not_called_whole() -> None:
    builder = CandleBuilder(CANDLES)
    builder.add([trade(1, 10)])  # three days are being fetched
    days = 3 * 1440 * MINUTE
    builder.add([trade(2, days + 1)])
    builder.cover(Window(days, days + 9 * MINUTE))
    builder.complete()
    assert [candle.time for candle in builder.cover(Window(0, days))] == []
    [window] = builder.complete()
    assert window.start > 0


@pytest.mark.parametrize("days", [1, 3, 7])
def test_a_long_candle_whose_last_hours_are_fetched_late_has_all_its_trades(days: int) -> None:
    hour, span = 60 * MINUTE, days * 1_440 * MINUTE
    series = Series("fake", Channel.LIVE_OHLC, Symbol("BTC", "USD"), span // SECOND)
    builder, start = CandleBuilder(series), series.floor(500 * 1_440 * MINUTE)
    end = start + span
    hole = Window(end - 10 * hour, end - 9 * hour)
    trades = [trade(n, start + n * hour, 1.0 + n) for n in range(span // hour)]
    late = [one for one in trades if hole.start <= one.time < hole.end]
    builder.add([one for one in trades if one not in late])
    assert builder.cover(Window(start, hole.start)) == []
    assert builder.cover(Window(hole.end, end + 5 * MINUTE)) == []
    assert builder.complete() == []
    builder.add(late)
    [candle] = builder.cover(hole)
    assert (candle.time, candle.open, candle.trades) == (start, 1.0, len(trades))


def test_a_builder_forgets_what_is_old() -> None:
    builder = CandleBuilder(CANDLES)
    for minute in range(5_000):
        builder.add([trade(minute, minute * MINUTE)])
        builder.cover(Window(minute * MINUTE, (minute + 1) * MINUTE))
    assert len(builder._trades) < 5
    assert len(builder._given) < 5


def test_changes_are_stored_from_the_moment_on_from_which_they_are_called_whole(
    tmp_path: Path,
) -> None:
    """Also those that came in one tick with the first book and with what broke it."""
    market = Instrument(Symbol("BTC", "USD"), "BTC-USD", trading=True)
    series = Series("fake", Channel.BOOK_DELTAS, market.symbol)
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = BookFeed(Subscription(market, Channel.BOOK), journal)
    feed.write_changes(series)
    link = Link(feed, FAST, OrderBook(from_rest=False))
    feed.opened(link)
    one, two = [(1.0, 1.0)], [(2.0, 1.0)]
    whole = BookChange(True, one, [], SECOND, time=SECOND, last=1)
    more = BookChange(False, two, [], 2 * SECOND, time=2 * SECOND, previous=1, last=2)
    wrong = BookChange(False, two, [], 3 * SECOND, time=3 * SECOND, previous=7, last=8)
    with pytest.raises(Broken, match="missing"):
        feed.take(link, [whole, more, wrong])
    journal.sync()
    journal.close()
    found = [(ladder.time, ladder.book().bids) for _, ladder in replay(store, series)]
    assert found == [(SECOND, one), (2 * SECOND, [*two, *one])]
    assert store.covered(series) == [Window(SECOND, 2 * SECOND)]


def test_coverage_grows_with_what_is_seen_only() -> None:
    coverage = Coverage()
    assert coverage.extend() is None
    coverage.see(100)
    coverage.begin(100)
    time.sleep(0.01)
    assert coverage.extend() is None
    coverage.see(150)
    coverage.see(120)
    assert coverage.extend() == Window(100, 150)
    assert coverage.jump(170, 200) == Window(150, 170)
    coverage.see(220)
    assert coverage.end() == Window(200, 220)
    assert coverage.end() is None
    coverage.see(300)
    assert coverage.extend() is None


def test_a_job_that_fails_does_not_end_the_others() -> None:
    jobs, done = Jobs("test", 1), threading.Event()

    def fail() -> None:
        raise ValueError("x")

    jobs.submit(fail)
    jobs.submit(done.set, 0.01)
    assert done.wait(60)
    assert jobs.failures == 1
    assert jobs.close(60)
    jobs.submit(fail)
    assert jobs.failures == 1


def test_pacing_lets_so_many_through_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pacing_module, "time", SimpleNamespace(monotonic=lambda: now))
    pacing = Pacing(2, 0.2)
    pacing.put([b"1", b"2", b"3"])
    assert [pacing.due(), pacing.due(), pacing.due()] == [b"1", b"2", None]
    assert pacing.waiting == 1
    now = 0.21
    assert pacing.waited(now) == 0.21
    assert pacing.due() == b"3"
    assert pacing.waited(now) == 0
