"""OKX's published trades. https://www.okx.com/docs-v5/en/#public-data-rest-api-market-data-history

A file holds a day of UTC+8 and is there two days later. Its header is in English, in older files
with Chinese beside it ("trade_id/…"). There are no checksums.
"""

from collections.abc import Iterator

import pyarrow as pa

from dccd_core.archives.base import ArchiveFile, Layout, Source
from dccd_core.archives.calendar import days, first_of
from dccd_core.archives.rows import base_units, bought, scaled_times, trade_rows
from dccd_core.exchanges.base import Instrument
from dccd_core.models import DAY, SECOND, Channel, Series, Window

AHEAD = 8 * 3_600  # seconds by which a day of UTC+8 begins before that of UTC
PUBLISHED = 2 * DAY * SECOND

LAYOUT = Layout(
    columns=(),
    types={
        "trade_id": pa.string(),
        "side": pa.string(),
        "size": pa.float64(),
        "price": pa.float64(),
        "created_time": pa.int64(),
    },
    header=True,
)


class OkxTrades(Source):
    """Trades by the day of UTC+8: the interface itself reaches three months back."""

    exchange = "okx"
    url = "https://static.okx.com"
    since = first_of(2021, 9)

    def offers(self, series: Series) -> bool:
        """Trades."""
        return series.channel is Channel.TRADES

    def files(
        self, series: Series, instrument: Instrument, window: Window, now: int
    ) -> Iterator[ArchiveFile]:
        """One zip a day, of one CSV of the same name."""
        for date, day in days(window, AHEAD):
            if day.end + PUBLISHED <= now:
                stem = f"{instrument.name}-trades-{date}"
                folder = f"cdn/okex/traderecords/trades/daily/{date.replace('-', '')}"
                yield ArchiveFile(f"{folder}/{stem}.zip", day, f"{stem}.csv")

    def layout(self, series: Series) -> Layout:
        """The header says where the columns are; older files have no instrument_name."""
        return LAYOUT

    def rows(
        self, lines: pa.Table, series: Series, instrument: Instrument, file: ArchiveFile
    ) -> pa.Table:
        """Sizes of derivatives count contracts."""
        times = scaled_times(lines.column("created_time"))
        amount = base_units(lines.column("size"), lines.column("price"), instrument)
        buy, price = bought(lines.column("side")), lines.column("price")
        return trade_rows(times, lines.column("trade_id"), price, amount, buy)
