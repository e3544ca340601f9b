"""The way back: what is missing here comes from a remote, and what is here stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import BTC_1H, at, table
from remotes import needs_rclone, rclone_config, tree, web_dav

from dccd_core.config_sections import Remote, Storage
from dccd_core.models import SECOND, Series, Symbol, Window
from dccd_core.offsite import RemoteStorage
from dccd_core.offsite_restore import HERE, LARGER, Restored
from dccd_core.store import files
from dccd_core.store.datastore import DataStore

pytestmark = needs_rclone

HOUR = 3_600 * SECOND
BEGIN = at("2025-01-01")
ETH_1H = Series("binance", BTC_1H.channel, Symbol("ETH", "USDT"), 3_600)
MAIN = f"{BTC_1H.path}/2025.parquet"
TAIL = f"{BTC_1H.path}/2025.tail.parquet"
LISTING = f"{BTC_1H.path}/_listing.json"


def put(store: DataStore, first: int, end: int, series: Series = BTC_1H) -> None:
    """Store the candles of some hours of 2025."""
    window = Window(BEGIN + first * HOUR, BEGIN + end * HOUR)
    rows = table(list(range(window.start, window.end, HOUR)))
    store.merge(series, "2025", rows, [window], "rest")


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    found = DataStore(tmp_path / "data")
    put(found, 0, 2_000)
    put(found, 2_000, 2_100)
    put(found, 0, 7, ETH_1H)
    found.write_listing(BTC_1H, BEGIN)
    return found


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def remotes(
    store: DataStore, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RemoteStorage]:
    """A WebDAV server and then a folder; both have a copy."""
    with web_dav(tmp_path / "dav") as server:
        rclone_config(tmp_path / "rclone.conf", server, monkeypatch)
        both = (Remote(remote="dav:copy"), Remote(remote=str(disk)))
        found = RemoteStorage(Storage(remotes=both))
        found.push(store.root)
        yield found


def data(store: DataStore) -> dict[str, bytes]:
    return {path: body for path, body in tree(store.root).items() if not path.startswith(".dccd")}


def names(found: Restored) -> list[str]:
    return [file.path for file in found.files]


@pytest.mark.parametrize("remote", ["dav-copy", "dav:copy", None])
def test_purged_series_come_back(
    store: DataStore, remotes: RemoteStorage, remote: str | None
) -> None:
    before, gaps = data(store), store.gaps(BTC_1H)
    frame = store.load(BTC_1H)
    for path in before:
        (store.root / path).unlink()
    found, *rest = remotes.restore(store.root, remote=remote)
    assert (found.failed, found.error, found.left) == ({}, None, {})
    assert set(names(found)) == before.keys()
    assert {file.path: file.rows for file in found.files}[MAIN] == 2_000
    assert sum(file.bytes for file in found.files) == sum(map(len, before.values()))
    assert data(store) == before
    assert store.load(BTC_1H).equals(frame)
    assert store.gaps(BTC_1H) == gaps
    assert [names(one) for one in rest] == ([[]] if remote is None else [])
    assert not list((store.private / "offsite").glob("restore*"))


def test_only_the_wanted_series_and_only_what_is_missing(
    store: DataStore, remotes: RemoteStorage
) -> None:
    before = data(store)
    for path in before:
        (store.root / path).unlink()
    [found] = remotes.restore(store.root, [ETH_1H], "dav-copy")
    assert names(found) == [f"{ETH_1H.path}/2025.parquet"]
    again = remotes.restore(store.root, [ETH_1H])
    assert [names(one) for one in again] == [[], []]
    assert [one.left for one in again] == [{f"{ETH_1H.path}/2025.parquet": HERE}] * 2
    unknown = Series.parse("binance/ohlc/1h/SOL-USDT")
    [found] = remotes.restore(store.root, [unknown], "dav-copy")
    assert found.failed == {str(unknown): "dav:copy has nothing of it"}


def test_a_damaged_file_is_set_aside_and_replaced(store: DataStore, remotes: RemoteStorage) -> None:
    before = data(store)
    files.cut(store.root / MAIN, 5_000)
    [found] = remotes.restore(store.root, remote="dav-copy")
    assert names(found) == [MAIN]
    [aside] = found.set_aside
    assert aside.read_bytes() == before[MAIN][:5_000]
    assert aside.name.startswith("_2025.parquet.unreadable-")
    aside.unlink()
    assert data(store) == before


def test_what_can_be_read_here_is_never_touched(store: DataStore, remotes: RemoteStorage) -> None:
    """Neither a newer file, nor a small one that was begun after a loss."""
    put(store, 2_100, 2_200)
    (store.folder(ETH_1H) / "2025.parquet").unlink()
    put(store, 3, 5, ETH_1H)
    before = data(store)
    for found in remotes.restore(store.root):
        assert (names(found), found.failed) == ([], {})
        assert found.left.pop(f"{ETH_1H.path}/2025.parquet") == LARGER
        assert set(found.left.values()) == {HERE}
    assert data(store) == before


def test_a_tail_of_before_the_last_fold_is_left_out(
    store: DataStore, remotes: RemoteStorage, disk: Path
) -> None:
    old = data(store)[TAIL]
    put(store, 2_100, 4_200)
    remotes.push(store.root)
    (disk / TAIL).write_bytes(old)  # as if the copy had been killed before it was put away
    frame = store.load(BTC_1H)
    for path in (MAIN, LISTING):
        (store.root / path).unlink()
    found = remotes.restore(store.root, [BTC_1H], str(disk))[0]
    assert set(names(found)) == {LISTING, MAIN}
    assert found.left == {TAIL: "does not continue the remote's main file"}
    assert store.load(BTC_1H).equals(frame)


def test_a_main_file_that_does_not_fit_the_tail_here_is_not_put_beside_it(
    store: DataStore, remotes: RemoteStorage
) -> None:
    put(store, 2_100, 4_200)
    put(store, 4_200, 4_210)
    files.cut(store.root / MAIN, 5_000)
    before = data(store)
    [found] = remotes.restore(store.root, remote="dav-copy")
    assert found.failed == {
        MAIN: "does not fit the other file of its period here; move that away to restore both"
    }
    assert data(store) == before


def test_damage_at_the_remote_does_not_come_back(
    store: DataStore, remotes: RemoteStorage, disk: Path
) -> None:
    before = data(store)
    body = bytearray(before[MAIN])
    body[2_000] ^= 0xFF
    (disk / MAIN).write_bytes(body)
    for path in (MAIN, TAIL):
        (store.root / path).unlink()
    [found] = remotes.restore(store.root, remote=str(disk))
    assert found.failed[MAIN].startswith("the remote's cannot be read: ")
    assert found.failed[TAIL] == "is of no use without its main file"
    assert store.existing_periods(BTC_1H) == []
    [found] = remotes.restore(store.root, remote="dav-copy")
    assert (names(found), found.failed) == ([MAIN, TAIL], {})
    assert data(store) == before


def test_a_remote_that_is_away_leaves_the_work_to_the_next(
    store: DataStore, remotes: RemoteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = data(store)
    (store.root / MAIN).unlink()
    (store.root / TAIL).unlink()
    monkeypatch.setenv("RCLONE_CONFIG", "/no/such/file.conf")
    away, there = remotes.restore(store.root)
    assert away.error is not None
    assert "dav:copy: rclone lsjson: " in away.error
    assert names(there) == [MAIN, TAIL]
    assert data(store) == before
    with pytest.raises(ValueError, match="no such remote; there are: dav-copy, "):
        remotes.restore(store.root, remote="nas")
