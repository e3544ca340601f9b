"""`dccd start`: Dagster's programs and the stream service, restarted when they die."""

import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from dccd_core.config import Config, child_environment
from dccd_core.joblog import Logs
from dccd_core.store.files import write_bytes
from dccd_pipelines.child import Child
from dccd_pipelines.instance import dagster_home
from dccd_pipelines.leftovers import end_leftovers, note_processes
from dccd_pipelines.ports import free_port, is_free, listens
from dccd_pipelines.program_watch import Watch
from dccd_pipelines.signals import stop_signals

log = logging.getLogger(__name__)

# All of it ends within ten seconds; the stream service takes eight at most to flush everything.
GRACE = 9.0

_DEBUG = re.compile(r"\S+ \S+ \S+ - dagster\S* - DEBUG - ")

WORKSPACE = """\
load_from:
  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: dccd}}
"""


def supervise(config: Config, host: str, port: int, say: Callable[[str], None]) -> int:
    """Run until SIGINT, SIGTERM or the terminal is closed; 0 after a clean stop.

    ConfigError if another supervisor works on the same data path, or the port is taken.
    """
    say = _to_whoever_listens(say)
    noted = config.settings.data_path / ".dccd" / "start.json"
    with _alone(config.settings.data_path / ".dccd" / "locks" / "start.lock"):
        if left := end_leftovers(noted, GRACE):
            say(f"An earlier dccd start was killed; ended what it left: {left} of its programs")
        if not is_free(host, port):
            raise ValueError(f"the UI cannot listen on {host}:{port}; choose another --port")
        children = _children(config, host, port)
        heard = _Ear(config.settings.data_path)
        stop = Event()
        with stop_signals(lambda _: stop.set()):
            try:
                for child in children:
                    child.heard = heard
                    child.start()
                    _note(noted, children)
                    _await_port(child, stop)
                say(f"Dagster's UI: http://{host}:{port}   (Ctrl-C stops everything)")
                watch = Watch(config, children)
                Thread(target=watch.run, args=(stop,), daemon=True).start()
                while not stop.wait(0.5):
                    started = [child for child in children if _tend(child, say)]
                    if started:
                        _note(noted, children)
                say("Stopping …")
            finally:
                _stop(children)
    say("Stopped.")
    return 0


def _to_whoever_listens(say: Callable[[str], None]) -> Callable[[str], None]:
    """The terminal may be closed meanwhile: that stops nothing."""

    def safely(text: str) -> None:
        with suppress(OSError):
            say(text)

    return safely


class _Ear:
    """Keeps what the children say in their log files, and repeats it; not what Dagster says to its
    own developers: that is most of the lines."""

    def __init__(self, data_path: Path) -> None:
        self._logs = Logs(data_path)

    def __call__(self, name: str, line: str) -> None:
        if _DEBUG.match(line):
            return
        with suppress(OSError):  # the terminal was closed
            sys.stderr.write(line)
        try:
            self._logs.write(name, line, time.time())
        except OSError as error:  # a full disk: the terminal still has it
            log.warning("the log of %s cannot be written: %s", name, error)


def _await_port(child: Child, stop: Event) -> None:
    """Wait until a child listens: the others log pages of errors when the code is not there."""
    while child.port and child.died() is None and not stop.wait(0.1):
        if listens(child.port):
            return


def _note(path: Path, children: list[Child]) -> None:
    note_processes(path, [child.process.pid for child in children if child.process])


def _tend(child: Child, say: Callable[[str], None]) -> bool:
    """Start a child again when it has died and its time has come; whether that was now."""
    code = child.died()
    if code is not None:
        wait = child.put_off()
        child.trouble = f"ended with code {code}"
        say(f"{child.name} {child.trouble}; it is started again in {wait:.0f} s")
    due = child.process is None and time.monotonic() >= child.due
    if due:
        child.start()
    return due


def _children(config: Config, host: str, port: int) -> list[Child]:
    home = dagster_home(config)
    code_port = free_port()
    workspace = home / "workspace.yaml"
    write_bytes(workspace, WORKSPACE.format(port=code_port).encode())
    environment = child_environment(
        DAGSTER_HOME=str(home), DCCD_CONFIG=str(config.path), PYTHONUNBUFFERED="1"
    )
    tools = Path(sys.executable).parent
    served = ["-h", "127.0.0.1", "-p", str(code_port)]
    module = ["-m", "dccd_pipelines.definitions", "--location-name", "dccd"]
    commands = {
        "code server": [str(tools / "dagster"), "code-server", "start", *served, *module],
        "webserver": [
            str(tools / "dagster-webserver"), "-w", str(workspace), "-h", host, "-p", str(port)
        ],
        "daemon": [str(tools / "dagster-daemon"), "run", "-w", str(workspace)],
    }  # fmt: skip
    children = [Child(name, command, environment) for name, command in commands.items()]
    children[0].port = code_port
    if config.stream_jobs:
        # we keep its log: we hear also what it says before it has read its config
        streams = [sys.executable, "-m", "dccd_streams", "--config", str(config.path), "--no-log"]
        children.append(Child("streams", streams, environment))
    return children


def _stop(children: list[Child]) -> None:
    """Ask all to end, then make those that do not."""
    running = [child.process for child in children if child.process]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for child in children:
        if child.ear:
            # a run that goes on may keep the pipe open
            child.ear.join(max(0.0, deadline + 0.4 - time.monotonic()))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "?"
            raise ValueError(
                f"dccd start runs already on this data path, as process {holder}"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
