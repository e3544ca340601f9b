"""The paging loop: what becomes of cells when all is well, when it is not, and when it is ended."""

import itertools
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event

import pyarrow.parquet as pq
import pytest
from helpers import (
    BTC_1H,
    KLINES,
    NOW,
    assert_sound,
    assert_whole,
    at,
    collect,
    collecting,
    failed_windows,
    page_questions,
    table,
    truth,
    window,
)

from dccd_core import history
from dccd_core.exchanges.base import Instrument
from dccd_core.history import Outcome, Progress
from dccd_core.instruments import Instruments
from dccd_core.intervals import union
from dccd_core.models import SECOND, Series, Symbol, Window, microseconds, moment
from dccd_core.plan import cells
from dccd_core.rest import Retries
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings

HOUR = 3_600 * SECOND
ETH = replace(BTC_1H, symbol=Symbol("ETH", "USDT"))
WANTED = window("2024-12-20", "2025-01-10")
ONCE = Retries(1, 0.0)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Iterator[Sandbox]:
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    return DataStore(tmp_path)


# --- when all is well --------------------------------------------------------------------------


def test_outcomes_tell_what_was_done(box: Sandbox, store: DataStore) -> None:
    first, second = collect(box.binance_url, store.root, BTC_1H, WANTED, page=100)
    assert [first.cell.period, second.cell.period] == ["2024", "2025"]
    assert (first.added, first.revised, first.requests) == (12 * 24, 0, 3)
    assert (first.error, first.failed, first.note) == (None, [], "")
    assert first.merged is not None
    assert first.merged.path == store.folder(BTC_1H) / "2024.parquet"
    assert first.merged.rows == 288
    assert first.merged.bytes == first.merged.path.stat().st_size
    assert first.seconds > 0
    again, _ = collect(box.binance_url, store.root, BTC_1H, WANTED)
    assert (again.merged, again.requests, again.seconds) == (None, 0, 0.0)
    assert again.note == "complete: nothing was asked"


def test_several_series_in_one_run_equal_their_truth_and_progress_adds_up(
    box: Sandbox, store: DataStore
) -> None:
    told: list[Progress] = []
    todo = [*cells(BTC_1H, WANTED), *cells(ETH, WANTED)]
    with collecting(box.binance_url, store.root, page=50, progress=told.append) as collector:
        outcomes = list(collector.collect(todo))
    assert {outcome.cell for outcome in outcomes} == set(todo)
    for series in (BTC_1H, ETH):
        assert_whole(store, series, truth(box, series, WANTED))
        mine = [progress for progress in told if progress.series == series]
        assert [progress.done for progress in mine] == list(range(1, mine[-1].total + 1))
        assert mine[-1].done == mine[-1].total == 11  # 288 / 50 and 216 / 50, rounded up
        assert mine[-1].rows == BTC_1H.count(WANTED)
    assert told[-1].requests == box.stats()["requests"]


def test_a_slow_cell_is_stored_in_steps(
    box: Sandbox, store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "FLUSH_SECONDS", 0.0)
    wanted = window("2025-01-01", "2025-02-01")
    heights: list[int] = []

    def look(_: Progress) -> None:
        heights.append(store.load(BTC_1H).height)

    with collecting(box.binance_url, store.root, page=24, progress=look) as collector:
        (outcome,) = collector.collect(cells(BTC_1H, wanted))
    assert len(set(heights)) > 5
    assert heights == sorted(heights)
    assert (outcome.added, outcome.requests) == (744, 31)
    assert_whole(store, BTC_1H, truth(box, BTC_1H, wanted))


def test_promise_3_up_to_the_running_candle_and_on_when_it_is_closed(store: DataStore) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(minutes=30)
    end = microseconds(now)
    wanted = Window(end - 100 * HOUR, end + 5 * HOUR)
    with Sandbox(Settings(now=now, frozen=True, weight_limit=0)) as box:
        collect(box.binance_url, store.root, BTC_1H, wanted)
        last = store.last_timestamp(BTC_1H)
        assert last == now - timedelta(minutes=90)
        assert_whole(store, BTC_1H, truth(box, BTC_1H, wanted))
        box.set_clock(now + timedelta(hours=1), frozen=True)
        box.reset()
        collect(box.binance_url, store.root, BTC_1H, wanted)
        assert store.last_timestamp(BTC_1H) == now - timedelta(minutes=30)
        assert_whole(store, BTC_1H, truth(box, BTC_1H, wanted))
        files = {(now + timedelta(hours=hours)).year for hours in (-4, 5)}  # two at New Year
        assert len(page_questions(box)) in {1, len(files)}


# --- when something is wrong -------------------------------------------------------------------


def test_an_unknown_pair_is_told_with_what_may_be_meant_and_others_go_on(
    box: Sandbox, store: DataStore
) -> None:
    wrong = replace(BTC_1H, symbol=Symbol("BTC", "USDTT"))
    todo = [*cells(wrong, WANTED), *cells(BTC_1H, WANTED)]
    with collecting(box.binance_url, store.root) as collector:
        outcomes = list(collector.collect(todo))
    errors = [outcome.error for outcome in outcomes if outcome.cell.series == wrong]
    assert len(errors) == 2
    for error in errors:
        assert error is not None
        assert "BTC/USDTT: Binance spot has no such pair; did you mean BTC/USDT" in error
    assert not store.folder(wrong).exists()
    assert [o.error for o in outcomes if o.cell.series == BTC_1H] == [None, None]
    assert page_questions(box) != []
    assert all(asked["symbol"] == "BTCUSDT" for asked in page_questions(box))


def test_an_error_names_its_window_and_the_other_pages_are_stored(
    box: Sandbox, store: DataStore
) -> None:
    bad = window("2025-01-03", "2025-01-04")
    spoilt = {"startTime": str(bad.start // 1_000)}
    collect(box.binance_url, store.root, BTC_1H, window("2024-12-20", "2024-12-21"))
    box.set_faults(Rule("truncated", path=KLINES, query=spoilt))
    wanted = Window(at("2025-01-01"), WANTED.end)
    (outcome,) = collect(box.binance_url, store.root, BTC_1H, wanted, page=24, retries=ONCE)
    assert outcome.error is not None
    assert outcome.error.startswith("2025-01-03T00:00:00Z … 2025-01-04T00:00:00Z: rows of numbers")
    assert outcome.failed == [(bad, outcome.failed[0][1])]
    assert outcome.added == 8 * 24
    assert store.missing_windows(BTC_1H, wanted) == [bad]
    assert store.gaps(BTC_1H, "2025-01-01")[0].window == bad


def test_no_answer_at_all_is_an_error_of_every_cell_and_nothing_is_written(
    box: Sandbox, store: DataStore
) -> None:
    collect(box.binance_url, store.root, BTC_1H, window("2024-12-20", "2024-12-21"))
    before = store.load(BTC_1H)
    outcomes = collect("http://127.0.0.1:9", store.root, BTC_1H, WANTED, retries=ONCE)
    assert union(failed_windows(outcomes)) == [window("2024-12-20T21:00", "2025-01-10")]
    assert all("no connection" in str(outcome.error) for outcome in outcomes)
    assert store.load(BTC_1H).equals(before)


def test_a_ban_stops_everything_with_few_requests(box: Sandbox, store: DataStore) -> None:
    box.set_faults(Rule("418", retry_after=120))
    todo = [cell for series in (BTC_1H, ETH) for cell in cells(series, WANTED)]
    with collecting(box.binance_url, store.root, page=10) as collector:
        outcomes = list(collector.collect(todo))
    assert box.stats()["requests"] == 1
    assert len(outcomes) == 4
    assert all("ban" in str(outcome.error) for outcome in outcomes)
    with collecting(box.binance_url, store.root, page=10) as collector:
        again = list(collector.collect(todo))
    assert box.stats()["requests"] == 1, "the ban is known to the next run too"
    assert all("ban" in str(outcome.error) for outcome in again)


@pytest.mark.parametrize("status", [403, 451])
def test_an_address_that_is_refused_is_not_asked_again_and_again(
    status: int, box: Sandbox, store: DataStore
) -> None:
    collect(box.binance_url, store.root, BTC_1H, window("2024-12-20", "2024-12-21"))
    before = store.load(BTC_1H)
    with Refusing(status) as refusing:
        outcomes = collect(refusing.url, store.root, BTC_1H, WANTED, page=10)
        assert refusing.asked <= history.THREADS
    assert union(failed_windows(outcomes))[0].end == WANTED.end
    assert all(f"HTTP {status}" in str(outcome.error) for outcome in outcomes)
    assert store.load(BTC_1H).equals(before)


def test_an_address_that_is_refused_is_not_asked_when_each_of_its_series_begins(
    box: Sandbox, store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Instrument(BTC_1H.symbol, "BTCUSDT", trading=True)
    monkeypatch.setattr(Instruments, "find", lambda *_: found)
    wanted = window("2024-01-01", "2024-01-02")
    todo = [replace(BTC_1H, symbol=Symbol(f"N{number}", "USDT")) for number in range(40)]
    with Refusing(403) as refusing, collecting(refusing.url, store.root) as collector:
        outcomes = list(collector.collect([cell for one in todo for cell in cells(one, wanted)]))
        assert refusing.asked <= history.THREADS
    assert all("HTTP 403" in str(outcome.error) for outcome in outcomes)


class Refusing:
    """A server that has one answer for everybody."""

    def __init__(self, status: int) -> None:
        self.status, self.asked = status, 0

    def __enter__(self) -> "Refusing":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


# --- what is on disk already -------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_promise_7_a_damaged_file_is_moved_aside_reported_and_fetched_again(
    content: bytes | None, box: Sandbox, store: DataStore
) -> None:
    collect(box.binance_url, store.root, BTC_1H, WANTED)
    path = store.folder(BTC_1H) / "2024.parquet"
    damaged = path.read_bytes()[:5_000] if content is None else content
    path.write_bytes(damaged)
    box.reset()
    first, second = collect(box.binance_url, store.root, BTC_1H, WANTED)
    by_year = {outcome.cell.period: outcome for outcome in (first, second)}
    merged = by_year["2024"].merged
    assert merged is not None
    (aside,) = merged.set_aside
    assert aside.read_bytes() == damaged
    assert (by_year["2024"].error, by_year["2024"].added) == (None, 288)
    assert by_year["2025"].note == "complete: nothing was asked"
    assert_whole(store, BTC_1H, truth(box, BTC_1H, WANTED))


def test_promise_10_a_foreign_file_spoils_its_own_year_only_and_costs_no_request(
    box: Sandbox, store: DataStore
) -> None:
    path = store.folder(BTC_1H) / "2024.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table([at("2024-01-01")]), path)
    content = path.read_bytes()
    outcomes = collect(box.binance_url, store.root, BTC_1H, WANTED)
    by_year: dict[str, Outcome] = {outcome.cell.period: outcome for outcome in outcomes}
    assert "2024.parquet was not written by this program" in str(by_year["2024"].error)
    assert failed_windows(outcomes) == [window("2024-12-20", "2025-01-01")]
    assert (by_year["2025"].error, by_year["2025"].added) == (None, 216)
    assert path.read_bytes() == content
    assert {int(asked["startTime"]) for asked in page_questions(box)} == {at("2025-01-01") // 1_000}


def test_what_cannot_be_stored_is_named_and_the_rest_goes_on(
    box: Sandbox, store: DataStore
) -> None:
    """The year's file is a link to itself, which no system opens."""
    path = store.folder(BTC_1H) / "2024.parquet"
    path.parent.mkdir(parents=True)
    path.symlink_to(path)
    outcomes = collect(box.binance_url, store.root, BTC_1H, WANTED)
    by_year = {outcome.cell.period: outcome for outcome in outcomes}
    assert "2024.parquet" in str(by_year["2024"].error)
    assert by_year["2025"].error is None
    assert by_year["2025"].added == 216


# --- when it is ended --------------------------------------------------------------------------


def test_cancel_keeps_what_is_stored_and_names_the_rest(store: DataStore) -> None:
    cancel = Event()
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if progress.done == 7:
            cancel.set()

    wanted = window("2025-01-01", "2025-03-01")
    settings = Settings(now=NOW, frozen=True, weight_limit=0, latency=0.005)
    with Sandbox(settings) as box:
        outcomes = collect(
            box.binance_url, store.root, BTC_1H, wanted, page=24, cancel=cancel, progress=stop
        )
        (outcome,) = outcomes
        assert outcome.error is not None
        assert "cancelled" in outcome.error
        assert outcome.added >= 7 * 24
        assert told[-1].rows == outcome.added == told[-1].done * 24, "what was taken, and no more"
        assert told[-1].ended
        assert told[-1].cancelled
        assert told[-1].failed == told[-1].total - told[-1].done > 0
        missing = store.missing_windows(BTC_1H, wanted)
        assert missing == union(failed_windows(outcomes))
        assert_sound(store.root)
        rows = store.load(BTC_1H)
        expected = truth(box, BTC_1H, wanted)
        assert rows.height + sum(map(BTC_1H.count, missing)) == expected.height
        box.reset()
        (rest,) = collect(box.binance_url, store.root, BTC_1H, wanted, page=24)
        assert rest.error is None
        assert rest.added == expected.height - rows.height
        assert_whole(store, BTC_1H, expected)


def test_closing_the_iterator_stores_the_pages_that_are_there(store: DataStore) -> None:
    settings = Settings(now=NOW, frozen=True, weight_limit=0, latency=0.005)
    todo = [*cells(BTC_1H, window("2024-01-01", "2024-01-03")), *cells(ETH, WANTED)]
    with Sandbox(settings) as box:
        with collecting(box.binance_url, store.root, page=12) as collector:
            outcomes = collector.collect(todo)
            assert isinstance(outcomes, Generator)
            with closing(outcomes):
                assert next(outcomes).cell.series == BTC_1H
        assert_whole(store, BTC_1H, truth(box, BTC_1H, todo[0].window))
        assert_sound(store.root)
        if store.existing_periods(ETH):
            rows = store.load(ETH)
            covered = sum(map(ETH.count, store.covered(ETH)))
            assert 0 < rows.height == covered


def test_an_error_of_the_one_who_reads_outcomes_stores_the_pages_that_are_there(
    store: DataStore,
) -> None:
    settings = Settings(now=NOW, frozen=True, weight_limit=0, latency=0.005)
    counter = itertools.count()

    def fail(_: Progress) -> None:
        if next(counter) == 9:
            raise ZeroDivisionError

    with Sandbox(settings) as box, pytest.raises(ZeroDivisionError):
        collect(box.binance_url, store.root, BTC_1H, WANTED, page=12, progress=fail)
    assert store.load(BTC_1H).height >= 9 * 12
    assert_sound(store.root)


# --- markets that have ended -------------------------------------------------------------------


def test_a_market_that_has_ended_is_not_asked_page_by_page_what_came_after(
    tmp_path: Path,
) -> None:
    first, end = at("2021-03-01"), at("2021-03-20")
    times = range(first, end, HOUR)
    path = tmp_path / "ended.csv"
    lines = [f"{time // 1_000},1,2,0.5,1.5,7" for time in times]
    path.write_text("time,open,high,low,close,volume\n" + "\n".join(lines) + "\n")
    series = Series.parse("binance/ohlc/1h/OLD-BTC")
    store = DataStore(tmp_path / "data")
    wanted = window("2021-01-01", "2026-01-01")
    words = (f"OLDBTC:OLD:BTC:1h:{path}",)
    with Sandbox(Settings(symbols=(), candles=words, weight_limit=0)) as box:
        outcomes = collect(box.binance_url, store.root, series, wanted, page=100)
        assert [outcome.error for outcome in outcomes] == [None] * 5
        pages = -(-series.count(Window(first, wanted.end)) // 100)
        assert pages > 400
        # five pages, and those that were under way, each confirmed three times
        assert len(page_questions(box)) < 5 + 4 * 2 * history.THREADS
        assert_whole(store, series, truth(box, series, wanted))
        assert store.last_timestamp(series) == moment(end - HOUR)
        assert store.missing_windows(series, wanted) == []
        box.reset()
        again = collect(box.binance_url, store.root, series, wanted, page=100)
        assert box.stats()["requests"] == 0
        assert [outcome.merged for outcome in again] == [None] * 5
