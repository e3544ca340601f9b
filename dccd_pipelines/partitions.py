"""The partitions of all series, in one place."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from dccd_core.collection import BEGINNING, FIRST_YEAR
from dccd_core.config import Config
from dccd_core.models import Channel, Series, microseconds, moment
from dccd_core.plan import REREAD
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
DAY_FORMAT = "%Y-%m-%d"


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
    """The periods that a scheduled run looks at; none before the earliest configured start.

    They begin with that of the newest row of the series which is furthest behind: after New Year
    or midnight, or a long stop, the end of the old period is collected too. What is missing before
    that is for the runs of the past, see `past`.
    """
    if series[0].channel is Channel.OHLC:
        return _due_years(config, series, at)
    return _due_days(config, series, at)


def _due_years(config: Config, series: Sequence[Series], at: datetime) -> list[str]:
    # the newest candles are read again at each extension, also those of last year
    again = timedelta(seconds=(REREAD + 1) * max(one.span for one in series))
    now = at.astimezone(UTC).year
    newest = _newest(config, series)
    behind = min(int(newest or now), now, (at.astimezone(UTC) - again).year if newest else now)
    return [str(year) for year in range(max(first_year(config), behind), now + 1)]


def _due_days(config: Config, series: Sequence[Series], at: datetime) -> list[str]:
    now = at.astimezone(UTC)
    today = now.strftime(DAY_FORMAT)
    first = max(first_day(config), min(_newest(config, series) or today, today))
    begin = datetime.strptime(first, DAY_FORMAT).replace(tzinfo=UTC)
    count = (now - begin).days + 1
    return [(begin + timedelta(days=day)).strftime(DAY_FORMAT) for day in range(count)]


def _newest(config: Config, series: Sequence[Series]) -> str | None:
    """The period of the newest row of the series that is furthest behind."""
    store = DataStore(config.settings.data_path)
    found = (_newest_period(store, one) for one in series)
    return min((period for period in found if period is not None), default=None)


def _newest_period(store: DataStore, series: Series) -> str | None:
    try:
        last = store.last_timestamp(series)
    except (
        UnreadableError,
        SchemaError,
        OSError,
    ):  # the run mends it, or says what is wrong with it
        return store.existing_periods(series)[-1]
    return None if last is None else series.period(microseconds(last))
