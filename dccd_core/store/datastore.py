"""The store: where series are written, and how a reader finds, checks and loads them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from dccd_core.intervals import clip, subtract
from dccd_core.models import Series, Window, microseconds, moment
from dccd_core.store import files
from dccd_core.store.gaps import Gap, find_gaps
from dccd_core.store.inventory import InventoryRow, inventory_frame, read_inventory
from dccd_core.store.period import Merged, Part, Period
from dccd_core.store.scan import scan_periods
from dccd_core.store.schemas import table_times

Time = datetime | date | str | int | None
_FUTURE = microseconds(datetime(9000, 1, 1, tzinfo=UTC))


# Readers that take a whole folder leave out names that begin with "_" or ".".
LISTING = "_listing.json"


class Listing(msgspec.Struct, frozen=True):
    """When a series begins at its exchange: the first candle that it has, in microseconds."""

    listed: int


class DataStore:
    """All series below one data path.

    A series is given as `Series` or as its key, "binance/ohlc/1h/BTC-USDT". Times are datetimes,
    dates, ISO text (UTC unless they say otherwise) or microseconds; windows are half open.
    """

    def __init__(self, data_path: Path | str) -> None:
        self.root = Path(data_path)

    @property
    def private(self) -> Path:
        """The folder for locks, limiter and status; never data."""
        return self.root / ".dccd"

    def folder(self, series: Series | str) -> Path:
        """Where the files of a series are."""
        return self.root / as_series(series).path

    def existing_periods(self, series: Series | str) -> list[str]:
        """The stems of the series' files, oldest first: years of candles."""
        return sorted({path.name.split(".")[0] for path in self.folder(series).glob("*.parquet")})

    def load(self, series: Series | str, start: Time = None, end: Time = None) -> pl.DataFrame:
        """The rows of a window, sorted by time."""
        return self.scan(series, start, end).collect()

    def scan(self, series: Series | str, start: Time = None, end: Time = None) -> pl.LazyFrame:
        """A lazy frame that reads only the files, row groups and columns that are needed.

        Each file is opened once, so a series may be written meanwhile.
        """
        series = as_series(series)
        window = as_window(start, end)
        periods = [self._period(series, stem) for stem in self.existing_periods(series)]
        inside = [p for p in periods if clip([series.period_window(p.period)], window)]
        return scan_periods(series, inside, window)

    def last_timestamp(self, series: Series | str) -> datetime | None:
        """The time of the newest row, None if there is none."""
        series = as_series(series)
        for stem in reversed(self.existing_periods(series)):
            lasts = [part.footer.last for part in self._period(series, stem).open()]
            if found := [last for last in lasts if last is not None]:
                return moment(max(found))
        return None

    def listed(self, series: Series | str) -> datetime | None:
        """When the series begins at its exchange, None if that is not known yet."""
        found = self.read_listing(as_series(series))
        return None if found is None else moment(found)

    def covered(self, series: Series | str, window: Window | None = None) -> list[Window]:
        """The ledger: windows that the exchange was asked about and answered.

        What a damaged file covered is not known any more, so it counts as not asked.
        """
        series = as_series(series)
        window = window or as_window(None, None)
        found: list[Window] = []
        for stem in self.existing_periods(series):
            if clip([series.period_window(stem)], window):
                with suppress(files.UnreadableError):
                    for part in self._period(series, stem).open():
                        found += part.footer.windows
        return clip(found, window)

    def missing_windows(self, series: Series | str, window: Window) -> list[Window]:
        """The part of a window that is still to be fetched: not covered, not before listing."""
        series = as_series(series)
        listed = self.read_listing(series)
        start = window.start if listed is None else max(window.start, series.floor(listed))
        wanted = [Window(start, window.end)] if start < window.end else []
        return subtract(wanted, self.covered(series, window))

    def missing_intervals(
        self, series: Series | str, start: Time, end: Time
    ) -> list[tuple[datetime, datetime]]:
        """The part of a window that is still to be fetched, as pairs of datetimes."""
        missing = self.missing_windows(series, as_window(start, end))
        return [(moment(gap.start), moment(gap.end)) for gap in missing]

    def is_period_complete(self, series: Series | str, period: str) -> bool:
        """Whether all of a period was asked and answered; the running one never is."""
        series = as_series(series)
        return not self.missing_windows(series, series.period_window(period))

    def gaps(self, series: Series | str, start: Time = None, end: Time = None) -> list[Gap]:
        """Every hole of a window with its kind; by default from the first row to the last."""
        series = as_series(series)
        window = as_window(start, end)
        times = self.times(series, window)
        first = int(times[0]) if start is None and len(times) else window.start
        last = int(times[-1]) if end is None and len(times) else window.end
        if (start is None or end is None) and not len(times):
            return []
        window = Window(first, last)
        covered = self.covered(series, window)
        return find_gaps(series, window, covered, self.read_listing(series), times)

    def inventory(self) -> pl.DataFrame:
        """One row per series: exchange, pair, type, span, from, to, rows, gaps, bytes, error.

        `gaps` counts candles that lie between the first and the last row and are not there;
        `missing` those of them that are still to be fetched. Only footers are read; a file that
        cannot be read makes a row with an error.
        """
        return inventory_frame(self.inventory_rows())

    def inventory_rows(self) -> list[InventoryRow]:
        """The inventory as objects."""
        return read_inventory(self.root)

    def times(self, series: Series | str, window: Window | None = None) -> NDArray[np.int64]:
        """The stored times, in microseconds, of the periods that a window touches."""
        series = as_series(series)
        window = window or as_window(None, None)
        parts = [
            part
            for stem in self.existing_periods(series)
            if clip([series.period_window(stem)], window)
            for part in self._period(series, stem).open()
        ]
        found = [table_times(part.read(["time"])) for part in parts]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def parts(self, series: Series, period: str) -> list[Part]:
        """The open files of one period, oldest first."""
        return self._period(series, period).open()

    @contextmanager
    def writing(self, series: Series) -> Iterator[None]:
        """Hold the series' lock: one writer at a time, in all threads and processes."""
        with files.lock(self.private / "locks" / f"{'.'.join(series.key)}.lock"):
            yield

    def merge(
        self, series: Series, period: str, rows: pa.Table, covered: list[Window], source: str
    ) -> Merged:
        """Store rows of one period and what they cover; see `Period.merge`."""
        with self.writing(series):
            return self._period(series, period).merge(rows, covered, source)

    def read_listing(self, series: Series) -> int | None:
        """The remembered first candle of a series, in microseconds."""
        try:
            content = (self.folder(series) / LISTING).read_bytes()
            return msgspec.json.decode(content, type=Listing).listed
        except (FileNotFoundError, msgspec.MsgspecError):
            return None  # a damaged note is asked for again

    def write_listing(self, series: Series, listed: int) -> None:
        """Remember the first candle of a series."""
        with self.writing(series):
            content = msgspec.json.encode(Listing(listed))
            files.write_bytes(self.folder(series) / LISTING, content)

    def _period(self, series: Series, period: str) -> Period:
        return Period(self.folder(series), series, period)


def as_series(series: Series | str) -> Series:
    """A series given as itself or as its key."""
    return series if isinstance(series, Series) else Series.parse(series)


def as_time(value: Time, default: int) -> int:
    """A time in microseconds; naive datetimes and dates are UTC; ValueError if it is no time."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return microseconds(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return microseconds(datetime(value.year, value.month, value.day, tzinfo=UTC))
    return default if value is None else value


def as_window(start: Time, end: Time) -> Window:
    """A window; an open side reaches as far as any data can."""
    return Window(as_time(start, 0), as_time(end, _FUTURE))
