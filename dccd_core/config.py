"""config.yml: what it may say, and every problem of one that says something else.

All problems of a file are reported at once, in one ConfigError. Values that came from the
environment and the values of secret keys are never part of a message.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import to_jsonable_python

from dccd_core.config_fields import ExchangeName, NoneIsEmpty
from dccd_core.config_problems import check_whole, problem_of
from dccd_core.config_sections import (
    Alerts,
    ExchangeSettings,
    HistoJob,
    HistoryJob,
    Section,
    Settings,
    Storage,
    StreamJob,
    TradesJob,
)
from dccd_core.config_text import Document, Problem, read_document, shown_key
from dccd_core.exchanges import load
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.lineage import source_of
from dccd_core.models import DAY, Channel, Series, Symbol
from dccd_core.moments import find_zone, parse_moment, show_moment

_LOG = logging.getLogger(__name__)


class ConfigError(Exception):
    """A configuration that cannot be used: a line per problem, as `file:line: key: value: why`."""

    def __init__(self, path: Path | None, problems: Iterable[Problem]) -> None:
        super().__init__(path, tuple(problems))
        self.path = path
        self.problems: tuple[Problem, ...] = self.args[1]

    def __str__(self) -> str:
        return "\n".join(self._line(problem) for problem in self.problems)

    def _line(self, problem: Problem) -> str:
        file = str(_short(self.path)) if self.path else ""
        place = f"{file}:{problem.line}" if file and problem.line else file
        return ": ".join(filter(None, (place, shown_key(problem.key), problem.text)))


class Config(Section):
    """The whole file. ConfigError, with every problem, if it cannot be used."""

    settings: Settings = Field(description="a mapping with data_path and others")
    storage: Storage = Field(
        default=Storage(), description="a mapping, as remotes: [{remote: nas:crypto}]"
    )
    histo_jobs: tuple[HistoJob, ...] = Field(
        default=(), description="a list of mappings with exchange, pairs and span"
    )
    trades_jobs: tuple[TradesJob, ...] = Field(
        default=(), description="a list of mappings with exchange and pairs"
    )
    stream_jobs: tuple[StreamJob, ...] = Field(
        default=(), description="a list of mappings with exchange, pairs and channels"
    )
    alerts: Alerts = Field(default=Alerts(), description="a mapping, as max_consecutive_errors: 3")
    exchanges: dict[ExchangeName, NoneIsEmpty[ExchangeSettings]] = Field(
        default={},
        description="a mapping of exchange names to settings, as binance: {requests: 0.5}",
    )
    _path: Path | None = PrivateAttr(None)

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems(
        cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        document = info.context if isinstance(info.context, Document) else Document()
        raw = values if document.values else to_jsonable_python(values, serialize_unknown=True)
        problems = [*document.problems, *check_whole(raw, document)]
        try:
            config = handler(values)
            problems += [*config._zone_problems(document), *config._files_problems(document)]
        except ValidationError as error:
            known = {problem.key for problem in document.problems}
            found = (problem_of(detail, document, cls) for detail in error.errors())
            problems += [problem for problem in found if problem.key not in known]
        if problems:
            raise ConfigError(
                document.path, sorted(problems, key=lambda problem: problem.line or 0)
            )
        config._path = document.path and document.path.absolute()
        if config.settings.ui_auth_token:
            _LOG.warning("settings.ui_auth_token is ignored: Dagster's UI has no login")
        return config

    def _zone_problems(self, document: Document) -> list[Problem]:
        try:
            _ = self.timezone
        except LookupError:
            key = ("settings", "timezone")
            why = "local: this machine's TZ is no IANA name: write one here, as Europe/Paris"
            return [Problem(key, why, document.line(key))]
        return []

    def _files_problems(self, document: Document) -> Iterator[Problem]:
        """Trades that only published files have, where these are off."""
        for number, name in enumerate(job.exchange for job in self.trades_jobs):
            exchange, settings = load(name), self.exchange_settings(name)
            reach = exchange.reach if isinstance(exchange, TradesHistory) else None
            if reach is not None and reach < DAY and not settings.files:
                key, missing = ("trades_jobs", number, "exchange"), "archives: true"
                missing = "archive_url" if settings.archives else missing
                why = f"{name}: only its published files have past trades, and these are off: "
                yield Problem(key, f"{why}set exchanges.{name}.{missing}", document.line(key))

    @property
    def path(self) -> Path | None:
        """The file that it was read from, absolute."""
        return self._path

    @cached_property
    def configured(self) -> dict[Series, HistoryJob]:
        """Each historical series that the file names and its job, in the file's order."""
        candles = {
            Series(job.exchange, Channel.OHLC, Symbol.parse(pair), job.span): job
            for job in self.histo_jobs
            for pair in job.pairs
        }
        trades = {
            Series(job.exchange, Channel.TRADES, Symbol.parse(pair)): job
            for job in self.trades_jobs
            for pair in job.pairs
        }
        return {**candles, **trades}

    @cached_property
    def jobs(self) -> dict[Series, HistoryJob]:
        """The configured series, then those that they are built from, with the job they serve."""
        found = dict(self.configured)
        for series, job in self.configured.items():
            source = source_of(series)
            while source is not None:
                found.setdefault(source, job)
                source = source_of(source)
        return found

    @cached_property
    def _starts(self) -> dict[Series, int | None]:
        """Where each series begins: candles that others are built from as early as these."""
        found = {series: self._own_start(job) for series, job in self.jobs.items()}
        for series in self.configured:
            source = source_of(series)
            while source is not None:
                if source.channel is Channel.OHLC or source not in self.configured:
                    both = (found[source], found[series])
                    found[source] = None if None in both else min(both)  # type: ignore[type-var]
                source = source_of(source)
        return found

    def _own_start(self, job: HistoryJob) -> int | None:
        return None if job.start is None else self.parse_moment(job.start)

    def series(self) -> list[Series]:
        """The historical series to collect: the configured ones, then candles that they are built
        from. Trades that candles are built from are fetched as far as those need them."""
        return [s for s in self.jobs if s in self.configured or s.channel is Channel.OHLC]

    def job_of(self, series: Series) -> HistoryJob:
        """The job that names a series, or that needs it; KeyError if none does."""
        return self.jobs[series]

    def start_of(self, series: Series) -> int | None:
        """Where a series begins, in microseconds; None: at its listing."""
        return self._starts[series]

    def exchange_settings(self, name: str) -> ExchangeSettings:
        """The settings of an exchange; the defaults if the file has none for it."""
        return self.exchanges.get(name, ExchangeSettings())

    @property
    def timezone(self) -> ZoneInfo:
        """The zone in which dates given by people are read and shown."""
        return find_zone(self.settings.timezone, os.environ.get("TZ", ""))

    def parse_moment(self, text: str) -> int:
        """Microseconds of a date that a person wrote; ValueError says what would be right."""
        return parse_moment(text, self.timezone)

    def show_moment(self, time: int) -> str:
        """Microseconds as a person reads them, with the offset."""
        return show_moment(time, self.timezone)


def load_config(
    path: Path | str | None = None, unset: Callable[[str], None] | None = None
) -> Config:
    """The configuration in a file, found as `resolve_config_path` does; ConfigError if unusable.

    Who needs no secrets names `unset`: it is told of variables that there are not, and what they
    stand for counts as not written.
    """
    file = resolve_config_path(path)
    return parse_config(read_text(file), file, unset)


def parse_config(text: str, path: Path, unset: Callable[[str], None] | None = None) -> Config:
    """The configuration in a text; `path` is for messages and for relative folders in it."""
    document = parse_document(text, path, lenient=unset is not None)
    if document.values is None:
        empty = [Problem((), "is empty: config.example.yml shows every key")]
        raise ConfigError(path, document.problems or empty)
    config = Config.model_validate(document.values, context=document)
    if unset and document.unset:
        unset(str(ConfigError(path, document.unset)))
    return config


def parse_document(text: str, path: Path, *, lenient: bool = False) -> Document:
    """The values of a text with the environment's variables filled in, not checked."""
    return read_document(text, os.environ, path, lenient=lenient)


def read_text(path: Path) -> str:
    """The text of a file, line ends as they are; ConfigError if it cannot be read."""
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise ConfigError(path, [Problem((), "is a folder: name the file in it")]) from error
    except OSError as error:
        raise ConfigError(path, [Problem((), f"cannot be read: {error.strerror}")]) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, [Problem((), "is not UTF-8: save it as UTF-8", line)]) from None


def resolve_config_path(path: Path | str | None = None) -> Path:
    """The file to use, absolute: `path`, $DCCD_CONFIG, ./config.yml, $XDG_CONFIG_HOME/dccd/.

    The first two are used even if they do not exist: falling back would collect something else.
    ConfigError tells where it looked.
    """
    variable = os.environ.get("DCCD_CONFIG", "")
    if path or variable:
        return _home(path or variable).absolute()
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        base = _home("~/.config")
    places = [Path("config.yml"), base / "dccd" / "config.yml"]
    found = next((place for place in places if os.access(place, os.F_OK)), None)
    if found is None:
        looked = ", ".join(map(str, places))
        why = f"no config file: looked at $DCCD_CONFIG (not set), {looked}; name one with --config"
        raise ConfigError(None, [Problem((), why)])
    return found.absolute()


def _home(path: Path | str) -> Path:
    """`~` filled in where there is a home: a container's user may have none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _short(path: Path) -> Path:
    """Short where it can be: people start programs beside the file."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


def environment(name: str) -> str:
    """The value of an environment variable, empty if it is not set."""
    return os.environ.get(name, "")


def child_environment(**values: str) -> dict[str, str]:
    """The environment for a program that we start: ours, and the given values."""
    return {**os.environ, **values}
