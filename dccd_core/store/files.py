"""The one module that touches data files: atomic writes, single opens, locks, setting aside."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# Of candles, prices and amounts born as decimals get larger by splitting their bytes, quote volumes
# with eight decimals smaller: benchmarks/parquet_size.py. Of trades, amounts repeat within
# a row group, and ids share their beginnings: benchmarks/parquet_trades.py.
_DELTA = ("time", "received", "trades", "sequence")
_SPLIT = ("quote_volume", "taker_buy_quote_volume")
_ENCODINGS = {
    **dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"),
    **dict.fromkeys(_SPLIT, "BYTE_STREAM_SPLIT"),
    "trade_id": "DELTA_BYTE_ARRAY",
}
_DICTIONARIES = ("amount", "side")
# about a month of 1 m candles: a reader of one day skips the rest of the year
_ROW_GROUP = 50_000
# A day that is over is written once and kept for years: a ninth smaller, for half a µs more a row.
_CLOSED_ROW_GROUP = 200_000
_LEVEL, _CLOSED_LEVEL = 3, 9
_HARDER = {"time": 15, "price": 15}  # those that gain by it, of one number a row


def write_table(
    path: Path, table: pa.Table, key_values: dict[bytes, bytes], *, closed: bool = False
) -> int:
    """Write Parquet beside `path`, make it durable, put it in place; its size in bytes.

    `closed`: it is not going to be written again soon.
    """
    with _beside(path) as temporary:
        writer = pq.ParquetWriter(
            temporary,
            table.schema,
            compression="zstd",
            compression_level=_levels(table.schema) if closed else _LEVEL,
            use_dictionary=[name for name in _DICTIONARIES if name in table.column_names],
            column_encoding={k: v for k, v in _ENCODINGS.items() if k in table.column_names},
            write_page_checksum=True,
            store_schema=False,
        )
        with writer:
            writer.write_table(table, row_group_size=_CLOSED_ROW_GROUP if closed else _ROW_GROUP)
            writer.add_key_value_metadata(key_values)
    return path.stat().st_size


def _levels(schema: pa.Schema) -> dict[str, int]:
    """How hard the columns of a closed day are pressed, by their paths in the file."""
    lists = {field.name: pa.types.is_list(field.type) for field in schema}
    paths = {name: f"{name}.list.element" if many else name for name, many in lists.items()}
    return {path: _HARDER.get(name, _CLOSED_LEVEL) for name, path in paths.items()}


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file with the same guarantees."""
    with _beside(path) as temporary:
        temporary.write(content)


@contextmanager
def _beside(path: Path) -> Iterator[Any]:
    """A file that takes the place of `path` when all of it is on disk, or leaves no trace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Appender:
    """A new file that only grows; what is appended is durable, or is not there."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        make_durable(path.parent)

    def append(self, content: bytes) -> None:
        """Write and make durable; after an OSError the same may be appended again."""
        view, done = memoryview(content), 0
        try:
            while done < len(view):
                done += os.pwrite(self._file, view[done:], self.size + done)
            os.fdatasync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(view)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def cut(path: Path, size: int) -> None:
    """Shorten a file durably."""
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def move(source: Path, target: Path) -> None:
    """Rename durably within one folder, replacing the target."""
    source.replace(target)
    make_durable(target.parent)


def remove(path: Path) -> None:
    """Remove durably; a file that is not there is none."""
    path.unlink(missing_ok=True)
    make_durable(path.parent)


def make_durable(path: Path) -> None:
    """Bring a file, or the names of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clean(folder: Path) -> None:
    """Remove what killed writers left. Only to be called under the folder's lock."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open once: all reads of the result see this file, whatever takes its place meanwhile.

    FileNotFoundError if there is none; UnreadableError if it is not a whole Parquet file; another
    OSError if the system does not let us read it, which says nothing about what is in it.
    """
    with naming_unreadable(path):
        return pq.ParquetFile(pa.OSFile(str(path)), page_checksum_verification=True)


DEEPEST = 4
"""Folders below a data path that a file of a series may be in: a link may lead in a circle."""


def entries(root: str, folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder below `root`, nothing if it is gone. PermissionError where that hides
    data: a disk's own folder beside those of exchanges, as lost+found, has none."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []
    except PermissionError:
        if os.path.relpath(folder, root).partition("/")[0].isidentifier() or folder == root:
            raise
        return []


def is_dead_link(entry: "os.DirEntry[str]") -> bool:
    """Whether a link leads nowhere, or in a circle."""
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110


@contextmanager
def naming_unreadable(path: Path) -> Iterator[None]:
    """Turn what Arrow says about damaged content into UnreadableError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableError(path, error) from error


CURE = "dccd restore brings it back, if a remote has it"


class UnreadableError(Exception):
    """A data file that cannot be read. `path` is where it is."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(f"{path} cannot be read: {error} ({CURE})")
        self.path = path


def set_aside(path: Path) -> Path:
    """Rename an unreadable file so that nothing reads or overwrites it; its new path."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    target = path.with_name(f"_{path.name}.unreadable-{stamp}")
    move(path, target)
    return target


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, across threads and processes; a dead holder's is free at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


class BusyError(Exception):
    """Another process or thread holds what only one may hold."""


class Hold:
    """An exclusive lock that is not waited for; a dead holder's is free at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise BusyError(f"{path} is held by another process") from error

    @property
    def descriptor(self) -> int:
        """For a child that is to hold it too, as long as it lives."""
        return self._file.fileno()

    def release(self) -> None:
        """Let another one hold it; more than once is no error."""
        if not self._file.closed:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # also what a child's child kept
            self._file.close()
