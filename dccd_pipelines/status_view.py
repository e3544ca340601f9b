"""The one screen of `dccd status`: history, streams, incidents."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dccd_core.config import Config
from dccd_core.freshness import age_of
from dccd_core.health import HealthMonitor, JobMetrics
from dccd_core.incidents import Incident, Register
from dccd_core.messages import duration
from dccd_core.models import SECOND, Series
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.schemas import SchemaError
from dccd_core.stream_status import ServiceStatus, StreamStatus, read_statuses
from dccd_pipelines.tables import brief, short_moment, table


@dataclass(frozen=True, slots=True)
class Status:
    """What is known at a moment. `broken` are files that cannot be read."""

    config: Config
    now: float
    metrics: dict[str, JobMetrics]
    ages: dict[str, float | None]
    services: list[ServiceStatus]
    incidents: list[Incident]
    broken: list[str]

    def builtins(self) -> dict[str, Any]:
        """For JSON: history by series, the services with their streams, open incidents."""
        known = {key: self.metrics.get(key, JobMetrics(key)) for key in self.ages}
        services = [
            msgspec.to_builtins(one) | {"running": one.alive(self.now)} for one in self.services
        ]
        return {
            "history": {
                key: msgspec.to_builtins(known[key]) | {"data_age": age}
                for key, age in self.ages.items()
            },
            "streams": services,
            "incidents": [
                {
                    "kind": one.last.kind,
                    "subject": one.last.subject,
                    "text": one.last.text,
                    "opened": one.opened,
                }
                for one in self.incidents
            ],
        }

    def tables(self) -> list[RenderableType]:
        """For people."""
        found: list[RenderableType] = [_history(self)] if self.ages else []
        for service in self.services:
            found += ["", _headline(service, self.now), *_streams(service, self.now)]
        if self.config.stream_jobs and not self.services:
            found += ["", Text("The stream service has never run here: dccd start", style="red")]
        if self.incidents:
            found += ["", _incidents(self)]
        return found


def read_status(config: Config) -> Status:
    """Everything, from files alone: it works whatever runs."""
    data, now = config.settings.data_path, time.time()
    store = DataStore(data)
    ages: dict[str, float | None] = {}
    broken: list[str] = []
    for series in config.series():
        ages[str(series)] = _age(store, series, now, broken)
    return Status(
        config=config,
        now=now,
        metrics=HealthMonitor(data).get_metrics(now),
        ages=ages,
        services=read_statuses(data),
        incidents=list(Register(data).read().open.values()),
        broken=broken,
    )


def _age(store: DataStore, series: Series, now: float, broken: list[str]) -> float | None:
    try:
        last = store.last_timestamp(series)
    except (UnreadableError, SchemaError) as error:
        broken.append(str(error))
        return None
    return age_of(series, None if last is None else int(last.timestamp() * SECOND), now)


def _history(status: Status) -> Table:
    made = table(
        *("job", "last run", "last success", ">rows fetched", ">errors", ">data age", "last error")
    )
    show = short_moment(status.config)
    for key, age in status.ages.items():
        found = status.metrics.get(key, JobMetrics(key))
        moments = [
            "never" if when is None else show(int(when * SECOND))
            for when in (found.last_run, found.last_success)
        ]
        failing = found.consecutive_errors
        made.add_row(
            key,
            *moments,
            f"{found.rows_collected:,}",
            Text(str(failing), style="bold red" if failing else ""),
            _ago(age),
            brief((found.last_error or "") if failing else ""),
        )
    return made


def _headline(service: ServiceStatus, now: float) -> Text:
    name = f"Stream service {service.shard}" if service.shard else "Stream service"
    if service.ended:
        return Text(f"{name}: was stopped {_ago(service.age(now))} ago", "red")
    if not service.alive(now):
        return Text(f"{name}: does not run, its last sign is {_ago(service.age(now))} old", "red")
    where = f", http://127.0.0.1:{service.health_port}/health" if service.health_port else ""
    said = f"{name}: runs since {duration(now - service.started)}, process {service.pid}{where}"
    return Text(f"{said}: {service.problem}", "red") if service.problem else Text(said, "green")


def _streams(service: ServiceStatus, now: float) -> list[Table]:
    if not service.streams:
        return []
    made = table(
        "stream", "state", ">rows today", ">last row", ">lag", ">reconnects", ">gaps", "last error"
    )
    alive = service.alive(now)
    for one in service.streams:
        made.add_row(
            one.key,
            _state(one, alive),
            f"{one.rows_today:,}",
            _ago(None if one.last_row is None else max(0.0, now - one.last_row)),
            "–" if one.lag is None else f"{one.lag:.2f} s",
            str(one.reconnects),
            f"{one.gaps} ({one.lost} lost)" if one.lost else str(one.gaps),
            brief(one.problem or ""),
        )
    return [made]


def _state(one: StreamStatus, alive: bool) -> Text:
    if not alive:
        return Text("down", style="bold red")
    style = {"live": "green", "silent": "bold red", "put_aside": "bold red"}
    return Text(one.state, style=style.get(one.state, "yellow"))


def _incidents(status: Status) -> Table:
    made = table("open incident", ">for", "windows")
    made.columns[-1].header = "what"
    for one in sorted(status.incidents, key=_opened):
        made.add_row(
            Text(one.last.key, style="bold red"), duration(status.now - one.opened), one.last.text
        )
    return made


def _opened(incident: Incident) -> float:
    return incident.opened


def _ago(age: float | None) -> str:
    return "–" if age is None else duration(age)


def stream_tables(services: Sequence[ServiceStatus], now: float) -> list[RenderableType]:
    """What `dccd streams` shows."""
    found: list[RenderableType] = []
    for one in services:
        found += [_headline(one, now), *_streams(one, now)]
    return found
