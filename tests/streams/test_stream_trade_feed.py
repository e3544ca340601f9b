"""What a feed of trades asks to be fetched and calls whole, where it breaks or series join."""

import time
from collections.abc import Callable
from pathlib import Path

from fake_exchange import Fake

from dccd_core.exchanges.base import Answer, Instrument, Request
from dccd_core.exchanges.live import Subscription
from dccd_core.exchanges.trades import Trade, TradesPage
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import Loss
from dccd_streams.heal import Healer
from dccd_streams.heal_plan import Hole
from dccd_streams.jobs import Jobs
from dccd_streams.link import Link
from dccd_streams.timing import Timing
from dccd_streams.trade_feed import TradeFeed

SYMBOL = Symbol("BTC", "USD")
START = 1_795_000_000 * SECOND
WHY = "an unreadable message"
NOT_RUNNING = "the stream was not running"
EVER = Window(0, 1 << 60)
TRADES = Series("bitmex", Channel.TRADES, SYMBOL)
CANDLES = Series("bitmex", Channel.LIVE_OHLC, SYMBOL, 10)


def trade(second: int) -> Trade:
    at = START + second * SECOND
    return Trade(at, at, f"id-{second}", 1.0, 1.0, True)


def at(first: int, last: int, more: int = 0) -> Window:
    """Seconds after the start, and microseconds after the end."""
    return Window(START + first * SECOND, START + last * SECOND + more)


class Joining:
    """A feed of trades that runs, of second 0 to 14, and what it wants to be fetched."""

    def __init__(self, folder: Path) -> None:
        self.holes: list[Hole] = []
        self.store = DataStore(folder)
        self.journal = JournalWriter(self.store.journal)
        self.feed = TradeFeed(
            Subscription(Instrument(SYMBOL, "XBTUSD", True), Channel.TRADES),
            self.journal,
            lambda _, hole: self.holes.append(hole),
            contiguous=False,
            healable=True,
            settle=0.0,
        )
        self.feed.write(TRADES, None, NOT_RUNNING)
        self.link = Link(self.feed, Timing())
        self.live()
        self.take(*range(15))
        self.holes.clear()

    def live(self) -> None:
        self.link.live = True
        self.feed.opened(self.link)

    def take(self, *seconds: int) -> None:
        for second in seconds:
            self.feed.take(self.link, [trade(second)])
        self.feed.tick(True)

    def covered(self, series: Series) -> list[Window]:
        self.journal.sync()
        return self.store.covered(series, EVER)

    def lost(self, series: Series) -> list[Loss]:
        self.journal.sync()
        return self.store.lost(series, EVER)


def test_a_series_that_joins_is_whole_once_what_it_lacks_is_fetched(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed = made.feed
    feed.write(CANDLES, START - 10 * SECOND, NOT_RUNNING)
    [hole] = made.holes
    assert hole == Hole(START - 10 * SECOND, START + 14 * SECOND + 1, NOT_RUNNING)
    made.take(*range(15, 32))
    assert made.covered(TRADES) == [at(0, 31)], "nothing of it is missing"
    assert made.lost(TRADES) == []
    assert made.covered(CANDLES) == [at(20, 30)]
    assert made.lost(CANDLES) == [Loss(hole.start, hole.end or 0, NOT_RUNNING)]
    feed.fetched(hole, [trade(second) for second in range(-10, 15)])  # it has seen none
    feed.settled(hole, Window(hole.start, hole.end or 0))
    assert made.covered(TRADES) == [at(0, 31)]
    assert made.covered(CANDLES) == [at(-10, 30)]
    assert made.store.load(CANDLES)["trades"].to_list() == [10, 10, 10, 10]
    assert feed.tally.reconnects == 0
    made.journal.close()


def test_a_series_that_joins_during_a_fill_has_no_part_in_it(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed = made.feed
    feed.closed(made.link, "cut")
    made.live()
    made.take(18)
    [hole] = made.holes
    feed.fetched(hole, [trade(15)])
    feed.stop_writing(TRADES)
    feed.fetched(hole, [trade(16)])
    feed.write(TRADES, START + 14 * SECOND, NOT_RUNNING)
    feed.write(CANDLES, None, NOT_RUNNING)
    feed.fetched(hole, [trade(17)])
    feed.settled(hole, at(14, 18))
    assert made.covered(TRADES) == [at(0, 14)], "it lacks trade 16"
    assert made.covered(CANDLES) == []
    feed.given_up(hole, at(14, 18), "refused")
    assert [loss.cause for loss in made.lost(TRADES)] == [NOT_RUNNING]
    again = made.holes[1]
    feed.fetched(again, [trade(second) for second in range(14, 19)])
    feed.settled(again, Window(again.start, again.end or 0))
    assert made.covered(TRADES) == [at(0, 18, 1)]
    assert made.store.load(TRADES)["trade_id"].n_unique() == 19
    made.journal.close()


def test_the_fetch_after_a_break_begins_where_the_first_series_was_left(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed = made.feed
    feed.closed(made.link, "cut")
    feed.write(CANDLES, START - 10 * SECOND, NOT_RUNNING)
    made.live()
    feed.was_quiet(START + 15 * SECOND)  # as seen from the newest trade on
    assert made.covered(TRADES) == [at(0, 14)]
    assert made.covered(CANDLES) == []
    made.take(20)
    end = START + 20 * SECOND + 1
    assert made.holes == [Hole(START - 10 * SECOND, end, NOT_RUNNING, "id-20")]
    made.journal.close()


def test_a_quiet_stretch_leaves_alone_what_a_series_lacks_that_joined_since(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed = made.feed
    feed.closed(made.link, "cut")
    made.live()
    feed.tick(True)
    [quiet] = made.holes
    feed.write(CANDLES, START - 10 * SECOND, NOT_RUNNING)
    feed.settled(quiet, at(14, 16))
    assert made.covered(TRADES) == [at(0, 16)]
    made.take(20)
    assert made.holes[-1].start == START - 10 * SECOND
    made.journal.close()


def test_a_fill_spoils_no_candle_of_long_ago(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed = made.feed
    feed.write(CANDLES, None, NOT_RUNNING)
    made.take(*range(15, 400))
    made.holes.clear()
    feed.fill(Hole(START + 33 * SECOND, START + 35 * SECOND + 1, "trade 34 is missing"))
    late = trade(34)._replace(trade_id="id-34-more")
    feed.fetched(made.holes[0], [trade(33), late, trade(35)])
    feed.settled(made.holes[0], at(33, 35, 1))
    feed.tick(True)
    made.journal.sync()
    assert set(made.store.load(CANDLES)["trades"]) == {10}
    assert made.holes[1:] == [Hole(START + 30 * SECOND, START + 40 * SECOND, "a trade came late")]
    [of] = made.holes[1].series or ()
    assert of == CANDLES
    made.take(400)
    feed.fetched(made.holes[1], [*(trade(second) for second in range(30, 40)), late])
    feed.settled(made.holes[1], at(30, 40))
    made.take(401)
    made.journal.sync()
    candles = made.store.load(CANDLES)["trades"].to_list()
    assert (candles[0], candles[1], candles[2]) == (10, 11, 10)
    assert made.covered(CANDLES) == [at(20, 400)]
    assert len(made.holes) == 2
    made.journal.close()


def test_what_others_lack_is_not_news_to_a_candle_of_long_ago(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed = made.feed
    feed.write(CANDLES, None, NOT_RUNNING)
    feed.stop_writing(TRADES)
    made.take(*range(15, 400))
    made.holes.clear()
    feed.write(TRADES, START + 14 * SECOND, NOT_RUNNING)
    [hole] = made.holes
    feed.fetched(hole, [trade(second) for second in range(14, 400)])
    feed.settled(hole, Window(hole.start, hole.end or 0))
    made.take(400, 401)
    assert made.holes == [hole]
    assert made.covered(CANDLES) == [at(20, 400)]
    assert set(made.store.load(CANDLES)["trades"]) == {10}
    assert made.covered(TRADES) == [at(0, 401)]
    assert len(made.store.load(TRADES)) == 402
    made.journal.close()


def test_a_bad_message_at_the_end_of_a_batch_is_inside_the_hole(tmp_path: Path) -> None:
    holes: list[Hole] = []
    journal = JournalWriter(tmp_path)
    feed = TradeFeed(
        Subscription(Instrument(SYMBOL, "XBTUSD", True), Channel.TRADES),
        journal,
        lambda _, hole: holes.append(hole),
        contiguous=False,
        healable=True,
        settle=1.0,
    )
    feed.written.record = Series("bitmex", Channel.TRADES, SYMBOL)
    link = Link(feed, Timing())
    feed.opened(link)
    feed.take(link, [trade(0), trade(1)])
    holes.clear()
    feed.gap(link, WHY)  # it held a trade of second 4
    feed.take(link, [trade(2), trade(3)])  # came with it, before it
    feed.take(link, [trade(5)])
    assert holes == [Hole(START + 1 * SECOND + 1, START + 5 * SECOND + 1, WHY, "id-5")]
    feed.gap(link, WHY)
    feed.take(link, [trade(8)])  # after it, in a batch of its own
    feed.take(link, [trade(9)])
    assert holes[1:] == [Hole(START + 5 * SECOND + 1, START + 9 * SECOND + 1, WHY, "id-9")]
    journal.close()


def test_of_a_burst_at_the_end_of_a_hole_all_is_fetched(tmp_path: Path) -> None:
    """The stream begins within it, and a page of REST ends within it."""
    burst = [trade(10)._replace(trade_id=f"burst-{n}") for n in range(6)]
    past = [trade(n % 10)._replace(trade_id=f"past-{n}") for n in range(98)]
    past = [one._replace(received=None) for one in [*sorted(past), *burst]]

    def ask(request: Request, read: Callable[[Answer], object]) -> tuple[TradesPage, int]:
        first = int(request.params.get("id", "0"))
        more = Request("/trades", {"id": str(first + 100)}) if first + 100 < len(past) else None
        return TradesPage(past[first : first + 100], more), START + 60 * SECOND

    jobs: list[Callable[[], None]] = []

    class Queue(Jobs):
        def submit(self, job: Callable[[], None], delay: float = 0.0) -> None:
            jobs.append(job)

    exchange = Fake()
    exchange.contiguous = False
    healer = Healer(exchange, ask, Queue("rest", 1), Timing())  # type: ignore[arg-type]
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = TradeFeed(
        Subscription(Instrument(SYMBOL, "XBTUSD", True), Channel.TRADES),
        journal,
        healer.trades,
        contiguous=False,
        healable=True,
        settle=1.0,
    )
    series = feed.written.record = Series("bitmex", Channel.TRADES, SYMBOL)
    feed.resume_from(START, "cut")
    link = Link(feed, Timing())
    feed.opened(link)
    feed.take(link, burst[5:])
    feed.take(link, [trade(11)])
    while jobs:
        jobs.pop(0)()
    feed.tick(True)
    journal.close()
    stored = store.load(series)["trade_id"].to_list()
    assert sorted(stored) == sorted(one.trade_id for one in [*past, trade(11)])
    assert store.covered(series) == [Window(START, START + 11 * SECOND)]


def test_late_trades_of_a_subscription_that_was_given_up_begin_nothing(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed, link = made.feed, made.link
    feed.closed(link, "no data")
    link.renew()
    assert link.is_over(time.monotonic())
    assert not link.is_over(time.monotonic() + Timing().acknowledge + 1), "it may never answer"
    made.take(20)
    assert made.holes == []
    assert made.covered(TRADES) == [at(0, 14)]
    made.live()
    made.take(30)
    [hole] = made.holes
    assert hole == Hole(START + 14 * SECOND, START + 30 * SECOND + 1, "no data", "id-30")
    assert made.covered(TRADES) == [at(0, 14)]
    made.journal.close()
    assert made.store.load(TRADES)["trade_id"].to_list()[-2:] == ["id-20", "id-30"]


def test_what_one_connection_could_not_read_is_not_vouched_for_by_another(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed, other = made.feed, Link(made.feed, Timing())
    feed.opened(other)
    feed.take(made.link, [trade(14)._replace(trade_id="id-14-more")])
    made.holes.clear()
    feed.gap(other, "unreadable")  # of second 17
    feed.take(made.link, [trade(15)])
    feed.take(made.link, [trade(16)])
    assert made.holes == []
    feed.take(other, [trade(16)])  # came with what could not be read
    feed.take(other, [trade(18)])
    feed.take(other, [trade(19)])
    assert made.holes == [Hole(START + 14 * SECOND, START + 19 * SECOND + 1, "unreadable", "id-19")]
    made.journal.close()


def test_what_the_connection_before_has_missed_is_asked_for(tmp_path: Path) -> None:
    """It was mute for a while before another one took over, and nobody saw that."""
    made = Joining(tmp_path)
    feed, other = made.feed, Link(made.feed, Timing())
    other.live = True
    feed.opened(other)
    feed.opened(other)  # that it carries it is told more than once
    feed.take(other, [trade(20)])
    why = "another connection took over"
    [hole] = made.holes
    assert hole == Hole(START + 14 * SECOND, START + 20 * SECOND + 1, why, "id-20")
    feed.closed(made.link, why)
    feed.take(other, [trade(21)])
    feed.take(other, [trade(22)])
    feed.tick(True)
    assert made.covered(TRADES) == [at(0, 14), Window(START + 20 * SECOND + 1, START + 22 * SECOND)]
    assert made.holes == [hole]
    assert feed.tally.reconnects == 0
    made.journal.close()


def test_an_open_fill_that_ends_after_a_series_joined_tells_nothing_of_it(tmp_path: Path) -> None:
    made = Joining(tmp_path)
    feed = made.feed
    feed.closed(made.link, "cut")
    made.live()
    time.sleep(0.01)
    feed.tick(True)
    [quiet] = made.holes
    assert quiet.end is None
    made.take(20, 21)
    feed.write(CANDLES, None, NOT_RUNNING)
    made.take(22, 23, 24, 25)
    feed.fetched(quiet, [trade(second) for second in range(14, 61)])
    feed.settled(quiet, at(14, 60))
    feed.tick(True)
    assert made.covered(CANDLES) == []
    feed.closed(made.link, "cut")
    made.live()
    made.take(61)
    hole = made.holes[-1]
    assert hole == Hole(START + 25 * SECOND, START + 61 * SECOND + 1, "cut", "id-61")
    feed.fetched(hole, [trade(second) for second in range(25, 62)])
    feed.settled(hole, at(25, 61, 1))
    made.take(*range(62, 90))
    assert made.covered(CANDLES) == [at(30, 80)]
    assert set(made.store.load(CANDLES)["trades"]) == {10}
    made.journal.close()


def test_what_is_missing_between_ids_whose_times_step_back_is_fetched(tmp_path: Path) -> None:
    holes: list[Hole] = []
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = TradeFeed(
        Subscription(Instrument(SYMBOL, "BTC-USD", True), Channel.TRADES),
        journal,
        lambda _, hole: holes.append(hole),
        contiguous=True,
        healable=True,
        settle=0.0,
    )
    feed.write(TRADES, None, NOT_RUNNING)
    link = Link(feed, Timing())
    feed.opened(link)
    for number, second in ((1, 0), (2, 10), (3, 20), (5, 18), (6, 30), (7, 40)):
        feed.take(link, [trade(second)._replace(trade_id=str(number))])
    feed.tick(True)
    journal.close()
    assert holes == [Hole(*at(18, 20, 1), "1 trades were not sent", "5")]
    assert store.covered(TRADES) == [at(0, 18), Window(at(18, 20, 1).end, START + 40 * SECOND)]
