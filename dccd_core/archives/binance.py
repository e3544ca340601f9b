"""Binance's published files, spot and USD-M. https://github.com/binance/binance-public-data

Daily files come the next day, monthly ones on the first Monday. Spot has no header and its times
are in microseconds since 2025-01-01; USD-M has a header since about 2022 and milliseconds.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dccd_core.archives.base import ArchiveError, ArchiveFile, Layout, Source
from dccd_core.archives.calendar import days, first_of, months
from dccd_core.archives.rows import candle_rows, scaled_times, trade_rows
from dccd_core.exchanges.base import Instrument
from dccd_core.models import DAY, SECOND, Channel, Series, Window, moment, span_label
from dccd_core.store.schemas import integers

PUBLISHED_DAY = 1 * DAY * SECOND
PUBLISHED_MONTH = 7 * DAY * SECOND
LONGEST_LINE = 400
MOST_TRADES = 2**36
# 3d, 1w: there are monthly files only
LONGEST_DAILY = DAY

KLINES = Layout(
    columns=(
        *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
        *("count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
    ),
    types={
        "open_time": pa.int64(),
        **dict.fromkeys(("open", "high", "low", "close", "volume"), pa.float64()),
        "close_time": pa.int64(),
        "quote_volume": pa.float64(),
        "count": pa.int64(),
        "taker_buy_volume": pa.float64(),
        "taker_buy_quote_volume": pa.float64(),
    },
    header=None,
)
_USED = {"price": pa.float64(), "qty": pa.float64(), "time": pa.int64(), "maker": pa.bool_()}
TRADES = Layout(
    columns=("id", "price", "qty", "quote_qty", "time", "maker", "best"),
    types={"id": pa.string(), **_USED},
    header=None,
)
AGG_TRADES = Layout(
    columns=("id", "price", "qty", "first_id", "last_id", "time", "maker"),
    types={"id": pa.string(), **_USED},
    header=None,
)


class BinanceSpot(Source):
    """Spot: candles of every span, and trades with the ids of `historicalTrades`."""

    exchange = "binance"
    url = "https://data.binance.vision"
    since = first_of(2017, 7)
    market: ClassVar[str] = "spot"
    trades: ClassVar[str] = "trades"
    trades_layout: ClassVar[Layout] = TRADES

    def offers(self, series: Series) -> bool:
        """Candles of the exchange's own spans, and trades."""
        return series.channel in (Channel.OHLC, Channel.TRADES)

    def files(
        self, series: Series, instrument: Instrument, window: Window, now: int
    ) -> Iterator[ArchiveFile]:
        """Months, and the days of each."""
        for name, month in months(window):
            if month.end + PUBLISHED_MONTH <= now:
                yield self._file(series, instrument, "monthly", name, month)
            if series.span > LONGEST_DAILY:
                continue
            for date, day in days(month):
                if day.end + PUBLISHED_DAY <= now and day.start < window.end > day.start:
                    yield self._file(series, instrument, "daily", date, day)

    def _file(
        self, series: Series, instrument: Instrument, size: str, date: str, window: Window
    ) -> ArchiveFile:
        symbol = instrument.name
        if series.channel is Channel.OHLC:
            label = span_label(series.span)
            folder, stem = f"klines/{symbol}/{label}", f"{symbol}-{label}-{date}"
            longest = (series.count(window) + 10) * LONGEST_LINE
        else:
            folder, stem = f"{self.trades}/{symbol}", f"{symbol}-{self.trades}-{date}"
            longest = MOST_TRADES
        path = f"data/{self.market}/{size}/{folder}/{stem}.zip"
        return ArchiveFile(path, window, f"{stem}.csv", f"{path}.CHECKSUM", longest)

    def layout(self, series: Series) -> Layout:
        """Columns in a fixed order, with or without a header."""
        return KLINES if series.channel is Channel.OHLC else self.trades_layout

    def rows(
        self, lines: pa.Table, series: Series, instrument: Instrument, file: ArchiveFile
    ) -> pa.Table:
        """Volumes are in base units; the buyer is the maker where the taker sold."""
        if series.channel is Channel.OHLC:
            return _candles(lines, series)
        buy = pc.invert(lines.column("maker"))
        times, ids = scaled_times(lines.column("time")), lines.column("id")
        return trade_rows(times, ids, lines.column("price"), lines.column("qty"), buy)


class BinanceUsdmArchive(BinanceSpot):
    """USD-M: candles, and trades as the exchange aggregates them, as its REST and stream do."""

    exchange = "binance_usdm"
    since = first_of(2019, 9)
    market = "futures/um"
    trades = "aggTrades"
    trades_layout = AGG_TRADES


def _candles(lines: pa.Table, series: Series) -> pa.Table:
    times = scaled_times(lines.column("open_time"))
    raw, ends = integers(lines.column("open_time")), integers(lines.column("close_time"))
    unit = 1 if len(times) and times[0] == raw[0] else 1_000
    if ((ends - raw + 1) * unit != series.span * SECOND).any():
        when = moment(int(times[np.argmax((ends - raw + 1) * unit != series.span * SECOND)]))
        raise ArchiveError(f"the candle of {when:%Y-%m-%d %H:%M} is not {series.span} s long")
    names = ("open", "high", "low", "close", "volume", "quote_volume")
    taker = ("taker_buy_volume", "taker_buy_quote_volume")
    columns = {name: lines.column(name) for name in (*names, *taker)}
    return candle_rows(times, columns | {"trades": lines.column("count")})
