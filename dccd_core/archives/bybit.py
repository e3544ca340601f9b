"""Bybit's published trades. https://public.bybit.com

`trading/` has linear contracts: times are seconds with up to four decimals, old files begin with
the newest trade, ids are those of the interface. `spot/` numbers the trades of each file from 1.
A file of a day of UTC is there an hour or two after its end. There are no checksums.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dccd_core.archives.base import ArchiveError, ArchiveFile, Layout, Source
from dccd_core.archives.calendar import days, first_of
from dccd_core.archives.rows import base_units, bought, scaled_times, trade_rows, word
from dccd_core.exchanges.base import Instrument
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.schemas import numbers

PUBLISHED = 6 * 3_600 * SECOND

LINEAR = Layout(
    columns=(),
    types={
        "timestamp": pa.float64(),
        "symbol": pa.string(),
        "side": pa.string(),
        "size": pa.float64(),
        "price": pa.float64(),
        "trdMatchID": pa.string(),
    },
    header=True,
)
SPOT = Layout(
    columns=(),
    types={
        "id": pa.string(),
        "timestamp": pa.int64(),
        "price": pa.float64(),
        "volume": pa.float64(),
        "side": pa.string(),
    },
    header=True,
)


class BybitTrades(Source):
    """Trades by the day: the interface itself has only the newest."""

    exchange = "bybit"
    url = "https://public.bybit.com"
    since = first_of(2019, 10)
    scarce = True

    def offers(self, series: Series) -> bool:
        """Trades."""
        return series.channel is Channel.TRADES

    def renumbers(self, series: Series) -> bool:
        """Those of spot."""
        return not series.symbol.contract

    def files(
        self, series: Series, instrument: Instrument, window: Window, now: int
    ) -> Iterator[ArchiveFile]:
        """One file a day; the names of spot have an underscore."""
        category, _, symbol = instrument.name.partition(" ")
        start = f"spot/{symbol}/{symbol}_" if category == "spot" else f"trading/{symbol}/{symbol}"
        for date, day in days(window):
            if day.end + PUBLISHED <= now:
                yield ArchiveFile(f"{start}{date}.csv.gz", day)

    def layout(self, series: Series) -> Layout:
        """Both kinds have a header."""
        return SPOT if not series.symbol.contract else LINEAR

    def rows(
        self, lines: pa.Table, series: Series, instrument: Instrument, file: ArchiveFile
    ) -> pa.Table:
        """Amounts are in base units. A number of a file is made unique by the file's day."""
        buy, price = bought(lines.column("side")), lines.column("price")
        if not series.symbol.contract:
            date = file.path.removesuffix(".csv.gz")[-10:]
            ids = pc.binary_join_element_wise(word(date), lines.column("id"), word("/"))
            times = scaled_times(lines.column("timestamp"))
            return trade_rows(times, ids, price, lines.column("volume"), buy)
        symbol = instrument.name.partition(" ")[2]
        if not pc.all(pc.equal(lines.column("symbol"), word(symbol)), min_count=0).as_py():
            raise ArchiveError(f"a trade of another market than {symbol}")
        times = np.rint(numbers(lines.column("timestamp"), np.float64) * SECOND).astype(np.int64)
        amount = base_units(lines.column("size"), price, instrument)
        return trade_rows(times, lines.column("trdMatchID"), price, amount, buy)
