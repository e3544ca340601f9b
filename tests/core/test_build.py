"""Candles from trades and from shorter candles, against sums made by hand with decimals."""

from decimal import Decimal
from itertools import groupby

import numpy as np
import pytest
from helpers import at
from hypothesis import given
from hypothesis import strategies as st

from dccd_core.build import build_candles, exact_sums, merge_candles
from dccd_core.exchanges.base import Candles
from dccd_core.models import SECOND, WEEK, Channel, Series, Symbol, Window

MINUTE = 60 * SECOND
START = at("2025-01-06")  # a Monday
OPTIONAL = ("quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")

Row = tuple[int, Decimal, Decimal, bool]
ROWS = st.lists(
    st.tuples(
        st.integers(0, 10 * MINUTE - 1),
        st.decimals("0.1", "99999.9", places=1),
        st.decimals("0.00000001", "99.99999999", places=8),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
).map(lambda rows: sorted(((START + t, p, a, b) for t, p, a, b in rows), key=lambda r: r[0]))


def build(
    rows: list[Row],
    span: int,
    window: Window,
    *,
    before: float | None = None,
    fill: bool = False,
) -> Candles:
    times, prices, amounts, buys = zip(*rows, strict=True) if rows else ((), (), (), ())
    return build_candles(
        np.array(times, np.int64),
        np.array(prices, np.float64),
        np.array(amounts, np.float64),
        np.array(buys, np.bool_),
        span,
        window,
        before,
        fill,
    )


def grid(span: int) -> Series:
    return Series("binance", Channel.OHLC, Symbol("A", "B"), span)


@given(ROWS, st.sampled_from([60, 120, 300]))
def test_each_candle_is_what_decimals_say(rows: list[Row], span: int) -> None:
    found = build(rows, span, Window(START, START + 10 * MINUTE))
    groups = [(t, list(g)) for t, g in groupby(rows, lambda row: grid(span).floor(row[0]))]
    assert found.time.tolist() == [time for time, _ in groups]
    for number, (_, trades) in enumerate(groups):
        prices = [float(price) for _, price, _, _ in trades]
        bought = [row for row in trades if row[3]]
        expected = {
            "open": prices[0],
            "high": max(prices),
            "low": min(prices),
            "close": prices[-1],
            "volume": float(sum(amount for _, _, amount, _ in trades)),
            "quote_volume": float(sum(price * amount for _, price, amount, _ in trades)),
            "trades": len(trades),
            "taker_buy_volume": float(sum(amount for _, _, amount, _ in bought)),
            "taker_buy_quote_volume": float(sum(p * amount for _, p, amount, _ in bought)),
        }
        for name, value in expected.items():
            assert getattr(found, name)[number] == value, name


@given(ROWS)
def test_shorter_candles_make_the_same_long_ones(rows: list[Row]) -> None:
    window = Window(START, START + 10 * MINUTE)
    long, short = build(rows, 300, window), merge_candles(build(rows, 60, window), 300)
    for name in ("time", "open", "high", "low", "close", "volume", "trades", "taker_buy_volume"):
        assert getattr(long, name).tolist() == getattr(short, name).tolist(), name
    assert np.allclose(long.quote_volume, short.quote_volume, rtol=1e-15)  # type: ignore[arg-type]


def test_a_sum_that_floats_get_wrong() -> None:
    amounts = np.array([0.1, 0.1, 0.1, 0.4])
    assert np.add.reduceat(amounts[:3], [0])[0] != 0.3
    assert exact_sums(amounts, np.array([0, 3])).tolist() == [0.3, 0.4]
    assert exact_sums(amounts[:3], np.array([0]), np.array([0.7] * 3)).tolist() == [0.21]


def test_too_many_places_are_summed_as_floats() -> None:
    values = np.array([1 / 3, 1 / 7, 2.0**60])
    assert exact_sums(values, np.array([0, 2])).tolist() == [1 / 3 + 1 / 7, 2.0**60]


@pytest.mark.parametrize("span", [86_400, WEEK, 3 * 86_400])
def test_days_and_weeks_open_where_series_do(span: int) -> None:
    times = [at("2025-01-05T23:59:59"), START, at("2025-01-12T23:59:59.999999"), at("2025-01-13")]
    window = Window(grid(span).floor(times[0]), grid(span).floor(times[-1]) + span * SECOND)
    found = build([(t, Decimal(1), Decimal(1), True) for t in times], span, window)
    assert found.time.tolist() == sorted({grid(span).floor(time) for time in times})


def test_intervals_without_trades_are_flat_at_the_last_close() -> None:
    rows = [
        (START + MINUTE, Decimal(7), Decimal(2), False),
        (START + 3 * MINUTE, Decimal(5), Decimal(1), True),
    ]
    window = Window(START, START + 5 * MINUTE)
    found = build(rows, 60, window, before=9.0, fill=True)
    assert found.time.tolist() == list(range(START, window.end, MINUTE))
    assert found.close.tolist() == [9.0, 7.0, 7.0, 5.0, 5.0]
    assert found.open.tolist() == found.high.tolist() == found.low.tolist() == found.close.tolist()
    assert found.volume.tolist() == [0.0, 2.0, 0.0, 1.0, 0.0]
    assert found.trades is not None
    assert found.trades.tolist() == [0, 1, 0, 1, 0]
    unknown = build(rows, 60, window, fill=True)
    assert unknown.time.tolist() == list(range(START + MINUTE, window.end, MINUTE))
    none = build([], 60, window, before=9.0, fill=True)
    assert none.close.tolist() == [9.0] * 5
    assert len(build([], 60, window, fill=True)) == len(build([], 60, window)) == 0


def test_trades_outside_of_the_window_are_left_out() -> None:
    rows = [(START + n * MINUTE, Decimal(n + 1), Decimal(1), True) for n in range(5)]
    found = build(rows, 60, Window(START + MINUTE, START + 3 * MINUTE))
    assert found.close.tolist() == [2.0, 3.0]


def test_trades_in_disorder_are_refused() -> None:
    rows = [(START + 1, Decimal(1), Decimal(1), True), (START, Decimal(1), Decimal(1), True)]
    with pytest.raises(ValueError, match="order of time"):
        build(rows, 60, Window(START, START + MINUTE))


def test_flat_candles_have_no_part_in_a_longer_one_in_which_something_was_traded() -> None:
    rows = [(START + 2 * MINUTE, Decimal(7), Decimal(2), True)]
    short = build(rows, 60, Window(START, START + 10 * MINUTE), before=99.0, fill=True)
    long = merge_candles(short, 300)
    assert long.open.tolist() == long.high.tolist() == long.low.tolist() == [7.0, 7.0]
    assert long.volume.tolist() == [2.0, 0.0]
    assert merge_candles(short, 300, opens_at_last_close=True).open.tolist() == [99.0, 7.0]
    assert len(merge_candles(build([], 60, Window(START, START + MINUTE)), 300)) == 0


def test_columns_that_short_candles_lack_are_none() -> None:
    one = np.ones(2)
    short = Candles(np.array([START, START + MINUTE]), one, one, one, one, one)
    assert [getattr(merge_candles(short, 300), name) for name in OPTIONAL] == [None] * 4
