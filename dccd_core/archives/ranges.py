"""One file out of a zip of gigabytes, by HTTP ranges: its table of contents, and the bytes wanted.

The table of contents is kept, so that it is read once for all series and all runs.
"""

import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

import msgspec

from dccd_core.archives.base import ArchiveError, ArchiveFile
from dccd_core.archives.download import Download, Host
from dccd_core.archives.memory import Absent
from dccd_core.archives.unpack import DAMAGED, open_cutout, verify
from dccd_core.store import files

# The table of contents is at the end; that of Kraken's 12,000 files takes less.
TAIL = 2**21
MOST_PARTS = 100
# A local header may be longer than the zip's table says.
HEADER = 30 + 2**16


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What the table of contents says of one file."""

    offset: int
    packed: int
    size: int
    crc: int
    method: int
    flags: int


class Contents(msgspec.Struct, frozen=True):
    """The sizes of a zip's parts, and its files by the last part of their names."""

    sizes: list[int]
    entries: dict[str, list[tuple[str, Entry]]]


_CONTENTS = msgspec.json.Decoder(Contents)


class RangedZips:
    """The zips of one host of which single files are taken; safe for several threads."""

    def __init__(self, host: Host, folder: Path, absent: Absent) -> None:
        self._host, self._folder, self._absent = host, folder, absent
        self._known: dict[str, Contents] = {}
        self._lock = threading.Lock()

    def cut(self, file: ArchiveFile, now: int) -> tuple[Download, ZipInfo] | None:
        """The packed bytes of the wanted file, verified, and what the zip says of it; None if
        there is no such zip, or no such file in it."""
        with self._lock:
            contents = self._contents(file, now)
        if contents is None:
            return None
        found = contents.entries.get(file.member, [])
        if not found:
            self._absent.add(key(file), file.window, now)
            return None
        if len(found) > 1:
            raise ArchiveError(f"it holds {file.member} {len(found)} times")
        name, entry = found[0]
        info = _info(name, entry)
        end = min(entry.offset + HEADER + entry.packed, sum(contents.sizes))
        download = self._span(file, contents.sizes, entry.offset, end)
        try:
            verify(open_cutout(download.file, info, file))
        except BaseException:
            download.file.close()
            raise
        return download, info

    def _contents(self, file: ArchiveFile, now: int) -> Contents | None:
        """The table of contents: known, kept on disk, or read and kept."""
        known = self._known.get(file.path)
        if known is not None:
            return known
        place = self._folder / f"{Path(file.path).name}.json"
        try:
            contents = _CONTENTS.decode(place.read_bytes())
        except (FileNotFoundError, msgspec.MsgspecError):
            found = self._read(file)
            if found is None:
                self._absent.add(file.path, file.window, now)
                return None
            contents = found
            files.write_bytes(place, msgspec.json.encode(contents))
        self._known[file.path] = contents
        return contents

    def _read(self, file: ArchiveFile) -> Contents | None:
        sizes = list(self._sizes(file))
        if not sizes:
            return None
        tail = max(0, sum(sizes) - TAIL)
        with self._span(file, sizes, tail, sum(sizes)).file as held:
            view = _View(held.read(), tail, sum(sizes))
        try:
            with ZipFile(view) as zipped:
                entries: dict[str, list[tuple[str, Entry]]] = {}
                for info in zipped.infolist():
                    last = info.filename.rpartition("/")[2]
                    entries.setdefault(last, []).append((info.orig_filename, _entry(info)))
        except DAMAGED as error:
            raise ArchiveError(f"it has no readable table of contents: {error}") from error
        return Contents(sizes, entries)

    def _sizes(self, file: ArchiveFile) -> Iterator[int]:
        """The sizes of a zip's parts, or of the zip; none if it is not there."""
        for path in _paths(file):
            found = self._host.download(path, span=(0, 1))
            if found is None:
                return
            found.file.close()
            yield found.total

    def _span(self, file: ArchiveFile, sizes: list[int], start: int, end: int) -> Download:
        """Bytes of the zip as if it were one file."""
        whole: Download | None = None
        begin = 0
        try:
            for path, size in zip(_paths(file), sizes, strict=False):
                low, high = max(start, begin) - begin, min(end, begin + size) - begin
                begin += size
                if low < high:
                    whole = _append(whole, self._piece(file, path, size, (low, high)))
        except BaseException:
            _close(whole)
            raise
        if whole is None:
            raise ArchiveError(f"it has no bytes {start} to {end}")
        return whole

    def _piece(self, file: ArchiveFile, path: str, size: int, span: tuple[int, int]) -> Download:
        piece = self._host.download(path, span=span)
        if piece is None or piece.total != size or piece.size != span[1] - span[0]:
            _close(piece)
            self._forget(file)
            raise ArchiveError(f"{path} has changed since its table of contents was read")
        return piece

    def _forget(self, file: ArchiveFile) -> None:
        self._known.pop(file.path, None)
        (self._folder / f"{Path(file.path).name}.json").unlink(missing_ok=True)


class _View(io.RawIOBase):
    """The end of a file, with the places that it has in the file; what is before reads as error."""

    def __init__(self, data: bytes, start: int, size: int) -> None:
        self._data, self._start, self._size, self._at = data, start, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        place = self._at - self._start
        if place < 0:
            raise BadZipFile(f"it is longer than {TAIL:,} bytes")
        found = self._data[place:] if size < 0 else self._data[place : place + size]
        self._at += len(found)
        return found


def key(file: ArchiveFile) -> str:
    """The name of a file in a zip, for the memory of what is absent."""
    return f"{file.path}#{file.member}"


def _paths(file: ArchiveFile) -> list[str]:
    if not file.parts:
        return [file.path]
    return [file.path + file.parts.format(number) for number in range(MOST_PARTS)]


def _append(whole: Download | None, piece: Download) -> Download:
    if whole is None:
        return piece
    whole.file.seek(0, io.SEEK_END)
    with piece.file as more:
        shutil.copyfileobj(more, whole.file, 2**20)
    whole.file.seek(0)
    whole.size += piece.size
    return whole


def _close(download: Download | None) -> None:
    if download is not None:
        download.file.close()


def _entry(info: ZipInfo) -> Entry:
    packed, size = info.compress_size, info.file_size
    return Entry(info.header_offset, packed, size, info.CRC, info.compress_type, info.flag_bits)


def _info(name: str, entry: Entry) -> ZipInfo:
    info = ZipInfo(name)
    info.header_offset, info.CRC = entry.offset, entry.crc
    info.compress_size, info.file_size = entry.packed, entry.size
    info.compress_type, info.flag_bits = entry.method, entry.flags
    return info
