"""The files to be copied, and the note of what a remote has of them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dccd_core.models import Series
from dccd_core.store import files
from dccd_core.store.inventory import series_of
from dccd_core.store.listing import read_listing
from dccd_core.store.removed import read_removed
from dccd_core.store.schemas import table_times

LISTING = "_listing.json"
T = TypeVar("T")
_MAIN, _TAIL = ".parquet", ".tail.parquet"
# line breaks, and what stands for bytes that are no UTF-8
_UNLISTED = re.compile("[\n\r\udc80-\udcff]")


class FileState(NamedTuple):
    """What tells one content of a file from another; the time of change is in ns."""

    size: int
    mtime: int


class Held(NamedTuple):
    """How many rows a period had between the first and the last time of one of its files."""

    rows: int
    first: int
    last: int


class Copied(msgspec.Struct):
    """What a remote has, as far as we know: the state of each file when it was copied, and what
    tells later whether its rows are here still.

    `folded` are tails that may be superfluous: their main file was copied, and they were not looked
    at since. `lost` are files that storage.retention removed here, and that are not at the remote
    as they were copied. `synced` is when the last copy ended without an error, `compared` when all
    of the remote was last looked at; unix seconds.
    """

    files: dict[str, FileState] = {}
    held: dict[str, Held] = {}
    folded: set[str] = set()
    lost: set[str] = set()
    synced: float | None = None
    compared: float | None = None


def note_path(root: Path, name: str) -> Path:
    """Where the note of a remote is."""
    return root / ".dccd" / "offsite" / f"{name}.json"


def read_note(path: Path) -> Copied:
    """The note; a new one if there is none, or it is damaged: then all is compared again."""
    with suppress(FileNotFoundError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Copied)
    return Copied()


def write_note(path: Path, note: Copied) -> None:
    """Keep the note."""
    files.write_bytes(path, msgspec.json.encode(note))


def is_data(path: str) -> bool:
    """Whether a path below the data path is a file to copy: no journal, lock, half-written or
    damaged file, and nothing that is kept apart."""
    *folders, name = path.split("/")
    if any(part.startswith((".", "_")) for part in folders):
        return False
    return name == LISTING or (name.endswith(_MAIN) and not name.startswith((".", "_")))


def local_files(root: Path) -> dict[str, FileState]:
    """Every data file below the data path, as `binance/ohlc/BTC-USDT/1h/2026.parquet`."""
    return dict(sorted(_walk(str(root), str(root), "")))


def can_be_listed(path: str) -> bool:
    """Whether a list of files, by lines and in UTF-8, can name a file."""
    return not _UNLISTED.search(path)


def _walk(root: str, folder: str, inside: str) -> Iterator[tuple[str, FileState]]:
    for entry in files.entries(root, folder):
        path = inside + entry.name
        if files.is_dead_link(entry):
            continue
        if entry.is_dir():  # also behind a link: a series may have moved to another disk
            if not entry.name.startswith((".", "_")) and path.count("/") < files.DEEPEST:
                yield from _walk(root, entry.path, f"{path}/")
        elif (
            entry.is_file()
            and is_data(path)
            and (found := file_state(entry))  # a fold removes tails
        ):
            yield path, found


def file_state(file: "Path | os.DirEntry[str]") -> FileState | None:
    """The state of a file, None if it is not there."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return FileState(found.st_size, found.st_mtime_ns)


def is_tail(path: str) -> bool:
    """Whether a file is the small one with the newest rows of a period."""
    return path.endswith(_TAIL)


def main_of(tail: str) -> str:
    """The file that a tail continues."""
    return tail.removesuffix(_TAIL) + _MAIN


def tail_of(main: str) -> str:
    """The file that would continue a main file."""
    return main.removesuffix(_MAIN) + _TAIL


def fold_of(root: Path, tail: str) -> Path:
    """Where a tail and its main file are while they become one."""
    stem = Path(tail).name.removesuffix(_TAIL)
    return (root / tail).with_name(f".{stem}.fold")


def held(root: Path, path: str) -> Held | None:
    """What a file holds; None for what is no Parquet file, has no rows, or is gone."""
    if not path.endswith(_MAIN):
        return None
    times = _times(root / path)
    if not len(times):
        return None
    first, last = int(times.min()), int(times.max())
    return Held(_rows_between(root, path, first, last), first, last)


def still_holds(root: Path, path: str, before: Held) -> bool:
    """Whether the period of a file has all rows still that this file, or an earlier one in its
    place, was copied with: in it, or in the file beside it."""
    return _rows_between(root, path, before.first, before.last) >= before.rows


def _rows_between(root: Path, path: str, first: int, last: int) -> int:
    main = main_of(path) if is_tail(path) else path
    tail = tail_of(main)
    fold = fold_of(root, tail)
    # the main file before the tail: what a fold does meanwhile is never counted twice
    parts = [fold] if fold.exists() else [root / main, root / tail]
    found = map(_times, parts)
    return sum(int(np.count_nonzero((first <= times) & (times <= last))) for times in found)


def _times(path: Path) -> NDArray[np.int64]:
    try:
        with files.naming_unreadable(path):
            return table_times(files.open_parquet(path).read(["time"], use_threads=False))
    except (files.UnreadableError, OSError):
        return np.empty(0, np.int64)


def period_of(path: str) -> tuple[Series, str] | None:
    """The series and the period of a data file, an empty one of a listing's note; None for a file
    that dccd does not make."""
    folder, _, name = path.rpartition("/")
    series, stem = series_of(folder), name.split(".")[0]
    if series and name == LISTING:
        return series, ""
    if series and series.is_period(stem) and name in (stem + _MAIN, stem + _TAIL):
        return series, stem
    return None


def is_before_removed(root: Path, path: str) -> bool:
    """Whether storage.retention removed the period of a file, or later ones."""
    series, stem = period_of(path) or (None, "")
    if not (series and stem):
        return False
    return series.period_window(stem).end <= read_removed(root / series.path)


def was_removed(root: Path, path: str) -> bool:
    """Whether a file is not here since storage.retention removed its period."""
    return not (root / path).exists() and is_before_removed(root, path)


def portions(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Items in their order, in lists that are about as large."""
    part, total = list[T](), 0
    for item in items:
        part.append(item)
        total += size(item)
        if total >= most:
            yield part
            part, total = [], 0
    if part:
        yield part


def whats_wrong(path: Path) -> str | None:
    """Why a file must not take the place of a good copy; None if every page of it can be read.

    FileNotFoundError if it is not there any more.
    """
    if path.name == LISTING:
        return "is damaged" if path.exists() and read_listing(path.parent) is None else None
    try:
        with files.naming_unreadable(path):
            content = files.open_parquet(path)
            for group in range(content.num_row_groups):
                content.read_row_group(group, use_threads=False)
    except files.UnreadableError as error:
        return f"cannot be read: {str(error.__cause__).splitlines()[0]}"
    except FileNotFoundError:
        raise
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    return None


def show_bytes(count: float) -> str:
    """Bytes as people read them: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:.4g} TB"
