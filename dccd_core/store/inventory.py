"""What is stored, from footers alone."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from dccd_core.intervals import subtract
from dccd_core.models import Series, Window, moment, span_label
from dccd_core.store.files import DEEPEST, UnreadableError, entries, is_dead_link
from dccd_core.store.footer import ledger
from dccd_core.store.gaps import GapKind, find_losses, reach, with_removed
from dccd_core.store.index import Index, Known, State
from dccd_core.store.period import Period
from dccd_core.store.removed import read_removed
from dccd_core.store.schemas import CANDLES, Loss, SchemaError

FRAME = pl.Schema(
    [
        *((name, pl.String()) for name in ("exchange", "pair", "type", "span")),
        *((name, pl.Datetime("us", "UTC")) for name in ("from", "to")),
        *((name, pl.Int64()) for name in ("rows", "gaps", "missing", "revised", "bytes")),
        ("error", pl.String()),
    ]
)


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """One series, or one unreadable file of it (`error` says what is wrong).

    `gaps` are candles absent between the first and the last row, and in what is owed; `missing` of
    them are still to be fetched, the exchange has none of the others. Of trades and books both
    count windows that are not covered; those that a stream lost are no longer `missing`. None: it
    was never asked for, and nobody knows when it begins. `bytes` is the size on disk, `lost` what
    streams missed and nobody has fetched.
    """

    series: Series
    first: int | None
    last: int | None
    rows: int
    gaps: int | None
    missing: int | None
    revised: int
    insane: int
    bytes: int
    error: str | None = None
    lost: tuple[Loss, ...] = ()

    def row(self) -> dict[str, object]:
        """The columns that a user sees."""
        return {
            "exchange": self.series.exchange,
            "pair": str(self.series.symbol),
            "type": str(self.series.channel),
            "span": span_label(self.series.span) if self.series.span else None,
            "from": None if self.first is None else moment(self.first),
            "to": None if self.last is None else moment(self.last),
            "rows": self.rows,
            "gaps": self.gaps,
            "missing": self.missing,
            "revised": self.revised,
            "bytes": self.bytes,
            "error": self.error,
        }


def read_inventory(root: Path, index: Path, owed: Mapping[Series, Window]) -> list[InventoryRow]:
    """All series below a data path, and those that owe something, sorted; `index` is where to
    remember footers."""
    stored = dict(_series(root))
    found = {one: stored.get(one, {}) for one in sorted({*stored, *owed}, key=_order)}
    known = Index(index)
    rows = [row for one, stems in found.items() for row in _rows(root, known, one, stems, owed)]
    if stored:
        known.save()
    return rows


def _order(series: Series) -> tuple[str, str, str, int]:
    return (series.exchange, str(series.channel), series.symbol.slug, series.span)


def _series(root: Path) -> Iterator[tuple[Series, dict[str, State]]]:
    """Every folder of a series, as `exchange/trades/PAIR`, and the state of its files by stem."""
    stems: dict[str, dict[str, State]] = defaultdict(lambda: defaultdict(tuple))
    base = len(str(root)) + 1
    pending = [str(root)]
    while pending:
        for entry in entries(str(root), pending.pop()):
            name, dead = entry.name, is_dead_link(entry)
            if name.endswith((".parquet", ".fold")):
                folder = entry.path[base : -len(name) - 1]
                stat = entry.stat(follow_symlinks=not dead)
                state = (name, stat.st_ino, stat.st_mtime_ns, stat.st_size)
                stems[folder][name.lstrip(".").split(".")[0]] += (state,)
            elif not dead and not name.startswith(".") and entry.is_dir():
                pending += [entry.path] if entry.path[base:].count("/") < DEEPEST else []
    for folder, found in stems.items():
        if series := series_of(folder):
            yield series, dict(sorted(found.items()))


def series_of(folder: str) -> Series | None:
    """The series of a folder below the data path, as binance/ohlc/BTC-USDT/1h; None if it is
    none."""
    exchange, _, rest = folder.partition("/")
    channel, _, market = rest.partition("/")
    slug, _, span = market.partition("/")
    key = [exchange, channel, *([span] if span else []), slug]
    try:
        series = Series.parse("/".join(key))
    except ValueError:
        return None
    ours = str(series.path) == folder and bool(series.span) == (series.channel in CANDLES)
    return series if ours else None


def _rows(
    root: Path,
    index: Index,
    series: Series,
    stems: dict[str, State],
    owed: Mapping[Series, Window],
) -> Iterator[InventoryRow]:
    parts, key = list[Known](), str(series)
    for stem, state in stems.items():
        try:
            if not series.is_period(stem):
                raise SchemaError(
                    "no file of ours has this name: who reads the folder reads it too"
                )
            read = partial(_read, root, series, stem)
            parts += index.parts(f"{key}/{stem}", tuple(sorted(state)), read)
        except (UnreadableError, SchemaError, OSError) as error:
            size = sum(size for *_, size in state)
            yield InventoryRow(series, None, None, 0, 0, 0, 0, 0, size, f"{stem}: {error}")
    footers = [part.footer for part in parts]
    first = min((f.first for f in footers if f.first is not None), default=None)
    last = max((f.last for f in footers if f.last is not None), default=None)
    rows = sum(part.rows for part in parts)
    ends = None if first is None or last is None else (first, last)
    covered, lost = ledger(footers)
    between = reach(series, ends, covered, lost, owed.get(series)) or Window(0, 0)
    gaps, missing = None, None
    if stems or between.start < between.end:
        removed = read_removed(root / series.path)
        gaps, missing = _holes(series, covered, lost, between, rows, removed)
    yield InventoryRow(
        series,
        first,
        last,
        rows,
        gaps,
        missing,
        revised=sum(f.revised for f in footers),
        insane=sum(f.insane for f in footers),
        bytes=sum(part.bytes for part in parts),
        lost=tuple(lost),
    )


def _read(root: Path, series: Series, stem: str) -> tuple[Known, ...]:
    parts = Period(root / series.path, series, stem).open()
    return tuple(Known(part.rows, part.bytes, part.footer) for part in parts)


def _holes(
    series: Series,
    covered: list[Window],
    lost: list[Loss],
    between: Window,
    rows: int,
    removed: int,
) -> tuple[int, int]:
    """How many gaps there are in a window that holds all rows, and how many to be fetched."""
    if series.span:
        missing = sum(
            series.count(hole) for hole in subtract([between], [*covered, Window(0, removed)])
        )
        return series.count(between) - rows, missing
    gaps = with_removed(series, find_losses(between, covered, lost, None), removed)
    return len(gaps), sum(gap.kind is GapKind.MISSING for gap in gaps)


def inventory_frame(rows: list[InventoryRow]) -> pl.DataFrame:
    """The inventory as a frame; times are UTC."""
    return pl.DataFrame([row.row() for row in rows], schema=FRAME)
