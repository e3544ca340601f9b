"""The text inside a zip or gzip, read as it is unpacked: nothing is written, nothing trusted."""

import struct
import zlib
from gzip import BadGzipFile
from typing import BinaryIO, Protocol
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipExtFile, ZipFile, ZipInfo

from isal import igzip, isal_zlib

from dccd_core.archives.base import ArchiveError, ArchiveFile

# Ten years of a dead market's candles pack forty times; what goes far beyond is made to harm.
RATIO, RATIO_FROM = 200, 2**26
_IsalError: type[Exception] = isal_zlib.error  # type: ignore[assignment] # its stub is wrong
# zipfile lets through what its parts say of nonsense: a place before the beginning (OSError), a
# feature that it does not have, a name in no encoding, a number that does not fit
DAMAGED = (
    *(BadZipFile, BadGzipFile, EOFError, zlib.error, _IsalError, struct.error),
    *(OSError, NotImplementedError, ValueError, OverflowError),
)
_LOCAL_HEADER, _NAME_AT, _EXTRA_AT = 30, 26, 28


class Stream(Protocol):
    """What unpacks."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class Text:
    """What a packed file holds, read once from its start.

    `limit` bounds the bytes. Raises ArchiveError where the packing is damaged (its checksum is
    verified when the end is read) or where more comes out than may.
    """

    def __init__(self, stream: Stream, packed: int, limit: int) -> None:
        self._stream, self._limit = stream, limit
        self._most = max(RATIO_FROM, RATIO * packed)
        self._ahead = b""
        self.read_bytes = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """The next bytes; b"" at the end."""
        if self._ahead:
            ahead, self._ahead = self._ahead[:size], self._ahead[size:]
            return ahead
        try:
            data = self._stream.read(size)
        except DAMAGED as error:
            raise ArchiveError(f"it is damaged: {error}") from error
        self.read_bytes += len(data)
        if self.read_bytes > self._limit:
            raise ArchiveError(f"it unpacks to more than {self._limit:,} bytes")
        if self.read_bytes > self._most:
            raise ArchiveError(f"it unpacks to more than {RATIO} times its size")
        return data

    def line(self, longest: int = 4_096) -> bytes:
        """The first line, which is read and gone, without its end."""
        found = b""
        while b"\n" not in found and len(found) < longest and (more := self.read(longest)):
            found += more
        line, _, self._ahead = found.partition(b"\n")
        return line.rstrip(b"\r")

    def put_back(self, line: bytes) -> None:
        """Undo `line`."""
        self._ahead = line + b"\n" + self._ahead

    def close(self) -> None:
        """Nothing more will be read."""
        self.closed = True
        self._stream.close()

    def readable(self) -> bool:
        """It is for reading."""
        return True


def open_text(file: BinaryIO, size: int, wanted: ArchiveFile) -> Text:
    """What a downloaded file of `size` bytes holds: of a zip exactly the one wanted file."""
    file.seek(0)
    if not wanted.member:
        stream: Stream = igzip.IGzipFile(fileobj=file)  # type: ignore[no-untyped-call]
        return Text(stream, size, wanted.longest)
    try:
        with ZipFile(file) as zipped:
            infos = zipped.infolist()
            if [info.filename for info in infos] != [wanted.member]:
                names = ", ".join(info.filename for info in infos[:3]) or "nothing"
                raise ArchiveError(f"it holds {names}, where {wanted.member} alone is expected")
            check_member(infos[0], wanted)
            return Text(zipped.open(infos[0]), size, wanted.longest)
    except DAMAGED as error:
        raise ArchiveError(f"it is damaged: {error}") from error


def check_member(info: ZipInfo, wanted: ArchiveFile) -> None:
    """ArchiveError if a file of a zip cannot be the wanted one, by what the zip says of it."""
    if info.flag_bits & 1:
        raise ArchiveError(f"{info.filename} is encrypted")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ArchiveError(f"{info.filename} is packed by method {info.compress_type}")
    if info.file_size > wanted.longest:
        raise ArchiveError(f"{info.filename} has {info.file_size:,} bytes, too many")
    if info.file_size > max(RATIO_FROM, RATIO * info.compress_size):
        raise ArchiveError(f"{info.filename} unpacks to more than {RATIO} times its size")


def open_cutout(file: BinaryIO, info: ZipInfo, wanted: ArchiveFile) -> Text:
    """The one file of a zip of which only these bytes were taken, from its local header on."""
    file.seek(0)
    head = file.read(_LOCAL_HEADER)
    name = int.from_bytes(head[_NAME_AT : _NAME_AT + 2], "little")
    extra = int.from_bytes(head[_EXTRA_AT : _EXTRA_AT + 2], "little")
    if head[:4] != b"PK\x03\x04" or file.read(name) != info.orig_filename.encode():
        raise ArchiveError(f"it is damaged: {info.filename} does not begin where the zip says")
    file.seek(_LOCAL_HEADER + name + extra)
    check_member(info, wanted)
    return Text(ZipExtFile(file, "r", info), info.compress_size, wanted.longest)


def verify(text: Text) -> None:
    """Read to the end, so that the packing's own checksum is looked at before a row is used."""
    while text.read(2**20):
        pass
