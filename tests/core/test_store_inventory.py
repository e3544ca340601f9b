"""What is stored, from footers alone; a bad file is one marked line."""

import errno
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copy
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers import BTC_1H, BTC_1M, at, table, window

from dccd_core.models import SECOND, Series, Symbol, Window
from dccd_core.offsite_files import local_files
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.store.inventory import FRAME, InventoryRow

ETH = replace(BTC_1H, symbol=Symbol("ETH", "USDT"))


def put(store: DataStore, series: Series, wanted: Window, but: tuple[int, ...] = ()) -> None:
    """Store all candles of a window, without some by number, and cover it."""
    for year, part in series.periods(wanted):
        times = range(*part, series.span * SECOND)
        rows = table([time for n, time in enumerate(times) if n not in but])
        store.merge(series, year, rows, [part], "test")


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    found = DataStore(tmp_path)
    put(found, BTC_1H, window("2023-12-30", "2024-01-03"), but=(5, 6))
    put(found, BTC_1H, window("2024-01-04", "2024-01-05"))  # a day between was not asked
    put(found, BTC_1M, window("2024-01-01", "2024-01-02"))
    return found


def test_a_line_per_series_with_gaps_in_candles(store: DataStore) -> None:
    frame = store.inventory()
    assert frame.schema == FRAME
    minutely, hourly = frame.to_dicts()
    assert hourly == {
        "exchange": "binance",
        "pair": "BTC/USDT",
        "type": "ohlc",
        "span": "1h",
        "from": datetime(2023, 12, 30, tzinfo=UTC),
        "to": datetime(2024, 1, 4, 23, tzinfo=UTC),
        "rows": 5 * 24 - 4,  # two absent in each year
        "gaps": 4 + 24,
        "missing": 24,
        "revised": 0,
        "bytes": sum(path.stat().st_size for path in store.folder(BTC_1H).glob("*.parquet")),
        "error": None,
    }
    assert (minutely["span"], minutely["rows"]) == ("1m", 1_440)
    assert (minutely["gaps"], minutely["missing"]) == (0, 0)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_one_bad_file_is_one_marked_line_and_the_rest_is_told(
    store: DataStore, content: bytes | None
) -> None:
    path = store.folder(BTC_1H) / "2023.parquet"
    if content is None:
        path.unlink()
        path.symlink_to(path)  # what the system refuses to read
    else:
        path.write_bytes(content)
    rows = store.inventory_rows()
    bad = [row for row in rows if row.error]
    assert [(row.series, row.rows) for row in bad] == [(BTC_1H, 0)]
    assert str(bad[0].error).startswith("2023: ")
    assert str(path) in str(bad[0].error)
    good: dict[Series, InventoryRow] = {row.series: row for row in rows if not row.error}
    assert good[BTC_1H].rows == 3 * 24 - 2
    assert good[BTC_1M].rows == 1_440


def test_a_foreign_file_is_a_marked_line_too(store: DataStore) -> None:
    pq.write_table(table([0]), store.folder(BTC_1H) / "2022.parquet")
    (bad,) = [row.error for row in store.inventory_rows() if row.error]
    assert "2022.parquet was not written by this program" in bad


def test_a_copy_beside_the_files_is_a_marked_line_and_stops_nothing(store: DataStore) -> None:
    before, rows = store.inventory_rows(), store.load(BTC_1H)
    copy(store.folder(BTC_1H) / "2024.parquet", store.folder(BTC_1H) / "2024-old.parquet")
    assert store.existing_periods(BTC_1H) == ["2023", "2024"]
    assert store.load(BTC_1H).equals(rows)
    bad = [row for row in store.inventory_rows() if row.error]
    assert [(row.series, row.rows, row.error) for row in bad] == [
        (BTC_1H, 0, "2024-old: no file of ours has this name: who reads the folder reads it too")
    ]
    assert [row for row in store.inventory_rows() if not row.error] == before


def test_a_folder_that_is_not_ours_to_read_hides_nothing(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of its own has lost+found, for root alone."""
    before, scandir, shut = store.inventory_rows(), os.scandir, store.root / "lost+found"
    shut.mkdir()

    def refuse(folder: str) -> Any:
        if folder == str(shut):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert store.inventory_rows() == before
    assert sorted(local_files(store.root)) == sorted(
        str(path.relative_to(store.root)) for path in store.root.rglob("*.parquet")
    )
    shut = store.root / "binance"
    with pytest.raises(PermissionError):
        store.inventory_rows()
    with pytest.raises(PermissionError):
        local_files(store.root)


def test_what_is_no_series_is_not_in_the_inventory(store: DataStore) -> None:
    before = store.inventory_rows()
    for other in (
        "notes",
        "x/other/BTC-USDT/1h",
        "x/ohlc/BTC/1h",
        "x/ohlc/A-B/h",
        ".x/ohlc/A-B/1h",
    ):
        folder = store.root / other
        folder.mkdir(parents=True)
        pq.write_table(table([0]), folder / "2024.parquet")
    (store.folder(BTC_1H) / "_2024.parquet.unreadable-20260101T000000").write_bytes(b"x")
    assert store.inventory_rows() == before


def test_a_series_that_is_only_known_to_be_empty(store: DataStore) -> None:
    store.merge(ETH, "2024", table([]), [window("2024-01-01", "2024-02-01")], "test")
    (row,) = [row for row in store.inventory_rows() if row.series == ETH]
    assert (row.rows, row.first, row.last, row.gaps, row.missing) == (0, None, None, 0, 0)


def test_nothing_is_stored_yet(tmp_path: Path) -> None:
    assert DataStore(tmp_path).inventory().shape == (0, len(FRAME))
    assert DataStore(tmp_path / "none").inventory_rows() == []


@pytest.mark.parametrize("left", ["2024.tail.parquet", ".2024.fold"])
def test_a_period_whose_main_file_is_gone_is_read_from_what_is_left(
    left: str, tmp_path: Path
) -> None:
    store = DataStore(tmp_path)
    times = [at("2024-01-01") + hour * 3_600_000_000 for hour in range(3)]
    for time in times:
        store.merge(BTC_1H, "2024", table([time], lambda _: 1.0), [], "test")
    folder = store.folder(BTC_1H)
    if left == ".2024.fold":
        (folder / "2024.tail.parquet").unlink()
        (folder / "2024.parquet").rename(folder / left)
    else:
        (folder / "2024.parquet").unlink()
    [row] = store.inventory_rows()
    assert row.error is None
    assert row.rows == (2 if left == "2024.tail.parquet" else 1)


def test_files_that_did_not_change_are_not_opened_again(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.inventory_rows()
    opened: list[Path] = []
    real = files.open_parquet
    monkeypatch.setattr(files, "open_parquet", lambda path: (opened.append(path), real(path))[1])
    assert store.inventory_rows() == first
    assert opened == []
    put(store, BTC_1M, window("2024-01-02", "2024-01-02T01:00"))
    rows = {row.series: row.rows for row in store.inventory_rows()}
    assert rows[BTC_1M] == 1_500
    assert {path.parent for path in opened} == {store.folder(BTC_1M)}
    opened.clear()
    (store.folder(BTC_1H) / "2023.parquet").unlink()
    left = {row.series: row.rows for row in store.inventory_rows()}
    assert (left[BTC_1H], opened) == (3 * 24 - 2, [])


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80"])
def test_a_damaged_note_of_what_was_read_is_made_anew(store: DataStore, content: bytes) -> None:
    first = store.inventory_rows()
    (store.private / "inventory.msgpack").write_bytes(content)
    assert store.inventory_rows() == first
    assert store.inventory_rows() == first


def test_where_nothing_may_be_written_the_inventory_is_read_all_the_same(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "write_bytes", refused)
    assert {row.series for row in store.inventory_rows()} == {BTC_1H, BTC_1M}
    assert not (store.private / "inventory.msgpack").exists()
