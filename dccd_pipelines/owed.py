"""What should be stored by now of each historical series, as far as files tell."""

from datetime import UTC, datetime

from dccd_core.collection import wanted
from dccd_core.config import Config
from dccd_core.cron import latest_tick
from dccd_core.freshness import GRACE
from dccd_core.models import SECOND, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.gaps import first_time
from dccd_pipelines.cron import default_cron


def owed(config: Config, now: float) -> dict[Series, Window]:
    """The window to have of each series, without those that have not begun yet; an empty one where
    nobody knows when the series begins before the exchange is asked."""
    store, found = DataStore(config.settings.data_path), {}
    for series in config.series():
        end = wanted(config, series, int(_collected(config, series, now) * SECOND)).end
        start, listed = config.start_of(series), store.read_listing(series)
        begins = None if listed is None else first_time(series, listed)
        known = [one for one in (start, begins) if one is not None]
        if not known or max(known) < end:
            found[series] = series.grid(Window(max(known, default=end), end))
    return found


def _collected(config: Config, series: Series, now: float) -> float:
    """Until when a series is collected by now: its run takes a while, and the newest trades are
    not asked for at once. What has no schedule lacks all that a person could fetch."""
    cron = config.job_of(series).schedule or default_cron(series)
    if cron == "off":
        return now
    tick = latest_tick(cron, datetime.fromtimestamp(now - GRACE, UTC)).timestamp()
    return tick if series.span else tick - GRACE
