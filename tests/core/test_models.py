"""Symbols, spans, series and their grids. Promise 9: times are UTC, candle time is the open."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from helpers import BTC_1H, BTC_1M, at, window
from hypothesis import given
from hypothesis import strategies as st

from dccd_core.models import (
    SECOND,
    WEEK,
    Channel,
    Series,
    Symbol,
    Window,
    iso,
    microseconds,
    moment,
    parse_span,
    span_label,
)

SPANS = [1, 60, 180, 300, 900, 1_800, 3_600, 14_400, 43_200, 86_400, 259_200, WEEK]
TIMES = st.integers(at("2009-01-01"), at("2099-12-31"))
WEEKLY = replace(BTC_1H, span=WEEK)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        (60, 60),
        ("1m", 60),
        (" 1h ", 3_600),
        ("4h", 14_400),
        ("1d", 86_400),
        ("1w", WEEK),
    ],
)
def test_a_span_is_seconds_or_a_label(text: int | str, seconds: int) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "0", "-1", "1.5h", "1M", "1 h", True, "٣h", None])
def test_what_is_no_span_is_refused_with_what_would_be_right(text: object) -> None:
    with pytest.raises(ValueError, match="is not a span: write seconds"):
        parse_span(text)  # type: ignore[arg-type]


@given(st.integers(1, 10**9))
def test_a_label_is_read_back(span: int) -> None:
    assert parse_span(span_label(span)) == span


def test_labels_are_the_shortest() -> None:
    labels = ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "4h", "12h", "1d", "3d", "1w"]
    assert [span_label(span) for span in SPANS] == labels


@pytest.mark.parametrize("text", ["BTC/USDT", "BTC/USDT:PERP", "1000SATS/USDT", "BTC/USD:260925"])
def test_a_symbol_is_read_back_from_its_name_and_its_slug(text: str) -> None:
    symbol = Symbol.parse(text)
    assert str(symbol) == text
    assert Symbol.from_slug(symbol.slug) == symbol
    assert "/" not in symbol.slug


@pytest.mark.parametrize(
    "text",
    ["", "BTC", "BTC-USDT", "btc/usdt", "BTC/", "/USDT", "BTC/USDT:", "A/B/C", "BTC/US DT"],
)
def test_what_is_no_pair_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="write BASE/QUOTE in upper case, as BTC/USDT"):
        Symbol.parse(text)


def test_a_series_knows_its_folder_and_its_asset_key_which_ends_in_the_pair() -> None:
    assert str(BTC_1H) == "binance/ohlc/1h/BTC-USDT"
    assert BTC_1H.key == ("binance", "ohlc", "1h", "BTC-USDT")
    assert str(BTC_1H.path) == "binance/ohlc/BTC-USDT/1h"
    trades = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
    assert (str(trades), str(trades.path)) == ("binance/trades/BTC-USDT",) * 2
    for series in (BTC_1H, BTC_1M, WEEKLY, trades):
        assert Series.parse(str(series)) == series


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("binance/ohlc/3600/BTC-USDT", "did you mean 'binance/ohlc/1h/BTC-USDT'"),
        ("binance/ohlc", "write binance/ohlc/1h/BTC-USDT"),
        ("binance/candles/1h/BTC-USDT", "write binance/ohlc/1h/BTC-USDT"),
        ("binance/ohlc/1h/BTCUSDT", "write binance/ohlc/1h/BTC-USDT"),
        ("", "write binance/ohlc/1h/BTC-USDT"),
    ],
)
def test_what_is_no_key_is_refused_with_what_would_be_right(key: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Series.parse(key)


def test_promise_9_times_are_utc_and_have_a_zone() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert microseconds(datetime(2026, 1, 1, 9, tzinfo=tokyo)) == at("2026-01-01")
    assert moment(at("2026-01-31T23:59")) == datetime(2026, 1, 31, 23, 59, tzinfo=UTC)
    assert iso(at("2026-01-31T23:59")) == "2026-01-31T23:59:00Z"
    with pytest.raises(ValueError, match="has no time zone"):
        microseconds(datetime(2026, 1, 1))  # noqa: DTZ001


@given(TIMES)
def test_microseconds_are_exact(time: int) -> None:
    assert microseconds(moment(time)) == time


@given(TIMES, st.sampled_from(SPANS))
def test_floor_and_ceil_enclose_a_time(time: int, span: int) -> None:
    series = replace(BTC_1H, span=span)
    low, high = series.floor(time), series.ceil(time)
    assert low <= time <= high
    assert high - low == (0 if low == time else span * SECOND)
    assert series.floor(low) == low == series.ceil(low)


@given(TIMES)
def test_weeks_open_on_monday(time: int) -> None:
    opened = moment(WEEKLY.floor(time))
    assert opened.weekday() == 0
    assert opened.time().isoformat() == "00:00:00"
    assert opened <= moment(time) < opened + timedelta(days=7)


@given(TIMES, TIMES, st.sampled_from(SPANS))
def test_the_grid_of_a_window_has_the_candles_that_open_in_it(
    one: int, two: int, span: int
) -> None:
    series = replace(BTC_1H, span=span)
    asked = Window(min(one, two), max(one, two))
    start, end = series.grid(asked)
    step = span * SECOND
    assert series.floor(start) == start >= asked.start > start - step
    assert series.count(asked) == (end - start) // step
    if start < end:
        assert end - step < asked.end <= end
    else:
        assert start >= asked.end


def test_count_of_a_year() -> None:
    assert BTC_1M.count(window("2024-01-01", "2025-01-01")) == 366 * 1_440
    assert WEEKLY.count(window("2024-01-01", "2025-01-01")) == 53  # 2024-01-01 was a Monday
    assert WEEKLY.count(window("2024-01-02", "2024-01-08")) == 0


def test_periods_are_years_of_candles_and_days_of_the_rest() -> None:
    wanted = window("2023-12-31T12:00", "2025-01-01")
    assert list(BTC_1H.periods(wanted)) == [
        ("2023", window("2023-12-31T12:00", "2024-01-01")),
        ("2024", window("2024-01-01", "2025-01-01")),
    ]
    trades = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
    assert [
        day for day, _ in trades.periods(window("2024-02-28T23:59", "2024-03-01T00:00:01"))
    ] == [
        "2024-02-28",
        "2024-02-29",
        "2024-03-01",
    ]
    assert list(BTC_1H.periods(Window(wanted.end, wanted.end))) == []
    assert BTC_1H.period_window("2026") == window("2026-01-01", "2027-01-01")
    for wrong in ("2026-01-01", "abcd", ""):
        with pytest.raises(ValueError, match=r"does not match|unconverted"):
            BTC_1H.period_window(wrong)
