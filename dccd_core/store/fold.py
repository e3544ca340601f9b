"""The fold: what the journal has goes into the daily files, then its segments are removed.

Rows that are in the files already stay as they are, so a fold that was killed anywhere is simply
done again. What one series cannot store stays in the journal, and the others go on.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from dccd_core.intervals import clip, union
from dccd_core.models import Series, Window
from dccd_core.store import files, frames
from dccd_core.store.datastore import DataStore
from dccd_core.store.footer import clip_losses
from dccd_core.store.gather import Gathered, Gathering, by_period
from dccd_core.store.journal import Damage, closed_segments, journals, recover
from dccd_core.store.period import Merged
from dccd_core.store.schemas import Loss

# so much of the journal is in memory at once
_BATCH_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """A day of a series into which something was folded, and what became of it."""

    series: Series
    period: str
    merged: Merged


@dataclass(frozen=True, slots=True)
class Failed:
    """A series that could not be stored, and why; its rows are still in the journal."""

    series: Series
    error: Exception


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold did."""

    stored: list[Stored] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """What is to be merged into one day."""

    rows: pa.Table
    covered: list[Window]
    lost: list[Loss]


def fold(store: DataStore, *, closed_only: bool = True) -> Folded:
    """Merge the closed segments into the daily files and remove them.

    Without `closed_only` the segment of a dead writer too; files.BusyError if the writer lives.
    What dead services left that had a part of the work is folded as well.
    OSError if not even the journal can be written: then all that was not stored is still there.
    """
    folded = Folded()
    if not closed_only:
        recover(store.journal)
    for folder in journals(store.journal):
        if folder != store.journal:
            with suppress(files.BusyError):  # a service that has its own part writes here
                recover(folder)
        with files.lock(folder / "fold.lock"):
            files.clean(folder)
            for batch in _batches(closed_segments(folder)):
                _fold(store, batch, folded)
    return folded


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    batch, size = list[Path](), 0
    for path in paths:
        size += path.stat().st_size
        if batch and size > _BATCH_BYTES:
            yield batch
            batch, size = [], path.stat().st_size
        batch.append(path)
    if batch:
        yield batch


def _fold(store: DataStore, batch: list[Path], folded: Folded) -> None:
    gathering = Gathering()
    for path in batch:
        gathering.read(path, path.read_bytes())
    failed = set()
    for key, gathered in sorted(gathering.known.items()):
        try:
            folded.stored.extend(_store(store, gathered))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
            failed.add(key)
            folded.failed.append(Failed(gathered.series, error))
    folded.damage.extend(gathering.damage)
    if failed and (gathering.damage or len(failed) == len(gathering.known)):
        return  # a copy without the damage would not tell what is doubtful
    if failed:
        # the newest segment becomes what is left, until then the others still have it: they are cut
        # first, oldest first, so that no older version of a row comes last after a kill
        left = [_left(path.read_bytes(), failed) for path in batch]
        for path, part in zip(batch[:-1], left, strict=False):
            files.write_bytes(path, part)
        files.write_bytes(batch.pop(), b"".join(left))
    for path in batch:
        files.remove(path)


def _left(content: bytes, keys: set[bytes]) -> bytes:
    whole = (found for found in frames.scan(content) if isinstance(found, frames.Frame))
    return b"".join(content[found.start : found.end] for found in whole if found.key in keys)


def _store(store: DataStore, gathered: Gathered) -> Iterator[Stored]:
    series = gathered.series
    for period, piece in sorted(_pieces(gathered).items()):
        merged = store.merge(series, period, piece.rows, piece.covered, "stream", piece.lost)
        yield Stored(series, period, merged)


def _pieces(gathered: Gathered) -> dict[str, _Piece]:
    """By day: rows, what is covered and what is lost."""
    series, table = gathered.series, gathered.unsorted()
    tables = by_period(series, table)
    periods = {period: _Piece(rows, [], []) for period, rows in tables.items()}
    covered = union(gathered.covered)
    windows = [*covered, *(Window(start, end) for start, end, _ in gathered.lost)]
    for period in {period for window in windows for period, _ in series.periods(window)}:
        piece = periods.get(period, _Piece(table.slice(0, 0), [], []))
        bounds = series.period_window(period)
        lost = clip_losses(gathered.lost, bounds)
        periods[period] = _Piece(piece.rows, clip(covered, bounds), lost)
    return periods
