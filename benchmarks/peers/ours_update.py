"""Ours: one new candle after the other, onto rows that are stored; then a long absence."""

from meter import Meter, arguments
from ours import collect, configuration, without_limiter

from dccd_core.models import Window

MINUTE = 60_000_000


def main() -> None:
    """Store `rows` candles, then add `updates`, each by a collector of its own.

    At last `batch` candles come at once, more than a tail holds: the fold into the year's file.
    """
    given = arguments()
    config = configuration(given)
    without_limiter()
    series = config.series()[0]
    start, end = given["start"], given["start"] + given["rows"] * MINUTE
    collect(config, series, Window(start, end))
    meters = []
    for _ in range(given["updates"]):
        end += MINUTE
        with Meter() as meter:
            outcome = collect(config, series, Window(start, end))
        if outcome.added != 1:
            raise RuntimeError(f"{outcome.added} new candles came")
        meters.append(meter)
    with Meter() as fold:
        collect(config, series, Window(start, end + given["batch"] * MINUTE))
    each = [(m.cpu, m.written, m.to_disk) for m in meters]
    fold.report(each=each)


main()
