"""Files that are missing here, fetched from a remote, looked at, and put in their places.

What can be read here is never touched. A period is one thing: its main file and its tail.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dccd_core.models import Series
from dccd_core.offsite_files import LISTING, is_data, is_tail, main_of, whats_wrong
from dccd_core.offsite_push import alone
from dccd_core.offsite_rclone import Rclone
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.store.footer import Footer, read_footer
from dccd_core.store.period import Period
from dccd_core.store.removed import read_removed
from dccd_core.store.schemas import SchemaError

HERE = "can be read here"
AWAY = "was removed here by storage.retention: name its --series to have it back"
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
    `failed` those that could not be restored."""

    remote: str
    files: list[RestoredFile] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    set_aside: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    error: str | None = None


class Restore:
    """Brings back what one remote has and this data path has not."""

    def __init__(self, root: Path, rclone: Rclone) -> None:
        self._root, self._rclone, self._store = root, rclone, DataStore(root)
        self._done = Restored(rclone.target.shown)
        self._theirs: dict[str, int] = {}
        self._named = False

    def run(self, series: Collection[Series]) -> Restored:
        """Restore some series, or all; OffsiteError if the remote cannot be read."""
        self._named = bool(series)
        folders = [str(one.path) for one in series]
        everything = self._rclone.everything(folders)
        self._theirs = theirs = {p: n for p, n in everything.items() if is_data(p)}
        wanted = list(self._wanted(theirs))
        for one in series:
            if not any(path.startswith(f"{one.path}/") for path in theirs):
                self._absent(one)
        target = self._rclone.target
        with alone(self._root, target, "restore"), _staging(self._root, target.name) as folder:
            self._fetch([path for _, _, paths in wanted for path in paths], folder)
            for one, stem, paths in wanted:
                self._place(one, stem, self._sound(paths), folder)
        return self._done

    def _absent(self, series: Series) -> None:
        if not self._store.existing_periods(series):
            self._done.failed[str(series)] = f"{self._done.remote} has nothing of it"

    def _wanted(self, theirs: Iterable[str]) -> Iterator[tuple[Series, str, list[str]]]:
        """Each period with the files of it to fetch; the period of a listing's note is empty."""
        periods: dict[tuple[Series, str], list[str]] = defaultdict(list)
        for path in sorted(theirs):
            folder, _, name = path.rpartition("/")
            if series := series_of(folder):
                stem = "" if name == LISTING else name.split(".")[0]
                periods[series, stem].append(path)
        for (series, stem), paths in periods.items():
            if found := self._missing(series, stem, paths):
                yield series, stem, found

    def _missing(self, series: Series, stem: str, paths: list[str]) -> list[str]:
        """Those files of a period that are to be fetched: all, the damaged one, or none."""
        if not stem:
            return [path for path in paths if not (self._root / path).exists()]
        try:
            found = Period(self._store.folder(series), series, stem).open()
        except files.UnreadableError as error:
            bad = str(error.path.relative_to(self._root))
            if bad in paths:
                return [bad]
            self._done.left[bad] = "is damaged here, and the remote does not have it"
            return []
        except SchemaError as error:
            self._done.left[paths[0]] = str(error)
            return []
        until = 0 if self._named else read_removed(self._store.folder(series))
        if not found and series.period_window(stem).end <= until:
            self._done.left.update(dict.fromkeys(paths, AWAY))
            return []
        if found:
            main = found[0]
            theirs = self._theirs.get(str(main.path.relative_to(self._root)), 0)
            why = LARGER if theirs > main.bytes else HERE
            self._done.left.update(dict.fromkeys(paths, why))
            return []
        return paths

    def _fetch(self, paths: list[str], folder: Path) -> None:
        target = self._rclone.target
        self._rclone.copy(target.root, str(folder), paths)
        for path in self._rclone.check(str(folder), target.root, paths).different:
            self._done.failed[path] = "differs from the remote's after it was fetched"
        for path in paths:
            if path in self._done.failed:
                continue
            try:
                why = whats_wrong(folder / path)
            except FileNotFoundError:
                why = "is not at the remote any more"
            if why:
                self._done.failed[path] = f"the remote's {why}"

    def _sound(self, paths: list[str]) -> list[str]:
        """What was fetched well of a period: a tail only with its main file, which another remote
        may have."""
        bad = self._done.failed
        alone = [path for path in paths if is_tail(path) and main_of(path) in bad]
        bad.update(dict.fromkeys(alone, "is of no use without its main file"))
        return [path for path in paths if path not in bad]

    def _place(self, series: Series, stem: str, paths: list[str], folder: Path) -> None:
        """Put the fetched files of a period in their places, if they fit what is there."""
        if not paths:
            return
        with self._store.writing(series):
            try:
                fitting = self._fitting(series, stem, paths, folder) if stem else paths
            except (files.UnreadableError, SchemaError) as error:
                self._done.failed[paths[0]] = f"the remote's cannot be used: {error}"
                return
            for path in fitting:
                self._put(series, path, folder)

    def _fitting(self, series: Series, stem: str, paths: list[str], folder: Path) -> list[str]:
        """The files that make one period together, or with what is here."""
        here = Period(self._store.folder(series), series, stem)
        with suppress(files.UnreadableError):
            if here.open():
                self._done.left.update(dict.fromkeys(paths, "has been collected meanwhile"))
                return []
        fetched = Period(folder / series.path, series, stem)
        main = _footer(fetched.main, here.main)
        tail = _footer(fetched.tail, here.tail)
        if not (main and tail) or main.last == tail.base:
            return sorted(paths, key=is_tail)
        odd = _path(series, fetched.tail)
        if odd in paths and main_of(odd) in paths:  # it was copied before the last fold
            self._done.left[odd] = "does not continue the remote's main file"
            return [path for path in paths if path != odd]
        self._done.failed[paths[0]] = (
            "does not fit the other file of its period here; move that away to restore both"
        )
        return []

    def _put(self, series: Series, path: str, folder: Path) -> None:
        source, target = folder / path, self._root / path
        rows = 0
        if target.name != LISTING:
            rows = int(files.open_parquet(source).metadata.num_rows)
            if target.exists():
                self._done.set_aside.append(files.set_aside(target))
        size = source.stat().st_size
        target.parent.mkdir(parents=True, exist_ok=True)
        _make_durable(source)
        files.move(source, target)
        self._done.files.append(RestoredFile(path, rows, size, str(series)))


def series_of(folder: str) -> Series | None:
    """The series of a folder below the data path, as binance/ohlc/BTC-USDT/1h; None if it is
    none."""
    exchange, _, rest = folder.partition("/")
    channel, _, market = rest.partition("/")
    slug, _, span = market.partition("/")
    with suppress(ValueError):
        series = Series.parse("/".join(part for part in (exchange, channel, span, slug) if part))
        return series if str(series.path) == folder else None
    return None


def _path(series: Series, file: Path) -> str:
    return f"{series.path}/{file.name}"


def _footer(fetched: Path, here: Path) -> Footer | None:
    """The footer of a file as it will be: the fetched one, else the one that is here."""
    for path in (fetched, here):
        with suppress(FileNotFoundError):
            return read_footer(files.open_parquet(path).metadata, path)
    return None


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


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
