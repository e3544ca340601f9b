"""What will be collected and what will not, asked of the exchanges themselves."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event

from rich.table import Table

from dccd_core.collection import open_collector
from dccd_core.config import Config
from dccd_core.exchanges.base import ExchangeError
from dccd_core.limits import Cancelled
from dccd_core.models import Channel, Series, Symbol
from dccd_pipelines.backfill import run_backfill
from dccd_pipelines.report import Live
from dccd_pipelines.tables import live_table, plan_table, short_moment, total_line


@dataclass(slots=True)
class Outlook:
    """Tables and lines to show; whether all of it can be had."""

    shown: list[Table | str] = field(default_factory=list)
    ok: bool = True


def look_ahead(config: Config, cancel: Event | None = None) -> Outlook:
    """What each job will collect, in how many requests and how long, or why it cannot.

    Asks for the lists of markets, and when series begin: nothing is collected.
    """
    found = Outlook()
    if config.series():
        report = run_backfill(config, dry_run=True, cancel=cancel)
        found.shown += [plan_table(report, short_moment(config)), total_line(report)]
        found.ok = not any(plan.problem for plan in report.plans)
    if config.stream_jobs:
        lives = list(check_streams(config, cancel))
        found.shown.append(live_table(lives))
        found.ok = found.ok and not any(live.problem for live in lives)
    return found


def check_streams(config: Config, cancel: Event | None = None) -> Iterator[Live]:
    """Ask for the markets of all live jobs; one exchange is asked for its list once."""
    for name in dict.fromkeys(job.exchange for job in config.stream_jobs):
        with open_collector(config, name, cancel=cancel) as collector:
            for job in config.stream_jobs:
                for pair in job.pairs if job.exchange == name else ():
                    series = Series(name, Channel.TRADES, Symbol.parse(pair))
                    try:
                        market = collector.instrument(series)
                        problem = "" if market.trading else f"{pair} is not traded any more"
                    except (ExchangeError, Cancelled) as error:
                        problem = str(error)
                    yield Live(f"{name} {pair}", ", ".join(job.channels), problem)
