"""The read API, and the promises that a reader relies on."""

import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from helpers import BTC_1H, BTC_1M, COLUMNS, at, candles, plain, table, window

from dccd_core.models import SECOND, Series, Symbol, Window
from dccd_core.store.datastore import DataStore, as_time
from dccd_core.store.files import UnreadableError
from dccd_core.store.footer import KEY, VERSION, count_insane, read_footer
from dccd_core.store.gaps import GapKind
from dccd_core.store.schemas import OHLC, SchemaError, candles_table

HOUR = 3_600 * SECOND
WHOLE = window("2023-12-30", "2024-01-03")


def hours(wanted: Window) -> list[int]:
    return list(range(*wanted, HOUR))


def fill(store: DataStore, series: Series, wanted: Window, but: tuple[int, ...] = ()) -> None:
    """Store all candles of a window, without some by number, and cover it."""
    for year, part in series.periods(wanted):
        step = series.span * SECOND
        times = [t for t in range(*part, step) if (t - wanted.start) // step not in but]
        store.merge(series, year, table(times), [part], "test")


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    found = DataStore(tmp_path)
    fill(found, BTC_1H, WHOLE, but=(5, 6, 50))
    return found


def test_layout_is_the_one_that_is_promised(store: DataStore) -> None:
    folder = store.root / "binance" / "ohlc" / "BTC-USDT" / "1h"
    assert sorted(path.name for path in folder.iterdir()) == ["2023.parquet", "2024.parquet"]
    assert store.folder("binance/ohlc/1h/BTC-USDT") == folder
    assert {path.name for path in store.root.iterdir()} == {"binance", ".dccd"}
    assert store.existing_periods(BTC_1H) == ["2023", "2024"]


def test_promise_9_times_on_disk_are_utc_microseconds_and_columns_are_the_frozen_ones(
    store: DataStore,
) -> None:
    for path in store.folder(BTC_1H).glob("*.parquet"):
        schema = pq.read_schema(path)
        assert [(field.name, str(field.type)) for field in schema] == [
            ("time", "timestamp[us, tz=UTC]"),
            *((name, "double") for name in COLUMNS[1:7]),
            ("trades", "int64"),
            *((name, "double") for name in COLUMNS[8:]),
        ]
    frame = store.load(BTC_1H)
    assert frame.columns == COLUMNS
    assert frame.schema["time"] == pl.Datetime("us", "UTC")
    assert frame["time"][0] == datetime(2023, 12, 30, tzinfo=UTC)


def test_promise_10_the_footer_says_what_the_file_is(store: DataStore) -> None:
    path = store.folder(BTC_1H) / "2024.parquet"
    footer = read_footer(pq.read_metadata(path), path)
    assert footer.version == VERSION == 1
    assert (footer.exchange, footer.channel, footer.pair) == ("binance", "ohlc", "BTC/USDT")
    assert (footer.span, footer.source) == (3_600, "test")
    assert footer.units == {"time": "open time, UTC", "price": "quote per base", "volume": "base"}
    assert footer.windows == [window("2024-01-01", "2024-01-03")]
    assert KEY == b"dccd"


def test_promise_1_a_column_that_an_exchange_has_not_is_null_and_no_number(
    store: DataStore,
) -> None:
    frame = store.load(BTC_1H)
    assert frame.select(COLUMNS[6:]).null_count().row(0) == (frame.height,) * 4
    assert frame.select(COLUMNS[:6]).null_count().row(0) == (0,) * 6


def test_load_gives_half_open_windows_in_order_over_the_border_of_years(
    store: DataStore,
) -> None:
    assert store.load(BTC_1H).height == 4 * 24 - 3
    found = store.load(BTC_1H, "2023-12-31T22:30", "2024-01-01T02:00")
    assert found["time"].to_physical().to_list() == hours(
        window("2023-12-31T23:00", "2024-01-01T02:00")
    )
    assert store.load(BTC_1H, "2030-01-01").height == 0
    assert store.load(BTC_1H, "2024-01-01", "2024-01-01").height == 0
    assert store.load(replace(BTC_1H, symbol=Symbol("NO", "NE"))).columns == COLUMNS
    assert plain(store.folder(BTC_1H)).equals(store.load(BTC_1H))


@pytest.mark.parametrize(
    "start",
    [
        "2024-01-01",
        "2024-01-01T00:00:00Z",
        "2024-01-01T01:00:00+01:00",
        date(2024, 1, 1),
        datetime(2024, 1, 1),  # noqa: DTZ001
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2023, 12, 31, 19, tzinfo=timezone(timedelta(hours=-5))),
        at("2024-01-01"),
    ],
)
def test_a_time_is_given_in_any_common_way(
    store: DataStore, start: str | date | datetime | int
) -> None:
    assert as_time(start, 0) == at("2024-01-01")
    assert store.load(BTC_1H, start)["time"][0] == datetime(2024, 1, 1, tzinfo=UTC)


def test_what_is_no_time_and_no_series_is_refused(store: DataStore) -> None:
    with pytest.raises(ValueError, match="yesterday"):
        store.load(BTC_1H, "yesterday")
    with pytest.raises(ValueError, match="is not a series: write"):
        store.load("BTC/USDT")


def test_scan_pushes_columns_filters_and_a_head_down(store: DataStore) -> None:
    lazy = store.scan("binance/ohlc/1h/BTC-USDT")
    wanted = pl.col("time") >= datetime(2024, 1, 1, tzinfo=UTC)
    found = lazy.filter(wanted).select("close").collect()
    assert found.equals(store.load(BTC_1H).filter(wanted).select("close"))
    assert lazy.head(3).collect().equals(store.load(BTC_1H).head(3))
    assert lazy.select(pl.len()).collect().item() == 93
    assert lazy.select("volume", "open").collect().columns == ["volume", "open"]


def test_scan_reads_only_the_files_of_its_window(store: DataStore) -> None:
    (store.folder(BTC_1H) / "2023.parquet").write_bytes(b"not read")
    assert store.load(BTC_1H, "2024-01-01").height == 47
    with pytest.raises(UnreadableError, match=r"2023\.parquet cannot be read"):
        store.load(BTC_1H)


def test_a_reader_may_take_the_whole_folder(store: DataStore) -> None:
    """Notes, files set aside and halves of a write begin with "_" or "." for its sake."""
    store.write_listing(BTC_1H, at("2023-12-30"))
    expected = store.load(BTC_1H, "2024-01-01")
    (store.folder(BTC_1H) / "2023.parquet").write_bytes(b"garbage")
    day = window("2023-12-30", "2023-12-31")
    merged = store.merge(BTC_1H, "2023", table(hours(day)), [day], "test")
    assert len(merged.set_aside) == 1
    (store.folder(BTC_1H) / ".2024.parquet.1-2.tmp").write_bytes(b"half")
    read = pl.DataFrame(pl.from_arrow(pq.read_table(store.folder(BTC_1H)))).sort("time")
    assert read["time"].to_physical().to_list() == [
        *hours(day),
        *expected["time"].to_physical().to_list(),
    ]


def test_a_scan_sees_rows_that_came_after_it_was_made(store: DataStore) -> None:
    lazy = store.scan(BTC_1H, "2024-01-01")
    before = lazy.collect().height
    fill(store, BTC_1H, window("2024-01-03", "2024-01-04"))
    assert lazy.collect().height == before + 24


def test_last_timestamp(store: DataStore, tmp_path: Path) -> None:
    assert store.last_timestamp(BTC_1H) == datetime(2024, 1, 2, 23, tzinfo=UTC)
    fill(store, BTC_1H, window("2024-01-03", "2024-01-03T02:00"))  # into the tail
    assert store.last_timestamp(BTC_1H) == datetime(2024, 1, 3, 1, tzinfo=UTC)
    store.merge(BTC_1H, "2025", OHLC.empty_table(), [window("2025-01-01", "2025-02-01")], "test")
    assert store.last_timestamp(BTC_1H) == datetime(2024, 1, 3, 1, tzinfo=UTC)
    assert store.last_timestamp(BTC_1M) is None


def test_promise_5_what_is_missing_is_the_window_minus_the_ledger_minus_before_listing(
    store: DataStore,
) -> None:
    around = window("2023-12-29", "2024-01-04")
    assert store.missing_windows(BTC_1H, around) == [
        window("2023-12-29", "2023-12-30"),
        window("2024-01-03", "2024-01-04"),
    ]
    assert store.missing_intervals(BTC_1H, "2023-12-29", "2024-01-01") == [
        (datetime(2023, 12, 29, tzinfo=UTC), datetime(2023, 12, 30, tzinfo=UTC))
    ]
    store.write_listing(BTC_1H, at("2023-12-29T12:30"))
    assert store.missing_windows(BTC_1H, around)[0] == window("2023-12-29T12:00", "2023-12-30")
    assert store.listed(BTC_1H) == datetime(2023, 12, 29, 12, 30, tzinfo=UTC)
    assert store.listed(BTC_1M) is None
    assert store.missing_windows(BTC_1H, window("2023-12-31", "2024-01-02")) == []


def test_is_period_complete(store: DataStore) -> None:
    assert not store.is_period_complete(BTC_1H, "2023")
    store.write_listing(BTC_1H, at("2023-12-30"))
    assert store.is_period_complete(BTC_1H, "2023")
    assert not store.is_period_complete(BTC_1H, "2024")
    assert store.is_period_complete(BTC_1H, "2019")  # before listing


def test_promise_6_gaps_between_the_first_and_the_last_row(store: DataStore) -> None:
    gaps = store.gaps(BTC_1H)
    assert [gap.candles for gap in gaps] == [2, 1]
    assert {gap.kind for gap in gaps} == {GapKind.CONFIRMED_EMPTY}
    (missing,) = store.gaps(BTC_1H, "2024-01-02", "2024-01-04")[-1:]
    assert (missing.kind, missing.candles) == (GapKind.MISSING, 24)
    assert store.gaps(BTC_1M) == []


def test_a_damaged_listing_is_asked_for_again(store: DataStore) -> None:
    store.write_listing(BTC_1H, at("2023-12-30"))
    (store.folder(BTC_1H) / "_listing.json").write_bytes(b'{"listed":')
    assert store.read_listing(BTC_1H) is None
    assert store.listed(BTC_1H) is None


def test_promise_7_a_damaged_page_is_reported_with_its_file_and_not_read_as_data(
    store: DataStore,
) -> None:
    path = store.folder(BTC_1H) / "2024.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + b"\0" * 100 + whole[160:])
    with pytest.raises(UnreadableError, match=str(path)):
        store.load(BTC_1H)
    with pytest.raises(UnreadableError, match=str(path)):
        store.times(BTC_1H)


def test_what_a_damaged_file_covered_is_missing_again_and_the_rest_is_not(
    store: DataStore,
) -> None:
    (store.folder(BTC_1H) / "2023.parquet").write_bytes(b"")
    assert store.missing_windows(BTC_1H, WHOLE) == [window("2023-12-30", "2024-01-01")]


def test_a_foreign_file_is_no_answer_to_what_is_covered(store: DataStore) -> None:
    pq.write_table(table(hours(WHOLE)), store.folder(BTC_1H) / "2022.parquet")
    with pytest.raises(SchemaError, match=r"2022\.parquet was not written by this program"):
        store.covered(BTC_1H)
    with pytest.raises(SchemaError, match=r"2022\.parquet was not written by this program"):
        store.load(BTC_1H)


def test_the_ledger_travels_with_a_copy_of_the_files(store: DataStore, tmp_path: Path) -> None:
    other = DataStore(tmp_path / "copy")
    other.folder(BTC_1H).mkdir(parents=True)
    for path in store.folder(BTC_1H).glob("*.parquet"):
        os.link(path, other.folder(BTC_1H) / path.name)
    assert other.covered(BTC_1H) == store.covered(BTC_1H)
    assert other.gaps(BTC_1H) == store.gaps(BTC_1H)


def test_candles_that_contradict_themselves_are_counted() -> None:
    good = candles([0, HOUR, 2 * HOUR, 3 * HOUR])
    assert count_insane(candles_table(good), with_open=True) == 0
    good.low[1] = good.close[1] + 1
    good.high[2] = good.open[2] - 0.5
    good.volume[3] = -1
    assert count_insane(candles_table(good), with_open=True) == 3
