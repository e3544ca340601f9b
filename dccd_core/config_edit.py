"""Adds pairs to and removes them from a config.yml: all or nothing, and the rest stays as it is.

The new text must hold exactly the wanted values and pass every check of `config.py` before it takes
the place of the old one.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dccd_core.config import Config, ConfigError, parse_config, parse_document, read_text
from dccd_core.config_fields import did_you_mean
from dccd_core.config_problems import problem_of
from dccd_core.config_sections import HistoJob
from dccd_core.config_text import Document, Problem, compose
from dccd_core.models import Channel, Series, Symbol, parse_span, span_label
from dccd_core.yaml_edit import append_item, child, remove_item


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
        new = tuple(series for series in wanted if series not in config.jobs)
        if new:
            _write(path, _added(text, config, new, path))
    return Edit(path, new, tuple(series for series in wanted if series in config.jobs))


def remove_pair(path: Path, exchange: str, pairs: Sequence[str], span: int | str) -> Edit:
    """Remove pairs from their job, and the job with its last pair.

    ConfigError, and an untouched file, if one of them is not there or nothing would be left.
    """
    wanted = _wanted(exchange, pairs, span)
    with _locked(path):
        text = read_text(path)
        config = parse_config(text, path)
        problems = [
            Problem((), f"{series} is not in histo_jobs{_guess(series, config.series())}")
            for series in wanted
            if series not in config.jobs
        ]
        if problems:
            raise ConfigError(path, problems)
        for series in wanted:
            text = _removed(text, series, path)
        parse_config(text, path)
        _write(path, text)
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


def _added(text: str, config: Config, new: tuple[Series, ...], path: Path) -> str:
    """The text with new series of one exchange and span, checked."""
    first = new[0]
    values = parse_document(text, path).values
    number = next(
        (
            number
            for number, job in enumerate(config.histo_jobs)
            if (job.exchange, job.span) == _job(first)
        ),
        None,
    )
    names = [str(series.symbol) for series in new]
    if number is None:
        label = span_label(first.span)
        job = {"exchange": first.exchange, "pairs": names, "span": label}
        values["histo_jobs"] = [*(values.get("histo_jobs") or []), job]
        lines = [f"exchange: {first.exchange}", f"pairs: [{', '.join(names)}]", f"span: {label}"]
        text = append_item(text, ("histo_jobs",), lines, "{" + ", ".join(lines) + "}")
    else:
        values["histo_jobs"][number]["pairs"] += names
        for name in names:
            pairs = child(compose(text), "histo_jobs", number, "pairs")
            quote = pairs.value[-1].style or "" if pairs else ""
            quoted = f"{quote}{name}{quote}"
            text = append_item(text, ("histo_jobs", number, "pairs"), [quoted], quoted)
    _check(text, values, path)
    parse_config(text, path)
    return text


def _removed(text: str, series: Series, path: Path) -> str:
    """The text without a series that is in it. What is left may be no valid configuration."""
    values = parse_document(text, path).values
    number, place = next(
        (number, place)
        for number, job in enumerate(values["histo_jobs"])
        for place, pair in enumerate(job["pairs"])
        if _names(job, pair, series)
    )
    job = values["histo_jobs"][number]
    if len(job["pairs"]) == 1:
        del values["histo_jobs"][number]
        text = remove_item(text, ("histo_jobs", number))
    else:
        del job["pairs"][place]
        text = remove_item(text, ("histo_jobs", number, "pairs", place))
    _check(text, values, path)
    return text


def _names(job: dict[str, Any], pair: str, series: Series) -> bool:
    same_job = (job["exchange"], parse_span(job["span"])) == _job(series)
    return same_job and pair == str(series.symbol)


def _check(text: str, values: dict[str, Any], path: Path) -> None:
    """ConfigError unless a text holds exactly these values."""
    found = parse_document(text, path).values
    if not isinstance(found, dict) or _filled(found) != _filled(values):
        why = "histo_jobs is laid out in a way that only a person can edit (an anchor, perhaps)"
        raise ConfigError(path, [Problem((), why)])


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """An empty list of jobs may be written as nothing at all."""
    return {**values, "histo_jobs": values.get("histo_jobs") or []}


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
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
