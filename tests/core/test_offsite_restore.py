"""The way back: what is missing here comes from a remote, and what is here stays."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest
from helpers import BTC_1H, at, table
from remotes import WebDav, instead_of_rclone, needs_rclone, rclone_config, tree, web_dav

from dccd_core import offsite_restore
from dccd_core.config_sections import Remote, Storage
from dccd_core.models import SECOND, Series, Symbol, Window
from dccd_core.offsite import RemoteStorage
from dccd_core.offsite_restored import FOLDED, FOREIGN, HERE, LARGER, OTHER, Restored, is_whole
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.store.removed import write_removed

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDav]:
    with web_dav(tmp_path_factory.mktemp("place") / "dav") as found:
        yield found


def both(place: Path) -> RemoteStorage:
    """A WebDAV server and then a folder."""
    remotes = (Remote(remote="dav:copy"), Remote(remote=str(place / "disk")))
    return RemoteStorage(Storage(remotes=remotes))


@pytest.fixture(scope="module")
def made(server: WebDav) -> Path:
    """A store, and what a push of it leaves: it takes a second, which each test needs not spend."""
    place = server.folder.parent
    store = DataStore(place / "data")
    put(store, 0, 2_000)
    put(store, 2_000, 2_100)
    put(store, 0, 7, ETH_1H)
    store.write_listing(BTC_1H, BEGIN)
    (place / "disk").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        rclone_config(place / "rclone.conf", server, patch)
        both(place).push(store.root)
    return shutil.copytree(place, place.with_name("made"))


@pytest.fixture
def place(made: Path, server: WebDav) -> Path:
    """The folder in which it was made, as it was then: notes name the remotes in it."""
    found = server.folder.parent
    for path in found.iterdir():
        if path == server.folder:
            shutil.rmtree(path / "copy")
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return shutil.copytree(made, found, dirs_exist_ok=True)


@pytest.fixture
def store(place: Path) -> DataStore:
    return DataStore(place / "data")


@pytest.fixture
def disk(place: Path) -> Path:
    return place / "disk"


@pytest.fixture
def remotes(place: Path, server: WebDav, monkeypatch: pytest.MonkeyPatch) -> RemoteStorage:
    """Both have a copy."""
    rclone_config(place / "rclone.conf", server, monkeypatch)
    return both(place)


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
    assert found.absent == {str(unknown): "dav:copy has nothing of it"}
    assert not is_whole([found])


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


def test_damage_inside_a_file_of_a_named_series_is_seen(
    store: DataStore, remotes: RemoteStorage
) -> None:
    before = data(store)
    content = bytearray(before[MAIN])
    content[400] ^= 255
    (store.root / MAIN).write_bytes(content)
    assert names(remotes.restore(store.root, remote="dav-copy")[0]) == []
    [found] = remotes.restore(store.root, [BTC_1H], remote="dav-copy")
    assert names(found) == [MAIN]
    found.set_aside[0].unlink()
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
    assert found.left == {TAIL: FOLDED}
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
        MAIN: "does not fit the tail of its period here; move that away to restore both"
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


# --- tails: the newest rows of a period ---------------------------------------------------------


@pytest.mark.parametrize("loss", ["deleted", "set aside", "cut", "both cut", "main file deleted"])
def test_a_file_whose_other_half_is_here_comes_back(
    store: DataStore, remotes: RemoteStorage, loss: str
) -> None:
    frame, tail = store.load(BTC_1H), store.root / TAIL
    lost = {TAIL}
    if loss == "deleted":
        tail.unlink()
    elif loss == "set aside":
        files.set_aside(tail)
    elif loss == "main file deleted":
        (store.root / MAIN).unlink()
        lost = {MAIN}
    else:
        files.cut(tail, 500)
    if loss == "both cut":
        files.cut(store.root / MAIN, 5_000)
        lost = {MAIN, TAIL}
    first, second = remotes.restore(store.root, [BTC_1H])
    assert set(names(first)) == lost
    assert (first.failed, first.error) == ({}, None)
    assert first.left == dict.fromkeys({MAIN, TAIL} - lost, HERE)
    assert second.left == dict.fromkeys([MAIN, TAIL], HERE)
    assert is_whole([first, second])
    assert store.load(BTC_1H).equals(frame)


def test_the_next_remote_brings_the_tail_that_the_first_has_damaged(
    store: DataStore, remotes: RemoteStorage, place: Path
) -> None:
    before = data(store)
    files.cut(place / "dav" / "copy" / TAIL, 500)
    for path in (MAIN, TAIL):
        (store.root / path).unlink()
    dav, disk = remotes.restore(store.root)
    assert (names(dav), list(dav.failed)) == ([MAIN], [TAIL])
    assert (names(disk), disk.failed) == ([TAIL], {})
    assert data(store) == before


def test_killed_between_the_main_file_and_the_tail_the_tail_comes_next_time(
    store: DataStore, remotes: RemoteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = data(store)
    for path in (MAIN, TAIL):
        (store.root / path).unlink()
    real = files.move

    def move(source: Path, target: Path) -> None:
        if target == store.root / TAIL:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files, "move", move)
        with pytest.raises(KeyboardInterrupt):
            remotes.restore(store.root)
    assert names(remotes.restore(store.root)[0]) == [TAIL]
    assert data(store) == before


def test_a_tail_that_was_begun_anew_here_stays_and_the_larger_one_is_told_of(
    store: DataStore, remotes: RemoteStorage
) -> None:
    files.set_aside(store.root / TAIL)
    put(store, 2_200, 2_201)
    for found in remotes.restore(store.root, [BTC_1H]):
        assert (names(found), found.failed) == ([], {})
        assert found.left == {MAIN: HERE, TAIL: LARGER}
    (store.root / TAIL).unlink()
    put(store, 2_100, 4_200)  # more than a tail takes: the rows of the remote's are missing in it
    put(store, 4_200, 4_201)
    [found] = remotes.restore(store.root, [BTC_1H], "dav-copy")
    assert found.left == {MAIN: HERE, TAIL: HERE}, "the sizes of tails of two folds tell nothing"


def test_a_tail_that_was_folded_here_is_not_needed(
    store: DataStore, remotes: RemoteStorage
) -> None:
    put(store, 2_100, 4_200)
    before = data(store)
    assert TAIL not in before
    found = remotes.restore(store.root, [BTC_1H])
    assert [one.left for one in found] == [{MAIN: HERE, TAIL: FOLDED}] * 2
    assert is_whole(found)
    assert data(store) == before


def test_a_tail_without_which_the_main_file_went_on_is_no_success(
    store: DataStore, remotes: RemoteStorage
) -> None:
    (store.root / TAIL).unlink()
    put(store, 2_100, 4_200)
    before = data(store)
    [found] = remotes.restore(store.root, [BTC_1H], "dav-copy")
    assert found.failed == {
        TAIL: "has rows that are missing here, but does not continue the main file"
    }
    assert data(store) == before
    put(store, 2_000, 2_100)  # as a backfill does
    [found] = remotes.restore(store.root, [BTC_1H], "dav-copy")
    assert (found.failed, found.left[TAIL]) == ({}, FOLDED)


def test_a_damaged_tail_for_which_the_remote_has_nothing_newer_is_no_success(
    store: DataStore, remotes: RemoteStorage
) -> None:
    put(store, 2_100, 4_200)
    put(store, 4_200, 4_210)
    files.cut(store.root / TAIL, 500)
    [found] = remotes.restore(store.root, [BTC_1H], "dav-copy")
    assert found.failed == {
        TAIL: "has only what the main file has, and the one here cannot be read"
    }


@pytest.mark.parametrize("step", ["remove", "move"])
def test_a_fold_that_was_broken_off_stands_for_both_files(
    store: DataStore, remotes: RemoteStorage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fold, real = store.folder(BTC_1H) / ".2025.fold", getattr(files, step)

    def killed(path: Path, *rest: Path) -> None:
        if path in (fold, store.root / TAIL):
            raise KeyboardInterrupt
        real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(files, step, killed)
        with pytest.raises(KeyboardInterrupt):
            put(store, 2_100, 4_200)
    assert fold.exists()
    before = data(store)
    [found] = remotes.restore(store.root, [BTC_1H], "dav-copy")
    assert (names(found), found.failed) == ([], {})
    assert found.left == {MAIN: HERE, TAIL: HERE if step == "remove" else FOLDED}
    assert data(store) == before


# --- remotes that fail in the middle ------------------------------------------------------------


def test_what_arrived_whole_is_placed_though_another_file_did_not(
    store: DataStore, remotes: RemoteStorage, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file cannot be read there, of another only a part comes."""
    before = data(store)
    for path in before:
        (store.root / path).unlink()
    staging = store.private / "offsite" / "restore-dav-copy"
    eth = f"{ETH_1H.path}/2025.parquet"
    with monkeypatch.context() as patch:
        script = f"""\
$RCLONE "$@"; code=$?
[ "$1" = copy ] || exit $code
rm {staging / eth}
truncate -s 500 {staging / TAIL}
exit 5"""
        instead_of_rclone(place / "bin", patch, script)
        [found] = remotes.restore(store.root, remote="dav-copy")
    assert set(names(found)) == {MAIN, LISTING}
    assert found.failed == {
        eth: "was not fetched",
        TAIL: "differs from the remote's after it was fetched",
    }
    assert found.error == "dav:copy: rclone copy: exit code 5"
    [found] = remotes.restore(store.root, remote="dav-copy")
    assert set(names(found)) == {eth, TAIL}
    assert data(store) == before


def test_a_connection_that_breaks_costs_no_more_than_a_portion(
    store: DataStore, remotes: RemoteStorage, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrived and cannot be compared any more is not placed."""
    before = data(store)
    for path in before:
        (store.root / path).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(offsite_restore, "_PORTION", 20_000)  # the main file fills one
        script = f"""\
cd {place}
[ -e broken ] && exit 9
$RCLONE "$@"; code=$?
if [ "$1" = copy ]; then [ -e once ] && touch broken; touch once; fi
exit $code"""
        instead_of_rclone(place / "bin", patch, script)
        [found] = remotes.restore(store.root, remote="dav-copy")
    first = names(found)
    assert first
    assert sorted([*first, *found.failed]) == sorted(before)
    assert set(found.failed.values()) == {"was not fetched"}
    assert found.error == "dav:copy: rclone check: exit code 9"
    [found] = remotes.restore(store.root, remote="dav-copy")
    assert sorted([*first, *names(found)]) == sorted(before)
    assert data(store) == before


@pytest.mark.parametrize("wrong", ["dav:cpoy", ":local:{}/cpoy"])
@pytest.mark.parametrize("series", [[], [BTC_1H]])
def test_a_mistyped_folder_is_no_empty_remote(
    store: DataStore, remotes: RemoteStorage, place: Path, wrong: str, series: list[Series]
) -> None:
    remote = wrong.format(place)
    [found] = RemoteStorage(Storage(remotes=(Remote(remote=remote),))).restore(store.root, series)
    assert found.error == f"{remote}: no such folder"
    assert not is_whole([found])


# --- what storage.retention removed -------------------------------------------------------------


def test_a_named_series_of_which_no_remote_has_what_was_removed_is_no_success(
    store: DataStore, remotes: RemoteStorage, disk: Path
) -> None:
    write_removed(store.folder(BTC_1H), at("2025-01-01"))
    found = remotes.restore(store.root, [BTC_1H])
    why = (
        "has nothing of 2024, nor is it here: storage.retention removed what was before 2025-01-01"
    )
    assert [one.absent for one in found] == [
        {str(BTC_1H): f"dav:copy {why}"},
        {str(BTC_1H): f"{disk} {why}"},
    ]
    assert not is_whole(found)
    assert is_whole(remotes.restore(store.root)), "it was not asked for"

    old = DataStore(disk)  # one remote has some of it
    for year in ("2022", "2024"):
        window = Window(at(f"{year}-01-01"), at(f"{year}-01-01") + HOUR)
        old.merge(BTC_1H, year, table([window.start]), [window], "rest")
    dav, there = remotes.restore(store.root, [BTC_1H])
    assert dav.absent == {str(BTC_1H): f"dav:copy {why}"}
    assert there.absent[str(BTC_1H)].startswith(f"{disk} has nothing of 2023, nor ")
    assert len(there.files) == 2
    assert not is_whole([dav, there])

    (store.folder(BTC_1H) / "2024.parquet").unlink()
    old.merge(BTC_1H, "2023", table([at("2023-01-01")]), [], "rest")
    dav, there = remotes.restore(store.root, [BTC_1H])
    assert "has nothing of 2023, 2024, nor " in dav.absent[str(BTC_1H)]
    assert len(there.files) == 2
    assert is_whole([dav, there]), "the other remote had it"


def test_a_file_that_is_not_of_dccd_does_not_come_back(
    store: DataStore, remotes: RemoteStorage, disk: Path
) -> None:
    """Who reads the folder would have its rows twice."""
    before = data(store)
    names_there = ("2025-old", "2025 (1)", "2025.sync-conflict-20250101-ABC", "2025.old.tail")
    strays = [f"{BTC_1H.path}/{name}.parquet" for name in names_there] + ["binance/all.parquet"]
    for path in strays:
        (disk / path).write_bytes((disk / MAIN).read_bytes())
    shutil.rmtree(store.root / "binance")
    [found] = remotes.restore(store.root, remote=str(disk))
    assert found.left == dict.fromkeys(strays, FOREIGN)
    assert is_whole([found])
    assert data(store) == before


SHM = Path("/dev/shm")
two_disks = pytest.mark.skipif(
    not SHM.is_dir() or SHM.stat().st_dev == Path(gettempdir()).stat().st_dev,
    reason="there is no second disk",
)


@two_disks
def test_a_series_that_a_link_leads_to_another_disk_comes_back_there(
    store: DataStore, remotes: RemoteStorage
) -> None:
    before, folder = data(store), store.folder(BTC_1H)
    with TemporaryDirectory(dir=SHM) as disk:
        shutil.rmtree(folder)
        folder.symlink_to(disk)
        [found] = remotes.restore(store.root, remote="dav-copy")
        assert set(names(found)) == {MAIN, TAIL, LISTING}
        assert {path.name: path.read_bytes() for path in Path(disk).iterdir()} == {
            Path(path).name: before[path] for path in (MAIN, TAIL, LISTING)
        }


def test_a_series_that_a_link_leads_nowhere_stops_no_other(
    store: DataStore, remotes: RemoteStorage, place: Path
) -> None:
    before, folder = data(store), store.folder(BTC_1H)
    shutil.rmtree(store.root / "binance")
    folder.parent.mkdir(parents=True)
    folder.symlink_to(place / "nowhere")
    [found] = remotes.restore(store.root, remote="dav-copy")
    eth = f"{ETH_1H.path}/2025.parquet"
    assert names(found) == [eth]
    assert found.failed == dict.fromkeys(
        [MAIN, TAIL, LISTING], "could not be put in its place: File exists"
    )
    folder.unlink()
    [found] = remotes.restore(store.root, remote="dav-copy")
    assert found.failed == {}
    assert data(store) == before


@two_disks
@pytest.mark.parametrize("other_disk", [True, False])
def test_a_file_that_has_no_room_stops_no_other_and_leaves_nothing(
    store: DataStore, remotes: RemoteStorage, monkeypatch: pytest.MonkeyPatch, other_disk: bool
) -> None:
    files.cut(store.root / MAIN, 5_000)
    (store.root / TAIL).unlink()
    shutil.rmtree(store.folder(ETH_1H))
    before = data(store)
    real = files.make_durable

    def no_room(path: Path) -> None:
        if "BTC" in str(path) and path.name.endswith(".tmp" if other_disk else "2025.parquet"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    with TemporaryDirectory(dir=SHM) as disk, monkeypatch.context() as patch:
        if other_disk:
            shutil.move(store.folder(BTC_1H), Path(disk) / "series")
            store.folder(BTC_1H).symlink_to(Path(disk) / "series")
        patch.setattr(files, "make_durable", no_room)
        [found] = remotes.restore(store.root, remote="dav-copy")
        eth = f"{ETH_1H.path}/2025.parquet"
        assert names(found) == [eth]
        assert found.failed == dict.fromkeys(
            [MAIN, TAIL], "could not be put in its place: No space left on device"
        )
        assert found.set_aside == []
        now = {path.name for path in store.folder(BTC_1H).iterdir()}
        assert now == {Path(path).name for path in before if "BTC" in path}


# --- remotes that differ ------------------------------------------------------------------------


@pytest.mark.parametrize("later", [2_900, 4_000, 4_110])
@pytest.mark.parametrize("better", [str, "dav-copy"])
def test_of_two_remotes_the_one_that_has_more_is_taken(
    store: DataStore, remotes: RemoteStorage, disk: Path, better: object, later: int
) -> None:
    """The other was away since: its tail is shorter, or was folded, or continues another file."""
    worse = [one for one in remotes.targets if (one.name == "dav-copy") != (better == "dav-copy")]
    [other] = [one for one in remotes.targets if one not in worse]
    for first in range(2_100, later, 900):
        put(store, first, min(first + 900, later))
    remotes.push_to(other, store.root)
    before, frame = data(store), store.load(BTC_1H)
    shutil.rmtree(store.root / "binance")
    found = remotes.restore(store.root)
    assert [one.failed for one in found] == [{}, {}]
    assert is_whole(found)
    assert data(store).keys() - {TAIL} == before.keys() - {TAIL}
    assert store.load(BTC_1H).equals(frame)
    assert data(store) == before
    assert not list(store.folder(BTC_1H).glob("_*unreadable*"))


@pytest.mark.parametrize("kind", ["other rows", "other values", "fewer rows, but also others"])
def test_of_two_remotes_of_which_neither_has_all_the_first_stays_and_it_is_no_success(
    store: DataStore, remotes: RemoteStorage, place: Path, disk: Path, kind: str
) -> None:
    before = data(store)
    other = DataStore(place / "other")
    window = Window(BEGIN, BEGIN + 2_300 * HOUR)
    times = list(range(window.start, window.end, HOUR))
    if kind == "other rows":
        times = times[100:]
        window = Window(times[0], window.end)
    plus = 0.5 if kind == "other values" else 0.0
    if kind.startswith("fewer"):
        times, window = times[2_050:], Window(times[2_050], window.end)
    other.merge(BTC_1H, "2025", table(times, lambda n: n + plus), [window], "rest")
    (disk / MAIN).write_bytes((other.root / MAIN).read_bytes())
    (disk / TAIL).unlink()
    shutil.rmtree(store.root / "binance")
    dav, there = remotes.restore(store.root)
    assert MAIN in names(dav)
    assert (names(there), there.failed) == ([], {MAIN: OTHER})
    assert not is_whole([dav, there])
    assert data(store) == before


def test_what_was_here_before_is_not_replaced_by_what_a_later_remote_has(
    store: DataStore, remotes: RemoteStorage, disk: Path
) -> None:
    """Only the tail is missing: the first remote has an old one."""
    main = (store.root / MAIN).read_bytes()
    put(store, 2_100, 2_200)
    remotes.push_to(remotes.targets[1], store.root)
    (store.root / TAIL).unlink()
    dav, there = remotes.restore(store.root)
    assert names(dav) == [TAIL]
    assert there.failed == {TAIL: LARGER}
    assert not is_whole([dav, there])
    assert (store.root / MAIN).read_bytes() == main
