"""The partitions of all series, in one place."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from dccd_core.collection import FIRST_YEAR
from dccd_core.config import Config
from dccd_core.models import Series, moment
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def yearly(config: Config, first: str | None = None) -> dg.TimeWindowPartitionsDefinition:
    """Calendar years, UTC, the current one included; one definition for all series.

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


def first_year(config: Config) -> int:
    """The year of the earliest configured start."""
    starts = [config.start_of(series) for series in config.series()]
    years = [FIRST_YEAR if start is None else moment(start).year for start in starts]
    return min(years, default=FIRST_YEAR)


def year_tags(years: Sequence[str]) -> dict[str, str]:
    """The tags that make one run of a range of years."""
    return {RANGE_START: years[0], RANGE_END: years[-1]}


def due_years(config: Config, series: Sequence[Series], at: datetime) -> list[str]:
    """The years that a scheduled run looks at; none before the earliest configured start.

    They begin with that of the newest row of the series which is furthest behind: after New Year,
    or a long stop, the end of the old year is collected too.
    """
    store, now = DataStore(config.settings.data_path), at.astimezone(UTC).year
    newest = (_newest_year(store, one) for one in series)
    behind = min((year for year in newest if year is not None), default=now)
    return [str(year) for year in range(max(first_year(config), min(behind, now)), now + 1)]


def _newest_year(store: DataStore, series: Series) -> int | None:
    try:
        last = store.last_timestamp(series)
    except (UnreadableError, SchemaError):  # the run mends it, or says what is wrong with it
        return int(store.existing_periods(series)[-1])
    return None if last is None else last.year
