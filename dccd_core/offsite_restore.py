"""Files that are missing here, fetched from a remote, looked at, and put in their places.

What can be read here is never touched. A period is one thing: its main file and its tail.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dccd_core.models import Series, Window, moment
from dccd_core.offsite_files import (
    LISTING,
    is_data,
    is_tail,
    main_of,
    period_of,
    portions,
    was_removed,
    whats_wrong,
)
from dccd_core.offsite_fit import continues, holds, look, open_part
from dccd_core.offsite_guard import alone
from dccd_core.offsite_rclone import OffsiteError, Rclone
from dccd_core.offsite_restored import AWAY, FOLDED, FOREIGN, HERE, LARGER, Restored, RestoredFile
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.store.period import Period
from dccd_core.store.removed import read_removed
from dccd_core.store.schemas import SchemaError

# What arrived is placed before more is fetched: a connection that breaks costs a portion, not all.
_PORTION = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A period and the files of it to fetch; the period of a listing's note is empty."""

    series: Series
    stem: str
    paths: list[str]


class Restore:
    """Brings back what one remote has and this data path has not."""

    def __init__(self, root: Path, rclone: Rclone) -> None:
        self._root, self._rclone, self._store = root, rclone, DataStore(root)
        self._done = Restored(rclone.target.shown)
        self._theirs: dict[str, int] = {}
        self._named = False

    def run(self, series: Collection[Series]) -> Restored:
        """Restore some series, or all; OffsiteError if the remote cannot be listed. What fails
        later is in the result's `error`, beside what came back."""
        self._named = bool(series)
        everything = self._rclone.everything([str(one.path) for one in series])
        if not everything:
            self._rclone.demand_folder()
        self._theirs = {p: n for p, n in everything.items() if period_of(p)}
        strays = (p for p in everything if is_data(p) and p not in self._theirs)
        self._done.left.update(dict.fromkeys(strays, FOREIGN))
        for one in series:
            if why := self._absent(one):
                self._done.absent[str(one)] = why
        name = self._rclone.target.name
        with alone(self._root, self._rclone, "restore"), _staging(self._root, name) as folder:
            self._bring(list(self._wanted()), folder)
        return self._done

    def _absent(self, series: Series) -> str | None:
        """What neither the remote nor this data path has of a named series.

        Of what storage.retention removed only the end is noted: what was before the oldest period
        that is left anywhere is not known.
        """
        there = [path for path in self._theirs if path.startswith(f"{series.path}/")]
        stems = {Path(path).name.split(".")[0] for path in there}
        known = {*filter(series.is_period, stems), *self._store.existing_periods(series)}
        if not (there or known):
            return f"{self._done.remote} has nothing of it"
        until = read_removed(self._store.folder(series))
        if not until:
            return None
        oldest = min(known | {series.period(until - 1)})
        window = Window(series.period_window(oldest).start, until)
        lacking = [stem for stem, _ in series.periods(window) if stem not in known]
        if not lacking:
            return None
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        return (
            f"{self._done.remote} has nothing of {', '.join(lacking[:3])}{more}, nor is it here: "
            f"storage.retention removed what was before {moment(until):%Y-%m-%d}"
        )

    def _wanted(self) -> Iterator[_Wanted]:
        periods: dict[tuple[Series, str], list[str]] = defaultdict(list)
        for path in sorted(self._theirs):
            if found := period_of(path):
                periods[found].append(path)
        for (series, stem), paths in periods.items():
            if missing := self._missing(series, stem, paths):
                yield _Wanted(series, stem, missing)

    def _missing(self, series: Series, stem: str, paths: list[str]) -> list[str]:
        """Those files of a period that are not here, or cannot be read here."""
        if not stem:
            return [path for path in paths if not (self._root / path).exists()]
        left = self._done.left
        try:
            period = Period(self._store.folder(series), series, stem)
            here = look(period, every_page=self._named)
        except SchemaError as error:
            left[paths[0]] = str(error)
            return []
        except OSError as error:
            self._done.failed[paths[0]] = f"cannot be compared with what is here: {error.strerror}"
            return []
        damaged = {str(path.relative_to(self._root)) for path in here.damaged}
        for path in damaged.difference(paths):
            left[path] = "is damaged here, and the remote does not have it"
        for path in paths:
            if here.part(path):
                left[path] = LARGER if here.is_smaller(path, self._theirs) else HERE
            elif not self._named and was_removed(self._root, path):
                left[path] = AWAY
        return [path for path in paths if path not in left]

    def _bring(self, wanted: list[_Wanted], folder: Path) -> None:
        """Fetch and place portion by portion, as long as the remote can be asked."""
        parts = list(portions(wanted, self._size, _PORTION))
        for number, periods in enumerate(parts):
            try:
                self._fetch(_paths(periods), folder)
            except OffsiteError as error:
                self._fail(error)
                rest = [path for later in parts[number:] for path in _paths(later)]
                self._done.failed.update(dict.fromkeys(rest, "was not fetched"))
                return
            for one in periods:
                try:
                    self._place(one, self._sound(one.paths), folder)
                except OSError as error:  # a link to a disk that is full, or not there
                    back = {file.path for file in self._done.files}
                    why = f"could not be put in its place: {error.strerror}"
                    lost = [
                        path for path in one.paths if path not in back | self._done.failed.keys()
                    ]
                    self._done.failed.update(dict.fromkeys(lost, why))

    def _size(self, period: _Wanted) -> int:
        return sum(self._theirs[path] for path in period.paths)

    def _fetch(self, paths: list[str], folder: Path) -> None:
        """Fetch files and look at them; OffsiteError if what arrived cannot be compared."""
        target, lost = self._rclone.target, "is not at the remote any more"
        try:
            self._rclone.copy(target.root, str(folder), paths)
        except OffsiteError as error:  # of one file, perhaps: the others may be there
            self._fail(error)
            self._rclone.demand_folder()
            lost = "was not fetched"
        arrived = {path for path in paths if (folder / path).exists()}
        different = self._rclone.check(str(folder), target.root, arrived).different
        for path in paths:
            if path not in arrived:
                self._done.failed[path] = lost
            elif path in different:
                self._done.failed[path] = "differs from the remote's after it was fetched"
            elif why := whats_wrong(folder / path):
                self._done.failed[path] = f"the remote's {why}"

    def _fail(self, error: OffsiteError) -> None:
        """Tell of the first error: later ones come of it."""
        self._done.error = self._done.error or str(error)

    def _sound(self, paths: list[str]) -> list[str]:
        """What was fetched well of a period: a tail only with its main file, which another remote
        may have."""
        bad = self._done.failed
        alone = [path for path in paths if is_tail(path) and main_of(path) in bad]
        bad.update(dict.fromkeys(alone, "is of no use without its main file"))
        return [path for path in paths if path not in bad]

    def _place(self, period: _Wanted, paths: list[str], folder: Path) -> None:
        """Put the fetched files of a period in their places, if they fit what is there."""
        if not paths:
            return
        with self._store.writing(period.series):
            try:
                fitting = self._fitting(period, paths, folder) if period.stem else paths
            except SchemaError as error:
                self._done.failed[paths[0]] = f"the remote's cannot be used: {error}"
                return
            except files.UnreadableError as error:  # of the remote's every page was read
                self._done.failed[paths[0]] = f"cannot be compared with what is here: {error}"
                return
            for path in fitting:
                self._put(period.series, path, folder)

    def _fitting(self, period: _Wanted, paths: list[str], folder: Path) -> list[str]:
        """The files that make one period together, or with what is here."""
        series = period.series
        found = Period(self._store.folder(series), series, period.stem)
        here = look(found, every_page=self._named)
        late = [path for path in paths if here.part(path)]
        self._done.left.update(dict.fromkeys(late, "has been collected meanwhile"))
        fetched = [path for path in sorted(paths, key=is_tail) if path not in late]
        parts = {is_tail(path): open_part(folder / path) for path in fetched}
        main, tail = parts.get(False, here.main), parts.get(True, here.tail)
        if not (parts and main and tail) or continues(series.channel, main, tail):
            return fetched
        odd, failed = fetched[-1], self._done.failed
        if not is_tail(odd):
            failed[odd] = "does not fit the tail of its period here; move that away to restore both"
        elif not holds(series.channel, main, tail):
            failed[odd] = "has rows that are missing here, but does not continue the main file"
        elif (self._root / odd).exists():
            failed[odd] = "has only what the main file has, and the one here cannot be read"
        else:
            self._done.left[odd] = FOLDED
        return fetched[:-1]

    def _put(self, series: Series, path: str, folder: Path) -> None:
        source, target = folder / path, self._root / path
        rows, aside = 0, False
        if target.name != LISTING:
            rows = int(files.open_parquet(source).metadata.num_rows)
            aside = target.exists()
        size = source.stat().st_size
        target.parent.mkdir(parents=True, exist_ok=True)
        with _on_one_disk(source, target) as source:
            if aside:
                self._done.set_aside.append(files.set_aside(target))
            files.move(source, target)
        self._done.files.append(RestoredFile(path, rows, size, str(series)))


def _paths(periods: Iterable[_Wanted]) -> list[str]:
    return [path for one in periods for path in one.paths]


@contextmanager
def _staging(root: Path, name: str) -> Iterator[Path]:
    """A folder on the same disk; what a killed restore left in it is thrown away."""
    folder = root / ".dccd" / "offsite" / f"restore-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _on_one_disk(source: Path, target: Path) -> Iterator[Path]:
    """A file where it can take its place in one step, durable; no copy of it stays if it cannot."""
    if source.stat().st_dev == target.parent.stat().st_dev:
        _make_durable(source)
        yield source
        return
    beside = target.with_name(f".{target.name}.tmp")  # the folder is a link
    try:
        shutil.copyfile(source, beside)
        _make_durable(beside)
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
