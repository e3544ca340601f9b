"""One verdict on a whole series, from footers and the ledger."""

from dataclasses import dataclass
from itertools import pairwise

from dccd_core.intervals import clip, subtract, union
from dccd_core.models import SECOND, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a series is.

    `missing` are windows between the oldest and the newest thing that was asked which are still
    to be fetched; `empty` counts candles there that the exchange confirmed not to have; `age` is
    how long ago, in seconds, the newest stored candle closed. `problems` are sentences; none of
    them means that the series can be trusted.
    """

    rows: int
    first: int | None
    last: int | None
    missing: list[Window]
    empty: int
    duplicates: int
    insane: int
    revised: int
    bytes: int
    age: float | None
    problems: list[str]


def judge(store: DataStore, series: Series, now: int) -> Quality:
    """The quality of a series at a moment."""
    try:
        parts = [p for stem in store.existing_periods(series) for p in store.parts(series, stem)]
    except (UnreadableError, SchemaError, OSError) as error:
        return Quality(0, None, None, [], 0, 0, 0, 0, 0, None, [str(error)])
    footers = [part.footer for part in parts]
    covered = union(window for footer in footers for window in footer.windows)
    span = Window(covered[0].start, covered[-1].end) if covered else Window(0, 0)
    missing = subtract([span], covered)
    ends = [(footer.first, footer.last) for footer in footers]
    spans = [Window(a, b + SECOND) for a, b in ends if a is not None and b is not None]
    last = max((window.end - SECOND for window in spans), default=None)
    rows = sum(part.rows for part in parts)
    expected = sum(series.count(window) for window in covered)
    duplicates = sum(series.count(both) for both in _overlaps(spans))
    insane = sum(footer.insane for footer in footers)
    problems = [
        *(f"missing {series.count(window)} candles: {window}" for window in missing[:20]),
        *([f"{len(missing) - 20} more windows are missing"] if len(missing) > 20 else []),
        *([f"{duplicates} duplicated candles"] if duplicates else []),
        *([f"{insane} candles with contradicting prices"] if insane else []),
        *([f"{rows - expected} more rows than the ledger covers"] if rows > expected else []),
    ]
    return Quality(
        rows=rows,
        first=min((window.start for window in spans), default=None),
        last=last,
        missing=missing,
        empty=max(0, expected - rows),
        duplicates=duplicates,
        insane=insane,
        revised=sum(footer.revised for footer in footers),
        bytes=sum(part.bytes for part in parts),
        age=None if last is None else (now - last) / SECOND - series.span,
        problems=problems,
    )


def _overlaps(spans: list[Window]) -> list[Window]:
    """Where the rows of one file lie inside those of another."""
    return [part for before, after in pairwise(sorted(spans)) for part in clip([after], before)]
