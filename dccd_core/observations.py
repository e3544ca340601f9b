"""What is wrong now, as far as files tell: services, streams, freshness, disk."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dccd_core.config import Config
from dccd_core.config_sections import StreamJob
from dccd_core.freshness import (
    Freshness,
    State,
    history_limits,
    judge_age,
    live_limit,
    newest,
)
from dccd_core.gap_incidents import PAGE, gap_condition, told_of
from dccd_core.health import live_rows
from dccd_core.incidents import Condition, Kind
from dccd_core.incidents import State as Incidents
from dccd_core.live_series import live_series
from dccd_core.messages import duration
from dccd_core.models import DAY, SECOND, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.footer import clip_losses
from dccd_core.store.schemas import Loss, SchemaError
from dccd_core.stream_status import CONFIG_UNUSED, ServiceStatus, StreamStatus, read_statuses

SICK = {
    "silent": "no data comes",
    "put_aside": "the exchange refuses it; it is tried again ever more seldom",
    "connecting": "it cannot connect",
    "starting": "it cannot start",
    "synchronising": "its order book cannot be synchronised",
}
# All of them are met for a moment at a reconnect; a refusal may be a passing one.
PATIENCE = dict.fromkeys(("silent", "put_aside"), 120.0) | dict.fromkeys(
    ("connecting", "starting", "synchronising"), 180.0
)
# After a start, or after a long stop of Dagster, the newest data is being fetched.
STALE_PATIENCE = 600.0
# Who wrote `stale_after` waits for that; a service that was just started needs a moment.
STATED_PATIENCE = 60.0
SERVICE_PATIENCE = 60.0
# After a reconnect or a restart a stream looks well until it is found silent again.
CALM = 120.0
_COLLECT = "dccd status tells the last error; dccd collect fetches what is missing."
_REST = "Its stream is well, so the market may rest: look at the exchange. Else: dccd logs streams."
# Of what is wrong in config.yml; Slack cuts messages of more than 4,000 characters.
MOST = 1_000
GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Observer:
    """Looks at one data path. `crons` is when each historical series is collected."""

    config: Config
    crons: Mapping[Series, str]

    @property
    def store(self) -> DataStore:
        """What is stored."""
        return DataStore(self.config.settings.data_path)

    def freshness(self, now: float) -> list[Freshness]:
        """How fresh each configured series is, sorted."""
        data = self.config.settings.data_path
        last = newest(self.store.inventory_rows())
        heard = {Series.parse(key): at for key, at in live_rows(data).items()}
        limits = history_limits(self.config, dict(self.crons))
        found = [
            self._judge(series, last.get(series), limit, now)
            for series, limit in sorted(limits.items())
        ]
        for series, job in live_series(self.config).items():
            rows, seconds = self.rate(series)
            limit = live_limit(series, job, rows, seconds)
            times = [one for one in (last.get(series), heard.get(series)) if one is not None]
            found.append(judge_age(series, max(times, default=None), None, limit, now))
        return found

    def _judge(
        self, series: Series, last: int | None, limit: float | None, now: float
    ) -> Freshness:
        """The ledger is read of a series only that would be stale without it."""
        found = judge_age(series, last, None, limit, now)
        if found.state is not State.STALE or limit is None:
            return found
        recent = Window(int((now - limit) * SECOND), int(now * SECOND))
        try:
            asked = [window.end for window in self.store.covered(series, recent)]
        except (SchemaError, UnreadableError, OSError):
            return found
        return judge_age(series, last, max(asked, default=None), limit, now)

    def rate(self, series: Series) -> tuple[int, float]:
        """How many rows the last two days have, in how many seconds."""
        try:
            stems = self.store.existing_periods(series)[-2:]
            parts = [part for stem in stems for part in self.store.parts(series, stem)]
        except (SchemaError, UnreadableError, OSError):
            return 0, 0.0
        ends = [t for p in parts for t in (p.footer.first, p.footer.last) if t is not None]
        return sum(part.rows for part in parts), (max(ends) - min(ends)) / SECOND if ends else 0.0

    def conditions(self, found: Sequence[Freshness], now: float) -> list[Condition]:
        """What is wrong of services, streams and the age of data."""
        statuses = read_statuses(self.config.settings.data_path)
        alive = [status for status in statuses if status.alive(now)]
        stale = {str(one.series) for one in found if one.state is State.STALE}
        sick = [one for status in alive for one in status.streams if _is_sick(one, stale)]
        wrong = [*self._services(statuses, alive, now), *(_stream(one, now) for one in sick)]
        wrong += self._gaps(now)
        explained = {Series.parse(key) for one in sick for key in one.series}
        if self.config.stream_jobs and not alive:
            explained |= set(live_series(self.config))
        return [*wrong, *_stale(found, explained, live_series(self.config))]

    def _services(
        self, statuses: list[ServiceStatus], alive: list[ServiceStatus], now: float
    ) -> list[Condition]:
        wrong = [_problem(status, status.problem) for status in alive if status.problem]
        if self.config.stream_jobs and not alive:
            since = max((status.written for status in statuses), default=None)
            ago = f"its last sign is {duration(now - since)} old" if since else "it never ran"
            wrong.append(
                Condition(
                    kind=Kind.SERVICE,
                    subject="stream service",
                    text=f"It does not run: {ago}. Nothing live is recorded.",
                    cure="Start it: dccd start, or dccd stream. Why it ended: dccd logs streams.",
                    patience=SERVICE_PATIENCE,
                )
            )
        return wrong

    def unknown(self, state: Incidents, found: Iterable[Freshness], now: float) -> set[str]:
        """The open incidents of which nothing can be said: those of streams while no service runs,
        and what is stale but explained by another one."""
        statuses = read_statuses(self.config.settings.data_path)
        stale = {str(one.series) for one in found if one.state is State.STALE}
        blind = bool(self.config.stream_jobs) and not any(one.alive(now) for one in statuses)
        return {
            key
            for key, one in state.open.items()
            if (one.last.kind == Kind.STALE and one.last.subject in stale)
            or (one.last.kind in (Kind.STREAM, Kind.GAP) and blind)
        }

    def _gaps(self, now: float) -> list[Condition]:
        """What streams lost within a day and nobody has fetched."""
        recent = Window(int((now - DAY) * SECOND), int(now * SECOND))
        live = live_series(self.config)
        # the journal, which may heal some of it, takes too long to be read of every series
        losing = [
            row.series
            for row in self.store.inventory_rows()
            if row.series in live and told_of(row.series, clip_losses(row.lost, recent))
        ]
        found = {series: self._lost(series, recent) for series in losing}
        return [gap_condition(series, lost) for series, lost in found.items() if lost]

    def _lost(self, series: Series, window: Window) -> list[Loss]:
        try:
            lost = self.store.lost(series, window)
        except (SchemaError, UnreadableError, OSError):
            return []
        return told_of(series, lost)


def config_condition(problem: str, patience: float = 0.0) -> Condition:
    """A config.yml that cannot be used, and the last good one is: one incident, whoever sees it."""
    return Condition(
        kind=Kind.CONFIG,
        subject="the last good one is used",
        text=problem if len(problem) <= MOST else f"{problem[:MOST]} …",
        cure="Mend it, then press Reload on the linked page.",
        path="/locations",
        patience=patience,
    )


def _problem(status: ServiceStatus, problem: str) -> Condition:
    if problem.startswith(CONFIG_UNUSED):
        return config_condition(problem.removeprefix(CONFIG_UNUSED), SERVICE_PATIENCE)
    return Condition(
        kind=Kind.SERVICE,
        subject=_name(status),
        text=problem,
        cure="Mend it: what comes waits in memory, or is lost. See dccd logs streams.",
        patience=SERVICE_PATIENCE,
    )


def _name(status: ServiceStatus) -> str:
    return f"stream service {status.shard}" if status.shard else "stream service"


def _is_sick(one: StreamStatus, stale: set[str]) -> bool:
    """A book never rests; of trades a long pause may be a quiet market: then the rate decides."""
    if one.state != "silent":
        return one.state in SICK
    books = {"book", "book_deltas"} & set(one.channels)
    return bool(books) or one.last_row is None or not stale.isdisjoint(one.series)


def _stream(one: StreamStatus, now: float) -> Condition:
    return Condition(
        kind=Kind.STREAM,
        subject=one.key,
        group=one.exchange,
        text=_stream_text(one, now),
        path=f"{PAGE}{one.series[0]}" if one.series else "",
        cure="It is tried again for ever. Nothing to do, unless the pair is gone.",
        patience=PATIENCE[one.state],
        calm=CALM,
    )


def _stream_text(one: StreamStatus, now: float) -> str:
    since = one.silent_since if one.state == "silent" else one.last_message
    ago = f", the last data is {duration(now - since)} old" if since else ""
    said = f": {one.problem}" if one.problem else ""
    return f"{one.state}: {SICK[one.state]}{ago}{said}"


def _stale(
    found: Iterable[Freshness], explained: set[Series], live: Mapping[Series, StreamJob]
) -> list[Condition]:
    return [
        Condition(
            kind=Kind.STALE,
            subject=str(one.series),
            group=one.series.exchange,
            text=f"The newest data is {duration(one.age or 0)} old, its limit is "
            f"{duration(one.limit or 0)}.",
            cure=_REST if one.series in live else _COLLECT,
            path=f"{PAGE}{one.series}",
            patience=_stale_patience(live.get(one.series)),
        )
        for one in found
        if one.state is State.STALE and one.series not in explained
    ]


def _stale_patience(job: StreamJob | None) -> float:
    return STALE_PATIENCE if job is None or job.stale_after is None else STATED_PATIENCE


def disk_condition(data_path: Path, was_low: bool) -> Condition | None:
    """Whether little room is left: 5 % or 5 GB, whichever is less; a fifth more ends it."""
    usage = shutil.disk_usage(data_path)
    limit = min(usage.total / 20, 5 * GB) * (1.2 if was_low else 1.0)
    if usage.free >= limit:
        return None
    return Condition(
        kind=Kind.DISK,
        subject=str(data_path),
        text=f"{usage.free / GB:.1f} GB of {usage.total / GB:.0f} GB are free.",
        cure="Make room: a full disk stops all collecting.",
    )


def endings(state: Incidents, found: Iterable[Freshness], data_path: Path) -> dict[str, str]:
    """What is known of the end of each open incident, by its key: what was healed."""
    ages = {str(one.series): one.age for one in found}
    streams = {one.key: one for status in read_statuses(data_path) for one in status.streams}
    told = {}
    for key, incident in state.open.items():
        last = incident.last
        if last.kind == Kind.STREAM and (one := streams.get(last.subject)):
            told[key] = f"{one.state}; {one.healed:,} rows healed, {one.lost} gaps lost so far"
        elif last.kind == Kind.STALE and (age := ages.get(last.subject)) is not None:
            told[key] = f"the newest data is {duration(age)} old"
        elif last.kind == Kind.GAP:
            told[key] = "healed, or a day old: what is lost for good stays in the ledger"
    return told
