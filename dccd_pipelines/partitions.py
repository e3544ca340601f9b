"""The partitions of all series, in one place."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from dccd_core.collection import FIRST_YEAR
from dccd_core.config import Config
from dccd_core.models import Series, moment
from dccd_core.store.datastore import DataStore

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def yearly(config: Config, first: str | None = None) -> dg.TimeWindowPartitionsDefinition:
    """Calendar years, UTC, the current one included; one definition for all series.

    Series whose years begin differently cannot be backfilled together. The first year is that of
    the earliest configured start, or `first` if that is earlier.
    """
    starts = [config.start_of(series) for series in config.series()]
    years = [FIRST_YEAR if start is None else moment(start).year for start in starts]
    begin = min(years, default=FIRST_YEAR)
    return dg.TimeWindowPartitionsDefinition(
        start=str(begin if first is None else min(begin, int(first))),
        fmt="%Y",
        cron_schedule="0 0 1 1 *",
        timezone="UTC",
        end_offset=1,
    )


def year_tags(years: Sequence[str]) -> dict[str, str]:
    """The tags that make one run of a range of years."""
    return {RANGE_START: years[0], RANGE_END: years[-1]}


def due_years(store: DataStore, series: Sequence[Series], at: datetime) -> list[str]:
    """The years that a scheduled run looks at.

    They begin with that of the newest row of the series which is furthest behind: after New Year,
    or a long stop, the end of the old year is collected too.
    """
    now = at.astimezone(UTC).year
    newest = (store.last_timestamp(one) for one in series)
    first = min((when.year for when in newest if when is not None), default=now)
    return [str(year) for year in range(min(first, now), now + 1)]
