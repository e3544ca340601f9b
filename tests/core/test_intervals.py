"""Sets of windows against sets of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from dccd_core.intervals import clip, subtract, union
from dccd_core.models import Window

ANY = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: Window(*pair))
SETS = st.lists(ANY, max_size=8)


def members(windows: list[Window]) -> set[int]:
    return {number for start, end in windows for number in range(start, end)}


def is_tidy(windows: list[Window]) -> bool:
    """Sorted, not empty, and neither overlapping nor touching."""
    borders = [border for window in windows for border in window]
    return borders == sorted(set(borders))


@given(SETS)
def test_union(windows: list[Window]) -> None:
    joined = union(windows)
    assert members(joined) == members(windows)
    assert is_tidy(joined)


@given(SETS, SETS)
def test_subtract(one: list[Window], other: list[Window]) -> None:
    rest = subtract(one, other)
    assert members(rest) == members(one) - members(other)
    assert is_tidy(rest)


@given(SETS, ANY)
def test_clip(windows: list[Window], bounds: Window) -> None:
    inside = clip(windows, bounds)
    assert members(inside) == members(windows) & members([bounds])
    assert is_tidy(inside)


def test_touching_windows_are_one() -> None:
    assert union([Window(5, 9), Window(1, 5)]) == [Window(1, 9)]
