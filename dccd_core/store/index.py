"""What the inventory read of files the last time, so that it opens only those that changed."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from dccd_core.store import files
from dccd_core.store.footer import Footer

State = tuple[tuple[str, int, int, int], ...]
"""Name, inode, time of change and size of each file of a period."""


class Known(msgspec.Struct, frozen=True, array_like=True):
    """A part of a period: how many rows and bytes it has, and its footer."""

    rows: int
    bytes: int
    footer: Footer


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    state: State
    parts: tuple[Known, ...]


_Entries = dict[str, _Entry]
_decoder = msgspec.msgpack.Decoder(_Entries)


class Index:
    """A note of footers by file. It is only a note: a lost or damaged one is made anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._old: _Entries = {}
        self._new: _Entries = {}
        self._changed = False
        with suppress(OSError, msgspec.MsgspecError):
            self._old = _decoder.decode(path.read_bytes())

    def parts(
        self, period: str, state: State, read: Callable[[], tuple[Known, ...]]
    ) -> tuple[Known, ...]:
        """The parts of a period, read only if its files are others than the last time."""
        entry = self._old.get(period)
        if entry is None or entry.state != state:
            entry = _Entry(state, read())
            self._changed = True
        self._new[period] = entry
        return entry.parts

    def save(self) -> None:
        """Remember what was read; where nothing can be written, it is read again."""
        if self._changed or len(self._new) != len(self._old):
            with suppress(OSError):
                files.write_bytes(self._path, msgspec.msgpack.encode(self._new))
