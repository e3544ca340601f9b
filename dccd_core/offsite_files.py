"""The files to be copied, and the note of what a remote has of them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from dccd_core.store import files
from dccd_core.store.listing import read_listing

LISTING = "_listing.json"
_MAIN, _TAIL = ".parquet", ".tail.parquet"


class FileState(NamedTuple):
    """What tells one content of a file from another; the time of change is in ns."""

    size: int
    mtime: int


class Copied(msgspec.Struct):
    """What a remote has, as far as we know: the state of each file when it was copied.

    `folded` are tails that may be superfluous: their main file was copied, and they were not looked
    at since. `synced` is when the last copy ended without an error, `compared` when all of the
    remote was last looked at; unix seconds.
    """

    files: dict[str, FileState] = {}
    folded: set[str] = set()
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


def _walk(root: str, folder: str, inside: str) -> Iterator[tuple[str, FileState]]:
    for entry in files.entries(root, folder):
        path = inside + entry.name
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith((".", "_")):
                yield from _walk(root, entry.path, f"{path}/")
        elif (
            entry.is_file(follow_symlinks=False)
            and is_data(path)
            and (found := file_state(entry))  # a fold removes tails
        ):
            yield path, found


def file_state(file: "Path | os.DirEntry[str]") -> FileState | None:
    """The state of a file, None if it is not there."""
    try:
        found = file.stat(follow_symlinks=False)
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
