"""Ours: bring every configured series up to now, with the core alone."""

import time

from meter import Meter, arguments
from ours import without_limiter

from dccd_core.collection import open_collector, wanted
from dccd_core.config import load_config
from dccd_core.plan import cells


def main() -> None:
    """Fetch what is missing."""
    config = load_config(arguments()["config"])
    without_limiter()
    now = time.time_ns() // 1_000
    todo = [cell for s in config.series() for cell in cells(s, wanted(config, s, now))]
    with Meter() as meter, open_collector(config, "binance") as collector:
        outcomes = list(collector.collect(todo))
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        raise RuntimeError(failed[0])
    meter.report(
        rows=sum(outcome.added for outcome in outcomes),
        requests=sum(outcome.requests for outcome in outcomes),
    )


main()
