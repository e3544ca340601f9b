"""What is written of a book when everything comes in one batch."""

from pathlib import Path

import pytest

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.live import BookChange, Subscription
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store.books import replay
from dccd_core.store.datastore import DataStore
from dccd_core.store.fold import fold
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import Loss
from dccd_streams.book import OrderBook
from dccd_streams.book_feed import BookFeed
from dccd_streams.link import Link
from dccd_streams.timing import Timing

SYMBOL = Symbol("BTC", "USD")
BOOK = Series("bitfinex", Channel.BOOK, SYMBOL)
DELTAS = Series("bitfinex", Channel.BOOK_DELTAS, SYMBOL)
START = 1_795_000_000 * SECOND


def change(tenths: int, price: float, *, snapshot: bool = False, dated: bool = True) -> BookChange:
    """A bid of a price, some tenths of a second after the start; a snapshot has an ask too."""
    at = START + tenths * SECOND // 10
    asks = [(1_000.0, 1.0)] if snapshot else []
    return BookChange(snapshot, [(price, 1.0)], asks, at, at if dated else None)


@pytest.mark.parametrize("dated", [True, False])
def test_a_row_of_the_first_batch_is_of_a_book_that_the_changes_lead_to(
    tmp_path: Path, dated: bool
) -> None:
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = BookFeed(Subscription(Instrument(SYMBOL, "tBTCUSD", True), Channel.BOOK), journal)
    feed.write_rows(BOOK, 1, 5)
    feed.write_changes(DELTAS)
    link = Link(feed, Timing(), OrderBook(from_rest=False))
    feed.opened(link)
    first = change(1, 9.0, snapshot=True, dated=dated)
    feed.take(link, [first, *(change(3 * n, 9.0 + n) for n in range(1, 10))])
    journal.close()
    assert fold(store).failed == []
    rows = store.load(BOOK)
    assert len(rows) == 2
    found = [
        (tuple(row["bid_price"]), tuple(row["ask_price"])) for row in rows.iter_rows(named=True)
    ]
    told = [
        (tuple(price for price, _ in book.bids), tuple(price for price, _ in book.asks))
        for _, ladder in replay(store, DELTAS)
        for book in [ladder.book(5)]
    ]
    assert set(found) <= set(told)
    assert len(told) == 10 - (not dated), "one for each change, the first ones as a whole book"


def test_a_series_that_joins_has_rows_and_is_whole_from_then_on(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = BookFeed(Subscription(Instrument(SYMBOL, "tBTCUSD", True), Channel.BOOK), journal)
    feed.write_changes(DELTAS)
    link = Link(feed, Timing(), OrderBook(from_rest=False))
    feed.opened(link)
    feed.take(link, [change(1, 9.0, snapshot=True), *(change(n, 9.0 + n) for n in range(2, 26))])
    feed.write_rows(BOOK, 1, 5)
    feed.resume_from(BOOK, START, "the stream was not running")
    feed.take(link, [change(n, 9.0 + n) for n in range(26, 56)])
    feed.tick(True)
    feed.stop_writing(DELTAS)
    feed.take(link, [change(n, 9.0 + n) for n in range(56, 60)])
    feed.write_changes(DELTAS)
    feed.take(link, [change(n, 9.0 + n) for n in range(70, 80)])
    feed.tick(True)
    journal.close()
    assert fold(store).failed == []
    joined, last = START + 25 * SECOND // 10, START + 79 * SECOND // 10
    seconds = [(int(time) - START) / SECOND for time in store.times(BOOK, Window(0, 1 << 60))]
    assert seconds == [3, 4, 5, 6, 7]
    everything = Window(0, 1 << 60)
    assert store.covered(BOOK, everything) == [Window(joined, last)]
    assert store.lost(BOOK, everything) == [Loss(START, joined, "the stream was not running")]
    first, stopped, again = (START + tenths * SECOND // 10 for tenths in (1, 55, 59))
    assert store.covered(DELTAS, everything) == [Window(first, stopped), Window(again, last)]
    known = [ladder.time for _, ladder in replay(store, DELTAS)]
    assert again in known, "what is covered begins with a whole book"
    assert feed.tally.gaps == 0
