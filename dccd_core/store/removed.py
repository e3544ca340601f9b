"""The note of how far the files of a series were removed here, as they are kept elsewhere."""

from pathlib import Path

import msgspec

from dccd_core.store import files

# Readers that take a whole folder leave out names that begin with "_" or ".".
_NAME = "_removed.json"


class Removed(msgspec.Struct, frozen=True):
    """Up to this moment, in microseconds, files were removed; nothing of it is fetched again."""

    until: int


def read_removed(folder: Path) -> int:
    """The moment, 0 if there is no note or it is damaged: then what is missing is fetched."""
    try:
        return msgspec.json.decode((folder / _NAME).read_bytes(), type=Removed).until
    except (FileNotFoundError, msgspec.MsgspecError):
        return 0


def write_removed(folder: Path, until: int) -> None:
    """Remember the moment; it never goes back."""
    files.write_bytes(
        folder / _NAME, msgspec.json.encode(Removed(max(until, read_removed(folder))))
    )
