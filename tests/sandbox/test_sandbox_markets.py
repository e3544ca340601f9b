"""The synthetic markets: deterministic, continuous, exact."""

import numpy as np
import pytest

from dccd_sandbox import spans
from dccd_sandbox.candles import (
    CLOSE,
    COUNT,
    HIGH,
    LOW,
    OPEN,
    QUOTE,
    TAKER,
    TAKER_QUOTE,
    TIME,
    VOLUME,
    Digits,
    joined,
    joined_traded,
    numbers,
    of_trades,
    texts,
)
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.market import Window
from dccd_sandbox.settings import Settings, markets
from dccd_sandbox.spans import DAY_MS, seconds
from dccd_sandbox.synthetic import SyntheticMarket

NOW = epoch_ms("2026-06-01T12:34:30Z")
DAY = epoch_ms("2024-02-29") // DAY_MS


def market(symbol: str = "BTCUSDT", seed: int = 1) -> SyntheticMarket:
    found = markets(Settings(seed=seed))[symbol]
    assert isinstance(found, SyntheticMarket)
    return found


def test_same_seed_same_trades_whatever_was_asked_before() -> None:
    first, second = market(), market()
    second.trades(DAY + 5)
    second.candles(3_600, (DAY - 3) * DAY_MS, DAY * DAY_MS, NOW)
    one, two = first.trades(DAY), second.trades(DAY)
    for name in ("time", "ticks", "lots", "buy"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


def test_other_seed_and_other_symbol_are_other_markets() -> None:
    day = market().trades(DAY)
    for other in (market(seed=2), market("ETHUSDT")):
        assert not np.array_equal(day.time[:100], other.trades(DAY).time[:100])


def test_ids_run_on_from_zero_over_days() -> None:
    btc = market()
    first = btc.first_ms // DAY_MS
    expected = 0
    for day in range(first, first + 20):
        trades = btc.trades(day)
        assert trades.first_id == expected == btc.trades_before(day)
        expected += len(trades)


def test_trades_are_in_order_within_their_day_and_some_share_a_millisecond() -> None:
    trades = market().trades(DAY)
    assert (np.diff(trades.time) >= 0).all()
    assert trades.time[0] >= DAY * DAY_MS
    assert trades.time[-1] < (DAY + 1) * DAY_MS
    shared = np.unique(trades.time, return_counts=True)[1]
    assert shared.max() >= 200
    assert (shared == 2).sum() > 100


def test_price_does_not_jump_at_midnight() -> None:
    btc = market()
    for day in range(DAY, DAY + 30):
        last, first = btc.trades(day).ticks[-1], btc.trades(day + 1).ticks[0]
        assert abs(int(first) - int(last)) < int(last) // 500


def test_candles_are_the_exact_sums_of_trades() -> None:
    btc = market()
    trades = btc.trades(DAY)
    rows = btc.candles(60, DAY * DAY_MS, (DAY + 1) * DAY_MS - 1, NOW)
    assert len(rows) == 1_440
    minute = trades.time // 60_000 * 60_000
    for row in rows[::97]:
        inside = minute == row[TIME]
        ticks, lots = trades.ticks[inside], trades.lots[inside]
        assert row[COUNT] == inside.sum()
        assert row[VOLUME] == lots.sum()
        if row[COUNT]:
            assert (row[OPEN], row[CLOSE]) == (ticks[0], ticks[-1])
            assert (row[HIGH], row[LOW]) == (ticks.max(), ticks.min())
        buys = trades.buy[inside]
        assert row[QUOTE] == (ticks * lots).sum()
        assert row[TAKER] == lots[buys].sum()
        assert row[TAKER_QUOTE] == (ticks * lots)[buys].sum()


def test_minutes_without_a_trade_are_flat_at_the_last_close() -> None:
    btc = market()
    rows = btc.candles(60, DAY * DAY_MS, (DAY + 3) * DAY_MS - 1, NOW)
    quiet = np.flatnonzero(rows[:, COUNT] == 0)
    assert len(quiet) > 10
    for place in quiet[quiet > 0]:
        assert (rows[place, OPEN : CLOSE + 1] == rows[place - 1, CLOSE]).all()
        assert (rows[place, VOLUME:] == 0).all()


@pytest.mark.parametrize("label", ["5s", "1m", "3m", "15m", "1h", "4h", "1d"])
def test_every_span_is_exactly_that_of_its_trades(label: str) -> None:
    btc, span = market(), seconds(label)
    start, end = DAY * DAY_MS, (DAY + 1) * DAY_MS - 1
    rows = btc.candles(span, start, end, NOW)
    assert len(rows) == 86_400 // span
    assert np.array_equal(rows[rows[:, COUNT] > 0], of_trades(btc.trades(DAY), span))


@pytest.mark.parametrize("label", ["3m", "15m", "1h", "4h", "1d", "3d", "1w", "1M"])
def test_longer_spans_are_made_of_minutes(label: str) -> None:
    btc, span = market(), seconds(label)
    start = spans.open_of(DAY * DAY_MS, span)
    end = start
    for _ in range(3):
        end = spans.end_of(end, span)
    longer = btc.candles(span, start, end - 1, NOW)
    assert len(longer) == 3
    minutes = btc.candles(60, start, end - 1, NOW)
    assert np.array_equal(longer, joined_traded(minutes, span))
    naive = joined(minutes, span)
    assert np.array_equal(longer[:, CLOSE:], naive[:, CLOSE:])


def test_seconds_make_minutes() -> None:
    btc, start = market(), DAY * DAY_MS
    minutes = btc.candles(60, start, start + 3_600_000 - 1, NOW)
    made = joined_traded(btc.candles(1, start, start + 3_600_000 - 1, NOW), 60)
    assert np.array_equal(minutes, made)


def test_listing_in_the_middle_of_a_day() -> None:
    sol = market("SOLUSDT")
    listed = epoch_ms("2020-08-11T06:00")
    rows = sol.candles(60, 0, listed + 59_999, NOW)
    assert rows[:, TIME].tolist() == [listed]
    assert rows[0, COUNT] > 0
    day = sol.candles(86_400, 0, listed, NOW)
    assert day[:, TIME].tolist() == [epoch_ms("2020-08-11")]
    assert sol.candles(60, 0, listed - 60_000, NOW).size == 0


def test_the_running_candle_holds_what_was_traded_so_far() -> None:
    btc = market()
    late = btc.candles(60, NOW - 120_000, NOW, NOW)[-1]
    later = btc.candles(60, NOW - 120_000, NOW, NOW + 3_600_000)
    assert late[TIME] == NOW // 60_000 * 60_000
    assert late[VOLUME] <= later[later[:, TIME] == late[TIME]][0, VOLUME]
    for now in range(NOW, NOW + 60_000, 7_000):
        hour = btc.candles(3_600, now - 3_600_000, now, now)[-1]
        minutes = btc.candles(60, int(hour[TIME]), now, now)
        assert np.array_equal(joined_traded(minutes, 3_600)[0], hour)


def test_page_from_start_and_page_to_end() -> None:
    btc, start = market(), DAY * DAY_MS
    forward = btc.page(Window(60, start, None, 10, NOW))
    assert forward[:, TIME].tolist() == [start + n * 60_000 for n in range(10)]
    back = btc.page(Window(60, None, start, 10, NOW))
    assert back[:, TIME].tolist() == [start - n * 60_000 for n in reversed(range(10))]
    assert btc.page(Window(60, start, start - 1, 10, NOW)).size == 0


def test_numbered_markets_differ_and_stay_exact() -> None:
    numbered = markets(Settings(symbols=(), many=3))
    assert list(numbered) == ["N0000USDT", "N0001USDT", "N0002USDT"]
    start = DAY * DAY_MS
    zero, two = (
        numbered[name].candles(60, start, start + 3_600_000 - 1, NOW)
        for name in ("N0000USDT", "N0002USDT")
    )
    assert np.array_equal(zero[:, OPEN : CLOSE + 1] + 2, two[:, OPEN : CLOSE + 1])
    assert np.array_equal(zero[:, QUOTE] + 2 * zero[:, VOLUME], two[:, QUOTE])


def test_decimals_as_text_and_as_numbers() -> None:
    row = np.array([[60_000, 285, 286, 5, 0, 10**17 + 1, 7, 3, 0, 0]], dtype=np.int64)
    digits = Digits(price=2, amount=0, quote=3)
    assert [column[0] for column in texts(row, digits)] == [
        *(60_000, "2.85", "2.86", "0.05", "0.00", "100000000000000001", "0.007", 3, "0", "0.000")
    ]
    assert texts(row, digits, 8)[5] == ["100000000000000001.00000000"]
    printed = [float(column[0]) for column in texts(row.astype(object), digits, 8)]
    assert [column[0] for column in numbers(row, digits)] == printed
