"""What of a period can be read here, and whether files of a remote go with it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dccd_core.models import Channel, Window
from dccd_core.offsite_files import is_tail, main_of, whats_wrong
from dccd_core.store import files
from dccd_core.store.footer import ledger, read_footer
from dccd_core.store.period import Part, Period
from dccd_core.store.rows import combine, margin
from dccd_core.store.schemas import table_times


@dataclass(frozen=True, slots=True)
class Standing:
    """The files of a period that are here and can be read, a fold standing for all of them; and
    those that are here and cannot."""

    main: Part | None
    tail: Part | None
    damaged: frozenset[Path] = frozenset()

    @property
    def parts(self) -> list[Part]:
        """What of it can be read, oldest first."""
        return [part for part in (self.main, self.tail) if part]

    def part(self, path: str) -> Part | None:
        """What is here in the place of a file of a remote."""
        return self.tail if is_tail(path) else self.main

    def is_smaller(self, path: str, theirs: Mapping[str, int]) -> bool:
        """Whether a remote may have more, as the sizes of its files tell. Those of tails tell
        nothing beside different main files: a tail becomes small with each fold."""
        part = self.part(path)
        if is_tail(path) and self.main and theirs.get(main_of(path)) != self.main.bytes:
            return False
        return part is not None and theirs[path] > part.bytes


def look(period: Period, *, every_page: bool = False) -> Standing:
    """What is here. A tail that does not continue the main file beside it cannot be read.

    With `every_page` not the footers alone tell what can be.
    """
    try:
        found = {part.path: part for part in period.open()}
    except files.UnreadableError as error:
        found = {}
        for path in {period.main, period.tail} - {error.path}:
            with suppress(files.UnreadableError, FileNotFoundError):
                found[path] = open_part(path)
        damaged = frozenset(period.paths()) - found.keys()
        return Standing(found.get(period.main), found.get(period.tail), damaged)
    if every_page and (bad := frozenset(path for path in found if whats_wrong(path))):
        found = {path: part for path, part in found.items() if path not in bad}
        return Standing(found.get(period.main), found.get(period.tail), bad)
    if fold := found.get(period.fold):
        return Standing(fold, fold if period.tail.exists() else None)
    return Standing(found.get(period.main), found.get(period.tail))


def open_part(path: Path) -> Part:
    """A file by itself; FileNotFoundError, UnreadableError or SchemaError if it is no good one."""
    file = files.open_parquet(path)
    return Part(path, file, read_footer(file.metadata, path), path.stat().st_size)


def continues(channel: Channel, main: Part, tail: Part) -> bool:
    """Whether the two are one period: the tail was begun after this state of the main file."""
    # a fold that brought no later time leaves `last` as it was, and the rows would be there twice
    return main.footer.last == tail.footer.base and _added(channel, main, tail) == tail.rows


def holds(channel: Channel, main: Part, tail: Part) -> bool:
    """Whether the main file has all rows of a tail, and all that the tail's ledger says: it was
    folded. The times in the footers do not tell: a main file may have gone on without its tail."""
    same = ledger([main.footer]) == ledger([main.footer, tail.footer])
    return same and not _added(channel, main, tail)


def has_all(channel: Channel, parts: Sequence[Part], others: Sequence[Part]) -> bool:
    """Whether the files of one state of a period have all rows of another state, just so, and all
    that its ledger says."""
    footers = [part.footer for part in parts]
    if ledger(footers) != ledger([*footers, *(part.footer for part in others)]):
        return False
    mine, theirs = (pa.concat_tables([part.read() for part in one]) for one in (parts, others))
    return not combine(channel, mine, theirs).changed


def _added(channel: Channel, main: Part, tail: Part) -> int:
    """How many rows of a tail the main file lacks."""
    rows = tail.read()
    if not rows.num_rows:
        return 0
    times, reach = table_times(rows), margin(channel)
    window = Window(int(times[0]) - reach, int(times[-1]) + reach + 1)
    return combine(channel, main.read_groups(main.groups(window)), rows).added
