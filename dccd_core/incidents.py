"""Incidents: what is wrong opens one, its end closes it, and each is told once.

Observers say what they see now, again and again; `step` finds what is new in it. The state is a
file, so that a restart repeats nothing and forgets nothing.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from dccd_core.store import files

REMIND = 86_400.0
MOST_PENDING = 200


class Kind:
    """What can be wrong. Each has a paragraph in docs/operations.md."""

    JOB = "job failed"
    CHECK = "check failed"
    STALE = "stale"
    STREAM = "stream"
    GAP = "gap not healed"
    SERVICE = "stream service"
    PROGRAM = "program"
    DISK = "disk low"
    SYNC = "copy failed"
    CONFIG = "config.yml"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong now.

    `subject` is what it concerns, `text` says what is wrong with it, `cure` what to do. Conditions
    of one kind and `group` that begin together are told together. It is an incident after it has
    lasted `patience` seconds, and over when nothing was seen of it for `calm` seconds: what comes
    and goes is one incident. `path` leads to a page of Dagster's UI.
    """

    kind: str
    subject: str
    text: str
    group: str = ""
    cure: str = ""
    path: str = ""
    patience: float = 0.0
    calm: float = 0.0

    @property
    def key(self) -> str:
        """What makes it the same one as before."""
        return f"{self.kind}: {self.subject}"


class Seen(msgspec.Struct, frozen=True):
    """A condition that is not an incident yet: since when it is seen, and when it was last."""

    since: float
    last: float
    calm: float


class Incident(msgspec.Struct, kw_only=True):
    """A condition that has been told. Moments are unix seconds; `last` is as it was seen last.

    `gone` is since when nothing is seen of it any more.
    """

    opened: float
    told: float
    last: Condition
    gone: float | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be told of some incidents of one kind and group: `what` is opened, closed or
    remind. `ended` says of closed ones what is known of their end, by key."""

    what: str
    incidents: list[Incident]
    ended: dict[str, str] = {}


class State(msgspec.Struct, kw_only=True):
    """All that is remembered: what is open, what is looked at, and messages that wait.

    `refused` is when the webhook last did not take one.
    """

    open: dict[str, Incident] = {}
    seen: dict[str, Seen] = {}
    pending: list[str] = []
    refused: float | None = None
    digest: float | None = None
    low_disk: bool = False


def step(
    state: State,
    conditions: Iterable[Condition],
    kinds: Collection[str],
    now: float,
    *,
    unknown: Collection[str] = (),
    ended: dict[str, str] | None = None,
) -> list[Change]:
    """Bring the state up to what an observer of these `kinds` sees now; what is to be told of it.

    What is `unknown` at the moment, by key, stays as it is.
    """
    wrong = {one.key: one for one in conditions}
    opened = [
        _open(state, one, now)
        for key, one in wrong.items()
        if key not in state.open and _lasted(state, one, now)
    ]
    mine = {key for key, one in state.open.items() if one.last.kind in kinds}
    over = [key for key in sorted(mine - set(unknown)) if _is_over(state.open[key], wrong, now)]
    closed = [state.open.pop(key) for key in over]
    _forget(state, wrong, kinds, unknown, now)
    remind = []
    for key, incident in state.open.items():
        incident.last = wrong.get(key, incident.last)
        if now - incident.told >= REMIND:
            incident.told = now
            remind.append(incident)
    return [
        *_grouped("opened", opened),
        *_grouped("closed", closed, ended or {}),
        *_grouped("remind", remind),
    ]


def _lasted(state: State, condition: Condition, now: float) -> bool:
    known = state.seen.get(condition.key)
    since = known.since if known else now
    state.seen[condition.key] = Seen(since, now, condition.calm)
    return now - since >= condition.patience


def _is_over(incident: Incident, wrong: dict[str, Condition], now: float) -> bool:
    if incident.last.key in wrong:
        incident.gone = None
        return False
    incident.gone = now if incident.gone is None else incident.gone
    return now - incident.gone >= incident.last.calm


def _open(state: State, condition: Condition, now: float) -> Incident:
    since = state.seen.pop(condition.key).since
    incident = Incident(opened=since, told=now, last=condition)
    state.open[condition.key] = incident
    return incident


def _forget(
    state: State,
    wrong: dict[str, Condition],
    kinds: Collection[str],
    unknown: Collection[str],
    now: float,
) -> None:
    """What ended before it was an incident."""
    for key in [*state.seen]:
        mine = key.partition(": ")[0] in kinds and key not in wrong and key not in unknown
        if mine and now - state.seen[key].last >= state.seen[key].calm:
            del state.seen[key]


def _grouped(
    what: str, incidents: list[Incident], ended: dict[str, str] | None = None
) -> list[Change]:
    groups: dict[tuple[str, str], list[Incident]] = {}
    for one in incidents:
        groups.setdefault((one.last.kind, one.last.group or one.last.key), []).append(one)
    return [
        Change(what=what, incidents=group, ended=ended or {}) for _, group in sorted(groups.items())
    ]


class Register:
    """The state on disk. Several programs may work on it: each under the lock."""

    def __init__(self, data_path: Path | str) -> None:
        self._path = Path(data_path) / ".dccd" / "incidents.json"
        self.lock_path = Path(data_path) / ".dccd" / "locks" / "incidents.lock"
        self._known = b""

    def read(self) -> State:
        """The state; a damaged file is moved aside, and begun again."""
        try:
            self._known = self._path.read_bytes()
            return msgspec.json.decode(self._known, type=State)
        except FileNotFoundError:
            return State()
        except msgspec.MsgspecError:
            files.set_aside(self._path)
            return State()

    def write(self, state: State, *, anyway: bool = False) -> None:
        """Keep it, atomically; `anyway` also if nothing has changed, to know that it can be kept.
        Of messages that nobody takes, the newest stay."""
        state.pending = state.pending[-MOST_PENDING:]
        content = msgspec.json.encode(state)
        if anyway or content != self._known:
            files.write_bytes(self._path, content)
            self._known = content
