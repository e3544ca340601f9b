"""What is wrong with the values of a configuration, as one sentence for each problem."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dccd_core.config_fields import REFUSED, did_you_mean, folder
from dccd_core.config_sections import Settings, StreamJob
from dccd_core.config_text import Document, Key, Problem, plain, shown_key
from dccd_core.models import Channel, Series, Symbol, parse_span

# The lists of jobs, with the channel that all jobs of a list have.
JOBS = {"histo_jobs": ["ohlc"], "trades_jobs": ["trades"], "stream_jobs": None}

_SECRETS = frozenset({"webhook_url", "proxy", "ui_auth_token", "remote"})
# Text in these sections is shown to nobody: a secret is one line too high or too low there.
_SECRET_PLACES: tuple[Key, ...] = (("alerts",), ("storage", "remotes"))
_HIDDEN = "(hidden)"
# What somebody means who writes no cron text as `digest`: daily, 7:00, 70 * * * *
_DIGEST: Key = ("alerts", "digest")
_WORD_OR_TIME = re.compile(r"@?[A-Za-z]{1,10}|[\d\s*/,:-]{1,40}")
_USER = re.compile(r"(\w+://)?\S*@")
_ADDRESS = re.compile(r"(\w+://)(\S*@)?([^/?#\s]*)(.*)", re.DOTALL)
_ASSIGNED = re.compile(r"pass\w*\s*[=:]|secret|token", re.IGNORECASE)


def stream_job(values: dict[str, object]) -> StreamJob:
    """A stream job that stands in no file; ValueError names each key that is wrong, and why."""
    try:
        return StreamJob.model_validate(values)
    except ValidationError as error:
        found = [problem_of(one, Document(), StreamJob) for one in error.errors()]
        text = "; ".join(f"{shown_key(one.key)}: {one.text}" for one in found)
        raise ValueError(text) from None


def problem_of(error: ErrorDetails, document: Document, root: type[BaseModel]) -> Problem:
    """One of pydantic's errors as a problem of the file."""
    key: Key = tuple(part for part in error["loc"] if part != "[key]")
    model, field = _walk(key, root)
    right = field.description if field else ""
    hidden = _hidden(key, document, error["input"])
    if isinstance(error["input"], str) and error["type"] != REFUSED and _keeps_secrets(model):
        # `alerts: https://…` or `webhook_url https://…`: text in the place of a whole section
        whole = not key or (field is not None and _section(field.annotation) is not None)
        hidden = hidden or (_HIDDEN if whole else "")
    match error["type"]:
        case "extra_forbidden":
            text = f"no such key{_key_guess(str(key[-1]), model, root)}"
        case "missing":
            text = f"missing: write {right}"
        case "model_type":
            keys = ", ".join(model.model_fields)
            text = f"{hidden or _shown(error['input'])}: must be a mapping with the keys {keys}"
        case kind if kind == REFUSED:
            context = error["ctx"]
            guess = "" if hidden else context["guess"]
            text = f"{hidden or _shown(error['input'])}: {context['why']}{guess}"
        case _:
            text = f"{hidden or _shown(error['input'])}: must be {right}"
    return Problem(key, text, document.line(key))


def _walk(key: Key, root: type[BaseModel]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The innermost section that a key is in, and the last field on the way."""
    model, field = root, None
    for part in key:
        found = model.model_fields.get(str(part))
        if found:
            field = found
            model = _section(found.annotation) or model
    return model, field


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, itself or in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)


def _keeps_secrets(model: type[BaseModel]) -> bool:
    """Whether a section, or one below it, has a key whose value is shown to nobody."""
    below = (_section(field.annotation) for field in model.model_fields.values())
    own = not _SECRETS.isdisjoint(model.model_fields)
    return own or any(section and _keeps_secrets(section) for section in below)


def _key_guess(word: str, model: type[BaseModel], root: type[BaseModel]) -> str:
    """The key that was meant, or the section that a right key belongs in."""
    near = did_you_mean(word, model.model_fields)
    if near:
        return near
    for name, field in root.model_fields.items():
        section = _section(field.annotation)
        if section and word in section.model_fields:
            return f"; it belongs in {name}"
    return f"; there are: {', '.join(model.model_fields)}"


def _hidden(key: Key, document: Document, value: object) -> str:
    """What stands for a value that may not be shown; empty if it may."""
    secret = bool(key) and key[-1] in _SECRETS
    if isinstance(value, str):
        harmless = key == _DIGEST and _WORD_OR_TIME.fullmatch(value)
        place = any(key[: len(place)] == place for place in _SECRET_PLACES)
        secret = secret or (place and not harmless)
    return document.hidden.get(key, _HIDDEN if secret else _covered(value))


def _covered(value: object) -> str:
    """What stands for text that looks like a secret, of an address its host; empty if it does not.

    Wherever it is written: a webhook's address may stand beside the line that it is for.
    """
    if not isinstance(value, str):
        return ""
    if _ASSIGNED.search(value):
        return _HIDDEN
    if "://" not in value:
        return ""
    address = _ADDRESS.fullmatch(value.strip())
    if not address:
        return _HIDDEN
    scheme, user, host, rest = address.groups()
    return plain(f"{scheme}{'…@' if user else ''}{host}{'/…' if rest else ''}")


def _shown(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict() | BaseModel():
            return "a mapping"
        case list() | tuple():
            return "a list" if value else "an empty list"
    return plain(_USER.sub(r"\1…@", str(value)))


def check_whole(values: Any, document: Document) -> Iterator[Problem]:
    """What no single field can tell. It skips what is malformed: the fields report that."""
    if not isinstance(values, dict):
        return
    if not any(map(values.get, JOBS)):
        yield Problem((), f"nothing to collect: name a job in {', '.join(JOBS)}")
    yield from _series_twice(values, document)
    if values.get("stream_jobs"):
        yield from _port_twice(_mapping(values.get("settings")), document)
    storage = _mapping(values.get("storage"))
    yield from _remote_twice(_list(storage.get("remotes")), document)
    days = _mapping(storage.get("retention")).values()
    if any(one is not None for one in days) and not _list(storage.get("remotes")):
        key = ("storage", "retention")
        why = "nothing is removed here without a copy elsewhere: name one in storage.remotes"
        yield Problem(key, why, document.line(key))
    local = storage.get("local_path")
    data = _mapping(values.get("settings")).get("data_path")
    if isinstance(local, str) and isinstance(data, str) and local and not _same(local, data):
        key = ("storage", "local_path")
        shown = _hidden(key, document, local) or plain(local)
        why = "there is one tree of data, settings.data_path: leave this key out"
        yield Problem(key, f"{shown}: {why}", document.line(key))


def _series_twice(values: dict[str, Any], document: Document) -> Iterator[Problem]:
    for section in JOBS:
        first: dict[Series, Key] = {}
        for key, series in _places(section, _list(values.get(section))):
            place = first.setdefault(series, key)
            if place == key:
                continue
            hidden = any(name[:2] in (key[:2], place[:2]) for name in document.hidden)
            line = document.line(place)
            where = shown_key(place) + (f" (line {line})" if line else "")
            text = f"{'the series' if hidden else plain(str(series))} is already in {where}"
            yield Problem(key, text, document.line(key))


def _port_twice(settings: dict[str, Any], document: Document) -> Iterator[Problem]:
    ui, stream = (
        str(Settings.model_fields[name].default if settings.get(name) is None else settings[name])
        for name in ("ui_port", "stream_port")
    )
    if ui == stream:
        key = ("settings", "stream_port" if settings.get("stream_port") is not None else "ui_port")
        shown = document.hidden.get(key) or plain(ui)
        why = "ui_port and stream_port are the same: give each a port of its own"
        yield Problem(key, f"{shown}: {why}", document.line(key))


def _places(section: str, jobs: list[Any]) -> Iterator[tuple[Key, Series]]:
    """Each series that jobs name, with the key of its pair."""
    for number, job in enumerate(map(_mapping, jobs)):
        channels = JOBS[section] or _list(job.get("channels"))
        for item, pair in enumerate(_list(job.get("pairs"))):
            for channel in dict.fromkeys(map(str, channels)):
                span = job.get("span", job.get("time_step", 60)) if channel == "ohlc" else None
                series = _series(job.get("exchange"), channel, pair, span)
                if series:
                    yield (section, number, "pairs", item), series


def _series(exchange: object, channel: str, pair: object, span: Any) -> Series | None:
    try:
        seconds = 0 if span is None else parse_span(span)
        return Series(str(exchange), Channel(channel), Symbol.parse(str(pair)), seconds)
    except ValueError:
        return None


def _remote_twice(remotes: list[Any], document: Document) -> Iterator[Problem]:
    first: dict[str, Key] = {}
    for number, remote in enumerate(map(_mapping, remotes)):
        key = ("storage", "remotes", number, "remote")
        place = first.setdefault(str(remote.get("remote", number)), key)
        if place != key:
            yield Problem(key, f"the same as {shown_key(place)}", document.line(key))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _same(one: str, other: str) -> bool:
    """Whether two texts name one folder."""
    base = Path("/")  # any will do, and the folder that we are in may be gone
    try:
        return folder(one, base) == folder(other, base)
    except RuntimeError:
        return False
