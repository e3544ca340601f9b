"""The store: where series are written, and how a reader finds, checks and loads them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from dccd_core.intervals import clip, subtract
from dccd_core.models import Channel, Series, Window, microseconds, moment
from dccd_core.store import files
from dccd_core.store.footer import Footer, clip_losses, ledger
from dccd_core.store.gaps import Gap, find_gaps, first_time, reach, with_removed
from dccd_core.store.gather import Gathered, JournalReader, by_period
from dccd_core.store.ids import missing_ranges
from dccd_core.store.inventory import InventoryRow, inventory_frame, read_inventory
from dccd_core.store.listing import read_listing, write_listing
from dccd_core.store.period import Merged, Part, Period
from dccd_core.store.removed import read_removed
from dccd_core.store.scan import scan_series
from dccd_core.store.schemas import Loss, empty_table, table_times

Time = datetime | date | str | int | None
_FUTURE = microseconds(datetime(9000, 1, 1, tzinfo=UTC))


class DataStore:
    """All series below one data path.

    A series is given as `Series` or as its key, "binance/ohlc/1h/BTC-USDT" or
    "binance/trades/BTC-USDT". Times are datetimes, dates, ISO text (UTC unless they say otherwise)
    or microseconds; windows are half open. What streams brought is seen before it is in a file.
    """

    def __init__(self, data_path: Path | str) -> None:
        self.root = Path(data_path)

    @property
    def private(self) -> Path:
        """The folder for locks, limiter and status; never data."""
        return self.root / ".dccd"

    @property
    def journal(self) -> Path:
        """The folder of the journal: what streams brought and is not in the files yet."""
        return self.private / "journal"

    def folder(self, series: Series | str) -> Path:
        """Where the files of a series are."""
        return self.root / as_series(series).path

    def existing_periods(self, series: Series | str) -> list[str]:
        """The stems of the series' files, oldest first: years of candles, days of the rest."""
        series = as_series(series)
        stems = {path.name.split(".")[0] for path in self.folder(series).glob("*.parquet")}
        return sorted(stem for stem in stems if series.is_period(stem))

    def load(self, series: Series | str, start: Time = None, end: Time = None) -> pl.DataFrame:
        """The rows of a window, sorted by time."""
        return self.scan(series, start, end).collect()

    def scan(self, series: Series | str, start: Time = None, end: Time = None) -> pl.LazyFrame:
        """A lazy frame that reads only the files, row groups and columns that are needed.

        Each file is opened once, so a series may be written meanwhile.
        """
        series = as_series(series)
        window = as_window(start, end)

        def sources() -> Iterator[tuple[list[Part], pa.Table | None]]:
            waiting = self._waiting(series, window)
            for stem in sorted({*self.existing_periods(series), *waiting}):
                if clip([series.period_window(stem)], window):
                    yield self._period(series, stem).open(), waiting.get(stem)

        return scan_series(series, sources, window)

    def first_timestamp(self, series: Series | str) -> datetime | None:
        """The time of the oldest row, None if there is none."""
        found = self._ends(as_series(series))
        return None if found is None else moment(found[0])

    def last_timestamp(self, series: Series | str) -> datetime | None:
        """The time of the newest row, None if there is none."""
        found = self._ends(as_series(series))
        return None if found is None else moment(found[1])

    def listed(self, series: Series | str) -> datetime | None:
        """When the series begins at its exchange, None if that is not known yet."""
        found = self.read_listing(as_series(series))
        return None if found is None else moment(found)

    def covered(self, series: Series | str, window: Window | None = None) -> list[Window]:
        """The ledger: windows that the exchange was asked about and answered.

        What a damaged file covered is not known any more, so it counts as not asked.
        """
        series, window = as_series(series), window or as_window(None, None)
        return self._ledger(series, window)[0]

    def lost(self, series: Series | str, window: Window | None = None) -> list[Loss]:
        """What streams missed, with the cause, and nobody has fetched since."""
        series, window = as_series(series), window or as_window(None, None)
        return self._ledger(series, window)[1]

    def _ledger(self, series: Series, window: Window) -> tuple[list[Window], list[Loss]]:
        journal = self._journal(series)  # before the files: what is folded meanwhile is in both
        footers = list[Footer]()
        for stem in self._stems(series, window):
            with suppress(files.UnreadableError):
                footers += [part.footer for part in self._period(series, stem).open()]
        covered, lost = ledger(footers, journal.covered, journal.lost)
        return clip(covered, window), clip_losses(lost, window)

    def missing_windows(
        self, series: Series, window: Window, *, here: bool = False
    ) -> list[Window]:
        """The part of a window to be fetched: not covered, not before listing, and not removed
        since it is kept elsewhere; `here` counts that as missing too."""
        listed = self.read_listing(series)
        start = window.start if listed is None else max(window.start, first_time(series, listed))
        wanted = [Window(start, window.end)] if start < window.end else []
        removed = Window(0, 0 if here else read_removed(self.folder(series)))
        return subtract(wanted, [*self.covered(series, window), removed])

    def missing_intervals(
        self, series: Series | str, start: Time, end: Time
    ) -> list[tuple[datetime, datetime]]:
        """The part of a window that is still to be fetched, as pairs of datetimes."""
        missing = self.missing_windows(as_series(series), as_window(start, end))
        return [(moment(first), moment(past)) for first, past in missing]

    def is_period_complete(self, series: Series | str, period: str) -> bool:
        """Whether all of a period was asked and answered; the running one never is."""
        series = as_series(series)
        return not self.missing_windows(series, series.grid(series.period_window(period)))

    def gaps(
        self,
        series: Series | str,
        start: Time = None,
        end: Time = None,
        owed: Window | None = None,
    ) -> list[Gap]:
        """Every hole of a window with its kind; by default from first row to last and in `owed`."""
        series = as_series(series)
        window = as_window(start, end)
        covered, lost = self._ledger(series, window)
        if start is None or end is None:
            known = reach(series, self._ends(series, window), covered, lost, owed)
            if known is None:
                return []
            first = known.start if start is None else window.start
            window = Window(first, known.end if end is None else window.end)
            covered, lost = clip(covered, window), clip_losses(lost, window)
        listed = self.read_listing(series)
        times = self.times(series, window) if series.span else np.empty(0, np.int64)
        found = find_gaps(series, window, covered, listed, times, lost)
        return with_removed(series, found, read_removed(self.folder(series)))

    def missing_ids(self, series: Series | str, period: str) -> list[tuple[int, int]]:
        """The first and the last number of each range of trade ids that is not there, of a day.

        For exchanges whose ids follow each other without a hole: what is absent between the
        smallest and the largest id of the day, and from the largest one of the day before where
        midnight is covered. ValueError if an id is no number.
        """
        series = as_series(series)
        window = series.period_window(period)
        midnight = Window(window.start - 1, window.start + 1)
        start = window.start
        if self.covered(series, midnight) == [midnight]:
            start = series.period_window(series.period(midnight.start)).start
        ids = self.scan(series, start, window.end).select("time", "trade_id").collect()
        return missing_ranges(series, ids, window.start)

    def inventory(self) -> pl.DataFrame:
        """One row per series, or per file that cannot be read; see `InventoryRow`."""
        return inventory_frame(self.inventory_rows())

    def inventory_rows(self, owed: Mapping[Series, Window] | None = None) -> list[InventoryRow]:
        """The inventory as objects, also of series that owe something and have no file."""
        return read_inventory(self.root, self.private / "inventory.msgpack", owed or {})

    def times(self, series: Series | str, window: Window | None = None) -> NDArray[np.int64]:
        """The stored times, in microseconds and in order, of the periods that a window touches."""
        series, window = as_series(series), window or as_window(None, None)
        waiting = self._waiting(series, window)
        parts = [
            part
            for stem in self._stems(series, window)
            for part in self._period(series, stem).open()
        ]
        found = [table_times(part.read(["time"])) for part in parts]
        if not waiting:
            return np.concatenate(found) if found else np.empty(0, np.int64)
        return np.unique(np.concatenate([*found, *map(table_times, waiting.values())]))

    def parts(self, series: Series, period: str) -> list[Part]:
        """The open files of one period, oldest first."""
        return self._period(series, period).open()

    @contextmanager
    def writing(self, series: Series) -> Iterator[None]:
        """Hold the series' lock: one writer at a time, in all threads and processes."""
        with files.lock(self.private / "locks" / f"{'.'.join(series.key)}.lock"):
            yield

    def merge(
        self,
        series: Series,
        period: str,
        rows: pa.Table,
        covered: list[Window],
        source: str,
        lost: Sequence[Loss] = (),
    ) -> Merged:
        """Store rows of one period and what they cover; see `Period.merge`."""
        with self.writing(series):
            return self._period(series, period).merge(rows, covered, source, lost)

    def close_period(self, series: Series, period: str, source: str = "stream") -> Merged | None:
        """Put all rows of a period that is over into one file; None if there is none."""
        with self.writing(series):
            found = self._period(series, period)
            empty = empty_table(series.channel)
            return found.merge(empty, [], source, close=True) if found.paths() else None

    def read_listing(self, series: Series) -> int | None:
        """The remembered first candle of a series, in microseconds."""
        return read_listing(self.folder(series))

    def write_listing(self, series: Series, listed: int) -> None:
        """Remember the first candle of a series."""
        with self.writing(series):
            write_listing(self.folder(series), listed)

    def _period(self, series: Series, period: str) -> Period:
        return Period(self.folder(series), series, period)

    def _stems(self, series: Series, window: Window) -> list[str]:
        """The files that a window touches."""
        stems = self.existing_periods(series)
        return [stem for stem in stems if clip([series.period_window(stem)], window)]

    def _journal(self, series: Series) -> Gathered:
        if series.channel is Channel.OHLC:
            return Gathered(series)
        return JournalReader(self.journal).read(series)

    def _waiting(self, series: Series, window: Window) -> dict[str, pa.Table]:
        """What the journal has inside a window, by period."""
        if series.channel is Channel.OHLC:
            return {}
        table = self._journal(series).table()
        first, end = np.searchsorted(table_times(table), window)
        return by_period(series, table.slice(first, end - first))

    def _ends(self, series: Series, window: Window | None = None) -> tuple[int, int] | None:
        """The times of the first and the last row, inside the periods that a window touches."""
        window = window or as_window(None, None)
        waiting = self._waiting(series, window).values()
        times = [int(t) for rows in waiting for t in table_times(rows)[[0, -1]]]
        stems = self._stems(series, window)
        for order in (stems, reversed(stems)):
            for stem in order:
                found = _ends(part.footer for part in self._period(series, stem).open())
                times += found
                if found:
                    break
        return (min(times), max(times)) if times else None


def _ends(footers: Iterable[Footer]) -> list[int]:
    return [t for footer in footers for t in (footer.first, footer.last) if t is not None]


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
