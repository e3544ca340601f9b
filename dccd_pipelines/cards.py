"""What Dagster's pages show of a stored year and of a whole series."""

import base64
from collections.abc import Mapping

import dagster as dg
import polars as pl

from dccd_core.history import Outcome
from dccd_core.intervals import clip, union
from dccd_core.models import Channel, Series, Window, moment
from dccd_core.plan import Cell
from dccd_core.store.datastore import DataStore
from dccd_core.store.gaps import GapKind
from dccd_core.store.quality import Quality

Metadata = Mapping[str, dg.MetadataValue]

LISTED = (GapKind.MISSING, GapKind.CONFIRMED_EMPTY)
_SHOWN = {
    Channel.OHLC: ("open", "high", "low", "close", "volume"),
    Channel.TRADES: ("trade_id", "price", "amount", "side"),
}
_TIMES = {Channel.OHLC: "%Y-%m-%d %H:%M", Channel.TRADES: "%Y-%m-%d %H:%M:%S%.6f"}
PREVIEW = 5

# A year is read for its chart and its list of gaps only when this many rows came at once: a
# single new candle must cost the same however long the year is.
BULK = 100


def materialization_metadata(store: DataStore, outcome: Outcome, *, last: bool) -> Metadata:
    """Figures of one stored year or day; the newest one has a look at its newest rows.

    Previews cost kilobytes in Dagster's database, so older ones have none: `last` says that the
    run has no later one, since in a backfill each is the newest when it is stored.
    """
    cell, series = outcome.cell, outcome.cell.series
    parts = store.parts(series, cell.period)
    rows = sum(part.rows for part in parts)
    covered = union(window for part in parts for window in part.footer.windows)
    found: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(rows),
        "rows_added": dg.MetadataValue.int(outcome.added),
        "rows_revised": dg.MetadataValue.int(outcome.revised),
        "gaps": dg.MetadataValue.int(_gaps(cell, covered, rows)),
        "requests": dg.MetadataValue.int(outcome.requests),
        "seconds": dg.MetadataValue.float(round(outcome.seconds, 3)),
        "bytes": dg.MetadataValue.int(sum(part.bytes for part in parts)),
    }
    if rows:
        times = [t for p in parts for t in (p.footer.first, p.footer.last) if t is not None]
        found["first"] = dg.MetadataValue.timestamp(moment(min(times)))
        found["last"] = dg.MetadataValue.timestamp(moment(max(times)))
        found["path"] = dg.MetadataValue.path(str(parts[0].path.absolute()))
        newest = last and store.existing_periods(series)[-1] == cell.period
        if newest:
            found["preview"] = dg.MetadataValue.md(_markdown(series, _newest(store, cell)))
        if outcome.added >= BULK and series.span:
            found |= _chart_of_year(store, cell) if newest else {}
            found |= _gap_list(store, cell)
    if outcome.note:
        found["note"] = dg.MetadataValue.text(outcome.note)
    if outcome.merged and outcome.merged.set_aside:
        aside = "\n".join(map(str, outcome.merged.set_aside))
        found["set_aside"] = dg.MetadataValue.text(f"unreadable, fetched again: {aside}")
    return found


def _gaps(cell: Cell, covered: list[Window], rows: int) -> int:
    """The candles that are absent in what was asked; of trades the stretches not asked about."""
    if cell.series.span:
        return sum(map(cell.series.count, covered)) - rows
    inside = clip(covered, cell.window)
    return max(0, len(inside) - 1) if inside else 0


def _newest(store: DataStore, cell: Cell) -> pl.DataFrame:
    """The last rows of a period, from the last row group of each of its files."""
    parts = [part for part in store.parts(cell.series, cell.period) if part.rows]
    ends = [part.read_groups([part.file.num_row_groups - 1]) for part in parts]
    return pl.concat([pl.DataFrame(pl.from_arrow(end)).tail(PREVIEW) for end in ends]).tail(PREVIEW)


def _chart_of_year(store: DataStore, cell: Cell) -> Metadata:
    window = cell.series.period_window(cell.period)
    closes = store.scan(cell.series, *window).select("time", "close").collect()
    return {"chart": dg.MetadataValue.md(_chart(closes))}


def _gap_list(store: DataStore, cell: Cell) -> Metadata:
    gaps = [gap for gap in store.gaps(cell.series, *cell.window) if gap.kind in LISTED]
    shown = [str(gap) for gap in gaps[:50]] + [f"… {len(gaps) - 50} more"] * (len(gaps) > 50)
    return {"gap_list": dg.MetadataValue.text("\n".join(shown))} if gaps else {}


def quality_metadata(quality: Quality) -> Metadata:
    """Figures of a whole series for its check."""
    found: dict[str, dg.MetadataValue] = {
        "rows": dg.MetadataValue.int(quality.rows),
        "missing_windows": dg.MetadataValue.int(len(quality.missing)),
        "lost_windows": dg.MetadataValue.int(len(quality.lost)),
        "confirmed_empty_candles": dg.MetadataValue.int(quality.empty),
        "duplicates": dg.MetadataValue.int(quality.duplicates),
        "contradicting_prices": dg.MetadataValue.int(quality.insane),
        "revised": dg.MetadataValue.int(quality.revised),
        "bytes": dg.MetadataValue.int(quality.bytes),
    }
    if quality.first is not None and quality.last is not None and quality.age is not None:
        found["first"] = dg.MetadataValue.timestamp(moment(quality.first))
        found["last"] = dg.MetadataValue.timestamp(moment(quality.last))
        found["data_age_seconds"] = dg.MetadataValue.float(round(quality.age, 1))
    return found


def _markdown(series: Series, rows: pl.DataFrame) -> str:
    times = pl.col("time").dt.strftime(_TIMES[series.channel])
    cells = rows.select(times, *_SHOWN[series.channel])
    lines = [cells.columns, ["---"] * cells.width, *(map(str, row) for row in cells.rows())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _chart(closes: pl.DataFrame) -> str:
    """A small line of closing prices as an inline picture."""
    every = max(1, closes.height // 150)
    prices = closes["close"].gather_every(every).to_list()
    low, high = min(prices), max(prices)
    scale = 80 / (high - low) if high > low else 0.0
    step = 600 / max(1, len(prices) - 1)
    points = " ".join(f"{i * step:.0f},{90 - (p - low) * scale:.1f}" for i, p in enumerate(prices))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="100">'
        f'<polyline fill="none" stroke="#4f43dd" stroke-width="1.5" points="{points}"/></svg>'
    )
    return f"![close](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
