"""The partitions of all series, in one place."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from dccd_core.collection import BEGINNING, FIRST_YEAR
from dccd_core.config import Config
from dccd_core.models import Channel, Series, Window, moment
from dccd_core.plan import REREAD
from dccd_core.store.datastore import DataStore

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
DAY_FORMAT = "%Y-%m-%d"
# So long after its end a period is looked at by its schedule: hours, in case a run fails.
WHILE = timedelta(hours=3)


def partitions_of(
    config: Config, channel: Channel, first: str | None = None
) -> dg.TimeWindowPartitionsDefinition:
    """The one definition that all series of a channel share; `first` may be an earlier period."""
    return yearly(config, first) if channel is Channel.OHLC else daily(config, first)


def yearly(config: Config, first: str | None = None) -> dg.TimeWindowPartitionsDefinition:
    """Calendar years, UTC, the current one included; one definition for all series of candles.

    Series whose years begin differently cannot be backfilled together. The first year is that of
    the earliest configured start, or `first` if that is earlier.
    """
    begin = first_year(config)
    return dg.TimeWindowPartitionsDefinition(
        start=str(begin if first is None else min(begin, int(first))),
        fmt="%Y",
        cron_schedule="0 0 1 1 *",
        timezone="UTC",
        end_offset=1,
    )


def daily(config: Config, first: str | None = None) -> dg.TimeWindowPartitionsDefinition:
    """UTC days, today included; one definition for all series of trades.

    The first day is that of the earliest configured start, or of the listing where the start is
    open and the listing is known, or `first` if that is earlier.
    """
    begin = first_day(config)
    return dg.TimeWindowPartitionsDefinition(
        start=begin if first is None else min(begin, first),
        fmt=DAY_FORMAT,
        cron_schedule="0 0 * * *",
        timezone="UTC",
        end_offset=1,
    )


def first_year(config: Config) -> int:
    """The year of the earliest configured start of candles."""
    starts = [config.start_of(one) for one in config.jobs if one.channel is Channel.OHLC]
    years = [FIRST_YEAR if start is None else moment(start).year for start in starts]
    return min(years, default=FIRST_YEAR)


def first_day(config: Config) -> str:
    """The day of the earliest start of trades."""
    store = DataStore(config.settings.data_path)
    starts = []
    for series in config.jobs:
        if series.channel is Channel.TRADES:
            start = config.start_of(series)
            listed = store.read_listing(series) if start is None else None
            starts.append(start or listed or BEGINNING)
    return moment(min(starts, default=BEGINNING)).strftime(DAY_FORMAT)


def range_tags(periods: Sequence[str]) -> dict[str, str]:
    """The tags that make one run of a range of periods."""
    return {RANGE_START: periods[0], RANGE_END: periods[-1]}


def due_periods(config: Config, series: Sequence[Series], at: datetime) -> list[str]:
    """The periods that a scheduled run looks at: the running one, and for a while the one before;
    none before the earliest configured start.

    What is missing before that is for the runs of the past, see `past`.
    """
    now = at.astimezone(UTC)
    if series[0].channel is not Channel.OHLC:
        first, last = max(first_day(config), f"{now - WHILE:{DAY_FORMAT}}"), f"{now:{DAY_FORMAT}}"
        days = series[0].periods(
            Window(series[0].period_window(first).start, series[0].period_window(last).end)
        )
        return [day for day, _ in days]
    # the newest candles are read again at each extension, also those of last year
    again = timedelta(seconds=(REREAD + 1) * max(one.span for one in series))
    begin = max(first_year(config), (now - max(WHILE, again)).year)
    return [str(year) for year in range(begin, now.year + 1)]
