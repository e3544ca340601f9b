"""One look at everything: what is wrong becomes incidents, and freshness becomes checks."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import msgspec

from dccd_core.alerts import Alerter
from dccd_core.config import Config
from dccd_core.freshness import Freshness, State
from dccd_core.health import HealthMonitor
from dccd_core.incidents import Condition, Kind
from dccd_core.incidents import State as Incidents
from dccd_core.messages import digest, duration
from dccd_core.observations import Observer, config_condition, disk_condition, endings
from dccd_core.store.datastore import DataStore
from dccd_pipelines.cron import default_cron
from dccd_pipelines.keys import asset_key
from dccd_pipelines.owed import owed
from dccd_pipelines.run_records import failed_checks, failing_jobs
from dccd_pipelines.tables import size

FRESH = "fresh"
# All but the programs, which `dccd start` looks after itself.
OURS = {
    *(Kind.JOB, Kind.CHECK, Kind.SYNC, Kind.STALE),
    *(Kind.STREAM, Kind.GAP, Kind.SERVICE, Kind.DISK, Kind.CONFIG),
}
NAMED = 5
GOOD = {State.FRESH, State.QUIET, State.UNLIMITED}


def observer_of(config: Config) -> Observer:
    """Who knows when each configured series is collected."""
    crons = {
        series: config.job_of(series).schedule or default_cron(series)
        for series in config.configured
    }
    return Observer(config, crons)


@dataclass(frozen=True, slots=True)
class Look:
    """One tick of the health sensor. `problem` is why a newer config.yml is not used."""

    config: Config
    instance: dg.DagsterInstance
    jobs: Sequence[str]
    checks: Collection[dg.AssetCheckKey]
    now: float
    problem: str = ""

    def report(self) -> list[Freshness]:
        """Tell of what is wrong and of what is well again; how fresh each series is."""
        data = self.config.settings.data_path
        observer, alerter = observer_of(self.config), Alerter(self.config)
        health = HealthMonitor(data)
        found, state = observer.freshness(self.now), alerter.state()
        most = self.config.alerts.max_consecutive_errors
        failed, running = failed_checks(self.instance, self.checks)
        wrong = [
            *observer.conditions(found, self.now),
            *failing_jobs(self.instance, self.jobs, most, health.get_metrics(self.now), self.now),
            *failed,
            *self._disk(alerter, state),
            *([config_condition(self.problem)] if self.problem else []),
        ]
        ended = endings(state, found, data)
        wrong = _once(wrong, state)
        unknown = {*running, *observer.unknown(state, found, self.now)}
        alerter.report(wrong, OURS, self.now, unknown=unknown, ended=ended)
        cron = None if self.config.alerts.digest == "off" else self.config.alerts.digest
        alerter.digest(cron, self.now, lambda kept: daily_word(self.config, found, kept, self.now))
        health.export(self.now)
        return found

    def _disk(self, alerter: Alerter, state: Incidents) -> list[Condition]:
        low = disk_condition(self.config.settings.data_path, state.low_disk)
        alerter.note_disk(low is not None)
        return [low] if low else []


def _once(wrong: list[Condition], state: Incidents) -> list[Condition]:
    """A service that `dccd start` is known to start again is not told of twice."""
    dead = f"{Kind.PROGRAM}: streams" in state.open
    service = f"{Kind.SERVICE}: stream service"
    return [one for one in wrong if not (dead and one.key == service and service not in state.open)]


def daily_word(config: Config, found: Sequence[Freshness], state: Incidents, now: float) -> str:
    """The digest: how much there is, and what is wrong."""
    rows = DataStore(config.settings.data_path).inventory_rows(owed(config, now))
    missing = sum(row.missing or 0 for row in rows)
    stale = sum(one.state is State.STALE for one in found)
    figures = [
        ("series", f"{len(found):,}"),
        ("rows", f"{sum(row.rows for row in rows):,}"),
        ("gaps to fetch", f"{missing:,}"),
        ("stale", str(stale)),
        ("on disk", size(sum(row.bytes for row in rows))),
    ]
    return digest(figures, list(state.open.values()), complete=not missing)


def tick_text(found: Sequence[Freshness], state: Incidents) -> str:
    """How everything is, in a line."""
    states = [str(one.state) for one in found]
    counts = ", ".join(f"{states.count(name)} {name}" for name in dict.fromkeys(states))
    head = f"{len(found)} series: {counts}" if found else "no series"
    wrong = list(state.open)
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return f"{head}; {'; '.join(wrong[:NAMED]) or 'no incident is open'}{more}"


def changed_checks(
    found: Sequence[Freshness], cursor: str | None
) -> tuple[list[dg.AssetCheckEvaluation], str]:
    """The freshness checks whose result is another than the one that was told last; the cursor."""
    before = _states(cursor)
    now = {str(one.series): str(one.state) for one in found}
    events = [
        dg.AssetCheckEvaluation(**fresh_result(one))
        for one in found
        if before.get(str(one.series)) != one.state
    ]
    return events, msgspec.json.encode(now).decode()


def _states(cursor: str | None) -> Mapping[str, str]:
    try:
        return msgspec.json.decode(cursor or "{}", type=dict[str, str])
    except msgspec.MsgspecError:
        return {}


def fresh_result(one: Freshness) -> dict[str, Any]:
    """What the check says of one series, as the arguments of its result."""
    metadata = {}
    if one.age is not None:
        metadata["data_age_seconds"] = dg.MetadataValue.float(round(one.age, 1))
    if one.limit is not None:
        metadata["limit_seconds"] = dg.MetadataValue.float(one.limit)
    return {
        "asset_key": asset_key(one.series),
        "check_name": FRESH,
        "passed": one.state in GOOD,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": fresh_text(one),
        "metadata": metadata,
    }


def fresh_text(one: Freshness) -> str:
    """The state in words."""
    age = duration(one.age) if one.age is not None else ""
    limit = duration(one.limit) if one.limit is not None else ""
    return {
        State.FRESH: f"the newest data is {age} old; up to {limit} is usual",
        State.STALE: f"the newest data is {age} old, more than {limit}",
        State.QUIET: f"the newest data is {age} old; the exchange has nothing newer",
        State.EMPTY: "nothing is stored yet",
        State.UNLIMITED: f"the newest data is {age} old; nothing says how old it may be",
    }[one.state]
