"""Copies of the data at other places, made by rclone (https://rclone.org), and the way back.

`RemoteStorage(config.storage).push(path)` copies what changed to every remote.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dccd_core.config_sections import Storage
from dccd_core.models import Series
from dccd_core.offsite_guard import refuse_itself
from dccd_core.offsite_push import Push, Pushed
from dccd_core.offsite_rclone import IDLE, MISSING, OffsiteError, Rclone
from dccd_core.offsite_remote import Target, targets
from dccd_core.offsite_restore import Restore
from dccd_core.offsite_restored import Restored

_LOG = logging.getLogger(__name__)


class PushError(OffsiteError):
    """Not all of it is copied. `pushed` tells of every remote, also of those that are well."""

    def __init__(self, pushed: list[Pushed]) -> None:
        super().__init__("\n".join(filter(None, map(failure, pushed))))
        self.pushed = pushed


class RemoteStorage:
    """The remotes of a configuration. They are independent: one that fails stops no other.

    `say` hears of progress from any thread, setting `cancel` ends what runs; a transfer in which
    nothing moves for `idle` seconds is ended.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        say: Callable[[str], None] = _LOG.info,
        cancel: threading.Event | None = None,
        idle: float = IDLE,
    ) -> None:
        self.targets: list[Target] = targets(storage.remotes)
        self._say, self._cancel, self._idle = say, cancel, idle

    def push(self, path: Path | str) -> list[Pushed]:
        """Copy what changed below a data path to all remotes, at the same time.

        PushError, after all have ended, names each that failed and each file that is damaged.
        """
        with ThreadPoolExecutor(max(1, len(self.targets))) as pool:
            pushed = list(pool.map(lambda target: self.push_to(target, path), self.targets))
        if any(map(failure, pushed)):
            raise PushError(pushed)
        return pushed

    def push_to(self, target: Target, path: Path | str) -> Pushed:
        """Copy to one remote; what failed is in the result's `error`."""
        root = Path(path).resolve()
        try:
            self._demand(target, root)
            if not root.is_dir():
                raise OffsiteError(f"{root} is no folder: there is nothing to copy")
            return Push(root, target, self._rclone(target)).run()
        except OffsiteError as error:
            return Pushed(target.name, target.shown, error=str(error))

    def restore(
        self, path: Path | str, series: Collection[Series] = (), remote: str | None = None
    ) -> list[Restored]:
        """Bring back what is missing of some series, or all, from one remote or each in turn. What
        an earlier one brought is replaced by what a later one has, if that has all of it and more.

        ValueError if there is no such remote.
        """
        root, found = Path(path).resolve(), list[Restored]()
        for target in self._chosen(remote):
            brought = {file.path for one in found for file in one.files}
            found.append(self._restore_from(target, root, series, brought))
        return found

    def differing(self, path: Path | str, files: Collection[str]) -> dict[str, str]:
        """Of some files below a data path those that a remote does not have as they are here, by
        checksums or byte by byte, with the reason.

        OffsiteError if a remote cannot be asked.
        """
        root, found = Path(path).resolve(), dict[str, str]()
        for target in self.targets:
            self._demand(target, root)
            rclone = self._rclone(target)
            refuse_itself(rclone, root)
            checked = rclone.check(str(root), target.root, files)
            if not checked.hashed:
                checked = rclone.check(str(root), target.root, files, "--download")
            found |= dict.fromkeys(checked.different, f"{target.shown} has no equal copy")
        return found

    def _chosen(self, remote: str | None) -> list[Target]:
        if not self.targets:
            raise ValueError("storage.remotes: no remote is configured")
        found = [one for one in self.targets if remote in (None, one.name, one.shown)]
        if not found:
            names = ", ".join(one.name for one in self.targets)
            raise ValueError(f"no such remote; there are: {names}")
        return found

    def _restore_from(
        self, target: Target, root: Path, series: Collection[Series], brought: set[str]
    ) -> Restored:
        try:
            self._demand(target, root)
            return Restore(root, self._rclone(target), brought).run(series)
        except OffsiteError as error:
            return Restored(target.shown, error=str(error))

    def problems(self, path: Path | str) -> list[str]:
        """Why remotes cannot be used, a line each, as far as can be told without asking them."""
        if not self.targets:
            return []
        if shutil.which("rclone") is None:
            return [f"{MISSING}. Until then nothing is copied; collecting works without it."]
        found = (self._problem(target, Path(path).resolve()) for target in self.targets)
        return [problem for problem in found if problem]

    def _problem(self, target: Target, root: Path) -> str | None:
        try:
            self._demand(target, root)
            if target.section and target.section not in self._rclone(target).remotes():
                return (
                    f"{target.shown}: rclone knows no remote {target.section!r}: "
                    f"add it with `rclone config`, as the user who runs dccd"
                )
        except OffsiteError as error:
            return str(error)
        return None

    def _rclone(self, target: Target) -> Rclone:
        def say(text: str) -> None:
            self._say(f"{target.shown}: {text}")

        return Rclone(target, say, self._cancel, self._idle)

    @staticmethod
    def _demand(target: Target, root: Path) -> None:
        """OffsiteError if a remote cannot be used whatever rclone thinks of it."""
        if target.problem:
            raise OffsiteError(f"{target.shown}: {target.problem}")
        if target.local is None:
            return
        place = target.local.resolve()
        if place == root or root in place.parents or place in root.parents:
            raise OffsiteError(f"{target.shown}: is in data_path, or around it: it is no copy then")
        if not place.is_dir():
            raise OffsiteError(f"{target.shown}: no such folder: mount the disk, or create it")


def failure(pushed: Pushed) -> str | None:
    """What is wrong after a copy, in words; None if nothing is."""
    said = [pushed.error] if pushed.error else []
    if pushed.unreadable:
        bad = "; ".join(f"{path} {why}" for path, why in pushed.unreadable.items())
        said.append(f"{pushed.remote}: not copied: {bad}")
    if pushed.lost:
        more = f" and {len(pushed.lost) - 3} more" if len(pushed.lost) > 3 else ""
        said.append(
            f"{pushed.remote}: storage.retention removed these here, and they are not there, or of "
            f"another size: {', '.join(pushed.lost[:3])}{more}"
        )
    return "\n".join(said) or None
