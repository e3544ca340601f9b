"""What a restore says it did, of one remote and of several."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

HERE = "can be read here"
FOLDED = "is not needed: its rows are in the main file"
AWAY = "was removed here by storage.retention: name its --series to have it back"
FOREIGN = "is no file of dccd's: rclone copy brings it back"
MEANWHILE = "has been collected meanwhile"
APART = "has rows that are missing here, but does not continue the main file"
OTHER = (
    "differs from what an earlier remote brought, and neither has all rows of the other: move that "
    "away, then dccd restore --remote, to have this one"
)
LARGER = "can be read here, but the remote's is larger: move it away to have that"


@dataclass(frozen=True, slots=True)
class RestoredFile:
    """A file that is back; `rows` is 0 for the note of a listing."""

    path: str
    rows: int
    bytes: int
    series: str


@dataclass(slots=True)
class Restored:
    """What came from one remote. `left` are files that are not needed here, with the reason;
    `failed` those that could not be restored. `absent` are named series of which the remote lacks
    something that is not here either: a failure if no other remote has it, see `is_whole`.
    """

    remote: str
    files: list[RestoredFile] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    set_aside: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def is_whole(found: Collection[Restored]) -> bool:
    """Whether nothing failed, and what was named is here: from whichever remote, as a later one
    lacks nothing that an earlier one brought."""
    if any(one.error or one.failed for one in found):
        return False
    return not found or not set.intersection(*(set(one.absent) for one in found))
