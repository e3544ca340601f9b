"""Daily series: trades told apart by id, books by time and receipt; the ledger of streams."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import at, plain, window
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dccd_core.exchanges.live import BookChange, LiveCandle
from dccd_core.exchanges.trades import Trade
from dccd_core.intervals import union
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store import period
from dccd_core.store.datastore import DataStore
from dccd_core.store.gaps import Gap, GapKind
from dccd_core.store.period import Merged, Period
from dccd_core.store.quality import judge
from dccd_core.store.schemas import (
    BOOK,
    BOOK_DELTAS,
    LIVE_OHLC,
    SCHEMAS,
    TRADES,
    BookRow,
    Loss,
    books_table,
    deltas_table,
    live_candles_table,
    trades_table,
)

BTC = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
BOOK_SERIES = replace(BTC, channel=Channel.BOOK)
DELTAS = replace(BTC, channel=Channel.BOOK_DELTAS)
LIVE = replace(BTC, channel=Channel.LIVE_OHLC, span=60)
DAY = "2026-11-22"
START = at(DAY)
QUIET = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def trade(n: int, price: float = 1.0, received: int | None = None, ms: int | None = None) -> Trade:
    """The trade with number n; three share a millisecond."""
    time = START + (n // 3 if ms is None else ms) * 1_000
    return Trade(time, received, str(n), price, n / 8, n % 2 == 0)


def put(folder: Path, trades: list[Trade], *covered: Window, lost: tuple[Loss, ...] = ()) -> Merged:
    return Period(folder, BTC, DAY).merge(trades_table(trades), list(covered), "test", lost)


def seen(folder: Path) -> list[Trade]:
    """What the parts hold, in their order."""
    tables = [part.read() for part in Period(folder, BTC, DAY).open()]
    return [trade for one in tables for trade in as_trades(one)]


def as_trades(rows: pa.Table) -> list[Trade]:
    found = pl.DataFrame(pl.from_arrow(rows)).with_columns(pl.col("time", "received").to_physical())
    return [Trade(*row[:-1], row[-1] == "buy") for row in found.iter_rows()]


# --- schemas -----------------------------------------------------------------------------------


def test_what_is_written_is_read_back_and_other_readers_see_plain_types(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    trades = [trade(1, 0.1, START + 7), trade(2, 0.2), trade(3, 1e-8, START + 9)]
    store.merge(BTC, DAY, trades_table(trades), [], "test")
    path = tmp_path / "binance" / "trades" / "BTC-USDT" / f"{DAY}.parquet"
    assert [(field.name, str(field.type)) for field in pq.read_schema(path)] == [
        ("time", "timestamp[us, tz=UTC]"),
        ("received", "timestamp[us, tz=UTC]"),
        ("trade_id", "string"),
        ("price", "double"),
        ("amount", "double"),
        ("side", "string"),
    ]
    (part,) = store.parts(BTC, DAY)
    assert part.read().schema.equals(TRADES)
    assert as_trades(part.read()) == trades
    assert plain(path.parent)["side"].to_list() == ["sell", "buy", "sell"]
    assert pl.read_parquet(path).schema["side"] == pl.String
    assert duckdb.read_parquet(str(path))["side"].types == ["VARCHAR"]
    frame = store.load("binance/trades/BTC-USDT")
    assert frame.schema["side"] == pl.Categorical
    assert frame["side"].to_list() == ["sell", "buy", "sell"]
    assert frame.filter(pl.col("side") == "buy")["trade_id"].to_list() == ["2"]
    assert frame["received"].null_count() == 1
    assert store.scan(BTC).select(pl.len()).collect().item() == 3


ROWS: dict[Channel, tuple[Series, pa.Table, pa.Schema]] = {
    Channel.BOOK: (
        BOOK_SERIES,
        books_table(
            [
                BookRow(START, START - 5, [(1.0, 2.0), (0.5, 3.0)], [(1.5, 1.0)], valid=True),
                BookRow(START + SECOND, START - 5, [], [], valid=False),
            ]
        ),
        BOOK,
    ),
    Channel.BOOK_DELTAS: (
        DELTAS,
        deltas_table(
            [
                BookChange(True, [(1.0, 2.0)], [], START + 9, START, 1, 4, None, None, 10),
                BookChange(False, [], [(2.0, 0.0), (3.0, 1.0)], START + 10),
            ]
        ),
        BOOK_DELTAS,
    ),
    Channel.LIVE_OHLC: (
        LIVE,
        live_candles_table(
            [
                LiveCandle(START, 1, 2, 0.5, 1.5, 9, None, None, 3.0, None, START + 60_100_000),
                LiveCandle(START + 60 * SECOND, 1, 2, 0.5, 1.5, 9, 8.0, 7, None, 2.0, START + 120),
            ]
        ),
        LIVE_OHLC,
    ),
}


@pytest.mark.parametrize("channel", ROWS)
def test_each_channel_comes_back_as_it_was_and_is_known_the_second_time(
    channel: Channel, tmp_path: Path
) -> None:
    series, rows, schema = ROWS[channel]
    store = DataStore(tmp_path)
    assert rows.schema.equals(schema)
    assert SCHEMAS[channel] is schema
    first = store.merge(series, DAY, rows, [], "test")
    assert (first.added, first.revised) == (2, 0)
    again = store.merge(series, DAY, pa.concat_tables([rows, rows]), [], "test")
    assert (again.added, again.revised, again.written) == (0, 0, 0)
    (part,) = store.parts(series, DAY)
    assert part.read().equals(rows)
    assert store.load(series).equals(pl.DataFrame(pl.from_arrow(rows)))
    assert plain(store.folder(series)).height == 2


def test_a_change_without_a_time_of_the_exchange_has_that_of_its_receipt() -> None:
    rows = ROWS[Channel.BOOK_DELTAS][1]
    assert rows["time"].cast(pa.int64()).to_pylist() == [START, START + 10]
    assert rows["sequence"].to_pylist() == [4, None]
    assert rows["depth"].to_pylist() == [10, None]


def test_a_live_candle_that_the_exchange_sends_again_with_other_values_is_replaced(
    tmp_path: Path,
) -> None:
    candle = LiveCandle(START, 1, 2, 0.5, 1.5, 9, None, None, None, None, START + 5)
    store = DataStore(tmp_path)
    store.merge(LIVE, DAY, live_candles_table([candle]), [], "test")
    later = candle._replace(close=1.25, received=START + 9)
    merged = store.merge(LIVE, DAY, live_candles_table([later, candle, later]), [], "test")
    assert (merged.added, merged.revised) == (0, 1)
    found = store.load(LIVE)
    assert (found["close"].item(), found["received"].to_physical().item()) == (1.25, START + 5)
    wrong = candle._replace(time=START + 60 * SECOND, low=3.0)
    store.merge(LIVE, DAY, live_candles_table([wrong]), [], "test")
    assert [row.insane for row in store.inventory_rows()] == [1]


# --- merging -----------------------------------------------------------------------------------

NUMBERS = st.lists(st.integers(0, 40), max_size=25)


@QUIET
@given(batches=st.lists(NUMBERS, max_size=6), seed=st.integers(0, 99), tail=st.sampled_from([1, 9]))
def test_any_order_and_overlap_of_batches_gives_the_same_trades(
    batches: list[list[int]], seed: int, tail: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In order of time, by number inside a time; each once; the earlier receipt stays."""
    randomly = random.Random(seed)
    before = dict(period.DAILY_TAIL_ROWS)
    period.DAILY_TAIL_ROWS[Channel.TRADES] = tail
    folder = tmp_path_factory.mktemp("trades")
    expected: dict[int, Trade] = {}
    added = 0
    try:
        for numbers in batches:
            receipts = {n: randomly.choice([None, START + 50, START + 60]) for n in numbers}
            rows = [trade(n, n * 1.5, receipts[n]) for n in numbers]
            merged = put(folder, rows)
            assert merged.revised == 0
            added += merged.added
            for row in rows:
                known = expected.get(int(row.trade_id), row)
                times = [t for t in (known.received, row.received) if t is not None]
                expected[int(row.trade_id)] = row._replace(received=min(times, default=None))
            assert merged.rows == len(expected) == added
    finally:
        period.DAILY_TAIL_ROWS.update(before)
    assert seen(folder) == [expected[n] for n in sorted(expected)]
    if expected:
        assert plain(folder).height == len(expected)


def test_a_known_id_with_another_price_is_replaced_and_counted_its_receipt_stays(
    tmp_path: Path,
) -> None:
    put(tmp_path, [trade(n, received=START + n) for n in range(9)])
    merged = put(tmp_path, [trade(3), trade(4, price=2.0), trade(9)])
    assert (merged.added, merged.revised) == (1, 1)
    found = {row.trade_id: row for row in seen(tmp_path)}
    assert found["4"] == trade(4, 2.0, START + 4)
    assert found["3"] == trade(3, 1.0, START + 3)
    other_side = trade(5)._replace(buy=True)
    assert put(tmp_path, [other_side]).revised == 1
    assert put(tmp_path, [other_side]).written == 0


def test_one_trade_told_in_milliseconds_and_in_microseconds_is_one(tmp_path: Path) -> None:
    put(tmp_path, [trade(n) for n in range(6)])
    finer = [row._replace(time=row.time + 999) for row in seen(tmp_path)]
    assert put(tmp_path, finer).written == 0
    later = trade(6)._replace(time=trade(5).time + 500)
    merged = put(tmp_path, [*finer[3:], later])
    assert (merged.added, merged.rows) == (1, 7)
    changed = finer[5]._replace(price=7.0)
    merged = put(tmp_path, [changed])
    assert (merged.added, merged.revised, merged.rows) == (0, 1, 7)


def test_ids_that_are_no_numbers_stay_in_the_order_of_arrival(tmp_path: Path) -> None:
    ids = ["f3", "a1", "10", "9", "c"]
    put(tmp_path, [trade(0)._replace(trade_id=name) for name in ids[:3]])
    put(tmp_path, [trade(0)._replace(trade_id=name) for name in ids[1:]])
    assert [row.trade_id for row in seen(tmp_path)] == ids


def test_promise_8_a_thousand_trades_cost_no_more_on_a_million_than_on_none(
    tmp_path: Path,
) -> None:
    """In bytes written: the tail and never the day; the day is folded some tens of times."""
    most = period.DAILY_TAIL_ROWS[Channel.TRADES]
    assert 10 <= 1_000_000 / most <= 50
    written = {}
    for size in (1_000, 1_000_000):
        folder = tmp_path / str(size)
        folder.mkdir()
        rows = trades_table([trade(n) for n in range(size)])
        Period(folder, BTC, DAY).merge(rows, [], "test")
        main = (folder / f"{DAY}.parquet").stat()
        batches = [
            [trade(n) for n in range(size + k * 990 - 10, size + k * 990 + 990)] for k in (0, 1)
        ]
        merges = [put(folder, batch) for batch in batches]
        assert [merged.added for merged in merges] == [990, 990]
        after = (folder / f"{DAY}.parquet").stat()
        assert (after.st_ino, after.st_mtime_ns) == (main.st_ino, main.st_mtime_ns)
        written[size] = sum(merged.written for merged in merges)
    assert written[1_000_000] < 1.2 * written[1_000] < 60_000


def test_a_late_trade_goes_to_its_place_and_the_tail_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(period.DAILY_TAIL_ROWS, Channel.TRADES, 10)
    put(tmp_path, [trade(n) for n in range(60) if n not in (7, 61)])
    put(tmp_path, [trade(n) for n in range(60, 66)])
    assert {path.name for path in tmp_path.iterdir()} == {f"{DAY}.parquet", f"{DAY}.tail.parquet"}
    merged = put(tmp_path, [trade(66), trade(7)])
    assert (merged.added, merged.rows) == (2, 67)
    assert [int(row.trade_id) for row in seen(tmp_path)] == list(range(67))
    assert {path.name for path in tmp_path.iterdir()} == {f"{DAY}.parquet"}


def test_a_day_that_is_over_becomes_one_file(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    assert store.close_period(BTC, DAY) is None
    for first in (0, 50):
        rows = trades_table([trade(n) for n in range(first, first + 50)])
        store.merge(BTC, DAY, rows, [Window(START + first, START + first + 50)], "test")
    assert len(list(store.folder(BTC).glob("*.parquet"))) == 2
    before = store.load(BTC)
    closed = store.close_period(BTC, DAY)
    assert closed is not None
    assert (closed.rows, closed.covered) == (100, [Window(START, START + 100)])
    assert [path.name for path in store.folder(BTC).iterdir()] == [f"{DAY}.parquet"]
    assert store.load(BTC).equals(before)
    again = store.close_period(BTC, DAY)
    assert again is not None
    assert again.written == 0


def test_a_day_that_is_over_is_pressed_once(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    rows = trades_table([trade(n) for n in range(20_000)])
    open_day = store.merge(BTC, DAY, rows, [], "test")
    before = store.load(BTC)
    closed, again = store.close_period(BTC, DAY), store.close_period(BTC, DAY)
    assert closed is not None
    assert again is not None
    assert (closed.rows, again.written) == (20_000, 0)
    assert 0 < closed.written == closed.bytes < open_day.bytes
    assert store.load(BTC).equals(before)
    store.merge(BTC, DAY, trades_table([trade(20_000)]), [], "test")
    late = store.close_period(BTC, DAY)
    assert late is not None
    assert (late.rows, late.written > 0) == (20_001, True)


# --- the ledger --------------------------------------------------------------------------------


def test_promise_6_a_window_that_is_not_covered_is_missing_or_lost_with_its_cause(
    tmp_path: Path,
) -> None:
    store = DataStore(tmp_path)
    rows = trades_table([trade(n, ms=n * 1_000) for n in range(100)])
    second = [Window(START + n * SECOND, START + (n + 1) * SECOND) for n in range(100)]
    covered = [Window(START, second[39].end), Window(second[60].start, second[99].end)]
    cut = Loss(second[45].start, second[50].start, "connection lost")
    merged = store.merge(BTC, DAY, rows, covered, "stream", [cut])
    assert merged.lost == [cut]
    assert store.lost(BTC) == [cut]
    assert store.gaps(BTC) == [
        Gap(Window(second[40].start, second[45].start), GapKind.MISSING),
        Gap(Window(second[45].start, second[50].start), GapKind.LOST, cause="connection lost"),
        Gap(Window(second[50].start, second[60].start), GapKind.MISSING),
    ]
    text = f"lost (connection lost): {Window(second[45].start, second[50].start)}"
    assert str(store.gaps(BTC)[1]) == text
    assert store.missing_windows(BTC, Window(START, second[99].end)) == [
        Window(second[40].start, second[60].start)
    ]
    (row,) = store.inventory_rows()
    assert (row.rows, row.gaps, row.missing) == (100, 3, 2)
    assert row.row()["span"] is None
    found = judge(store, BTC, second[99].start + 5 * SECOND)
    assert (found.lost, found.age, found.duplicates) == ([cut], 5.0, 0)
    assert f"lost: {Window(*cut[:2])} (connection lost)" in found.problems
    assert not store.is_period_complete(BTC, DAY)
    # what is fetched later is not lost any more, also if the stream says so again
    heal = Window(second[44].start, second[48].start)
    store.merge(BTC, DAY, trades_table([]), [heal], "rest")
    rest = Loss(second[48].start, second[50].start, "connection lost")
    assert store.lost(BTC) == [rest]
    again = store.merge(BTC, DAY, rows, covered, "stream", [cut])
    assert (again.written, again.lost) == (0, [rest])
    whole = store.merge(BTC, DAY, trades_table([]), [window(DAY, "2026-11-23")], "rest")
    assert (whole.lost, store.lost(BTC), store.gaps(BTC)) == ([], [], [])
    assert store.is_period_complete(BTC, DAY)
    assert judge(store, BTC, second[99].start).problems == []


def test_no_gap_is_told_of_what_came_just_now(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    rows = trades_table([trade(n, ms=n * 1_000) for n in range(3)])
    # what a stream covers ends at its newest trade: more of that microsecond may come
    store.merge(BTC, DAY, rows, [Window(START, START + 2 * SECOND)], "stream")
    assert store.gaps(BTC) == []
    assert len(store.gaps(BTC, end="2026-11-23")) == 1
    # a second later there are newer rows, and nobody has said yet that nothing lacks between
    late = trades_table([trade(9, ms=9_000)])
    store.merge(BTC, DAY, late, [], "stream")
    assert store.gaps(BTC) == []
    (row,) = store.inventory_rows()
    assert (row.gaps, row.missing) == (0, 0)
    cut = Loss(START + 2 * SECOND, START + 8 * SECOND, "connection lost")
    store.merge(BTC, DAY, trades_table([]), [], "stream", [cut])
    assert [gap.kind for gap in store.gaps(BTC)] == [GapKind.LOST]


def test_before_the_listing_nothing_is_missing(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    store.write_listing(BTC, START + 30 * SECOND)
    wanted = Window(START, START + 60 * SECOND)
    assert store.missing_windows(BTC, wanted) == [Window(START + 30 * SECOND, wanted.end)]
    store.merge(BTC, DAY, trades_table([trade(0, ms=40_000)]), [], "test")
    kinds = [(gap.kind, gap.window) for gap in store.gaps(BTC, *wanted)]
    assert kinds == [
        (GapKind.BEFORE_LISTING, Window(START, START + 30 * SECOND)),
        (GapKind.MISSING, Window(START + 30 * SECOND, wanted.end)),
    ]
    assert store.is_period_complete(BTC, "2026-11-21")


def test_of_live_candles_a_hole_is_lost_with_its_cause_or_missing(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    minute = [START + n * 60 * SECOND for n in range(11)]
    rows = [
        LiveCandle(minute[n], 1, 1, 1, 1, 1, None, None, None, None, minute[n + 1])
        for n in (0, 1, 8, 9)
    ]
    covered = [Window(minute[0], minute[3]), Window(minute[7], minute[10])]
    lost = [Loss(minute[4], minute[6], "gone")]
    store.merge(LIVE, DAY, live_candles_table(rows), covered, "stream", lost)
    assert [(gap.kind, gap.candles, gap.cause) for gap in store.gaps(LIVE)] == [
        (GapKind.CONFIRMED_EMPTY, 1, None),
        (GapKind.MISSING, 1, None),
        (GapKind.LOST, 2, "gone"),
        (GapKind.MISSING, 1, None),
        (GapKind.CONFIRMED_EMPTY, 1, None),
    ]
    (row,) = store.inventory_rows()
    assert (row.gaps, row.missing, row.row()["span"]) == (6, 4, "1m")


LOSSES = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 9), st.sampled_from(["a", "b"])), max_size=5
)
WINDOWS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=4)


@QUIET
@given(said=st.lists(st.tuples(LOSSES, WINDOWS), min_size=1, max_size=4))
def test_what_is_lost_is_what_was_said_to_be_and_is_not_covered_in_any_order(
    said: list[tuple[list[tuple[int, int, str]], list[tuple[int, int]]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    lost, covered = set[int](), set[int]()
    for losses, windows in said:
        marks = tuple(Loss(START + a, START + a + n, cause) for a, n, cause in losses)
        merged = put(
            folder, [], *(Window(START + a, START + a + n) for a, n in windows), lost=marks
        )
        lost |= {t for a, n, _ in losses for t in range(a, a + n)}
        covered |= {t for a, n in windows for t in range(a, a + n)}
        told = [t for start, end, _ in merged.lost for t in range(start - START, end - START)]
        assert sorted(told) == sorted(lost - covered)
        assert merged.covered == union(Window(START + t, START + t + 1) for t in covered)


# --- holes in ids ------------------------------------------------------------------------------


def test_ids_that_are_not_there_are_found_inside_a_day_and_over_midnight(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    before = [trade(n)._replace(time=START - 1_000) for n in range(95, 98)]
    store.merge(BTC, "2026-11-21", trades_table(before), [], "test")
    day = [n for n in range(100, 140) if n not in (110, 111, 112, 130)]
    randomly = random.Random(1)
    randomly.shuffle(day)
    store.merge(BTC, DAY, trades_table([trade(n) for n in day]), [], "test")
    assert store.missing_ids(BTC, DAY) == [(110, 112), (130, 130)]
    assert store.missing_ids(BTC, "2026-11-21") == []
    assert store.missing_ids(BTC, "2026-11-20") == []
    midnight = Window(START - SECOND, START + SECOND)
    for day_name, part in BTC.periods(midnight):
        store.merge(BTC, day_name, trades_table([]), [part], "test")
    assert store.missing_ids(BTC, DAY) == [(98, 99), (110, 112), (130, 130)]
    store.merge(BTC, DAY, trades_table([trade(150)._replace(trade_id="x")]), [], "test")
    with pytest.raises(ValueError, match="trade id 'x' is no number"):
        store.missing_ids(BTC, DAY)


# --- reading -----------------------------------------------------------------------------------


def test_days_are_read_in_order_and_inventory_shows_one_line_a_series(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    for series, rows, _ in ROWS.values():
        store.merge(series, DAY, rows, [], "test")
    for number in count(0):
        if number == 3:
            break
        time = START + (number - 2) * 86_400 * SECOND
        rows = trades_table([trade(number)._replace(time=time)])
        day = datetime.fromtimestamp(time / SECOND, UTC).strftime("%Y-%m-%d")
        store.merge(BTC, day, rows, [], "test")
    assert store.existing_periods(BTC) == ["2026-11-20", "2026-11-21", DAY]
    assert store.load(BTC)["trade_id"].to_list() == ["0", "1", "2"]
    assert store.load(BTC, "2026-11-21", DAY)["trade_id"].to_list() == ["1"]
    assert store.first_timestamp(BTC) == datetime(2026, 11, 20, tzinfo=UTC)
    assert store.last_timestamp(BTC) == datetime(2026, 11, 22, tzinfo=UTC)
    frame = store.inventory()
    assert frame["type"].to_list() == ["book", "book_deltas", "live_ohlc", "trades"]
    assert frame["span"].to_list() == [None, None, "1m", None]
    assert frame["rows"].to_list() == [2, 2, 2, 3]


def test_a_last_trade_at_the_open_end_of_what_is_covered_is_no_gap(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    rows = trades_table([trade(number) for number in range(3)])
    last = trade(2).time
    store.merge(BTC, DAY, rows, [Window(START, last)], "test")
    (row,) = store.inventory_rows()
    assert (row.last, row.gaps, row.missing) == (last, 0, 0)
    newest = trade(9).time
    store.merge(BTC, DAY, trades_table([trade(9)]), [Window(newest, newest + 1)], "test")
    (row,) = store.inventory_rows()
    assert (row.last, row.gaps, row.missing) == (newest, 1, 1)


def test_a_folder_with_a_span_too_many_or_too_few_is_no_series(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    store.merge(BTC, DAY, trades_table([trade(0)]), [], "test")
    file = store.folder(BTC) / f"{DAY}.parquet"
    for other in ("x/trades/A-B/1h", "x/ohlc/A-B", "x/live_ohlc/A-B", "x/book/A-B/C"):
        (tmp_path / other).mkdir(parents=True)
        (tmp_path / other / file.name).write_bytes(file.read_bytes())
    assert [row.series for row in store.inventory_rows()] == [BTC]
