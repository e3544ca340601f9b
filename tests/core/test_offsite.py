"""Copies at other places, with the real rclone: what is copied, and what never is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import BTC_1H, at, plain, table
from remotes import WebDav, instead_of_rclone, needs_rclone, rclone_config, tree, web_dav

from dccd_core import offsite_push
from dccd_core.config_sections import Remote, Storage
from dccd_core.models import SECOND, Series, Symbol, Window
from dccd_core.offsite import OffsiteError, PushError, RemoteStorage, failure
from dccd_core.offsite_push import Pushed
from dccd_core.offsite_rclone import Rclone
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.store.removed import write_removed

HOUR = 3_600 * SECOND
BEGIN = at("2025-01-01")
ETH_1H = replace(BTC_1H, symbol=Symbol("ETH", "USDT"))
FOLDER = "binance/ohlc/BTC-USDT/1h"
MAIN, TAIL = f"{FOLDER}/2025.parquet", f"{FOLDER}/2025.tail.parquet"


def put(store: DataStore, first: int, end: int, series: Series = BTC_1H, plus: float = 0.0) -> None:
    """Store the candles of some hours of 2025."""
    window = Window(BEGIN + first * HOUR, BEGIN + end * HOUR)
    times = range(window.start, window.end, HOUR)
    store.merge(series, "2025", table(list(times), lambda n: n + plus), [window], "rest")


def storage(*remotes: str | Path) -> Storage:
    return Storage(remotes=tuple(Remote(remote=str(one)) for one in remotes))


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    """2,000 candles in a main file, 100 in a tail, and the note of the listing."""
    found = DataStore(tmp_path / "data")
    put(found, 0, 2_000)
    put(found, 2_000, 2_100)
    found.write_listing(BTC_1H, BEGIN)
    return found


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def dav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebDav]:
    with web_dav(tmp_path / "dav") as server:
        rclone_config(tmp_path / "rclone.conf", server, monkeypatch)
        yield server


@pytest.fixture(autouse=True)
def no_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the one who runs the tests told rclone."""
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "none.conf"))


def failed(remotes: RemoteStorage, store: DataStore) -> list[Pushed]:
    """What a push says of each remote, if something failed."""
    with pytest.raises(PushError) as caught:
        remotes.push(store.root)
    return caught.value.pushed


@needs_rclone
def test_data_and_nothing_else_is_copied_to_every_remote(
    store: DataStore, disk: Path, dav: WebDav
) -> None:
    folder = store.folder(BTC_1H)
    put(store, 0, 10, ETH_1H)
    for name in (".2025.fold", ".2025.parquet.1-2.tmp", "_2024.parquet.unreadable-2025", "a.txt"):
        (folder / name).write_bytes(b"x")
    (store.private / "journal").mkdir(parents=True)
    (store.private / "journal" / "0.parquet").write_bytes(b"x")
    (folder / "2023.parquet").symlink_to(folder / "2025.parquet")
    expected = {
        path: content
        for path, content in tree(store.root).items()
        if path.endswith(("2025.parquet", "2023.parquet", "tail.parquet", "_listing.json"))
        and not path.startswith(".")
    }
    assert len(expected) == 5
    said: list[str] = []
    remotes = RemoteStorage(storage(disk, "dav:copy/of"), say=said.append)
    pushed = remotes.push(store.root)
    assert tree(disk) == expected
    assert tree(dav.folder / "copy/of") == expected
    assert [(one.files, one.bytes) for one in pushed] == [(5, sum(map(len, expected.values())))] * 2
    assert [one.compared for one in pushed] == ["checksums", "sizes"]
    assert any(line.startswith(f"{disk}: ") and "4 of 4 files" in line for line in said)

    again = RemoteStorage(storage(disk, "dav:copy/of")).push(store.root)
    assert [(one.files, one.kept) for one in again] == [(0, [])] * 2
    note = json.loads((store.private / "offsite" / "dav-copy-of.json").read_bytes())
    assert note["files"].keys() == expected.keys()


@needs_rclone
def test_what_a_user_sets_for_rclone_takes_nothing_away_that_we_listen_to(
    store: DataStore, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {"PROGRESS": "true", "QUIET": "1", "LOG_LEVEL": "ERROR", "VERBOSE": "2"}
    for name, value in {**taken, "LOG_FILE": str(tmp_path / "log")}.items():
        monkeypatch.setenv(f"RCLONE_{name}", value)
    said: list[str] = []
    assert RemoteStorage(storage(disk), say=said.append).push(store.root)[0].files == 3
    assert said[-1].endswith("1 of 1 files")


@needs_rclone
def test_a_remote_that_is_away_stops_no_other_and_gets_it_later(
    store: DataStore, disk: Path, dav: WebDav
) -> None:
    remotes = RemoteStorage(storage("dav:", disk))
    dav.stop()
    away, there = failed(remotes, store)
    assert away.error is not None
    assert away.error.startswith("dav:: rclone lsjson: ")
    assert "connection refused" in away.error
    assert (there.error, there.files) == (None, 3)
    assert len(tree(disk)) == 3
    put(store, 2_100, 2_200)
    dav.start()
    assert [one.files for one in remotes.push(store.root)] == [3, 1]
    assert tree(dav.folder) == tree(disk)
    assert tree(disk)[TAIL] == (store.root / TAIL).read_bytes()


@needs_rclone
@pytest.mark.parametrize("portion", [1, 4_000_000_000])
def test_a_file_that_the_remote_does_not_take_stops_no_other(
    store: DataStore, disk: Path, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    """A folder has its name there."""
    monkeypatch.setattr(offsite_push, "_PORTION", portion)
    put(store, 0, 2_000, ETH_1H)
    put(store, 2_000, 2_100, ETH_1H)
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    old = tree(disk)[TAIL]
    (disk / MAIN).unlink()
    (disk / MAIN / "x").mkdir(parents=True)
    put(store, 2_100, 4_200)
    put(store, 4_200, 4_210)
    put(store, 2_100, 4_200, ETH_1H)  # folded
    store.merge(ETH_1H, "2026", table([at("2026-01-01")]), [], "rest")
    sol = replace(BTC_1H, symbol=Symbol("SOL", "USDT"))
    put(store, 0, 2_000, sol)
    put(store, 2_000, 2_100, sol)
    [told] = failed(remotes, store)
    assert str(told.error).startswith(f"{disk}: rclone copy: ")
    for series in (ETH_1H, sol):
        assert plain(disk / series.path).equals(store.load(series))
    assert tree(disk)[TAIL] == old, "the new one does not continue what is there"
    shutil.rmtree(disk / MAIN)
    assert remotes.push(store.root)[0].error is None
    assert plain(disk / FOLDER).equals(store.load(BTC_1H))


@needs_rclone
def test_what_cannot_be_put_aside_is_not_overwritten_and_stops_no_other(
    store: DataStore, disk: Path
) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    whole = tree(disk)
    for path in (MAIN, TAIL):
        (store.root / path).unlink()
    put(store, 0, 5)
    put(store, 0, 5, ETH_1H)
    (disk / "_replaced").touch()
    [told] = failed(remotes, store)
    assert str(told.error).startswith(f"{disk}: rclone copy: ")
    found = tree(disk)
    assert found.items() >= whole.items()
    assert MAIN.replace("BTC", "ETH") in found


@needs_rclone
@pytest.mark.parametrize("size", [0, 5_000])
def test_a_truncated_file_never_takes_the_place_of_a_whole_one(
    store: DataStore, disk: Path, size: int
) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    whole = tree(disk)
    files.cut(store.root / MAIN, size)
    put(store, 0, 5, ETH_1H)
    with (store.root / TAIL).open("ab") as tail:  # changed as well, and waits for its main file
        os.utime(tail.fileno(), (1, 1))
    [told] = failed(remotes, store)
    assert told.unreadable.keys() == {MAIN, TAIL}
    assert told.unreadable[MAIN].startswith("cannot be read: ")
    assert told.unreadable[TAIL].startswith("waits for 2025.parquet, which cannot be read: ")
    assert tree(disk).items() >= whole.items()
    assert tree(disk).keys() - whole.keys() == {MAIN.replace("BTC", "ETH")}
    (store.root / MAIN).write_bytes(whole[MAIN])
    assert remotes.push(store.root)[0].unreadable == {}


@needs_rclone
def test_damage_inside_a_file_is_found(store: DataStore, disk: Path) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    content = bytearray((store.root / MAIN).read_bytes())
    content[2_000] ^= 0xFF
    (store.root / MAIN).write_bytes(content)
    assert pq.read_metadata(store.root / MAIN).num_rows == 2_000, "its footer is whole"
    [told] = failed(remotes, store)
    assert MAIN in told.unreadable
    assert tree(disk)[MAIN] != bytes(content)


@needs_rclone
@pytest.mark.parametrize("kind", ["disk", "dav"])
def test_a_smaller_file_replaces_a_larger_one_only_after_that_is_kept(
    store: DataStore, disk: Path, dav: WebDav, kind: str
) -> None:
    remotes = RemoteStorage(storage(disk if kind == "disk" else "dav:"))
    folder = disk if kind == "disk" else dav.folder
    remotes.push(store.root)
    whole = tree(folder)
    for path in (MAIN, TAIL):
        (store.root / path).unlink()
    assert remotes.push(store.root)[0].kept == [], "what is removed here stays there"
    assert tree(folder) == whole
    put(store, 3_000, 3_005)
    [told] = remotes.push(store.root)
    found = tree(folder)
    assert found[MAIN] == (store.root / MAIN).read_bytes()
    assert TAIL not in found, "it does not continue the new main file"
    kept = {path.split("/", 2)[2]: found[path] for path in told.kept}
    assert all(path.startswith("_replaced/2") for path in told.kept)
    assert kept == {path: whole[path] for path in (MAIN, TAIL)}


@needs_rclone
@pytest.mark.parametrize("kind", ["disk", "dav"])
def test_after_a_fold_no_row_is_twice_at_the_remote(
    store: DataStore, disk: Path, dav: WebDav, kind: str
) -> None:
    remotes = RemoteStorage(storage(disk if kind == "disk" else "dav:"))
    folder = disk if kind == "disk" else dav.folder
    remotes.push(store.root)
    put(store, 2_100, 4_200)
    assert not (store.root / TAIL).exists(), "the tail was folded"
    [told] = remotes.push(store.root)
    assert told.kept == [f"_folded/{TAIL}"]
    assert plain(folder / FOLDER).equals(store.load(BTC_1H))
    put(store, 4_200, 4_201)
    remotes.push(store.root)
    put(store, 4_201, 5_800)
    put(store, 5_800, 5_801)
    [told] = remotes.push(store.root)
    assert told.kept in ([f"_folded/{TAIL}"], [])  # a new tail may be as large as the old one
    assert plain(folder / FOLDER).equals(store.load(BTC_1H))
    assert [path for path in tree(folder) if path.startswith("_replaced")] == []


@needs_rclone
def test_a_tail_stays_while_a_fold_is_unfinished(store: DataStore, disk: Path) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    both = pa.concat_tables([pq.read_table(store.root / path) for path in (MAIN, TAIL)])
    pq.write_table(both, store.folder(BTC_1H) / ".2025.fold")
    (store.root / TAIL).unlink()
    os.utime(store.root / MAIN, (1, 1))
    [told] = remotes.push(store.root)
    assert (told.files, told.kept) == (1, [])
    assert TAIL in tree(disk)


@needs_rclone
def test_a_tail_that_is_only_missing_here_stays_at_the_remote(store: DataStore, disk: Path) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    (store.root / TAIL).unlink()
    put(store, 0, 10, ETH_1H)
    assert remotes.push(store.root)[0].kept == []
    assert TAIL in tree(disk)


@needs_rclone
def test_a_tail_that_was_damaged_here_is_never_gone_at_the_remote(
    store: DataStore, disk: Path
) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    good = (store.root / TAIL).read_bytes()
    (store.root / TAIL).write_bytes(b"x" * 100)
    put(store, 0, 1, plus=1.0)  # a revision in the main file: the tail is set aside
    assert not (store.root / TAIL).exists()
    [told] = remotes.push(store.root)
    assert (told.kept, tree(disk)[TAIL]) == ([], good)
    put(store, 2_200, 2_900)  # a larger tail that has none of its rows
    [told] = remotes.push(store.root)
    [kept] = told.kept
    assert kept.startswith("_replaced/")
    assert kept.endswith(TAIL)
    assert tree(disk)[kept] == good
    put(store, 2_900, 6_000)
    assert not (store.root / TAIL).exists(), "the tail was folded"
    assert remotes.push(store.root)[0].kept == [f"_folded/{TAIL}"]
    assert tree(disk)[kept] == good


@needs_rclone
def test_a_larger_file_with_fewer_rows_replaces_nothing_before_that_is_kept(
    store: DataStore, disk: Path
) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    whole = tree(disk)[MAIN]
    rows = pq.read_table(store.root / MAIN)
    metadata = rows.schema.metadata
    (store.root / TAIL).unlink()
    fewer = rows.slice(0, 1_990).replace_schema_metadata(metadata)
    pq.write_table(fewer, store.root / MAIN, compression="none", use_dictionary=False)
    assert len(whole) < (store.root / MAIN).stat().st_size
    [told] = remotes.push(store.root)
    kept = [path for path in told.kept if path.endswith(MAIN)]
    assert [tree(disk)[path] for path in kept] == [whole]


@needs_rclone
def test_what_one_round_put_aside_is_not_overwritten_by_the_next(
    store: DataStore, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The year is lost here, and is fetched again, in portions, while it is copied."""
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    good = tree(disk)[MAIN]
    for path in (MAIN, TAIL):
        (store.root / path).unlink()
    put(store, 3_000, 3_010)
    real, hours = Rclone.copy, iter((3_020, 3_030))

    def copy(self: Rclone, source: str, *rest: Any) -> None:
        real(self, source, *rest)
        if source == str(store.root) and rest[1] and (hour := next(hours, None)):
            (store.root / MAIN).unlink()
            put(store, hour, hour + 5)

    monkeypatch.setattr(Rclone, "copy", copy)
    [told] = remotes.push(store.root)
    mains = [path for path in told.kept if path.endswith(MAIN)]
    assert len(mains) == len(set(mains)) == 3
    assert tree(disk)[mains[0]] == good


@needs_rclone
def test_a_file_that_is_pressed_is_no_smaller_one(store: DataStore, disk: Path) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    store.close_period(BTC_1H, "2025")
    sizes = [len(tree(folder)[MAIN]) for folder in (disk, store.root)]
    [told] = remotes.push(store.root)
    assert told.kept == [f"_folded/{TAIL}"], sizes
    assert plain(disk / FOLDER).equals(store.load(BTC_1H))


@needs_rclone
def test_what_another_one_copied_there_is_kept(
    store: DataStore, disk: Path, tmp_path: Path
) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    before = tree(disk)
    other = DataStore(tmp_path / "other")
    put(other, 0, 2_090, plus=5.0)
    [told] = remotes.push(other.root)
    assert [(path.split("/", 2)[2], tree(disk)[path]) for path in told.kept] == [
        (MAIN, before[MAIN]),
        (TAIL, before[TAIL]),
    ]
    (store.private / "offsite" / next((store.private / "offsite").iterdir()).name).unlink()
    remotes.push(store.root)
    count = len(tree(disk))
    next((store.private / "offsite").iterdir()).unlink()
    assert remotes.push(store.root)[0].kept == [], "a note that is lost keeps nothing that is equal"
    assert len(tree(disk)) == count


@needs_rclone
def test_a_series_that_moved_behind_a_link_is_copied(
    store: DataStore, disk: Path, tmp_path: Path
) -> None:
    remotes = RemoteStorage(storage(disk))
    (store.root / "binance").rename(tmp_path / "large")
    (store.root / "binance").symlink_to(tmp_path / "large")
    (tmp_path / "large" / "circle").symlink_to(store.root)
    (tmp_path / "large" / "nowhere").symlink_to(tmp_path / "none")
    assert remotes.push(store.root)[0].files == 3
    assert plain(disk / FOLDER).equals(store.load(BTC_1H))
    assert [row.rows for row in store.inventory_rows()] == [2_100]


@needs_rclone
def test_a_folder_of_the_remote_may_be_behind_a_link(
    store: DataStore, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsite_push, "_COMPARE", 0.0)
    (tmp_path / "other").mkdir()
    (disk / "binance").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "circle").symlink_to(disk)
    remotes = RemoteStorage(storage(disk))
    assert [remotes.push(store.root)[0].files for _ in range(2)] == [3, 0]
    put(store, 2_100, 4_200)
    assert remotes.push(store.root)[0].kept == [f"_folded/{TAIL}"]
    frame = store.load(BTC_1H)
    shutil.rmtree(store.root / "binance")
    [found] = remotes.restore(store.root)
    assert (len(found.files), found.error) == (2, None)
    assert store.load(BTC_1H).equals(frame)


@needs_rclone
@pytest.mark.parametrize("name", [b"caf\xe9.parquet", b"a\nb.parquet", b"a\r.parquet"])
def test_a_name_that_rclone_cannot_be_told_stops_nothing(
    store: DataStore, disk: Path, name: bytes
) -> None:
    stray = store.root / "binance" / os.fsdecode(name)
    shutil.copy(store.root / MAIN, stray)
    said: list[str] = []
    [told] = RemoteStorage(storage(disk), say=said.append).push(store.root)
    assert (told.files, told.error) == (3, None)
    assert any("left out, as rclone cannot be told its name: 'binance/" in one for one in said)
    assert "\n".join(said).isascii()


@needs_rclone
def test_a_remote_that_is_the_data_path_by_another_name_is_refused(
    store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "rclone.conf"
    config.write_text(f"[nas]\ntype = alias\nremote = {store.root}\n")
    monkeypatch.setenv("RCLONE_CONFIG", str(config))
    remotes = RemoteStorage(storage("nas:"))
    assert failed(remotes, store)[0].error == "nas:: is data_path itself: it is no copy then"
    with pytest.raises(OffsiteError, match="is data_path itself"):
        remotes.differing(store.root, [MAIN])


@needs_rclone
@pytest.mark.parametrize("size", [None, 1_000])
def test_a_remote_that_lost_what_was_removed_here_is_told_of_until_it_is_back(
    store: DataStore, disk: Path, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    monkeypatch.setattr(offsite_push, "_COMPARE", 0.0)
    remotes = RemoteStorage(storage(disk))
    put(store, 9_000, 9_001)
    store.merge(BTC_1H, "2026", table([at("2026-01-01")]), [], "rest")
    remotes.push(store.root)
    mtime = (store.root / MAIN).stat().st_mtime_ns
    write_removed(store.folder(BTC_1H), at("2026-01-01"))
    for path in (MAIN, TAIL):
        (store.root / path).unlink(missing_ok=True)
    assert remotes.push(store.root)[0].lost == []
    content = (disk / MAIN).read_bytes()
    if size is None:
        (disk / MAIN).unlink()
    else:
        files.cut(disk / MAIN, size)
    for _ in range(2):
        [told] = failed(remotes, store)
        assert (told.lost, told.error) == ([MAIN], None)
        assert f"are not there, or of another size: {MAIN}" in str(failure(told))
    (disk / MAIN).write_bytes(content)
    assert remotes.push(store.root)[0].lost == []
    (disk / MAIN).unlink()
    failed(remotes, store)
    (store.root / MAIN).write_bytes(content)
    os.utime(store.root / MAIN, ns=(0, mtime))  # as rclone brings it
    assert remotes.push(store.root)[0].files == 1
    assert tree(disk)[MAIN] == content


@needs_rclone
def test_equal_sizes_are_not_called_checksums_where_a_remote_has_none_of_a_file(
    store: DataStore, dav: WebDav, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rclone.conf").write_text(
        f"[dav]\ntype = webdav\nurl = {dav.url}\nvendor = other\n"
        "[sums]\ntype = hasher\nremote = dav:\nhashes = md5\nmax_age = off\n"
    )
    monkeypatch.setenv("RCLONE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("RCLONE_SIZE_ONLY", "true")
    remotes = RemoteStorage(storage("sums:copy"))
    assert remotes.push(store.root)[0].error is None
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    path = dav.folder / "copy" / MAIN
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(content)
    assert list(remotes.differing(store.root, [MAIN, TAIL])) == [MAIN]


@needs_rclone
def test_a_tail_is_put_away_by_the_next_copy_if_this_one_fails_before(
    store: DataStore, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    put(store, 2_100, 4_200)
    with monkeypatch.context() as patch:
        instead_of_rclone(tmp_path / "bin", patch, '[ "$1" = move ] && exit 1\nexec "$RCLONE" "$@"')
        assert failed(remotes, store)[0].error == f"{disk}: rclone move: exit code 1"
    assert TAIL in tree(disk)
    assert remotes.push(store.root)[0].kept == [f"_folded/{TAIL}"]
    assert plain(disk / FOLDER).equals(store.load(BTC_1H))


@needs_rclone
def test_a_change_that_keeps_the_size_is_copied_where_only_sizes_can_be_compared(
    store: DataStore, dav: WebDav
) -> None:
    remotes = RemoteStorage(storage("dav:"))
    remotes.push(store.root)
    path = store.root / FOLDER / "_listing.json"
    size = path.stat().st_size
    store.write_listing(BTC_1H, BEGIN + HOUR)
    assert path.stat().st_size == size
    assert remotes.push(store.root)[0].files == 1
    assert tree(dav.folder)[f"{FOLDER}/_listing.json"] == path.read_bytes()


@needs_rclone
def test_an_emptied_remote_is_filled_again_within_a_day(store: DataStore, dav: WebDav) -> None:
    remotes = RemoteStorage(storage("dav:x"))
    remotes.push(store.root)
    (dav.folder / "x" / MAIN).unlink()
    note = store.private / "offsite" / "dav-x.json"
    known = json.loads(note.read_bytes())
    note.write_text(json.dumps(known | {"compared": time.time() - 86_401}))
    assert remotes.push(store.root)[0].files == 1
    note.write_bytes(b"{damaged")
    assert remotes.push(store.root)[0].error is None
    assert tree(dav.folder / "x")[MAIN] == (store.root / MAIN).read_bytes()


@needs_rclone
def test_a_disk_that_is_not_mounted_is_not_filled(store: DataStore, disk: Path) -> None:
    remotes = RemoteStorage(storage(disk))
    remotes.push(store.root)
    disk.rename(disk.with_name("unmounted"))
    assert failed(remotes, store)[0].error == (
        f"{disk}: no such folder: mount the disk, or create it"
    )
    disk.mkdir()
    error = failed(remotes, store)[0].error
    assert error is not None
    assert error.startswith(f"{disk} is empty though 3 files were copied to it: mount the disk")
    assert tree(disk) == {}


@needs_rclone
def test_a_file_that_is_replaced_while_it_is_copied_ends_right(
    store: DataStore, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a script that replaces it between rclone's copy and its comparison."""
    other = DataStore(tmp_path / "other")
    put(other, 0, 2_000, plus=0.25)
    flag = tmp_path / "replaced"
    swap = f"cp {other.root / MAIN} {store.root / MAIN}.new && mv {store.root / MAIN}.new"
    instead_of_rclone(
        tmp_path / "bin",
        monkeypatch,
        f'"$RCLONE" "$@" || exit\nif [ "$1" = copy ] && [ ! -e {flag} ]; then\n'
        f"  touch {flag}; {swap} {store.root / MAIN}\nfi",
    )
    [told] = RemoteStorage(storage(disk)).push(store.root)
    assert flag.exists()
    assert (told.error, told.waiting, told.files) == (None, [], 3)
    assert tree(disk)[MAIN] == (other.root / MAIN).read_bytes()


@needs_rclone
def test_copies_beside_a_busy_writer_are_always_whole(store: DataStore, disk: Path) -> None:
    stop, at_hour = threading.Event(), [2_100]

    def write() -> None:
        while not stop.is_set():
            put(store, at_hour[0], at_hour[0] + 400)
            at_hour[0] += 400
            stop.wait(0.05)

    remotes = RemoteStorage(storage(disk))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            [told] = remotes.push(store.root)
            assert told.unreadable == {}
            for path in (disk / FOLDER).glob("*.parquet"):
                assert pq.read_table(path).num_rows > 0
    finally:
        stop.set()
        writer.join()
    remotes.push(store.root)
    assert plain(disk / FOLDER).equals(store.load(BTC_1H))


def test_a_transfer_in_which_nothing_moves_is_ended(
    store: DataStore, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rclone's figures still come, but they are always the same."""
    stats = '{"level":"warning","msg":"","stats":{"bytes":5,"totalBytes":9,"elapsedTime":%d}}'
    pid = tmp_path / "pid"
    instead_of_rclone(
        tmp_path / "bin",
        monkeypatch,
        f'[ "$1" = copy ] || {{ echo "["; echo "]"; exit 0; }}\necho $$ > {pid}\nn=0\n'
        f"while true; do n=$((n+1)); printf '{stats}\\n' $n >&2; sleep 0.1; done",
    )
    said: list[str] = []
    remotes = RemoteStorage(storage(disk), say=said.append, idle=3.0)
    [told] = failed(remotes, store)
    assert told.error is not None
    assert "nothing moved for 0.05 minutes, so it was ended" in told.error
    assert said[1:] == [f"{disk}: 5 B of 9 B, 0 of 0 files"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_cancel_ends_what_runs(
    store: DataStore, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead_of_rclone(tmp_path / "bin", monkeypatch, "sleep 600")
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    [told] = failed(RemoteStorage(storage(disk), cancel=cancel), store)
    assert told.error == f"{disk}: cancelled"


@needs_rclone
def test_one_process_copies_to_a_remote_at_a_time(store: DataStore, disk: Path) -> None:
    remotes = RemoteStorage(storage(disk))
    hold = files.Hold(store.private / "locks" / f"offsite.{remotes.targets[0].name}.lock")
    [told] = failed(remotes, store)
    hold.release()
    assert told.error == f"{disk}: another process is at it already (offsite)"
    assert remotes.push(store.root)[0].files == 3


@needs_rclone
@pytest.mark.parametrize("work", ["push", "restore"])
def test_what_was_killed_leaves_an_rclone_that_nobody_works_beside(
    store: DataStore, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    remotes = RemoteStorage(storage(disk))
    if work == "restore":
        remotes.push(store.root)
        (store.root / MAIN).unlink()
    pid = tmp_path / "pid"
    code = f"""
from dccd_core.config_sections import Remote, Storage
from dccd_core.offsite import RemoteStorage
RemoteStorage(Storage(remotes=(Remote(remote={str(disk)!r}),))).{work}({str(store.root)!r})"""
    with monkeypatch.context() as patch:
        script = f'[ "$1" = copy ] || exec "$RCLONE" "$@"\necho $$ > {pid}.new\n'
        instead_of_rclone(
            tmp_path / "bin", patch, f"{script}mv {pid}.new {pid}\nexec sleep 60 >&- 2>&-"
        )
        process = subprocess.Popen([sys.executable, "-c", code])
        while not pid.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()

    def told() -> str | None:
        if work == "push":
            return remotes.push_to(remotes.targets[0], store.root).error
        return remotes.restore(store.root)[0].error

    try:
        assert str(told()).startswith(f"{disk}: another process is at it already")
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)
    for _ in range(100):
        if (error := told()) is None:
            break
        time.sleep(0.05)
    assert error is None


@needs_rclone
def test_credentials_in_a_remote_work_and_are_never_told(
    store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in errors, progress, notes or the arguments that every user of the machine sees."""
    token, wrong = "s3cr3t-token-77", "wr0ng-token-88"
    arguments = tmp_path / "arguments"
    with web_dav(tmp_path / "dav", "--user=ann", f"--pass={token}") as server:
        script = f'echo "$@" >> {arguments}\nexec "$RCLONE" "$@"'
        instead_of_rclone(tmp_path / "bin", monkeypatch, script)
        url = "http://{}:{}@127.0.0.1:" + str(server.port)
        good, bad, gone = (
            f":webdav,url='{url.format('ann', token)}':good",
            f":webdav,url='{url.format('ann', wrong)}':bad",
            f":webdav,url=http://ann:{token}@127.0.0.1:{server.port}:unquoted",
        )
        said: list[str] = []
        remotes = RemoteStorage(storage(good, bad, gone), say=said.append)
        pushed = failed(remotes, store)
        told = [*said, *map(repr, pushed), *remotes.problems(store.root)]
    assert pushed[0].error is None
    assert tree(server.folder / "good")[MAIN] == (store.root / MAIN).read_bytes()
    assert pushed[1].error is not None
    assert "401" in pushed[1].error
    assert pushed[2].error is not None
    assert "is not understood: write name:path" in pushed[2].error
    seen = "\n".join([*told, arguments.read_text(), *map(str, tree(store.private).items())])
    assert "ann" not in seen.replace("cannot", "")
    assert token not in seen
    assert wrong not in seen


@needs_rclone
def test_what_cannot_work_is_known_before(
    store: DataStore, disk: Path, dav: WebDav, monkeypatch: pytest.MonkeyPatch
) -> None:
    remotes = RemoteStorage(
        storage("dav:x", disk, "nas:x", "nas", store.root / "copy", "/no/such/folder")
    )
    assert remotes.problems(store.root) == [
        "nas:x: rclone knows no remote 'nas': add it with `rclone config`, "
        "as the user who runs dccd",
        "nas: is a folder, as it has no colon: write nas: for a remote, or an absolute path",
        f"{store.root}/copy: is in data_path, or around it: it is no copy then",
        "/no/such/folder: no such folder: mount the disk, or create it",
    ]
    monkeypatch.setenv("RCLONE_CONFIG_NAS_TYPE", "local")
    assert len(remotes.problems(store.root)) == 3, "a remote of the environment is known too"
    monkeypatch.setenv("PATH", str(disk))
    [problem] = remotes.problems(store.root)
    assert problem.startswith("rclone is not installed: apt install rclone")
    assert problem.endswith("collecting works without it.")
    assert all(one.error for one in failed(remotes, store))
    assert RemoteStorage(storage()).problems(store.root) == []
    assert RemoteStorage(storage()).push(store.root) == []
