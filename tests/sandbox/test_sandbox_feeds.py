"""The tape and the order book of a market: by time, by id, by sequence; the future is known."""

from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dccd_sandbox import spans
from dccd_sandbox.book import Book, Change, Level, merged
from dccd_sandbox.candles import CLOSE, TIME, VOLUME
from dccd_sandbox.clock import Clock, epoch_ms
from dccd_sandbox.dated import Dated
from dccd_sandbox.feeds import BookFeed, CandleFeed, TradeFeed
from dccd_sandbox.files import FileMarket
from dccd_sandbox.market import Market
from dccd_sandbox.raised import RaisedMarket
from dccd_sandbox.settings import Settings, markets
from dccd_sandbox.spans import DAY_MS
from dccd_sandbox.tape import aggregate_id, aggregated, first_trade_of

NOW = epoch_ms("2026-06-01T12:34:30Z")
MIDNIGHT = epoch_ms("2026-06-01")
BTC = markets(Settings())["BTCUSDT"]
KNOWN = markets(Settings(many=2))


def applied(book: Book, changes: list[Change], depth: int = 0) -> Book:
    """A book after changes, as a client keeps it: cut to `depth` after each."""
    bids, asks, last = dict(book.bids), dict(book.asks), book
    for change in changes:
        for side, levels in ((bids, change.bids), (asks, change.asks)):
            for price, lots in levels:
                side[price] = lots
                if not lots:
                    del side[price]
        kept = cut(bids, asks, depth)
        bids, asks = dict(kept[0]), dict(kept[1])
        last = Book(change.sequence, change.time, *kept)
    return last


def cut(bids: dict[int, int], asks: dict[int, int], depth: int) -> tuple[list[Level], list[Level]]:
    best = sorted(bids.items(), reverse=True), sorted(asks.items())
    return (best[0][:depth], best[1][:depth]) if depth else best


def test_a_day_border_is_no_border_of_the_tape() -> None:
    found = BTC.tape.between(MIDNIGHT - 3_600_000, MIDNIGHT + 3_600_000)
    assert found.time[0] < MIDNIGHT < found.time[-1]
    assert (np.diff(found.time) >= 0).all()
    again = BTC.tape.from_id(found.first_id, len(found), NOW)
    assert np.array_equal(again.time, found.time)
    assert np.array_equal(again.ticks, found.ticks)
    assert BTC.tape.next_id(int(found.time[-1])) == found.first_id + len(found)


def test_the_tape_ends_at_now_and_begins_at_the_listing() -> None:
    newest = BTC.tape.newest(3, NOW)
    assert len(newest) == 3
    assert newest.time[-1] <= NOW
    assert BTC.tape.next_id(NOW) == newest.first_id + 3
    assert len(BTC.tape.from_id(newest.first_id + 3, 10, NOW)) == 0
    first = BTC.tape.from_id(-5, 5, NOW)
    assert (first.first_id, first.time[0]) == (0, BTC.first_ms)
    assert BTC.tape.next_id(BTC.first_ms - 1) == 0
    assert len(BTC.tape.between(0, BTC.first_ms)) == 0


def test_hundreds_of_trades_share_a_millisecond_every_day() -> None:
    time = BTC.trades(NOW // DAY_MS).time  # type: ignore[attr-defined]
    assert np.unique(time, return_counts=True)[1].max() >= 200


def test_fills_of_one_order_are_one_aggregate_without_a_hole_in_the_ids() -> None:
    trades = BTC.tape.between(MIDNIGHT - DAY_MS, MIDNIGHT)
    found, counts = aggregated(trades)
    assert set(counts.tolist()) == {1, 2}
    assert counts.sum() == len(trades)
    assert found.lots.sum() == trades.lots.sum()
    assert found.first_id == aggregate_id(trades.first_id)
    ids = [aggregate_id(trades.first_id + index) for index in range(len(trades))]
    assert sorted(set(ids)) == list(range(found.first_id, found.first_id + len(found)))
    assert [first_trade_of(one) for one in dict.fromkeys(ids)] == [
        trades.first_id + index
        for index, (before, after) in enumerate(pairwise([-1, *ids]))
        if before != after
    ]
    both = np.flatnonzero(np.diff(ids) == 0)
    for column in (trades.time, trades.ticks, trades.buy):
        assert np.array_equal(column[both], column[both + 1])


@pytest.mark.parametrize("market", KNOWN.values(), ids=list(KNOWN))
def test_a_book_followed_is_the_book_that_is(market: Market) -> None:
    feed = BookFeed(market, NOW)
    book = applied(feed.book, feed.due(NOW + 40_000) + feed.due(NOW + 100_000))
    assert book == market.book.at(NOW + 100_000)
    assert 200 <= len(book.bids) <= 400
    assert 200 <= len(book.asks) <= 400
    assert book.bids[-1][0] > 0


def test_changes_are_numbered_and_timed_without_holes_and_each_sets_a_level() -> None:
    changes = BTC.book.changes(BTC.book.sequence_at(MIDNIGHT - 30_000), MIDNIGHT + 30_000)
    assert 400 <= len(changes) <= 560  # several a second
    for before, after in pairwise(changes):
        assert after.sequence == before.sequence + 1
        assert after.time > before.time
    assert all(change.bids or change.asks for change in changes)
    assert BTC.book.sequence_at(changes[7].time) == changes[7].sequence
    assert BTC.book.sequence_at(changes[7].time - 1) == changes[6].sequence


def test_a_book_is_never_crossed_and_lies_around_the_last_trade() -> None:
    start = BTC.book.sequence_at(NOW)
    for sequence in range(start, start + 600):
        book = BTC.book.after(sequence)
        last = int(BTC.tape.newest(1, book.time).ticks[0])
        assert book.bids[0][0] < book.asks[0][0]
        assert book.bids[0][0] < last <= book.asks[0][0]
        assert book.asks[0][0] - book.bids[0][0] < last / 1_000
        assert all(lots > 0 for _, lots in book.bids + book.asks)


@pytest.mark.parametrize("depth", [1, 10, 100])
@pytest.mark.parametrize("dropped", [True, False])
def test_the_best_levels_can_be_followed_alone(depth: int, dropped: bool) -> None:
    feed = BookFeed(BTC, NOW, depth, dropped)
    book = feed.book
    for upto in range(NOW + 5_000, NOW + 60_000, 5_000):
        book = applied(book, feed.due(upto), depth)
        assert book == BTC.book.at(upto).top(depth)


def test_changes_that_drop_out_are_told_only_on_demand() -> None:
    told, silent = (BookFeed(BTC, NOW, 10, dropped).due(NOW + 60_000) for dropped in (True, False))
    zeros = [
        sum(lots == 0 for change in changes for _, lots in change.bids + change.asks)
        for changes in (told, silent)
    ]
    assert zeros[0] > zeros[1] > 0


def test_changes_merged_say_the_last_word() -> None:
    changes = BookFeed(BTC, NOW).due(NOW + 1_000)
    one = merged(changes)
    assert (one.first, one.sequence) == (changes[0].sequence, changes[-1].sequence)
    left, right = merged(changes[:3]), merged(changes[3:])
    assert merged([left, right]) == one
    assert [price for price, _ in one.bids] == sorted({p for c in changes for p, _ in c.bids})[::-1]


def test_a_market_of_another_price_has_its_own_book_around_the_same_trades() -> None:
    raised = RaisedMarket(("BTCUSDT_P", "BTC", "USDT"), BTC, 3)
    ours, theirs = (one.tape.between(NOW - 60_000, NOW) for one in (raised, BTC))
    assert np.array_equal(ours.ticks, theirs.ticks + 3)
    assert ours.first_id == theirs.first_id
    assert raised.book.at(NOW).bids != BTC.book.at(NOW).bids
    book = raised.book.at(NOW)
    last = int(raised.tape.newest(1, book.time).ticks[0])
    assert book.bids[0][0] < last <= book.asks[0][0]


def test_a_contract_has_the_trades_of_its_life_with_ids_of_its_own() -> None:
    contract = Dated(BTC, date(2026, 6, 26))
    whole = contract.tape.between(0, contract.delivery_ms + DAY_MS)
    assert 0 <= whole.first_id < 5
    assert contract.first_ms <= whole.time[0]
    assert whole.time[-1] < contract.delivery_ms
    assert contract.tape.next_id(contract.delivery_ms + 400 * DAY_MS) == whole.first_id + len(whole)
    assert contract.tape.from_id(0, 3, NOW).first_id == whole.first_id
    _, counts = aggregated(whole)
    assert set(counts[1:-1].tolist()) == {1, 2}
    firsts = (np.cumsum(counts) - counts)[counts == 2]
    assert np.array_equal(whole.time[firsts], whole.time[firsts + 1])
    model = BTC.tape.between(contract.first_ms, contract.delivery_ms)
    assert np.array_equal(whole.ticks, model.ticks + 5)


def test_a_market_of_candles_has_no_trades_and_an_empty_book(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("time,open,high,low,close,volume\n1577836800,1,2,1,2,5\n", encoding="utf-8")
    bare = FileMarket(("AB", "A", "B"), 60, path)
    assert bare.tape.next_id(NOW) == 0
    assert len(bare.tape.newest(5, NOW)) == len(bare.tape.between(0, NOW)) == 0
    assert (bare.book.at(NOW).bids, bare.book.at(NOW).asks) == ([], [])


def test_a_trade_feed_gives_each_trade_once() -> None:
    feed = TradeFeed(BTC, NOW)
    parts = [feed.due(moment) for moment in range(NOW, NOW + 600_000, 7_001)]
    ids = [part.first_id + index for part in parts for index in range(len(part))]
    assert ids == list(
        range(BTC.tape.next_id(NOW), BTC.tape.next_id(NOW + 600_000 // 7_001 * 7_001))
    )
    assert len(feed.due(NOW)) == 0  # a clock that goes back


@pytest.mark.parametrize("market", [BTC, KNOWN["N0001USDT"]], ids=["one", "raised"])
@pytest.mark.parametrize("span", [1, 60, 3_600, 86_400, 604_800])
def test_the_running_candle_is_the_market_s(market: Market, span: int) -> None:
    for now in (NOW, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 2 * 3_600_000):
        feed = CandleFeed(market, span, now)
        start = spans.open_of(now, span)
        assert feed.due(now).tolist() == market.candles(span, start, now, now).tolist()


def test_a_candle_feed_ends_each_candle_and_shows_the_running_one() -> None:
    feed = CandleFeed(BTC, 60, NOW, every=2_000)
    closed: list[list[int]] = []
    shown = 0
    for moment in range(NOW, NOW + 600_000, 500):
        for row in feed.due(moment).tolist():
            shown += 1
            if feed.is_closed(row[TIME], moment):
                closed.append(row)
    truth = BTC.closed(60, NOW - 30_000, NOW + 599_500, NOW + 599_500).tolist()
    assert [row[:VOLUME] for row in closed] == [row[:VOLUME] for row in truth]
    assert closed == truth
    assert len(closed) < shown <= 310
    assert closed[0][TIME] == NOW - 30_000
    assert closed[-1][CLOSE] > 0


def test_a_clock_runs_at_its_speed_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [1_000_000_000_000_000]
    monkeypatch.setattr("dccd_sandbox.clock.time.time_ns", lambda: real[0])
    clock = Clock("2026-06-01", speed=60)
    real[0] += 1_000_000_000
    assert clock.now() == epoch_ms("2026-06-01T00:01:00")
    clock.set("2026-06-02")
    real[0] += 1_000_000_000
    assert clock.now() == epoch_ms("2026-06-02T00:01:00")
    clock.set(None, speed=1)
    real[0] += 5_000_000
    assert clock.now() == real[0] // 1_000_000
    with pytest.raises(ValueError, match="speed 0"):
        clock.set(None, speed=0)
