"""One verdict on a whole series, from footers and the ledger."""

from dataclasses import dataclass
from itertools import pairwise

from dccd_core.intervals import clip, subtract
from dccd_core.models import SECOND, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.footer import ledger
from dccd_core.store.removed import read_removed
from dccd_core.store.schemas import Loss, SchemaError


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a series is.

    `missing` are windows between the oldest and the newest thing that was asked which are still
    to be fetched, `lost` those that a stream missed; `empty` counts candles there that the
    exchange confirmed not to have; `age` is how long ago, in seconds, the newest stored candle
    closed, or the newest row was. `problems` are sentences; none of them means that the series can
    be trusted.
    """

    rows: int
    first: int | None
    last: int | None
    missing: list[Window]
    lost: list[Loss]
    empty: int
    duplicates: int
    insane: int
    revised: int
    bytes: int
    age: float | None
    problems: list[str]


def judge(store: DataStore, series: Series, now: int, since: int = 0) -> Quality:
    """The quality of a series at a moment; what is missing before `since` nobody wants."""
    try:
        parts = [p for stem in store.existing_periods(series) for p in store.parts(series, stem)]
    except (UnreadableError, SchemaError, OSError) as error:
        return Quality(0, None, None, [], [], 0, 0, 0, 0, 0, None, [str(error)])
    footers = [part.footer for part in parts]
    covered, lost = ledger(footers)
    ends = [*covered, *(Window(start, end) for start, end, _ in lost)]
    asked = Window(min(w.start for w in ends), max(w.end for w in ends)) if ends else Window(0, 0)
    removed = Window(0, read_removed(store.folder(series)))
    missing = subtract(
        [asked],
        [*covered, *(Window(start, end) for start, end, _ in lost), removed, Window(0, since)],
    )
    spans = [
        Window(f.first, f.last + 1) for f in footers if f.first is not None and f.last is not None
    ]
    last = max((window.end - 1 for window in spans), default=None)
    rows = sum(part.rows for part in parts)
    expected = sum(series.count(window) for window in covered) if series.span else rows
    duplicates = sum(series.count(both) for both in _overlaps(spans)) if series.span else 0
    insane = sum(footer.insane for footer in footers)
    problems = [
        *_first(20, [_missing(series, window) for window in missing]),
        *_first(20, [f"lost: {Window(a, b)} ({cause})" for a, b, cause in lost]),
        *([f"{duplicates} duplicated candles"] if duplicates else []),
        *([f"{insane} candles with contradicting prices"] if insane else []),
        *([f"{rows - expected} more rows than the ledger covers"] if rows > expected else []),
    ]
    return Quality(
        rows=rows,
        first=min((window.start for window in spans), default=None),
        last=last,
        missing=missing,
        lost=lost,
        empty=max(0, expected - rows),
        duplicates=duplicates,
        insane=insane,
        revised=sum(footer.revised for footer in footers),
        bytes=sum(part.bytes for part in parts),
        age=None if last is None else (now - last) / SECOND - series.span,
        problems=problems,
    )


def _missing(series: Series, window: Window) -> str:
    candles = f" {series.count(window)} candles" if series.span else ""
    return f"missing{candles}: {window}"


def _first(most: int, lines: list[str]) -> list[str]:
    rest = len(lines) - most
    return [
        *lines[:most],
        *([f"{rest} more windows are {lines[0].split()[0].strip(':')}"] if rest > 0 else []),
    ]


def _overlaps(spans: list[Window]) -> list[Window]:
    """Where the rows of one file lie inside those of another."""
    return [part for before, after in pairwise(sorted(spans)) for part in clip([after], before)]
