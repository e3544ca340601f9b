"""rclone as a program: what we ask of it, how far it is, and its end when nothing moves."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from dccd_core.config import child_environment
from dccd_core.offsite_files import show_bytes
from dccd_core.offsite_remote import Target
from dccd_core.store.files import DEEPEST

IDLE = 600.0
"""Seconds without a byte, a check or a listed file after which a transfer is stuck."""
MISSING = "rclone is not installed: apt install rclone, or see https://rclone.org/install"
_LOG = ["--use-json-log", "--stats=10s", "--stats-log-level=NOTICE", "--ask-password=false"]
# A user's own settings must not take away what we listen to.
_PLAIN = {
    "RCLONE_LOG_FILE": "",
    "RCLONE_LOG_LEVEL": "NOTICE",
    "RCLONE_VERBOSE": "0",
    "RCLONE_QUIET": "false",
    "RCLONE_PROGRESS": "false",
}
# Nor change what is copied, and what counts as equal.
_OTHERWISE = re.compile(
    r"RCLONE_(SIZE_ONLY|CHECKSUM|DRY_RUN|INTERACTIVE|UPDATE|IMMUTABLE|DOWNLOAD|ONE_WAY|COMBINED"
    r"|DIFFER|MATCH|MISSING_ON_(SRC|DST)|ERROR|IGNORE_\w+|(FILTER|INCLUDE|EXCLUDE|FILES_FROM)\w*"
    r"|(MIN|MAX)_(AGE|SIZE)|MAX_(DEPTH|TRANSFER|DURATION)|HASH_FILTER|CHECKFILE|SUFFIX\w*"
    r"|(COMPARE|COPY)_DEST|BACKUP_DIR|NO_CHECK_DEST|(COPY_|SKIP_)?LINKS|PARTIAL_SUFFIX)"
)
_UNCHECKED = ("common hash", "hashes could not be checked")
_TICK = 0.1
_CLOCK = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ")
_NO_FOLDER = 3  # https://rclone.org/docs/#exit-code
# what is not data: kept copies, and what a person put there
_DATA = ["--filter=- /_**", "--filter=- .**", "--filter=+ *.parquet", "--filter=+ _listing.json"]


class OffsiteError(Exception):
    """Copies that could not be made, checked or fetched; the message may be shown to anyone."""


class Stats(msgspec.Struct, frozen=True, rename="camel"):
    """How far rclone is: bytes, and numbers of files."""

    bytes: int = 0
    total_bytes: int = 0
    transfers: int = 0
    total_transfers: int = 0
    checks: int = 0
    total_checks: int = 0
    renames: int = 0


class _Line(msgspec.Struct, frozen=True):
    """A line of rclone's log."""

    level: str = ""
    msg: str = ""
    object: str = ""
    stats: Stats | None = None


class _Listed(msgspec.Struct, frozen=True, rename="pascal"):
    path: str
    size: int


_LINE = msgspec.json.Decoder(_Line)


@dataclass(slots=True)
class _Said:
    """What a running rclone said so far; `moved` is when something went on."""

    moved: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    hashed: bool = True
    stats: Stats = field(default_factory=Stats)


@dataclass(frozen=True, slots=True)
class Checked:
    """The files that are not equal, and whether checksums were compared, or sizes only."""

    different: set[str]
    hashed: bool


class Rclone:
    """Runs rclone for one remote. `say` hears of progress, setting `cancel` ends what runs.

    Its methods raise OffsiteError with rclone's own words, without secrets.
    """

    def __init__(
        self,
        target: Target,
        say: Callable[[str], None],
        cancel: threading.Event | None = None,
        idle: float = IDLE,
    ) -> None:
        self.target = target
        self.say, self._cancel, self._idle = say, cancel, idle
        self.holds: tuple[int, ...] = ()

    def sizes(self, paths: Collection[str]) -> dict[str, int]:
        """The sizes of those of these files that the remote has."""
        return self._list(["--no-modtime"], paths)

    def everything(self, folders: Collection[str] = ()) -> dict[str, int]:
        """The size of each data file of the remote, or of some of its folders."""
        inside = [f"--filter=+ /{folder}/*" for folder in folders]
        return self._list([*inside, "--filter=- *"] if folders else [*_DATA, "--filter=- *"], None)

    def _list(self, options: list[str], paths: Collection[str] | None) -> dict[str, int]:
        # behind links too, and a link may lead in a circle
        flags = ["--recursive", "--files-only", "--copy-links", f"--max-depth={DEEPEST + 1}"]
        flags += ["--no-mimetype", *options, self.target.root]
        code, said = self._run("lsjson", flags, paths)
        if code == _NO_FOLDER:
            return {}
        self._demand(code, said, "lsjson")
        found = msgspec.json.decode("".join(said.lines), type=list[_Listed])
        return {one.path: one.size for one in found}

    def copy(self, source: str, target: str, paths: Collection[str], *flags: str) -> None:
        """Copy files. One that is not there is left out without a word."""
        self._transfer("copy", source, target, paths, ("--copy-links", *flags))

    def move(self, source: str, target: str, paths: Collection[str]) -> None:
        """Move files inside the remote."""
        self._transfer("move", source, target, paths, ("--ignore-times",))

    def _transfer(
        self, verb: str, source: str, target: str, paths: Collection[str], flags: Collection[str]
    ) -> None:
        if paths:
            self._demand(*self._run(verb, [*flags, source, target], paths), verb)

    def check(self, source: str, target: str, paths: Collection[str], *flags: str) -> Checked:
        """Compare files by checksums if both sides have a common kind, else by size."""
        if not paths:
            return Checked(set(), hashed=True)
        code, said = self._run(
            "check", ["--copy-links", "--one-way", "--combined=-", *flags, source, target], paths
        )
        signs = {line[2:]: line[0] for line in said.lines if line[1:2] == " "}
        if code and not any(sign != "=" for sign in signs.values()):
            self._demand(code, said, "check")
        equal = {path for path, sign in signs.items() if sign == "="}
        return Checked({path for path in paths if path not in equal}, said.hashed)

    def leads_to(self, root: Path) -> bool:
        """Whether the remote is that very folder by another way, as an alias of rclone's is."""
        folder = root / ".dccd" / "offsite"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix="here-", dir=folder) as probe:
            return bool(self.sizes([Path(probe.name).relative_to(root).as_posix()]))

    def remotes(self) -> set[str]:
        """The names in rclone's own configuration."""
        code, said = self._run("listremotes", [], None)
        self._demand(code, said, "listremotes")
        return {line.removesuffix(":") for line in said.lines}

    def demand_folder(self) -> None:
        """OffsiteError if the remote does not answer, or its folder is not there: where one would
        read, that is no empty remote but a mistyped one."""
        code, said = self._run("lsjson", ["--dirs-only", self.target.root], None)
        if code == _NO_FOLDER:
            raise OffsiteError(f"{self.target.shown}: no such folder")
        self._demand(code, said, "lsjson")

    def _demand(self, code: int, said: _Said, verb: str) -> None:
        if code:
            words = list(dict.fromkeys(said.errors))[-3:] or [f"exit code {code}"]
            raise OffsiteError(f"{self.target.shown}: rclone {verb}: {'; '.join(words)}")

    def _run(
        self, verb: str, arguments: list[str], paths: Collection[str] | None
    ) -> tuple[int, _Said]:
        program = shutil.which("rclone")
        if program is None:
            raise OffsiteError(MISSING)
        with _file_list(paths) as listed:
            process = subprocess.Popen(
                [program, verb, *listed, *_LOG, *arguments],
                env=_plain(child_environment(**_PLAIN, **self.target.variables)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=self.holds,  # if we are killed, it goes on alone for a while
                text=True,
                errors="replace",
            )
            said = _Said()
            try:
                return self._listen(process, said, verb), said
            finally:
                _end(process)

    def _listen(self, process: subprocess.Popen[str], said: _Said, verb: str) -> int:
        """Wait for its end; OffsiteError if nothing moves for too long, or after a cancel."""
        assert process.stdout is not None  # noqa: S101 - both were asked for
        assert process.stderr is not None  # noqa: S101
        readers = [
            threading.Thread(target=read, args=(pipe, said), daemon=True)
            for read, pipe in ((_read_lines, process.stdout), (self._read_log, process.stderr))
        ]
        for reader in readers:
            reader.start()
        while process.poll() is None:
            if self._cancel is not None and self._cancel.is_set():
                raise OffsiteError(f"{self.target.shown}: cancelled")
            if time.monotonic() - said.moved > self._idle:
                minutes = f"{self._idle / 60:.3g} minutes"
                why = f"nothing moved for {minutes}, so it was ended"
                last = "".join(f"; {error}" for error in said.errors[-1:])
                raise OffsiteError(f"{self.target.shown}: rclone {verb}: {why}{last}")
            with suppress(subprocess.TimeoutExpired):
                process.wait(_TICK)
        for reader in readers:
            reader.join(5.0)  # a grandchild may hold the pipe
        return process.returncode

    def _read_log(self, pipe: IO[str], said: _Said) -> None:
        with pipe:
            for text in pipe:
                try:
                    line = _LINE.decode(text)
                except msgspec.MsgspecError:  # what rclone says before it has read its flags
                    said.errors.append(self.target.scrub(_CLOCK.sub("", text.strip())))
                    continue
                if line.stats and line.stats != said.stats:
                    said.stats, said.moved = line.stats, time.monotonic()
                    if line.stats.bytes:
                        self.say(_progress(line.stats))
                said.hashed &= not any(words in line.msg for words in _UNCHECKED)
                if line.level in ("error", "critical", "fatal", "panic"):
                    whose = f"{line.object}: " if line.object else ""
                    said.errors.append(self.target.scrub(f"{whose}{line.msg}"))


def _plain(environment: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if not _OTHERWISE.fullmatch(key)}


def _read_lines(pipe: IO[str], said: _Said) -> None:
    with pipe:
        for text in pipe:
            said.lines.append(text.rstrip("\n"))
            said.moved = time.monotonic()


@contextmanager
def _file_list(paths: Collection[str] | None) -> Iterator[list[str]]:
    """The flag that names these files: they may be more than a command line holds."""
    if paths is None:
        yield []
        return
    with tempfile.NamedTemporaryFile("w", prefix="dccd-", suffix=".txt") as file:
        file.write("\n".join(sorted(paths)) + "\n")
        file.flush()
        yield [f"--files-from-raw={Path(file.name)}"]


def _end(process: subprocess.Popen[str]) -> None:
    """End it, if it runs, with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5.0)


def _progress(stats: Stats) -> str:
    done, whole = show_bytes(stats.bytes), show_bytes(stats.total_bytes)
    return f"{done} of {whole}, {stats.transfers} of {stats.total_transfers} files"
