"""Ours: one backfill, by the core alone or as a Dagster run."""

from meter import Meter, arguments
from ours import collect, configuration, without_limiter

from dccd_core.models import Window, moment
from dccd_core.store.datastore import DataStore


def main() -> None:
    """Fetch 1m candles from start to end."""
    given = arguments()
    config = configuration(given)
    series = config.series()[0]
    window = Window(given["start"], given["end"])
    if not given["limiter"]:
        without_limiter()
    if given["dagster"]:
        from dccd_pipelines.backfill import run_backfill

        with Meter() as meter:
            report = run_backfill(config, start=moment(window.start), end=moment(window.end))
        if not report.ok:
            raise RuntimeError(report.failed)
        rows = report.rows
    else:
        with Meter() as meter:
            rows = collect(config, series, window).added
    stored = DataStore(config.settings.data_path).folder(series).glob("*.parquet")
    meter.report(rows=rows, bytes=sum(file.stat().st_size for file in stored))


main()
