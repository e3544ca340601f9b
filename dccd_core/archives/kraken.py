"""Kraken's OHLCVT files. https://support.kraken.com/articles/360047124832

One zip of each quarter, and with it one of all quarters in parts of two gigabytes, published some
ten weeks after its end. In them PAIR_MINUTES.csv, without a header: time in seconds, open, high,
low, close, volume, trades. Intervals without trades are left out.
"""

from collections.abc import Iterator

import pyarrow as pa

from dccd_core.archives.base import ArchiveFile, Layout, Source
from dccd_core.archives.calendar import first_of, quarters
from dccd_core.archives.rows import candle_rows
from dccd_core.exchanges.base import Instrument
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.schemas import integers

MINUTES = {60: 1, 300: 5, 900: 15, 1_800: 30, 3_600: 60, 14_400: 240, 43_200: 720, 86_400: 1_440}
# Those of single quarters are known from 2024Q4 on.
FIRST_QUARTER = first_of(2024, 10)
# The newest zip of all quarters is looked for among so many.
RECENT = 4
FOLDER = "marketing/institutions"
LONGEST_LINE = 200
PARTS = ".part{:02}"

LAYOUT = Layout(
    columns=("time", "open", "high", "low", "close", "volume", "trades"),
    types={
        "time": pa.int64(),
        **dict.fromkeys(("open", "high", "low", "close", "volume"), pa.float64()),
        "trades": pa.int64(),
    },
    header=False,
)


class KrakenOhlcvt(Source):
    """Candles of every pair since its first trade, which REST does not have."""

    exchange = "kraken"
    url = "https://assets.kraken.com"
    since = first_of(2013)
    scarce = True
    omits_empty = True

    def offers(self, series: Series) -> bool:
        """Candles of eight spans; those of a week and more are not there."""
        return series.channel is Channel.OHLC and series.span in MINUTES

    def files(
        self, series: Series, instrument: Instrument, window: Window, now: int
    ) -> Iterator[ArchiveFile]:
        """The zips of all quarters, newest first, then those of single quarters."""
        ended = [q for q in quarters(Window(FIRST_QUARTER, now)) if q[1].end <= now]
        for name, quarter in ended[: -RECENT - 1 : -1]:
            everything = Window(self.since, quarter.end)
            yield self._file(series, instrument, f"Full_{name}", everything, PARTS)
        for name, quarter in ended:
            if quarter.start < window.end and quarter.end > window.start:
                yield self._file(series, instrument, name, quarter, "")

    def _file(
        self, series: Series, instrument: Instrument, name: str, window: Window, parts: str
    ) -> ArchiveFile:
        return ArchiveFile(
            path=f"{FOLDER}/Kraken_OHLCVT_{name}.zip",
            window=window,
            member=f"{instrument.name}_{MINUTES[series.span]}.csv",
            longest=(series.count(window) + 10) * LONGEST_LINE,
            ranged=True,
            parts=parts,
        )

    def layout(self, series: Series) -> Layout:
        """Seven columns without a header."""
        return LAYOUT

    def rows(
        self, lines: pa.Table, series: Series, instrument: Instrument, file: ArchiveFile
    ) -> pa.Table:
        """Times are open times in seconds, volumes in base units."""
        times = integers(lines.column("time")) * SECOND
        return candle_rows(times, {name: lines.column(name) for name in LAYOUT.columns[1:]})
