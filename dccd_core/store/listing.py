"""The note of when a series begins at its exchange."""

from pathlib import Path

import msgspec

from dccd_core.store import files

# Readers that take a whole folder leave out names that begin with "_" or ".".
_NAME = "_listing.json"


class Listing(msgspec.Struct, frozen=True):
    """The first candle or trade that the exchange has of a series, in microseconds."""

    listed: int


def read_listing(folder: Path) -> int | None:
    """The remembered beginning; None if there is none, or the note is damaged: ask again."""
    try:
        return msgspec.json.decode((folder / _NAME).read_bytes(), type=Listing).listed
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def write_listing(folder: Path, listed: int) -> None:
    """Remember the beginning."""
    files.write_bytes(folder / _NAME, msgspec.json.encode(Listing(listed)))
