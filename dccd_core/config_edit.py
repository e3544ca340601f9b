"""Adds pairs to and removes them from a config.yml: all or nothing, comments and order kept.

The new text must hold exactly the wanted values and pass every check of `config.py` before it takes
the place of the old one.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dccd_core.config import Config, ConfigError, parse_config, parse_document, read_text
from dccd_core.config_fields import did_you_mean
from dccd_core.config_problems import problem_of
from dccd_core.config_sections import HistoJob
from dccd_core.config_text import Document, Problem
from dccd_core.models import Channel, Series, Symbol, span_label
from dccd_core.round_trip import Append, NotKept, Remove, edit
from dccd_core.store.files import move

_BY_HAND = "only a person can edit this layout (an anchor or comments in brackets, perhaps)"


@dataclass(frozen=True, slots=True)
class Edit:
    """What an edit did: the series it added or removed, and those that were there already."""

    path: Path
    changed: tuple[Series, ...]
    unchanged: tuple[Series, ...] = ()


def add_pair(path: Path, exchange: str, pairs: Sequence[str], span: int | str) -> Edit:
    """Add pairs to the job of an exchange and span, or as a new job; those that are there stay.

    ConfigError, and an untouched file, if the arguments, the old or the new file are not valid.
    """
    wanted = _wanted(exchange, pairs, span)
    with _locked(path):
        text = read_text(path)
        config = parse_config(text, path)
        new = [series for series in wanted if series not in config.configured]
        if new:
            _write(path, _edited(text, path, partial(_add, config, new)))
    return Edit(path, tuple(new), tuple(series for series in wanted if series in config.configured))


def remove_pair(path: Path, exchange: str, pairs: Sequence[str], span: int | str) -> Edit:
    """Remove pairs from their job, and the job with its last pair.

    ConfigError, and an untouched file, if one of them is not there or nothing would be left.
    """
    wanted = _wanted(exchange, pairs, span)
    with _locked(path):
        text = read_text(path)
        config = parse_config(text, path)
        problems = [
            Problem((), f"{series} is not in histo_jobs{_guess(series, list(config.configured))}")
            for series in wanted
            if series not in config.configured
        ]
        if problems:
            raise ConfigError(path, problems)
        _write(path, _edited(text, path, partial(_remove, config, wanted)))
    return Edit(path, wanted)


def _guess(missing: Series, known: Sequence[Series]) -> str:
    """The same pair elsewhere, else a pair of the same job that is written much the same."""
    for series in known:
        if series.symbol == missing.symbol:
            return f"; did you mean {series}?"
    job = [series for series in known if (series.exchange, series.span) == _job(missing)]
    return did_you_mean(str(missing.symbol), [str(series.symbol) for series in job])


def _job(series: Series) -> tuple[str, int]:
    return series.exchange, series.span


def _wanted(exchange: str, pairs: Sequence[str], span: int | str) -> tuple[Series, ...]:
    """The series that the arguments name, each once; ConfigError as if a file had named them."""
    try:
        job = HistoJob.model_validate({"exchange": exchange, "pairs": list(pairs), "span": span})
    except ValidationError as error:
        problems = [problem_of(detail, Document(), HistoJob) for detail in error.errors()]
        raise ConfigError(None, problems) from error
    symbols = map(Symbol.parse, dict.fromkeys(job.pairs))
    return tuple(Series(job.exchange, Channel.OHLC, symbol, job.span) for symbol in symbols)


def _edited(text: str, path: Path, change: Callable[[Any, Append, Remove], None]) -> str:
    """The text after a change, checked: its values are as if plain lists had been changed."""
    values = parse_document(text, path).values
    change(values, list.append, list.pop)
    try:
        candidates = edit(text, change)
    except NotKept as error:
        raise ConfigError(path, [Problem((), _BY_HAND, error.line)]) from error
    for candidate in candidates:
        found = parse_document(candidate, path).values
        if isinstance(found, dict) and _filled(found) == _filled(values):
            parse_config(candidate, path)
            return candidate
    raise ConfigError(path, [Problem(("histo_jobs",), _BY_HAND)])


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """An empty list of jobs may be written as nothing at all."""
    return {**values, "histo_jobs": values.get("histo_jobs") or []}


def _add(config: Config, new: Sequence[Series], root: Any, append: Append, _: Remove) -> None:
    """Add new series of one exchange and span to their job, or a job at the end."""
    names = [str(series.symbol) for series in new]
    exchange, span = _job(new[0])
    for number, job in enumerate(config.histo_jobs):
        if (job.exchange, job.span) == (exchange, span):
            for name in names:
                append(root["histo_jobs"][number]["pairs"], name)
            return
    if not config.histo_jobs:
        root["histo_jobs"] = []
    append(root["histo_jobs"], {"exchange": exchange, "pairs": names, "span": span_label(span)})


def _remove(config: Config, gone: Sequence[Series], root: Any, _: Append, remove: Remove) -> None:
    """Remove series from their jobs, and the jobs that have none left."""
    names = {str(series.symbol) for series in gone}
    for number, job in reversed(list(enumerate(config.histo_jobs))):
        if (job.exchange, job.span) == _job(gone[0]):
            places = [place for place, pair in enumerate(job.pairs) if pair in names]
            if len(places) == len(job.pairs):
                remove(root["histo_jobs"], number)
            else:
                for place in reversed(places):
                    remove(root["histo_jobs"][number]["pairs"], place)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other edits of files in the folder waiting, so that none is lost."""
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(path, [Problem((), f"cannot be read: {error.strerror}")]) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, text: str) -> None:
    """Replace a file (of a link: what it points to) at once, keeping its mode and owner."""
    target = path.resolve()
    try:
        if not os.access(target, os.W_OK):
            raise PermissionError(0, "it is read-only")
        _replace(target, text.encode())
    except OSError as error:
        problem = Problem((), f"cannot be written: {error.strerror}")
        raise ConfigError(path, [problem]) from error


def _replace(target: Path, data: bytes) -> None:
    old = target.stat()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            new = os.fstat(handle)
            if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
                os.fchown(handle, old.st_uid, old.st_gid)
            os.fchmod(handle, stat.S_IMODE(old.st_mode))
            file.write(data)
            file.flush()
            os.fsync(handle)
        move(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
