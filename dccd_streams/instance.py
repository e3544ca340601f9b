"""One service on a data path, or one of each shard."""

import fcntl
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from dccd_core.store.datastore import DataStore


class AlreadyRunning(Exception):
    """Another service writes this data path; the message says which process."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which share of the pairs a service collects: `index` of `count`, from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The share of `2/8`; ValueError says what would be right."""
        index, _, count = text.partition("/")
        if index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
            return cls(int(index), int(count))
        raise ValueError(f"{text!r} is not a shard: write 2/8 for the second of eight")

    def has(self, exchange: str, pair: str) -> bool:
        """Whether a pair belongs to this share; the same in every process, for ever."""
        return zlib.crc32(f"{exchange}/{pair}".encode()) % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class ShardStore(DataStore):
    """The store as one shard writes it: with a journal of its own."""

    def __init__(self, data_path: Path | str, shard: Shard) -> None:
        super().__init__(data_path)
        self._folder = super().journal / f"{shard.index}-of-{shard.count}"

    @property
    def journal(self) -> Path:
        """The folder of this shard's journal."""
        return self._folder


class Instance:
    """Held while a service runs; AlreadyRunning if one does that would write the same series.

    A whole service and the shards of another exclude each other: the first file is held by one
    whole service or shared by shards, the second is the shard's own.
    """

    def __init__(self, data_path: Path, shard: Shard | None) -> None:
        folder = data_path / ".dccd" / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        self._held: list[TextIO] = []
        try:
            self._hold(folder / "streams.lock", fcntl.LOCK_SH if shard else fcntl.LOCK_EX)
            if shard:
                name = f"streams.{shard.index}-of-{shard.count}.lock"
                self._hold(folder / name, fcntl.LOCK_EX)
        except AlreadyRunning:
            self.release()
            raise

    def _hold(self, path: Path, kind: int) -> None:
        file = path.open("a+")
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise AlreadyRunning(
                f"the stream service runs already on this data path: {holder} holds {path}"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        self._held.append(file)

    def release(self) -> None:
        """Let another one begin."""
        while self._held:
            self._held.pop().close()
