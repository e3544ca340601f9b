"""Files that are old enough, and the same at every remote, are removed here."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from dccd_core.config import Config
from dccd_core.lineage import source_of
from dccd_core.models import DAY, SECOND, Series, Window, iso
from dccd_core.offsite import RemoteStorage
from dccd_core.offsite_files import FileState, file_state, fold_of, is_tail
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.store.removed import write_removed
from dccd_core.store.schemas import SchemaError

STAYS = 7 * DAY
"""Seconds for which a file stays after it changed here last: also one that was restored."""


@dataclass(slots=True)
class Cleared:
    """What was removed here. `kept` are series and periods that are old enough and stay, with the
    reason: the later periods of such a series stay too."""

    files: list[str] = field(default_factory=list)
    bytes: int = 0
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Old:
    """A period that may go, and its files as they were when they were looked at."""

    series: Series
    period: str
    files: dict[str, FileState]

    def __str__(self) -> str:
        return f"{self.series} {self.period}"


class Retention:
    """Removes what `storage.retention` allows to, the oldest periods of a series first.

    The newest period of a series always stays. What was removed is noted beside the series, so that
    it is not fetched again.
    """

    def __init__(self, config: Config, storage: RemoteStorage) -> None:
        self._config, self._storage = config, storage
        self._root = config.settings.data_path.resolve()
        self._store = DataStore(self._root)
        self._done = Cleared()

    def run(self) -> Cleared:
        """Compare the old files with every remote's, by content, and remove those that are equal.

        OffsiteError if a remote cannot be asked: then nothing is removed.
        """
        old = list(self._old(time.time()))
        if not old:
            return self._done
        differing = self._storage.differing(self._root, [path for one in old for path in one.files])
        by_series: dict[Series, list[_Old]] = defaultdict(list)
        for one in old:
            by_series[one.series].append(one)
        for periods in by_series.values():
            for one in periods:
                if not self._remove(one, differing):
                    break
        return self._done

    def _old(self, now: float) -> Iterator[_Old]:
        used = {source_of(series) for series in self._config.jobs}
        for series in sorted({row.series for row in self._store.inventory_rows()}):
            days = self._config.storage.retention.days(series.channel)
            if days is None:
                continue
            if series in used:
                self._done.kept[str(series)] = "other candles are built from it"
                continue
            end = int((now - days * DAY) * SECOND)
            try:
                hole = self._first_hole(series, end)
            except (SchemaError, OSError) as error:
                self._done.kept[str(series)] = str(error)
                continue
            for period in self._store.existing_periods(series)[:-1]:
                if series.period_window(period).end > end:
                    break
                one = _Old(series, period, self._files(series, period))
                if why := self._why_it_stays(one, now, hole):
                    self._done.kept[str(one)] = why
                    break
                yield one

    def _first_hole(self, series: Series, end: int) -> Window | None:
        """The first that a job lacks, also where there is no file: what is before the newest period
        that was removed is fetched no more, and counts as kept elsewhere."""
        if series not in self._config.jobs:
            return None
        window = Window(self._config.start_of(series) or 0, end)
        if window.start >= end:
            return None
        return next(iter(self._store.missing_windows(series, series.grid(window))), None)

    def _files(self, series: Series, period: str) -> dict[str, FileState]:
        names = (f"{series.path}/{period}{end}" for end in (".tail.parquet", ".parquet"))
        return {name: state for name in names if (state := file_state(self._root / name))}

    def _why_it_stays(self, one: _Old, now: float, hole: Window | None) -> str | None:
        paths = [self._root / path for path in one.files]
        if fold_of(self._root, f"{one.series.path}/{one.period}.tail.parquet").exists():
            return "is being folded"
        if not one.files:
            return "has no file of its own name here, only another one: move that away"
        if any(now - path.stat().st_ctime < STAYS for path in paths):
            return f"changed here less than {STAYS // DAY} days ago"
        window = one.series.period_window(one.period)
        if hole is None or hole.start >= window.end:
            return None
        if hole.start >= window.start:
            return "is not complete: dccd backfill"
        return f"{iso(hole.start)} is still missing: dccd backfill, or a later start"

    def _remove(self, one: _Old, differing: dict[str, str]) -> bool:
        """Whether a period is removed. A kill in between leaves whole files, which go next time."""
        if bad := [f"{path}: {differing[path]}" for path in one.files if path in differing]:
            self._done.kept[str(one)] = "; ".join(bad)
            return False
        with self._store.writing(one.series):
            if self._files(one.series, one.period) != one.files:
                self._done.kept[str(one)] = "changed meanwhile"
                return False
            # first the note: a file that is gone without it would be fetched again
            until = one.series.period_window(one.period).end
            write_removed(self._store.folder(one.series), until)
            # a tail alone would be taken for the whole period
            for path in sorted(one.files, key=is_tail, reverse=True):
                files.remove(self._root / path)
                self._done.files.append(path)
                self._done.bytes += one.files[path].size
        return True
