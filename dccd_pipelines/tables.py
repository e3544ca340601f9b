"""Tables and charts for a terminal. Nothing here prints."""

from collections.abc import Callable, Sequence
from typing import Literal

import polars as pl
from rich.table import Table
from rich.text import Text

from dccd_core.config import Config
from dccd_core.lineage import source_of
from dccd_core.messages import duration, many
from dccd_core.models import SECOND, Series, Window, moment, span_label
from dccd_core.store.gaps import Gap
from dccd_core.store.inventory import InventoryRow
from dccd_pipelines.cron import default_cron
from dccd_pipelines.report import Live, Report

Show = Callable[[int], str]


def short_moment(config: Config) -> Show:
    """How tables show a moment: to the minute, in the configured zone."""
    return lambda time: f"{moment(time).astimezone(config.timezone):%Y-%m-%d %H:%M}"


# Only these are broken over lines where they do not fit.
LONG = ("windows", "last error")


def table(*columns: str) -> Table:
    """A plain table; a column whose name begins with > is aligned to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for name in columns:
        right = name.startswith(">")
        justify: Literal["left", "right"] = "right" if right else "left"
        made.add_column(
            name.lstrip(">"), justify=justify, no_wrap=name not in LONG, overflow="fold"
        )
    return made


def jobs_table(config: Config, show: Show) -> Table:
    """What a configuration stands for."""
    made = table("series", "from", "schedule (UTC)", ">attempts")
    for series, job in config.jobs.items():
        start = config.start_of(series)
        begins = "its listing" if start is None else show(start)
        mine = job.schedule or default_cron(series)
        cron = mine if series in config.configured else "as others need it"
        made.add_row(f"{series}{_origin(series)}", begins, cron, str(job.max_retries))
    for stream in config.stream_jobs:
        for pair in stream.pairs:
            made.add_row(f"{stream.exchange} {pair}", "live", ", ".join(stream.channels), "")
    return made


def _origin(series: Series) -> str:
    source = source_of(series)
    if source is None:
        return ""
    return f" (from {span_label(source.span)})" if source.span else " (older ones from trades)"


def live_table(lives: Sequence[Live]) -> Table:
    """What can be recorded live, and what not."""
    made = table("live", "channels", "windows")
    for live in lives:
        found = Text(live.problem, style="bold red") if live.problem else Text("there")
        made.add_row(live.name, live.channels, found)
    made.columns[-1].header = "market"
    return made


def total_line(report: Report) -> str:
    """All requests of a plan and how long they take."""
    seconds = sum(plan.seconds or 0.0 for plan in report.plans)
    requests = sum(plan.requests or 0 for plan in report.plans)
    unknown = any(plan.requests is None for plan in report.plans)
    more = "; how many more the trades take is not known" if unknown else ""
    return f"{many(requests, 'request')}, about {duration(seconds)}{more}"


def plan_table(report: Report, show: Show) -> Table:
    """What a backfill would do."""
    made = table("series", ">missing candles", "windows", ">requests", ">about")
    for plan in report.plans:
        span = plan.series.span
        candles = f"{sum(map(plan.series.count, plan.missing)):,}" if span else ""
        windows = [_window(window, show) for window in plan.missing[:5]]
        windows += [f"… {len(plan.missing) - 5} more"] if len(plan.missing) > 5 else []
        windows += [plan.note] if plan.note else []
        requests = "?" if plan.requests is None else f"{plan.requests:,}"
        about = "?" if plan.seconds is None else duration(plan.seconds) if plan.requests else "–"
        if plan.problem:
            made.add_row(str(plan.series), "", Text(plan.problem, style="bold red"), "", "")
            continue
        text = "\n".join(windows) or "complete"
        made.add_row(str(plan.series), candles, text, requests, about)
    return made


def _window(window: Window, show: Show) -> str:
    return f"{show(window.start)} → {show(window.end)}"


def inventory_table(rows: Sequence[InventoryRow], show: Show) -> Table:
    """What is stored; an unreadable file is a line of its own, which names its period."""
    made = table(
        "exchange", "pair", "type", "span", "from", "to", ">rows", ">gaps", ">missing", ">size"
    )
    for row in rows:
        series = row.series
        span = span_label(series.span) if series.span else ""
        name = (series.exchange, str(series.symbol), str(series.channel), span)
        if row.error:
            bad = Text(f"{row.error.partition(':')[0]}: unreadable", style="bold red")
            made.add_row(*name, bad, "", "", "", "", size(row.bytes))
            continue
        ends = [show(time) if time is not None else "–" for time in (row.first, row.last)]
        counts = [counted(number) for number in (row.rows, row.gaps, row.missing)]
        made.add_row(*name, *ends, *counts, size(row.bytes))
    return made


def counted(number: int | None) -> str:
    """A number as a person reads it; None is not known."""
    return "?" if number is None else f"{number:,}"


def gap_table(gaps: Sequence[tuple[Series, Gap]], show: Show) -> Table:
    """Every gap with its kind and cause; those of trades and books are often short."""
    made = table("series", "from", "to", ">length", ">candles", "kind", "cause")
    for series, gap in gaps:
        start, end = map(show, gap.window)
        seconds = (gap.window.end - gap.window.start) / SECOND
        length = duration(seconds) if seconds >= 1 else f"{seconds * 1_000:.1f} ms"
        candles = f"{gap.candles:,}" if series.span else ""
        made.add_row(str(series), start, end, length, candles, str(gap.kind), gap.cause or "")
    return made


def brief(text: str, most: int = 120) -> str:
    """The beginning of a long text, which ends with a whole word."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    return f"{cut.rpartition(' ')[0] or cut} …"


def size(count: float) -> str:
    """Bytes as a person says them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def candle_chart(candles: pl.DataFrame, height: int = 12) -> Text:
    """Candles as a chart of text, one column each: green when the close is not below the open."""
    low, high = float(candles["low"].min()), float(candles["high"].max())  # type: ignore[arg-type]
    scale = (high - low) / height or 1.0
    levels = candles.select(
        (pl.col(name) - low) / scale for name in ("open", "high", "low", "close")
    ).rows()
    chart = Text()
    for line in reversed(range(height)):
        chart.append(f"{low + (line + 0.5) * scale:>12,.2f} ")
        for o, h, lo, c in levels:
            chart.append(_glyph(line, o, h, lo, c), style="green" if c >= o else "red")
        chart.append("\n")
    return chart


def _glyph(line: int, o: float, h: float, low: float, c: float) -> str:
    """The sign for the part of a candle that falls into one line of text."""
    top, bottom = max(o, c), min(o, c)
    if top >= line and bottom <= line + 1:
        return "█"
    return "│" if h >= line and low <= line + 1 else " "
