"""Promise 6: every hole is explained, and no other."""

from dataclasses import replace

import numpy as np
from helpers import BTC_1H, at
from hypothesis import given
from hypothesis import strategies as st

from dccd_core.intervals import union
from dccd_core.models import SECOND, WEEK, Window
from dccd_core.store.gaps import Gap, GapKind, absent_windows, find_gaps

HOUR = 3_600 * SECOND
START = at("2024-01-01")
EMPTY, MISSING, BEFORE = GapKind.CONFIRMED_EMPTY, GapKind.MISSING, GapKind.BEFORE_LISTING


def hours(*numbers: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return START + np.array(numbers, np.int64) * HOUR


def span(first: int, end: int) -> Window:
    return Window(START + first * HOUR, START + end * HOUR)


def test_promise_6_the_three_kinds_oldest_first_with_their_candles() -> None:
    gaps = find_gaps(
        BTC_1H, span(0, 20), [span(4, 12), span(15, 20)], START + 4 * HOUR, hours(4, 5, 9, 15)
    )
    assert gaps == [
        Gap(span(0, 4), BEFORE, 4),
        Gap(span(6, 9), EMPTY, 3),
        Gap(span(10, 12), EMPTY, 2),
        Gap(span(12, 15), MISSING, 3),
        Gap(span(16, 20), EMPTY, 4),
    ]
    assert str(gaps[3]) == ("missing: 3 candles, 2024-01-01T12:00:00Z … 2024-01-01T15:00:00Z")
    assert gaps[1].row()["kind"] == "confirmed_empty"


def test_nothing_is_a_gap_where_all_is_there_or_no_candle_opens() -> None:
    assert find_gaps(BTC_1H, span(0, 3), [], None, hours(0, 1, 2)) == []
    assert find_gaps(BTC_1H, Window(START + 1, START + HOUR), [], None, hours()) == []
    weekly = replace(BTC_1H, span=WEEK)
    assert find_gaps(weekly, Window(START + 1, START + 6 * 24 * HOUR), [], None, hours()) == []


def test_a_series_that_begins_after_the_window_is_all_before_listing() -> None:
    (gap,) = find_gaps(BTC_1H, span(0, 5), [], START + 9 * HOUR, hours())
    assert gap == Gap(span(0, 5), BEFORE, 5)


def test_a_listing_inside_a_candle_leaves_that_candle_to_be_had() -> None:
    gaps = find_gaps(BTC_1H, span(0, 4), [], START + 2 * HOUR + 1, hours(3))
    assert [(gap.kind, gap.window) for gap in gaps] == [
        (BEFORE, span(0, 2)),
        (MISSING, span(2, 3)),
    ]


NUMBERS = st.sets(st.integers(0, 30))
SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda two: span(*two)))


@given(NUMBERS, SPANS, st.none() | st.integers(0, 30))
def test_promise_6_every_absent_candle_has_exactly_one_kind(
    present: set[int], covered: list[Window], listed: int | None
) -> None:
    listing = None if listed is None else START + listed * HOUR
    have = {n for n in present if listed is None or n >= listed}
    asked = {n for n in range(31) if any(w.start <= START + n * HOUR < w.end for w in covered)}
    gaps = find_gaps(BTC_1H, span(0, 31), union(covered), listing, hours(*sorted(have)))
    kinds: dict[int, GapKind] = {}
    for gap in gaps:
        inside = [n for n in range(31) if gap.window.start <= START + n * HOUR < gap.window.end]
        assert len(inside) == gap.candles > 0
        assert not kinds.keys() & set(inside), "explained twice"
        kinds |= dict.fromkeys(inside, gap.kind)
    assert kinds == {
        n: BEFORE if listed is not None and n < listed else EMPTY if n in asked else MISSING
        for n in range(31)
        if n not in have
    }
    assert gaps == sorted(gaps, key=lambda gap: gap.window)


@given(NUMBERS)
def test_absent_windows_are_the_complement(present: set[int]) -> None:
    absent = absent_windows(BTC_1H, span(0, 31), hours(*sorted(present)))
    assert {
        n for n in range(31) if any(w.start <= START + n * HOUR < w.end for w in absent)
    } == set(range(31)) - present
