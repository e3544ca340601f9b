"""One copy of what changed to one remote: never a deletion, and nothing good is overwritten.

A file with fewer rows than the one at the remote, and one that somebody else put there, is copied
after the remote's was put into `_replaced/{time}/`. What a fold made superfluous, a tail whose rows
are in the main file now, is put into `_folded/`, where it is kept until the next fold of the same
period.
"""

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dccd_core.offsite_files import (
    Copied,
    FileState,
    can_be_listed,
    fold_of,
    held,
    is_before_removed,
    is_tail,
    local_files,
    main_of,
    note_path,
    portions,
    read_note,
    show_bytes,
    still_holds,
    tail_of,
    was_removed,
    whats_wrong,
    write_note,
)
from dccd_core.offsite_guard import alone, check_folder, refuse_itself
from dccd_core.offsite_rclone import OffsiteError, Rclone
from dccd_core.offsite_remote import Target

FOLDED, REPLACED = "_folded", "_replaced"
_LESS = (
    "lacks rows of the copy there, which storage.retention removed here: move it away, then "
    "dccd restore --series"
)
# Files that are written while they are copied are copied again, but not for ever.
_ROUNDS = 3
_PORTION = 4_000_000_000
# Once a day all of the remote is looked at: someone may have emptied it.
_COMPARE = 86_400.0


@dataclass(slots=True)
class Pushed:
    """What one copy did. `remote` is the remote's text without secrets.

    `kept` are the files at the remote that were put aside first, `unreadable` those that were not
    copied, with the reason, `waiting` those that changed all the time: they are copied next time.
    `lost` are files that were removed here, and are not at the remote as they were copied.
    `compared` says how the copies were compared: by `checksums` or `sizes`.
    """

    name: str
    remote: str
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    compared: str = "checksums"
    kept: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    error: str | None = None


class Push:
    """Copies what changed below a data path to one remote."""

    def __init__(self, root: Path, target: Target, rclone: Rclone) -> None:
        self._root, self._target, self._rclone = root, target, rclone
        self._note = Copied()
        self._theirs: dict[str, int] | None = None
        self._shrunk: set[str] = set()
        self._behind: set[str] = set()
        self._failure: OffsiteError | None = None
        self._stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._done = Pushed(target.name, target.shown)

    def run(self) -> Pushed:
        """Copy, compare, and remember what was copied; what failed is in the result's `error`."""
        began = time.monotonic()
        try:
            with alone(self._root, self._rclone, "offsite"):
                self._copy_all(note_path(self._root, self._target.name))
        except OffsiteError as error:
            self._done.error = str(error)
        self._done.seconds = time.monotonic() - began
        return self._done

    def _copy_all(self, path: Path) -> None:
        self._note = read_note(path)
        check_folder(self._target, self._note)
        try:
            self._compare_all()
            self._find_lost()
            began = self._stamp
            for number in range(_ROUNDS):
                # a place of its own: what the first round put aside was there before this copy
                self._stamp = f"{began}-{number + 1}" if number else began
                if not self._round(path):
                    break
            if self._failure:
                raise self._failure
            self._note.synced = time.time()
        finally:
            write_note(path, self._note)

    def _compare_all(self) -> None:
        """Forget what the remote does not have any more, once a day."""
        now, note = time.time(), self._note
        if note.compared is not None and 0 <= now - note.compared < _COMPARE:
            return
        refuse_itself(self._rclone, self._root)
        self._theirs = theirs = self._rclone.everything()
        bad = {path for path, state in note.files.items() if theirs.get(path) != state.size}
        bad |= note.lost - theirs.keys()
        # the size of what is only there stays known: it tells whether that is whole
        note.lost = {path for path in bad if was_removed(self._root, path)}
        for path in bad - note.lost:
            note.files.pop(path, None)
        note.held = {p: one for p, one in note.held.items() if p in note.files}
        note.compared = now

    def _find_lost(self) -> None:
        """What is lost is told until it is back there, or here: then it is copied again."""
        note = self._note
        lost = {path for path in note.lost if was_removed(self._root, path)}
        for path in note.lost - lost:
            note.files.pop(path, None)
        note.lost, self._done.lost = lost, sorted(lost)

    def _round(self, path: Path) -> bool:
        """Copy what differs from the note; whether a file changed meanwhile."""
        found = local_files(self._root)
        mine = {path: state for path, state in found.items() if can_be_listed(path)}
        for odd in found.keys() - mine.keys():
            self._rclone.say(f"left out, as rclone cannot be told its name: {odd!a}")
        changed = {p: state for p, state in mine.items() if self._note.files.get(p) != state}
        self._done.waiting, self._behind, self._failure = [], set(), None
        for part in portions(changed.items(), lambda item: item[1].size, _PORTION):
            try:
                self._batch(dict(part))
            except OffsiteError as error:
                self._go_on(error)
            write_note(path, self._note)
        self._put_away(mine)
        self._theirs = None
        return bool(self._done.waiting)

    def _sizes(self, paths: Collection[str]) -> dict[str, int]:
        """The sizes of those of these files that the remote has."""
        if self._theirs is not None:
            return {path: self._theirs[path] for path in paths if path in self._theirs}
        return self._rclone.sizes(paths) if paths else {}

    def _batch(self, changed: dict[str, FileState]) -> None:
        size = show_bytes(sum(state.size for state in changed.values()))
        self._rclone.say(f"{len(changed)} files of {size} are read, then copied")
        changed = self._readable(changed)
        if not changed:
            return
        changed = self._keep(changed, self._sizes(changed))
        self._copy(changed)
        self._verify(changed)

    def _go_on(self, error: OffsiteError) -> None:
        """Keep the first failure for the end: it may be of one file. It ends the copy if the remote
        does not answer any more."""
        self._failure = self._failure or error
        try:
            self._rclone.demand_folder()
        except OffsiteError:
            raise self._failure from None

    def _readable(self, changed: dict[str, FileState]) -> dict[str, FileState]:
        """The files that may be copied: whole ones, tails only with a main file that is whole."""
        bad = self._done.unreadable
        for path in changed:
            bad.pop(path, None)  # it may have been mended since the last round
            with suppress(FileNotFoundError):
                if why := whats_wrong(self._root / path):
                    bad[path] = why
        for path in filter(is_tail, changed):
            if main_of(path) in bad and path not in bad:
                bad[path] = f"waits for {Path(main_of(path)).name}, which {bad[main_of(path)]}"
        return {path: state for path, state in changed.items() if path not in bad}

    def _keep(self, changed: dict[str, FileState], theirs: dict[str, int]) -> dict[str, FileState]:
        """Put copies of what will be overwritten by less, or by something else, aside; the files
        that may be copied then."""
        there = {path: state for path, state in changed.items() if path in theirs}
        ours = {p for p in there if p in self._note.files and self._note.files[p].size == theirs[p]}
        less = {path for path in ours if self._is_less(path, there[path], theirs[path])}
        foreign = there.keys() - ours
        if foreign:  # equal ones too, after the note was lost
            less |= self._rclone.check(str(self._root), self._target.root, foreign).different
        refused = {path for path in less if is_before_removed(self._root, path)}
        self._done.unreadable |= dict.fromkeys(refused, _LESS)
        less -= refused
        aside = self._target.below(self._aside)
        try:
            self._rclone.copy(self._target.root, aside, less, "--ignore-times")
            self._shrunk |= less
            self._done.kept += [f"{self._aside}/{path}" for path in sorted(less)]
        except OffsiteError as error:
            self._go_on(error)
            refused |= less
        self._behind |= refused
        behind = refused | {tail_of(path) for path in self._behind}
        return {path: state for path, state in changed.items() if path not in behind}

    def _is_less(self, path: str, state: FileState, theirs: int) -> bool:
        """Whether rows that were copied with a file are not here any more. A file that is pressed,
        or folded, is smaller and has all of them."""
        before = self._note.held.get(path)
        return theirs > state.size if before is None else not still_holds(self._root, path, before)

    @property
    def _aside(self) -> str:
        return f"{REPLACED}/{self._stamp}"

    def _copy(self, changed: dict[str, FileState]) -> None:
        """Copy main files, then tails: the other way round, a crash between would leave tails that
        continue a file that is not there. So does a main file that the remote does not take."""
        tails = set(filter(is_tail, changed))
        mains = changed.keys() - tails
        if not self._send(mains):
            self._behind |= self._rclone.check(str(self._root), self._target.root, mains).different
        self._send({tail for tail in tails if main_of(tail) not in self._behind})

    def _send(self, paths: Collection[str]) -> bool:
        """Copy files; whether nothing failed."""
        # a remote without times and checksums would take equal sizes for equal files
        known = {path for path in paths if path in self._note.files}
        whole = True
        for part, flags in ((known, ["--ignore-times"]), (set(paths) - known, [])):
            try:
                self._rclone.copy(str(self._root), self._target.root, part, *flags)
            except OffsiteError as error:
                self._go_on(error)
                whole = False
        return whole

    def _verify(self, changed: dict[str, FileState]) -> None:
        """Remember what is equal; a file that was replaced here meanwhile is copied again."""
        checked = self._rclone.check(str(self._root), self._target.root, changed)
        if not checked.hashed:
            self._done.compared = "sizes"
        now = local_files(self._root)
        self._done.waiting += [p for p, state in changed.items() if now.get(p) != state]
        for path, state in changed.items():
            if path not in checked.different and now.get(path) == state:
                self._note.files[path] = state
                if one := held(self._root, path):
                    self._note.held[path] = one
                if path.endswith(".parquet") and not is_tail(path):
                    self._note.folded.add(tail_of(path))
                self._done.files += 1
                self._done.bytes += state.size
        wrong = sorted(checked.different.difference(self._done.waiting))
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            names = ", ".join(wrong[:3])
            raise OffsiteError(f"{self._target.shown}: differ after the copy: {names}{more}")

    def _put_away(self, mine: dict[str, FileState]) -> None:
        """Move tails aside that would be read twice: their rows are in the main file, which is at
        the remote now. One that is only missing here, or was damaged here, stays there."""
        tails = {
            tail
            for tail in self._note.folded
            if tail not in mine
            and self._note.files.get(main_of(tail)) == mine.get(main_of(tail), ())
            and not fold_of(self._root, tail).exists()
        }
        there = set(self._sizes(tails))
        odd = {tail for tail in there if main_of(tail) in self._shrunk}
        folded = {tail for tail in there - odd if self._is_folded(tail)}
        for folder, paths in ((FOLDED, folded), (self._aside, odd)):
            self._rclone.move(self._target.root, self._target.below(folder), paths)
            self._done.kept += [f"{folder}/{path}" for path in sorted(paths)]
        for tail in tails - (there - odd - folded):
            self._note.files.pop(tail, None)
            self._note.held.pop(tail, None)
        self._note.folded -= tails | mine.keys()

    def _is_folded(self, tail: str) -> bool:
        """Whether all rows of a tail at the remote are in the main file here."""
        before = self._note.held.get(tail)
        return before is not None and still_holds(self._root, tail, before)
