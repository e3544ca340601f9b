"""The end of a UTC day: its files are closed, and holes in the trades' ids are filled."""

import logging
from collections.abc import Iterable
from datetime import date, timedelta

import polars as pl

from dccd_core.models import Channel, Series
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError
from dccd_streams.feed import Feed
from dccd_streams.heal_plan import Hole
from dccd_streams.trade_feed import TradeFeed

log = logging.getLogger(__name__)


_BACK = timedelta(days=6)


def close_days(store: DataStore, written: Iterable[tuple[Feed, Series]], last: str) -> None:
    """Fold each day up to the last into one file, and look for trades that are missing.

    A week back, and what is streamed no more: the service may not have run at the end of a day, or
    rows came late. What is closed is left as it is.
    """
    first = (date.fromisoformat(last) - _BACK).isoformat()
    feeds = {series: feed for feed, series in written}
    for series in dict.fromkeys([*feeds, *(row.series for row in store.inventory_rows())]):
        if series.channel is Channel.OHLC:
            continue
        for day in store.existing_periods(series):
            if first <= day <= last:
                _close(store, feeds.get(series), series, day)


def _close(store: DataStore, feed: Feed | None, series: Series, day: str) -> None:
    try:
        if feed is None and not _was_streamed(store, series, day):
            return
        merged = store.close_period(series, day)
        news = merged is not None and merged.written
        if news and series.channel is Channel.TRADES and isinstance(feed, TradeFeed):
            _fill_holes(store, feed, series, day)
    except (OSError, SchemaError, UnreadableError, ValueError) as error:
        log.error("%s %s: not closed: %s", series, day, error)


def _was_streamed(store: DataStore, series: Series, day: str) -> bool:
    """Trades that a job of history has collected are its own."""
    return any(part.footer.source == "stream" for part in store.parts(series, day))


def _fill_holes(store: DataStore, feed: TradeFeed, series: Series, day: str) -> None:
    if not feed.contiguous:
        return
    missing = store.missing_ids(series, day)
    if not missing:
        return
    window = series.period_window(day)
    ids = store.scan(series, window.start, window.end).select(
        pl.col("time").to_physical(), pl.col("trade_id").cast(pl.Int64)
    )
    rows = ids.collect()
    for first, last in missing:
        before = rows.filter(pl.col("trade_id") < first)["time"].max()
        after = rows.filter(pl.col("trade_id") > last)["time"].min()
        earlier = int(before) if isinstance(before, int) else window.start
        later = int(after) if isinstance(after, int) else window.end - 1
        start, newest = sorted((earlier, later))  # times may step back where ids go on
        cause = f"trades {first} to {last} are missing"
        feed.fill(Hole(start, newest + 1, cause, str(last + 1)))
