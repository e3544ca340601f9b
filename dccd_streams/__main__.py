"""`python -m dccd_streams`: the service as a program.

It ends with code 0 after SIGTERM or SIGINT, 1 if it cannot go on, 2 if it cannot begin. SIGHUP, or
a config file that has changed, restarts the streams that it touches.
"""

import os

# Before Arrow is loaded: its own allocator keeps the pages of a fold, the C library gives them back
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from dccd_core.config import Config, ConfigError, environment, load_config
from dccd_core.health import HealthMonitor
from dccd_core.last_good import load_or_last_good
from dccd_core.stream_status import CONFIG_UNUSED
from dccd_streams.instance import AlreadyRunning, Shard
from dccd_streams.log_file import log_file
from dccd_streams.manager import StreamManager
from dccd_streams.web import WebServer

log = logging.getLogger("dccd_streams")

TOKEN = "DCCD_STREAMS_TOKEN"  # noqa: S105 - the name of the variable
_LOOK = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until a signal ends it; its exit code."""
    options = _options(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        config, problem = load_or_last_good(options.config)
    except ConfigError as error:
        log.error("%s", error)
        return 2
    with log_file(config.settings.data_path, options.shard, wanted=not options.no_log):
        if problem:  # the last good one tells where the log is; recorded is what the file says
            log.error("%s", problem)
            return 2
        try:
            return _serve(config, options)
        except Exception:
            log.exception("the service ended by an error of its own")
            return 1


def _serve(config: Config, options: argparse.Namespace) -> int:
    """Record until the end; the exit code."""
    if not config.stream_jobs:
        log.warning("%s names no stream_jobs: there is nothing to record yet", config.path)
    manager = StreamManager(config, HealthMonitor(config.settings.data_path), shard=options.shard)
    try:
        web = _web(manager, config.settings.stream_port, options.port)
    except OSError as error:
        log.error("port %d cannot be used: %s; choose another --port", options.port or 0, error)
        return 2
    service = Service(manager, config)
    service.listen()
    try:
        manager.health_port = web.port
        manager.start()
    except (AlreadyRunning, OSError) as error:
        log.error("%s", error)
        web.close()
        return 2
    log.info("started: %d streams, http://127.0.0.1:%d", len(manager.running_keys()), web.port)
    code = service.run()
    done = manager.stop()
    web.close()
    log.info("stopped" if done else "stopped; not everything could be flushed")
    return code if done else 1


def _web(manager: StreamManager, configured: int, asked: int | None) -> WebServer:
    """/health and /metrics where they were asked for, else where the file says, else anywhere:
    what nobody asked for just now must not keep the service from recording."""
    token = environment(TOKEN)
    if asked is not None:
        return WebServer(manager, asked, token)
    try:
        return WebServer(manager, configured, token)
    except OSError as error:
        web = WebServer(manager, 0, token)
        why = "settings.stream_port: %d cannot be used (%s): /health and /metrics are on port %d"
        log.warning(why, configured, error.strerror or error, web.port)
        return web


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dccd_streams", description=__doc__)
    parser.add_argument("--config", type=Path, help="the config file (default: as dccd finds it)")
    parser.add_argument("--shard", type=_shard, help="collect a share of the pairs, as 2/8")
    parser.add_argument(
        "--port",
        type=int,
        help="of /health and /metrics (default: settings.stream_port; if that is taken, any)",
    )
    parser.add_argument(
        "--no-log",
        action="store_true",
        help="write no log file: whoever starts this keeps what it says",
    )
    return parser.parse_args(arguments)


def _shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Service:
    """Waits for signals, changes of the config file, and failure."""

    def __init__(self, manager: StreamManager, config: Config) -> None:
        self._manager, self._path = manager, config.path
        self._end = threading.Event()
        self._hangup = threading.Event()
        self._seen = _state(self._path)

    def listen(self) -> None:
        """Take signals from now on: one that comes while the streams begin counts too."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end.set())
        signal.signal(signal.SIGHUP, lambda *_: self._hangup.set())

    def run(self) -> int:
        """Until a signal or a failure; the exit code."""
        due = time.monotonic() + _LOOK
        while not self._end.wait(0.2):
            if self._manager.failed:
                log.critical("the service cannot go on")
                return 1
            if self._hangup.is_set() or (time.monotonic() > due and self._changed()):
                self._hangup.clear()
                self._reload()
            if time.monotonic() > due:
                due = time.monotonic() + _LOOK
        return 0

    def _changed(self) -> bool:
        state = _state(self._path)
        if state is None or state == self._seen:
            return False
        self._seen = state
        return True

    def _reload(self) -> None:
        """Use the file as it is now; the old configuration stays if it cannot be used."""
        try:
            config = load_config(self._path)
            touched = self._manager.reload(config)
        except (ConfigError, ValueError, OSError) as error:
            log.error("the config file is not used, the old one stays:\n%s", error)
            self._manager.problem = f"{CONFIG_UNUSED}{error}"
            return
        self._manager.problem = None
        log.info("the config file was read again; it changes: %s", ", ".join(touched) or "nothing")


def _state(path: Path | None) -> tuple[int, int] | None:
    """What tells one content of a file from another."""
    try:
        found = os.stat(path) if path else None  # noqa: PTH116
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if found else None


if __name__ == "__main__":
    sys.exit(main())
