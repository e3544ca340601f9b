"""The picture of what is stored: a row for each series, a column for each month or day."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from helpers import BTC_1H, BTC_1M, at, table, window

from dccd_core.coverage_map import COLUMNS, coverage_of, heat_map
from dccd_core.store.datastore import DataStore

NOW = at("2026-06-15")
EMPTY, FULL, PART = "#eeeeee", "#1b7837", "#f1a340"


def colours(svg: str, row: int) -> list[str]:
    """The fills of a row, by the columns."""
    tops = sorted({int(y) for y in re.findall(r'<rect x="\d+" y="(\d+)"', svg)})
    return re.findall(rf'y="{tops[row]}"[^>]*fill="(#\w+)"', svg)


def test_months_are_full_partly_full_or_empty() -> None:
    known = [window("2026-01-01", "2026-03-01"), window("2026-04-10", "2026-04-20")]
    svg = heat_map({BTC_1H: known, BTC_1M: []}, NOW)
    ET.fromstring(svg)  # noqa: S314 - our own
    assert colours(svg, 0) == [FULL, FULL, EMPTY, PART, EMPTY, EMPTY]
    assert colours(svg, 1) == [EMPTY] * 6
    assert str(BTC_1H) in svg
    for colour, meaning in ((FULL, "all of it"), (PART, "a part"), (EMPTY, "nothing")):
        assert re.search(f'fill="{colour}"/><text [^>]*>{meaning}<', svg)


def test_the_running_month_is_full_when_it_is_known_until_now() -> None:
    svg = heat_map({BTC_1H: [window("2026-01-01", "2026-06-15")]}, NOW)
    assert colours(svg, 0) == [FULL] * 6


def test_a_young_series_is_shown_by_days() -> None:
    svg = heat_map({BTC_1H: [window("2026-06-13", "2026-06-14")]}, NOW)
    assert colours(svg, 0) == [FULL, EMPTY]


def test_a_long_history_fits_the_page() -> None:
    svg = heat_map({BTC_1H: [window("1990-01-01", "2026-06-15")]}, NOW)
    found = colours(svg, 0)
    assert 60 < len(found) <= COLUMNS + 1
    assert set(found) == {FULL}
    assert svg.count(">1990<") == 1


def test_nothing_stored_is_no_picture() -> None:
    assert heat_map({BTC_1H: []}, NOW) == ""
    assert heat_map({}, NOW) == ""


def test_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    asked = [window("2026-01-01", "2026-01-02")]
    store.merge(BTC_1H, "2026", table([at("2026-01-01")]), asked, "rest")
    assert coverage_of(store, [BTC_1H, BTC_1M]) == {BTC_1H: asked, BTC_1M: []}
    [path] = store.folder(BTC_1H).glob("*.parquet")
    path.write_bytes(b"no parquet")
    assert coverage_of(store, [BTC_1H]) == {BTC_1H: []}
