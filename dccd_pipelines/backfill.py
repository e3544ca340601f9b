"""Collecting from Python and the command line: the same assets, run by Dagster in this process."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date, datetime
from difflib import get_close_matches
from threading import Event
from typing import TypeVar

import dagster as dg

from dccd_core.collection import open_collector, wanted
from dccd_core.collectors import kind_of
from dccd_core.config import Config
from dccd_core.costs import requests_of, seconds_of
from dccd_core.history import Outcome, Progress, note_of
from dccd_core.intervals import union
from dccd_core.models import Series, Window, iso
from dccd_core.plan import Plan, cells
from dccd_core.store.datastore import as_time
from dccd_pipelines.assets import group_name, series_assets
from dccd_pipelines.foreground import end_dead, held
from dccd_pipelines.instance import open_instance
from dccd_pipelines.outside import Bounds, outside
from dccd_pipelines.partitions import partitions_of, range_tags
from dccd_pipelines.report import Report, SeriesPlan
from dccd_pipelines.resources import Collectors
from dccd_pipelines.series_run import END_TAG, QUIET_TAG, START_TAG

T = TypeVar("T")
LISTED = 20
"""So many of what is configured are named where something is not."""
Moment = datetime | date | str | int | None


def run_once(
    config: Config,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    cancel: Event | None = None,
) -> Report:
    """Bring every job up to now, however far behind it is. Runs without news leave no trace."""
    return run_backfill(config, progress=progress, cancel=cancel, quiet=True)


def run_backfill(  # noqa: PLR0913 - the public interface, as its users know it
    config: Config,
    *,
    exchange: str | None = None,
    pairs: Iterable[str] | None = None,
    start: Moment = None,
    end: Moment = None,
    parallel: bool = False,
    dry_run: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    cancel: Event | None = None,
    planned: Callable[[Report], None] = lambda _: None,
    quiet: bool = False,
) -> Report:
    """Fetch what is missing of the configured series, as Dagster runs in this process.

    `exchange` and `pairs` choose series; `start` and `end` (text is read in the configured time
    zone) override the configured start and now. Series of one exchange and span are one run after
    the other; with `parallel` all of them are one run, in which every exchange is asked at the
    same time. `progress` is called in working threads, `planned` once with the plan. Setting
    `cancel` ends the work and keeps what is stored.

    ValueError if nothing in the configuration matches, or the range is empty. What could not be
    fetched is in the report, not raised.
    """
    series = choose(config, exchange, pairs)
    bounds = first, past = _moment(config, start), _moment(config, end)
    if first is not None and past is not None and first >= past:
        raise ValueError(f"start {start} is not before end {end}")
    cancel = cancel or Event()
    now = time.time_ns() // 1_000
    plans = [
        plan
        for one in _by(series, lambda one: one.exchange)
        for plan in _plan(config, one, now, bounds, cancel, sample=dry_run)
    ]
    report = Report([*summarize(plans), *outside(config, series, now, bounds)])
    planned(report)
    if dry_run:
        return report
    work = sorted((plan for plan in plans if plan.missing or plan.beyond), key=_order)
    kind = channel_of if parallel else group_name
    groups = _by(work, lambda plan: kind(plan.cell.series))
    failed: dict[tuple[Series, str], list[Window]] = defaultdict(list)

    def finished(outcome: Outcome) -> None:
        report.rows += outcome.added
        report.revised += outcome.revised
        for window, why in outcome.failed:
            failed[outcome.cell.series, why].append(window)

    collectors = Collectors(config, progress, finished, cancel)
    tags = _tags(bounds, quiet=quiet)
    # One thread, since two runs in one process dead-lock in Dagster's logging; and not the main
    # one, since there Dagster takes the signals, and Ctrl-C would not be ours.
    with ThreadPoolExecutor(1) as pool:
        jobs = [pool.submit(_materialize, collectors, group, tags) for group in groups]
        try:
            while wait(jobs, timeout=0.2).not_done:
                pass  # a signal that another thread got does not wake one that waits for ever
            results = [job.result() for job in jobs]
        except BaseException:
            cancel.set()
            raise
    report.runs = [run_id for run_id, _ in results]
    report.failed = [
        f"{one} {w}: {why}" for (one, why), all_of in failed.items() for w in union(all_of)
    ]
    if report.ok:  # then a run that failed did so for a reason of its own
        report.failed = [error for _, error in results if error]
    return report


def choose(config: Config, exchange: str | None, pairs: Iterable[str] | None) -> list[Series]:
    """The configured series of an exchange and of some pairs; ValueError if there are none."""
    known = config.series()
    if not known:
        raise ValueError("no histo_jobs or trades_jobs are configured: there is no past to fetch")
    names = set(pairs or ())
    _refuse_unknown("exchange", {exchange} if exchange else set(), {s.exchange for s in known})
    _refuse_unknown("pair", names, {str(s.symbol) for s in known})
    chosen = [
        one
        for one in known
        if exchange in (None, one.exchange) and (not names or str(one.symbol) in names)
    ]
    if not chosen:
        raise ValueError(f"no job has {' or '.join(sorted(names)) or 'candles'} on {exchange}")
    return chosen


def _refuse_unknown(what: str, asked: set[str], known: set[str]) -> None:
    for name in sorted(asked - known):
        by_lower = {one.lower(): one for one in sorted(known)}
        # pairs of one quote are half the same: ETH/USDT is 0.75 of BTC/USDT
        near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.8)
        more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
        all_of = f"it has {', '.join(sorted(known)[:LISTED]) or 'none'}{more}"
        hint = f"did you mean {by_lower[near[0]]}?" if near else all_of
        raise ValueError(f"the configuration has no {what} {name!r}; {hint}")


def summarize(plans: Sequence[Plan]) -> list[SeriesPlan]:
    """The plans of all periods of each series as one."""
    found = []
    for group in _by(plans, lambda plan: plan.cell.series):
        series = group[0].cell.series
        problem = next((plan.problem for plan in group if plan.problem), "")
        missing = union(window for plan in group for window in [*plan.missing, *plan.beyond])
        requests = 0 if problem else requests_of(group)
        seconds = None if requests is None else seconds_of(series, requests)
        note = next((plan.note for plan in group if plan.note), "")
        if all(plan.before_listing for plan in group):
            note = note_of(group[0])
        found.append(SeriesPlan(series, missing, requests, seconds, problem, note))
    return found


def _plan(
    config: Config, series: list[Series], now: int, bounds: Bounds, cancel: Event, *, sample: bool
) -> list[Plan]:
    todo = [cell for one in series for cell in cells(one, wanted(config, one, now, *bounds))]
    with open_collector(config, series[0].exchange, cancel=cancel) as collector:
        return collector.plan(todo, sample=sample)


def _materialize(
    collectors: Collectors, plans: list[Plan], tags: dict[str, str]
) -> tuple[str, str | None]:
    """One Dagster run over the periods that lack something; its id, and its error if it failed."""
    config = collectors.config
    periods = sorted({plan.cell.period for plan in plans})
    series = list(dict.fromkeys(plan.cell.series for plan in plans))
    # The definition spans what is asked for, which may be before the configured start.
    partitions = partitions_of(config, series[0].channel, first=periods[0])
    with open_instance(config) as instance, held(config.settings.data_path) as hold:
        end_dead(instance)
        result = dg.materialize(
            [series_assets(series, partitions)],
            instance=instance,
            resources={"collectors": collectors},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags=tags | range_tags(periods) | hold,
            raise_on_error=False,
        )
    return result.run_id, None if result.success else f"run {result.run_id} failed"


def _order(plan: Plan) -> int:
    """Those first that others are built from."""
    return kind_of(plan.cell.series)


def channel_of(series: Series) -> str:
    """What can be one run: trades have partitions of their own."""
    return str(series.channel)


def _tags(bounds: Bounds, *, quiet: bool) -> dict[str, str]:
    found = {QUIET_TAG: "true"} if quiet else {}
    named = zip((START_TAG, END_TAG), bounds, strict=True)
    return found | {tag: iso(moment) for tag, moment in named if moment is not None}


def _moment(config: Config, value: Moment) -> int | None:
    if isinstance(value, str):
        return config.parse_moment(value)
    return None if value is None else as_time(value, 0)


def _by(items: Iterable[T], key: Callable[[T], object]) -> list[list[T]]:
    """The items grouped by a key, in the order of their first."""
    groups: dict[object, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())
