"""What REST has to show before a hole of the stream's trades is closed."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from fake_exchange import Fake
from stream_lab import Lab, lab, wait

from dccd_core.exchanges.base import Answer, Banned, Blocked, Instrument, Request, Unavailable
from dccd_core.exchanges.live import Subscription
from dccd_core.exchanges.trades import Trade, TradesPage
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.journal import JournalWriter
from dccd_streams.heal import Healer, Walked
from dccd_streams.heal_plan import Hole
from dccd_streams.jobs import Jobs
from dccd_streams.resume import read_left
from dccd_streams.timing import Timing
from dccd_streams.trade_feed import TradeFeed

T = TypeVar("T")
START = 1_795_000_000 * SECOND

BTC = "BTC-USD"
SERIES = Series("fake", Channel.TRADES, Symbol("BTC", "USD"))


def lagging(found: Lab, seconds: float) -> None:
    """REST knows only trades that are older."""
    ask = found.server._ask

    def answer(path: str, query: dict[str, str]) -> Any:
        rows = ask(path, query)
        latest = time.time_ns() // 1_000 - int(seconds * SECOND)
        return [row for row in rows if row[1] < latest] if path == "/trades" else rows

    found.server._ask = answer  # type: ignore[method-assign]


def reconnect(found: Lab) -> None:
    """Trades happen while nobody is connected, and then go on."""
    found.server.cut()
    wait(lambda: not found.server.open)
    found.server.trade(BTC, 9)
    wait(lambda: found.server.subscribed(f"trades:{BTC}"))
    for _ in range(10):
        found.server.trade(BTC, 3)
        time.sleep(0.02)


def not_lost(found: Lab) -> int:
    """How many trades are called covered and are not there."""
    covered = found.store.covered(SERIES, Window(0, 1 << 60))  # first: rows precede it
    stored = set(found.rows("trades")["trade_id"].cast(pl.Int64))
    truth = found.server.markets[BTC].trades
    return sum(
        number not in stored and any(w.start <= moment < w.end for w in covered)
        for number, moment, *_ in truth
    )


def unnumbered() -> Fake:
    exchange = Fake()
    exchange.contiguous = False
    return exchange


def test_rest_that_lags_closes_no_hole_before_it_shows_its_end(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC,), exchange=unnumbered()) as found:
        lagging(found, 1.5)
        found.wait_live()
        for _ in range(5):
            found.server.trade(BTC, 3)
        wait(lambda: len(found.rows("trades")))
        reconnect(found)
        time.sleep(1.0)
        assert not_lost(found) == 0
        found.wait_trades()
        found.assert_trades()
        wait(lambda: found.store.lost(SERIES, Window(0, 1 << 60)) == [], "it is lost for ever")


def test_rest_that_never_shows_it_makes_a_loss(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC,), exchange=unnumbered(), heal_tries=3) as found:
        lagging(found, 1_000)
        found.wait_live()
        for _ in range(5):
            found.server.trade(BTC, 3)
        wait(lambda: len(found.rows("trades")))
        reconnect(found)
        why = "the server cut the connection; REST does not know the newest yet, 3 times"
        wait(lambda: any(one.cause == why for one in found.store.lost(SERIES)), "it is not told")
        assert not_lost(found) == 0


# --- one hole, without a clock ----------------------------------------------------------------


class Queue(Jobs):
    """Runs what it is given in the thread of the test, and notes the waits."""

    def __init__(self, name: str, threads: int) -> None:
        super().__init__(name, threads)
        self.waits: list[float] = []
        self.waiting: list[Callable[[], None]] = []
        self.made: list[Queue] = []

    def beside(self, name: str, threads: int) -> "Queue":
        self.made.append(Queue(name, threads))
        return self.made[-1]

    def submit(self, job: Callable[[], None], delay: float = 0.0) -> None:
        self.waits.append(delay)
        self.waiting.append(job)

    def run(self, most: int = 100) -> None:
        """All that waits, and what follows from it."""
        while self.waiting and most:
            self.waiting.pop(0)()
            most -= 1


class Past(Fake):
    """A trade each second. `empty` answers come first, `cut` pages are not full, and those before
    `served` are gone."""

    contiguous = False

    def __init__(self, count: int, *, empty: int = 0, cut: bool = False, served: int = 0) -> None:
        self.empty, self.cut, self.served = empty, cut, served
        self.past = [
            Trade(START + n * SECOND, None, f"id-{n}", 1.0, 1.0, True) for n in range(count)
        ]

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        self.empty -= 1
        if self.empty >= 0:
            return TradesPage([], None)
        asked = int(request.params["time"])
        rest = [one for one in self.past[self.served :] if one.time >= asked]
        page, served = rest[:100], self.past[self.served].time if self.served else None
        if self.cut:
            return TradesPage(page, None, self.trades_request(instrument, page[-1].time), served)
        more = self.trades_request(instrument, rest[100].time) if rest[100:] else None
        return TradesPage(page, more, None, served)


class Filling:
    """A hole, filled from an exchange. `errors` are raised in place of answers; `full`: after
    so many questions there is no room."""

    def __init__(self, folder: Path, exchange: Fake, seconds: int) -> None:
        self.asked, jobs = 0, Queue("test", 1)
        self.errors, self.full = dict[int, Exception](), set[int]()
        self.store = DataStore(folder)
        self.journal = JournalWriter(self.store.journal)
        market = Instrument(SERIES.symbol, BTC, True)
        self.healer = Healer(exchange, self.ask, jobs, Timing(), self.may_write)
        self.probes, self.jobs = jobs, jobs.made[0]
        self.feed = TradeFeed(
            Subscription(market, Channel.TRADES),
            self.journal,
            self.healer.trades,
            contiguous=exchange.contiguous,
            healable=True,
            settle=1.0,
        )
        self.feed.write(SERIES, None, "")
        self.hole = Hole(START, START + seconds * SECOND, "cut")

    def ask(self, request: Request, read: Callable[[Answer], T]) -> T:
        self.asked += 1
        if self.asked in self.errors:
            raise self.errors[self.asked]
        return read(Answer(200, {}, b"", self.hole.window(0).end + 3_600 * SECOND))

    def may_write(self) -> bool:
        return self.asked not in self.full

    def run(self) -> None:
        """Fill it as far as it goes."""
        self.feed.fill(self.hole)
        self.jobs.run()
        self.journal.sync()

    def stored(self) -> int:
        return len(self.store.load(SERIES))

    def lost(self) -> list[tuple[Window, str]]:
        """What is lost, with the causes."""
        return [(Window(one.start, one.end), one.cause) for one in self.store.lost(SERIES)]


def test_a_long_hole_is_filled_though_an_answer_fails_now_and_then(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(20_001), 20_000)
    made.errors = {number: Unavailable("HTTP 502") for number in range(40, 1_000, 40)}
    made.run()
    assert made.stored() == 20_000
    assert made.lost() == []
    assert made.asked < 220, "what was fetched is fetched again"
    made.journal.close()


def test_what_is_fetched_before_it_is_given_up_is_not_lost(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(1_001), 1_000)
    made.errors = {number: Unavailable("HTTP 502") for number in range(4, 20)}
    made.run()
    rest = Window(START + 299 * SECOND, START + 1_000 * SECOND)
    assert made.lost() == [(rest, "cut; HTTP 502, 10 times")]
    made.journal.close()


def test_a_ban_is_waited_for_however_often(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(11), 10)
    made.errors = {number: Banned("banned", 7_200.0) for number in range(1, 21)}
    made.run()
    assert made.jobs.waits[1:] == [7_200.0] * 20
    assert made.stored() == 10
    assert made.lost() == []
    made.journal.close()


def test_a_refused_address_is_tried_again_but_seldom_and_not_for_ever(tmp_path: Path) -> None:
    made = Filling(tmp_path / "let in", Past(11), 10)
    made.errors = {number: Blocked("HTTP 403") for number in range(1, 4)}
    made.run()
    assert made.jobs.waits[1:] == [1_800.0] * 3
    assert made.stored() == 10
    assert made.lost() == []
    made.journal.close()
    made = Filling(tmp_path / "kept out", Past(11), 10)
    made.errors = {number: Blocked("HTTP 451") for number in range(1, 100)}
    made.run()
    assert made.asked == 10
    assert made.lost() == [(made.hole.window(0), "cut; HTTP 451, 10 times")]
    made.journal.close()


def test_pages_that_have_become_shorter_do_not_end_a_hole(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(1_000, cut=True), 2_000)
    made.run()
    assert made.stored() == 1_000
    assert made.store.covered(SERIES) == [made.hole.window(0)]
    made.journal.close()


def test_one_empty_answer_is_not_believed(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(50, empty=1), 40)
    made.run()
    assert made.stored() == 40
    made.journal.close()


def test_empty_answers_that_agree_are_believed(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(50, empty=100), 40)
    made.run()
    assert made.asked == 3
    assert made.store.covered(SERIES) == [made.hole.window(0)]
    made.journal.close()


def test_no_silence_is_believed_of_a_hole_that_ends_with_a_trade(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(50, empty=100), 40)
    made.hole = replace(made.hole, before="id-39")
    made.run()
    why = "cut; REST does not know the newest yet, 10 times"
    assert made.lost() == [(made.hole.window(0), why)]
    made.journal.close()


def test_what_is_not_served_any_more_is_told_as_lost(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(1_000, served=600), 900)
    made.run()
    gone = Window(START, START + 600 * SECOND)
    assert made.lost() == [(gone, "cut; Fake serves no older trades")]
    assert made.store.covered(SERIES) == [Window(gone.end, START + 900 * SECOND)]
    made.journal.close()


def test_what_an_earlier_run_left_ends_with_the_trade_that_is_stored_there(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    trades = [one._replace(received=one.time) for one in Past(60).past]
    journal.append_trades(SERIES, trades[:10] + trades[30:])
    journal.mark(SERIES, Window(START, START + 9 * SECOND))
    journal.mark(SERIES, Window(START + 30 * SECOND + 1, START + 59 * SECOND))
    journal.sync()
    [hole] = read_left(store, SERIES, 3_600).holes
    end = START + 30 * SECOND + 1
    assert hole == Hole(START + 9 * SECOND, end, "left by an earlier run", "id-30")
    journal.close()


def test_holes_keep_no_probe_waiting(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(10), 5)
    made.feed.fill(made.hole)
    made.healer.newer(made.feed, lambda _: None)
    assert len(made.jobs.waiting) == len(made.probes.waiting) == 1
    made.journal.close()


def test_a_probe_that_fails_in_whatever_way_is_told(tmp_path: Path) -> None:
    made, told = Filling(tmp_path, Past(10), 5), list[Walked | None]()
    made.errors = {1: OSError("no space left"), 2: Unavailable("HTTP 502")}
    for _ in range(3):
        made.healer.newer(made.feed, told.append)
        made.probes.run()
    assert told[:2] == [None, None]
    assert told[2] is not None
    made.journal.close()


def test_a_hole_is_tried_again_after_whatever_error(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(10), 5)
    made.errors = {1: OSError("no space left")}
    made.run()
    assert made.stored() == 5
    assert made.lost() == []
    made.journal.close()


def test_a_hole_waits_for_room(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(1_001), 1_000)
    made.full = {3}
    made.feed.fill(made.hole)
    made.jobs.run(20)
    assert made.asked == 3
    made.full.clear()
    made.jobs.run()
    made.journal.sync()
    assert made.stored() == 1_000
    assert made.lost() == []
    made.journal.close()


def test_no_probe_asks_while_there_is_no_room(tmp_path: Path) -> None:
    made, told = Filling(tmp_path, Past(10), 5), list[Walked | None]()
    made.full = {0}
    made.healer.newer(made.feed, told.append)
    made.probes.run()
    assert told == [None]
    assert made.asked == 0
    made.journal.close()


def test_the_trade_at_the_end_of_a_hole_is_not_of_it(tmp_path: Path) -> None:
    made = Filling(tmp_path, Past(10), 5)
    made.run()
    assert made.store.load(SERIES)["trade_id"].to_list() == [f"id-{n}" for n in range(5)]
    made.journal.close()


def test_what_nobody_writes_any_more_is_not_fetched(tmp_path: Path) -> None:
    """A task that is stopped, or stopped and started, in the middle of a long hole."""
    exchange = Fake()
    exchange.trades_page = 3
    with lab(tmp_path, "trades", markets=(BTC,), exchange=exchange) as found:
        found.wait_live()
        found.server.trade(BTC, 9)
        found.wait_trades()
        ask = found.server._ask

        def slowly(path: str, query: dict[str, str]) -> Any:
            time.sleep(0.005)
            rows = ask(path, query)
            return rows[:3] if path == "/trades" else rows

        found.server._ask = slowly  # type: ignore[method-assign]
        found.server.cut()
        wait(lambda: not found.server.open)
        found.server.trade(BTC, 9_000)
        wait(lambda: found.server.subscribed(f"trades:{BTC}"))
        count = len(found.server.asked)
        wait(lambda: found.server.trade(BTC) or len(found.server.asked) > count + 9)
        [key] = found.manager.running_keys()
        assert found.manager.stop_one(key)
        time.sleep(0.3)
        count = len(found.server.asked)
        time.sleep(0.5)
        assert len(found.server.asked) == count
        found.server._ask = ask  # type: ignore[method-assign]
        exchange.trades_page = 100
        job = found.manager.config.stream_jobs[0]
        found.manager.start_one(job, "BTC/USD", ["trades"])
        found.wait_live()
        found.server.trade(BTC)
        found.wait_trades()
        found.assert_trades()
