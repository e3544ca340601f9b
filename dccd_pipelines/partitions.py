"""The partitions of all series, in one place."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from dccd_core.collection import BEGINNING, FIRST_YEAR
from dccd_core.config import Config
from dccd_core.models import DAY, SECOND, Channel, Series, Window, iso, microseconds, moment
from dccd_core.plan import REREAD
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
SINCE_TAG = "dccd/since"
"""A run looks at nothing before this moment, ISO 8601."""
DAY_FORMAT = "%Y-%m-%d"
# How far back a scheduled run looks for holes; older ones are for a backfill.
LOOK_BACK = 7 * DAY * SECOND


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


def due_tags(config: Config, series: Sequence[Series], at: datetime) -> dict[str, str]:
    """The tags of a scheduled run: the periods that it looks at; none before the earliest
    configured start, and no tags if there is none.

    They begin with that of the newest row of the series which is furthest behind, so after New Year
    or midnight, or a long stop, the end of the old period is collected too; or with the oldest hole
    of the last days before: each of several periods may have failed, or been left when a run was
    stopped.
    """
    if series[0].channel is Channel.OHLC:
        return _due_years(config, series, at)
    return _due_days(config, series, at)


def _due_years(config: Config, series: Sequence[Series], at: datetime) -> dict[str, str]:
    now, first = at.astimezone(UTC).year, first_year(config)
    start = max(first, min(int(_newest(config, series) or now), now))
    if start > now:
        return {}
    if first < start == now:
        begin = microseconds(datetime(now, 1, 1, tzinfo=UTC))
        longest = max(one.span for one in series) * SECOND
        back = Window(begin - max(LOOK_BACK, REREAD * longest), begin)
        # the newest candles are read again at each extension, also those of last year
        if microseconds(at) < begin + (REREAD + 1) * longest or _holes(config, series, back):
            return range_tags([str(now - 1), str(now)]) | {SINCE_TAG: iso(back.start)}
    return range_tags([str(start), str(now)])


def _due_days(config: Config, series: Sequence[Series], at: datetime) -> dict[str, str]:
    today, first = at.astimezone(UTC).strftime(DAY_FORMAT), first_day(config)
    start = max(first, min(_newest(config, series) or today, today))
    if start > today:
        return {}
    begin = series[0].period_window(start).start
    holes = _holes(config, series, Window(microseconds(at) - LOOK_BACK, begin))
    return range_tags([*map(series[0].period, holes[:1]), start, today])


def _holes(config: Config, series: Sequence[Series], window: Window) -> list[int]:
    """When there is a hole in a window, in series that have older rows; the oldest first."""
    store = DataStore(config.settings.data_path)
    found = (_holes_of(store, one, window, config.start_of(one)) for one in series)
    return sorted(hole.start for holes in found for hole in holes)


def _holes_of(store: DataStore, one: Series, window: Window, begin: int | None) -> list[Window]:
    try:
        first = store.first_timestamp(one)
        if first is None:
            return []
        oldest = one.period_window(one.period(microseconds(first))).start
        start = max(window.start, oldest, begin or 0)
        asked = Window(start, max(start, window.end))
        return store.missing_windows(one, one.grid(asked) if one.span else asked)
    except (
        UnreadableError,
        SchemaError,
        OSError,
    ):  # the check of quality says what is wrong with it
        return []


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
