"""BitMEX's published trades. https://public.bitmex.com

One file a day of UTC with the trades of all markets, about six hours after its end; times as
2024-01-01D00:00:01.000000000. There are no checksums.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dccd_core.archives.base import ArchiveError, ArchiveFile, Layout, Source
from dccd_core.archives.calendar import days, first_of
from dccd_core.archives.rows import bought, trade_rows, word
from dccd_core.exchanges.base import Instrument
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.schemas import integers

PUBLISHED = 12 * 3_600 * SECOND
_DAY_ENDS = 10  # where the D of a time stands

LAYOUT = Layout(
    columns=(),
    types={
        "timestamp": pa.string(),
        "symbol": pa.string(),
        "side": pa.string(),
        "price": pa.float64(),
        "trdMatchID": pa.string(),
        "homeNotional": pa.float64(),
    },
    header=True,
    blank=frozenset({"price", "homeNotional", "trdType"}),  # of markets that are no contracts
    later={"trdType": pa.string()},
)


class BitmexTrades(Source):
    """Trades by the day, all markets together: thirty requests a minute take longer."""

    exchange = "bitmex"
    url = "https://public.bitmex.com"
    since = first_of(2014, 11)

    def offers(self, series: Series) -> bool:
        """Trades."""
        return series.channel is Channel.TRADES

    def files(
        self, series: Series, instrument: Instrument, window: Window, now: int
    ) -> Iterator[ArchiveFile]:
        """One file a day."""
        for date, day in days(window):
            if day.end + PUBLISHED <= now:
                yield ArchiveFile(f"data/trade/{date.replace('-', '')}.csv.gz", day)

    def layout(self, series: Series) -> Layout:
        """The header says where the columns are."""
        return LAYOUT

    def times(self, lines: pa.Table) -> NDArray[np.int64]:
        """Those of all markets: of a quiet one alone nobody can tell whether a day was cut."""
        text = pc.binary_replace_slice(lines.column("timestamp"), _DAY_ENDS, _DAY_ENDS + 1, "T")
        try:
            return integers(text.cast(pa.timestamp("ns"))) // 1_000
        except pa.ArrowInvalid as error:
            raise ArchiveError(f"a time that cannot be read: {error}") from error

    def rows(
        self, lines: pa.Table, series: Series, instrument: Instrument, file: ArchiveFile
    ) -> pa.Table:
        """The market's own lines, those that REST and streams have too; homeNotional is the amount
        in base units."""
        lines = lines.filter(pc.equal(lines.column("symbol"), word(instrument.name)))
        if "trdType" in lines.column_names:
            lines = lines.filter(pc.equal(lines.column("trdType"), word("Regular")))
        if lines.column("price").null_count or lines.column("homeNotional").null_count:
            raise ArchiveError(f"a trade of {instrument.name} without its price or its amount")
        amount, ids = lines.column("homeNotional"), lines.column("trdMatchID")
        buy = bought(lines.column("side"))
        return trade_rows(self.times(lines), ids, lines.column("price"), amount, buy)
