"""What is wrong by Dagster's own records: jobs that fail in a row, checks that failed."""

from collections.abc import Collection, Iterable, Mapping

import dagster as dg

from dccd_core.health import JobMetrics
from dccd_core.incidents import Condition, Kind
from dccd_core.instruments import NO_SUCH_PAIR
from dccd_core.messages import without_queries
from dccd_core.models import Series
from dccd_pipelines.assets import group_name
from dccd_pipelines.offsite_run import GROUP, INCIDENT
from dccd_pipelines.past import AGAIN, PAST

# How far back failures in a row are counted.
COUNTED = 50
NAMED = 3
CUT_SHORT = 2
MISSING = "dccd backfill fetches what is missing; dccd inventory --gaps tells of each hole."
UNKNOWN = "Mend the pair in config.yml, or take it out; then press Reload on the Deployment page."


def failing_jobs(
    instance: dg.DagsterInstance,
    names: Iterable[str],
    most: int,
    metrics: dict[str, JobMetrics],
    now: float,
) -> list[Condition]:
    """The jobs whose last `most` runs, or more, all failed; runs that still go do not count, and
    those of the past only as long as they are tried again: else nothing is missing any more.

    Of copies to a remote one failure is enough: a person has to act. One without a word is that
    of a run that was cut short, as by a stop of everything: of these it takes two.
    """
    found = []
    for name in names:
        copies = name.startswith(f"{GROUP}_")
        ended = dg.RunsFilter(
            job_name=name, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
        )
        records = instance.get_run_records(ended, limit=max(COUNTED, most))
        if name.endswith(PAST) and records and now - (records[0].end_time or now) > 2 * AGAIN:
            continue
        runs = [record.dagster_run for record in records]
        good = (n for n, run in enumerate(runs) if run.status is dg.DagsterRunStatus.SUCCESS)
        failures = next(good, len(runs))
        if failures >= (1 if copies else most):
            run = runs[0].run_id
            said = _said(instance, run)
            if copies and failures < CUT_SHORT and not said:
                continue
            found.append(
                copy_failed(name, run, said)
                if copies
                else job_failed(name, failures, run, metrics, said)
            )
    return found


def _said(instance: dg.DagsterInstance, run: str) -> str:
    """The sentence with which a run's step failed."""
    for entry in instance.all_logs(run, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        failure = event.step_failure_data.user_failure_data if event else None
        if failure:
            told = failure.metadata.get(INCIDENT)
            return str(told.value if told else failure.description or "")
    return ""


def copy_failed(name: str, run: str, said: str) -> Condition:
    """A copy to a remote that failed, in its own words."""
    return Condition(
        kind=Kind.SYNC,
        subject=name,
        text=said or "the run failed",
        cure="Mend the remote: collecting goes on, and it is tried again after sync_interval.",
        path=f"/runs/{run}",
    )


def job_failed(
    name: str, failures: int, run: str, metrics: Mapping[str, JobMetrics], told: str
) -> Condition:
    """A job whose last runs failed; the last error of its series, or what the run said."""
    count = f"{failures} or more" if failures == COUNTED else str(failures)
    bad = [
        f"{one.series}: {without_queries(one.last_error or '')}"
        for one in metrics.values()
        if one.consecutive_errors and name.startswith(group_name(Series.parse(one.series)))
    ]
    more = f"; and {len(bad) - NAMED} more series" if len(bad) > NAMED else ""
    said = "; ".join(error[:200] for error in bad[:NAMED]) or told[:400]
    return Condition(
        kind=Kind.JOB,
        subject=name,
        text=f"{count} runs in a row failed" + (f": {said}{more}" if said else ""),
        cure="The run's page tells each window that is missing; it is asked for again next time.",
        path=f"/runs/{run}",
    )


def failed_checks(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> tuple[list[Condition], list[str]]:
    """The checks whose last result is an error; and the incidents' keys of those that run now."""
    found, running = [], []
    for key, status, evaluation in _latest(instance, keys):
        condition = check_failed(key, evaluation.description if evaluation else None)
        if status == "PLANNED":
            running.append(condition.key)
        elif evaluation and not evaluation.passed:
            if evaluation.severity is dg.AssetCheckSeverity.ERROR:
                found.append(condition)
        elif status == "EXECUTION_FAILED":
            found.append(condition)
    return found, running


def check_failed(key: dg.AssetCheckKey, said: str | None) -> Condition:
    """A check that found an error; those that have another cure are told by themselves."""
    asset = key.asset_key.to_user_string()
    unknown = NO_SUCH_PAIR in (said or "")
    return Condition(
        kind=Kind.CHECK,
        subject=f"{asset} {key.name}",
        group=f"{key.asset_key.path[0]} {key.name}{', unknown pairs' * unknown}",
        text=said or "it could not be run",
        cure=UNKNOWN if unknown else MISSING,
        path=f"/assets/{asset}?view=checks",
    )


def _latest(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> list[tuple[dg.AssetCheckKey, str, dg.AssetCheckEvaluation | None]]:
    """The newest result of each check. The one place that needs what Dagster does not call public:
    its public way asks for one key at a time."""
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    found = []
    for key, record in records.items():
        event = record.event.dagster_event if record.event else None
        data = event.event_specific_data if event else None
        evaluation = data if isinstance(data, dg.AssetCheckEvaluation) else None
        found.append((key, record.status.value, evaluation))
    return found
