"""A picture of what is stored: series by month, the darker the more complete."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from dccd_core.intervals import clip, union
from dccd_core.models import Series, Window, microseconds, moment
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError

# So many columns fit a page; a longer history is shown in coarser steps.
COLUMNS, ROWS = 120, 200
_LABEL, _CELL, _LINE, _TOP, _LEGEND = 260, 8, 14, 24, 200
_EMPTY, _FULL, _PART = "#eeeeee", "#1b7837", "#f1a340"


def coverage_of(store: DataStore, series: Iterable[Series]) -> dict[Series, list[Window]]:
    """What is known of each series, by the ledger of its files; nothing of unreadable ones."""
    found: dict[Series, list[Window]] = {}
    for one in series:
        try:
            stems = store.existing_periods(one)
            parts = [part for stem in stems for part in store.parts(one, stem)]
        except (SchemaError, UnreadableError, OSError):
            found[one] = []
            continue
        found[one] = union(window for part in parts for window in part.footer.windows)
    return found


def heat_map(covered: Mapping[Series, Sequence[Window]], now: int) -> str:
    """The picture as SVG; empty if nothing is stored."""
    starts = [windows[0].start for windows in covered.values() if windows]
    if not starts:
        return ""
    months = _columns(min(starts), now)
    rows = list(covered.items())[:ROWS]
    bottom = _TOP + len(rows) * _LINE
    width, height = _LABEL + max(len(months) * _CELL, _LEGEND) + 8, bottom + 24
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="10">'
    ]
    lines += [_year(months, place) for place in range(len(months))]
    for line, (series, windows) in enumerate(rows):
        top = _TOP + line * _LINE
        lines.append(f'<text x="0" y="{top + 9}">{escape(str(series))}</text>')
        lines += [
            f'<rect x="{_LABEL + place * _CELL}" y="{top}" width="{_CELL - 1}"'
            f' height="{_LINE - 3}" fill="{_colour(windows, month)}"/>'
            for place, month in enumerate(months)
        ]
    return "\n".join(line for line in [*lines, *_legend(bottom + 16), "</svg>"] if line)


def _legend(baseline: int) -> list[str]:
    """What the colours say, below the rows."""
    shown = [(_FULL, "all of it"), (_PART, "a part"), (_EMPTY, "nothing")]
    return [
        f'<path d="M{_LABEL + place * 70} {baseline} h8 v-9 h-8 z" fill="{colour}"/>'
        f'<text x="{_LABEL + place * 70 + 12}" y="{baseline}">{text}</text>'
        for place, (colour, text) in enumerate(shown)
    ]


def _columns(first: int, now: int) -> list[Window]:
    """Months from the first data to now, several to a column if there are many; days if few."""
    begin = moment(first)
    count = (moment(now).year - begin.year) * 12 + moment(now).month - begin.month + 1
    if count <= 3:
        day = 86_400_000_000
        start = first // day * day
        return [Window(at, min(at + day, now)) for at in range(start, now, day)]
    step = -(-count // COLUMNS)
    starts = [_month(begin, place) for place in range(0, count + step, step)]
    return [Window(start, min(end, now)) for start, end in pairwise(starts) if start < now]


def _month(begin: datetime, later: int) -> int:
    months = begin.year * 12 + begin.month - 1 + later
    return microseconds(datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC))


def _year(months: Sequence[Window], place: int) -> str:
    """The year above its first column."""
    year = moment(months[place].start).year
    if place and moment(months[place - 1].start).year == year:
        return ""
    return f'<text x="{_LABEL + place * _CELL}" y="12">{year}</text>'


def _colour(windows: Sequence[Window], column: Window) -> str:
    known = sum(end - start for start, end in clip(windows, column))
    if not known:
        return _EMPTY
    return _FULL if known >= 0.999 * (column.end - column.start) else _PART
