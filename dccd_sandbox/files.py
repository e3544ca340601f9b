"""Markets made of candle files, served as they are: real holes stay holes."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import polars as pl

from dccd_sandbox import candles, spans
from dccd_sandbox.candles import NAMES, TIME, Digits, Rows
from dccd_sandbox.market import Market

_ALIASES = {
    "time": ("time", "timestamp", "date", "datetime", "open_time", "opentime", "unix"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "volume": ("volume",),
    "quote_volume": ("quote_volume", "quote_asset_volume", "quotevolume"),
    "trades": ("trades", "count", "number_of_trades", "trade_count"),
    "taker_buy_volume": ("taker_buy_volume", "taker_buy_base_asset_volume", "taker_buy_base"),
    "taker_buy_quote_volume": (
        "taker_buy_quote_volume",
        "taker_buy_quote_asset_volume",
        "taker_buy_quote",
    ),
}
_REQUIRED = NAMES[: candles.VOLUME + 1]
_ARCHIVE = (*_REQUIRED, "close_time", *NAMES[candles.QUOTE :], "ignore")
"""Columns of a Binance archive file, which has 12 and often no header."""
# An epoch number is 2009..2100 in exactly one of these units.
_EARLIEST, _LATEST = 1_230_768_000, 4_102_444_800
_PER_MS = {"s": (1, 1_000), "ms": (1_000, 1), "µs": (1_000_000, 1), "ns": (1_000_000_000, 1)}

Cell = str | int | float | Decimal | datetime | None


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds: column names (ours) and cells, line by line."""

    columns: tuple[str, ...]
    lines: list[tuple[Cell, ...]]


class FileMarket(Market):
    """Candles of one file, and longer spans made of them. Columns that it lacks are 0, as from an
    exchange that knows nothing of them. Raises ValueError on a file that is not such a thing."""

    verbatim = True

    def __init__(self, pair: tuple[str, str, str], span: int, path: Path) -> None:
        try:
            rows, digits = _rows(_read(path), span)
        except (ValueError, pl.exceptions.PolarsError) as error:
            raise ValueError(f"{path}: {error}") from error
        super().__init__(*pair, digits)
        self._rows = rows
        self._times = candles.times(rows)
        self._span = span

    @property
    def first_ms(self) -> int:
        """The first candle of the file."""
        return int(self._times[0])

    @property
    def last_ms(self) -> int:
        """The last candle of the file."""
        return int(self._times[-1])

    def source_span(self, span: int, shift_ms: int = 0) -> int | None:
        """The file's span, for its multiples."""
        return None if span % self._span or shift_ms % (self._span * 1_000) else self._span

    def join(self, rows: Rows, span: int, shift_ms: int) -> Rows:
        """Of all rows: a file may not know how many trades a candle has."""
        return candles.joined(rows, span, shift_ms)

    def source(self, span: int, start: int, stop: int, now: int) -> Rows:
        """Rows of the file that open in [start, stop), and not after `now`."""
        first, last = np.searchsorted(self._times, (start, min(stop, now + 1)))
        return self._rows[first:last]


def _read(path: Path) -> Table:
    match path.suffix.lower():
        case ".csv":
            return _named(pl.read_csv(path, has_header=False, infer_schema=False).rows())
        case ".json":
            content = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
            if not isinstance(content, list) or not all(isinstance(row, list) for row in content):
                raise ValueError("want a JSON list of [time, open, high, low, close, volume]")
            return _named([tuple(row) for row in content])
        case ".parquet":
            frame = pl.read_parquet(path)
            return _named([tuple(frame.columns), *frame.rows()])
        case other:
            raise ValueError(f"{other!r} files are not known; want .csv, .json or .parquet")


def _named(lines: list[tuple[Cell, ...]]) -> Table:
    """Lines under our column names: from a header where there is one, else by their number."""
    if not lines:
        raise ValueError("it is empty")
    width = len(lines[0])
    uneven = next((n for n, line in enumerate(lines, 1) if len(line) != width), None)
    if uneven is not None:
        raise ValueError(f"line {uneven} has {len(lines[uneven - 1])} columns, the first {width}")
    head = [str(cell).strip().lower() for cell in lines[0]]
    if "close" not in head:
        known = {len(_REQUIRED): _REQUIRED, len(_ARCHIVE): _ARCHIVE}
        if width not in known:
            raise ValueError(f"{width} columns and no header; want 6 (t,o,h,l,c,v) or Binance's 12")
        return Table(known[width], lines)
    ours = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
    columns = tuple(ours.get(name, f"({name})") for name in head)
    wrong = [name for name in _REQUIRED if columns.count(name) != 1]
    if wrong:
        raise ValueError(f"header {', '.join(head)}: want each of these once: {', '.join(wrong)}")
    if len(lines) == 1:
        raise ValueError("it holds a header and no candles")
    return Table(columns, lines[1:])


def _rows(table: Table, span: int) -> tuple[Rows, Digits]:
    known = {name: n for n, name in enumerate(table.columns) if name in NAMES}
    rows = np.zeros((len(table.lines), candles.WIDTH), dtype=object)
    rows[:, TIME] = _times([line[known["time"]] for line in table.lines])
    places = []
    for group in (NAMES[1:5], (NAMES[5], NAMES[8]), (NAMES[6], NAMES[9]), (NAMES[7],)):
        numbers = {
            name: [_decimal(line[known[name]], name, n) for n, line in enumerate(table.lines, 1)]
            for name in group
            if name in known
        }
        places.append(_scaled(rows, numbers))
    rows = rows[np.argsort(candles.times(rows), kind="stable")]
    _check_grid(rows, span)
    if rows.sum(axis=0)[candles.OPEN :].max() < 2**63:
        rows = rows.astype(np.int64)
    return rows, Digits(price=places[0], amount=places[1], quote=places[2])


def _scaled(rows: Rows, numbers: dict[str, list[Decimal]]) -> int:
    """Fill columns with integers of one common scale, as many digits as the file has."""
    exponents = (value.as_tuple().exponent for column in numbers.values() for value in column)
    places = max((-int(exponent) for exponent in exponents), default=0)
    places = max(places, 0)
    for name, column in numbers.items():
        rows[:, NAMES.index(name)] = [int(value.scaleb(places)) for value in column]
    return places


def _check_grid(rows: Rows, span: int) -> None:
    times = candles.times(rows)
    off = times[spans.opens(times, span) != times]
    if len(off):
        raise ValueError(f"{_iso(int(off[0]))} is not the open of a candle of {span} s")
    twice = times[1:][times[1:] == times[:-1]]
    if len(twice):
        raise ValueError(f"{_iso(int(twice[0]))} is there twice")
    bad = (rows[:, 1:5].max(axis=1) != rows[:, candles.HIGH]) | (
        rows[:, 1:5].min(axis=1) != rows[:, candles.LOW]
    )
    if bad.any():
        raise ValueError(
            f"{_iso(int(times[bad][0]))}: high or low does not enclose the other prices"
        )


def _decimal(cell: Cell, name: str, line: int) -> Decimal:
    """The number as written; a float from Parquet has the digits that Python would print."""
    try:
        value = Decimal(str(cell).strip())
    except InvalidOperation:
        raise ValueError(f"candle {line}: {name} is {cell!r}, not a number") from None
    if not value.is_finite() or value < 0:
        raise ValueError(f"candle {line}: {name} is {cell!r}; want a number of 0 or more")
    return value


def _times(cells: list[Cell]) -> list[int]:
    """Milliseconds of datetimes, ISO texts (UTC where they name no zone) or epoch numbers."""
    first = cells[0]
    if isinstance(first, datetime):
        return [_moment(cell, line) for line, cell in enumerate(cells, 1)]
    try:
        numbers = [Decimal(str(cell).strip()) for cell in cells]
    except InvalidOperation:
        return [_moment(cell, line) for line, cell in enumerate(cells, 1)]
    for per_second, factor in _PER_MS.values():
        low, high = _EARLIEST * per_second, _LATEST * per_second
        if all(low <= number < high for number in numbers):
            divisor = per_second * factor // 1_000
            return [int(number * factor) // divisor for number in numbers]
    raise ValueError(f"times like {first} are no seconds, ms, µs or ns between 2009 and 2100")


def _moment(cell: Cell, line: int) -> int:
    try:
        moment = cell if isinstance(cell, datetime) else datetime.fromisoformat(str(cell).strip())
    except ValueError:
        raise ValueError(
            f"candle {line}: time is {cell!r}, neither a number nor ISO 8601"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1_000)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat()
