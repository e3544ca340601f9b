"""Files that are missing here, fetched from a remote, looked at, and put in their places.

What can be read here is never touched. A period is one thing: its main file and its tail.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
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
    tail_of,
    was_removed,
    whats_wrong,
)
from dccd_core.offsite_fit import Standing, continues, has_all, holds, look, open_part
from dccd_core.offsite_guard import alone
from dccd_core.offsite_rclone import OffsiteError, Rclone
from dccd_core.offsite_restored import (
    APART,
    AWAY,
    FOLDED,
    FOREIGN,
    HERE,
    LARGER,
    MEANWHILE,
    OTHER,
    Restored,
    RestoredFile,
)
from dccd_core.offsite_staging import on_one_disk, staging
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
    """Brings back what one remote has and this data path has not. Of periods that an earlier remote
    `brought` the better ones are taken."""

    def __init__(self, root: Path, rclone: Rclone, brought: Collection[str] = ()) -> None:
        self._root, self._rclone, self._store = root, rclone, DataStore(root)
        self._brought, self._different = brought, set[str]()
        self._again: set[tuple[Series, str]] = set()
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
        with alone(self._root, self._rclone, "restore"), staging(self._root, name) as folder:
            both = {p for p in self._brought if p in self._theirs and not p.endswith(LISTING)}
            found = self._rclone.check(str(self._root), self._rclone.target.root, both)
            self._different = found.different
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
        if not self._different.isdisjoint(paths) and self._is_brought(here):
            self._again.add((series, stem))
            return paths
        self._tell(paths, here)
        known = left.keys() | self._done.failed.keys()
        return [path for path in paths if path not in known]

    def _tell(self, paths: list[str], here: Standing) -> None:
        """Say which files of a period are not to be fetched, and why."""
        left = self._done.left
        damaged = {str(path.relative_to(self._root)) for path in here.damaged}
        for path in damaged.difference(paths):
            left[path] = "is damaged here, and the remote does not have it"
        for path in paths:
            if here.part(path):
                smaller = here.is_smaller(path, self._theirs)
                told = self._done.failed if smaller and path in self._brought else left
                told[path] = LARGER if smaller else HERE
            elif not self._named and was_removed(self._root, path):
                left[path] = AWAY

    def _is_brought(self, here: Standing) -> bool:
        """Whether all that is here of a period is what an earlier remote brought."""
        mine = {part.path.relative_to(self._root).as_posix() for part in here.parts}
        return not here.damaged and mine.issubset(self._brought)

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
                again = (period.series, period.stem) in self._again
                choose = self._better if again else self._fitting
                fitting = choose(period, paths, folder) if period.stem else paths
            except SchemaError as error:
                self._done.failed[paths[0]] = f"the remote's cannot be used: {error}"
                return
            except files.UnreadableError as error:  # of the remote's every page was read
                self._done.failed[paths[0]] = f"cannot be compared with what is here: {error}"
                return
            for path in fitting:
                self._put(period.series, path, folder, again=again)

    def _fitting(self, period: _Wanted, paths: list[str], folder: Path) -> list[str]:
        """The files that make one period together, or with what is here."""
        series = period.series
        found = Period(self._store.folder(series), series, period.stem)
        here = look(found, every_page=self._named)
        late = [path for path in paths if here.part(path)]
        self._done.left.update(dict.fromkeys(late, MEANWHILE))
        fetched = [path for path in sorted(paths, key=is_tail) if path not in late]
        parts = {is_tail(path): open_part(folder / path) for path in fetched}
        main, tail = parts.get(False, here.main), parts.get(True, here.tail)
        if not (parts and main and tail) or continues(series.channel, main, tail):
            return fetched
        odd, failed = fetched[-1], self._done.failed
        if not is_tail(odd):
            failed[odd] = "does not fit the tail of its period here; move that away to restore both"
        elif not holds(series.channel, main, tail):
            failed[odd] = APART
        elif (self._root / odd).exists():
            failed[odd] = "has only what the main file has, and the one here cannot be read"
        else:
            self._done.left[odd] = FOLDED
        return fetched[:-1]

    def _better(self, period: _Wanted, paths: list[str], folder: Path) -> list[str]:
        """The files of a period that have all that an earlier remote brought, and more."""
        series, channel = period.series, period.series.channel
        here = look(Period(self._store.folder(series), series, period.stem))
        fetched = sorted(paths, key=is_tail)
        theirs = [open_part(folder / path) for path in fetched]
        if len(theirs) == 2 and not continues(channel, *theirs):
            if not holds(channel, *theirs):
                self._done.failed[fetched[1]] = APART
            del fetched[1], theirs[1]
        if not self._is_brought(here):
            self._done.left.update(dict.fromkeys(fetched, MEANWHILE))
        elif has_all(channel, here.parts, theirs):
            self._done.left.update(dict.fromkeys(fetched, HERE))
        elif is_tail(fetched[0]) or not has_all(channel, theirs, here.parts):
            self._done.failed.update(dict.fromkeys(fetched, OTHER))
        else:
            return fetched
        return []

    def _put(self, series: Series, path: str, folder: Path, *, again: bool) -> None:
        source, target = folder / path, self._root / path
        rows, aside = 0, False
        if target.name != LISTING:
            rows = int(files.open_parquet(source).metadata.num_rows)
            aside = target.exists() and not again
        size = source.stat().st_size
        target.parent.mkdir(parents=True, exist_ok=True)
        with on_one_disk(source, target) as source:
            if again and not is_tail(path):
                files.remove(self._root / tail_of(path))  # it continues what is replaced now
            if aside:
                self._done.set_aside.append(files.set_aside(target))
            files.move(source, target)
        self._done.files.append(RestoredFile(path, rows, size, str(series)))


def _paths(periods: Iterable[_Wanted]) -> list[str]:
    return [path for one in periods for path in one.paths]
