"""What keeps a copy from harm before it begins: one process at a time, and the right place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dccd_core.offsite_files import Copied
from dccd_core.offsite_rclone import OffsiteError, Rclone
from dccd_core.offsite_remote import Target
from dccd_core.store.files import BusyError, Hold


@contextmanager
def alone(root: Path, rclone: Rclone, work: str) -> Iterator[None]:
    """Be the only one who does this `work` with a remote; OffsiteError if another one does."""
    target = rclone.target
    try:
        hold = Hold(root / ".dccd" / "locks" / f"{work}.{target.name}.lock")
    except BusyError as error:
        raise OffsiteError(f"{target.shown}: another process is at it already ({work})") from error
    rclone.holds = (hold.descriptor,)
    try:
        yield
    finally:
        rclone.holds = ()
        hold.release()


def refuse_itself(rclone: Rclone, root: Path) -> None:
    """OffsiteError if a remote is the data path itself by another way."""
    if rclone.leads_to(root):
        raise OffsiteError(f"{rclone.target.shown}: is data_path itself: it is no copy then")


def check_folder(target: Target, note: Copied) -> None:
    """Refuse a folder that is not what it was: a disk that is not mounted would be an empty folder,
    and the copies would fill the disk below it."""
    if target.local is None:
        return
    if note.files and not any(target.local.iterdir()):
        raise OffsiteError(
            f"{target.shown} is empty though {len(note.files)} files were copied to it: mount the "
            f"disk, or remove .dccd/offsite/{target.name}.json to copy everything again"
        )
