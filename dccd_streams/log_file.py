"""The log file of a service that nobody else keeps one of: what `dccd logs streams` shows."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dccd_core.joblog import Logs
from dccd_streams.instance import Shard

log = logging.getLogger("dccd_streams")

JOB = "streams"
"""The name under which `dccd start` keeps what the service says, too."""


class LogFile(logging.Handler):
    """Adds what is logged to the log of the streams; shards share it, and each names itself."""

    def __init__(self, data_path: Path, shard: Shard | None) -> None:
        super().__init__()
        self._logs = Logs(data_path)
        self._failing = False
        who = f"shard {shard}: " if shard else ""
        self.setFormatter(logging.Formatter(f"{who}%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, each of its lines with its time."""
        try:
            for line in self.format(record).splitlines():
                self._logs.write(JOB, line, record.created)
        except OSError as error:  # a full disk: the terminal still has it
            if not self._failing:  # said once, and this very line comes here again
                self._failing = True
                log.warning("the log file cannot be written: %s", error)
        else:
            self._failing = False


@contextmanager
def log_file(data_path: Path, shard: Shard | None, *, wanted: bool = True) -> Iterator[None]:
    """Keep the log file while the block runs, also of a thread that dies of an error."""
    before = threading.excepthook
    handler = LogFile(data_path, shard)
    threading.excepthook = _tell_of_thread
    if wanted:
        logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        threading.excepthook = before


def _tell_of_thread(died: threading.ExceptHookArgs) -> None:
    """As Python's own hook, but in the log, where somebody may read it later."""
    if died.exc_value is None or isinstance(died.exc_value, SystemExit):
        return
    name = died.thread.name if died.thread else "?"
    log.error("the thread %s died", name, exc_info=died.exc_value)
