"""Whether the programs of `dccd start` run: told without Dagster, for it may be what is down."""

import logging
import time
from collections.abc import Sequence
from threading import Event

from dccd_core.alerts import Alerter
from dccd_core.config import Config
from dccd_core.incidents import Condition, Kind
from dccd_core.messages import duration
from dccd_pipelines.child import Child

log = logging.getLogger(__name__)

EVERY = 5.0
# A program that is started again runs well when it has not died for so long.
STEADY = 30.0
# The health sensor writes each half minute; after a start the daemon needs about one.
SILENT, WARM_UP = 300.0, 300.0


class Watch:
    """Looks after some children; incidents of the kind `program` are its own."""

    def __init__(self, config: Config, children: Sequence[Child]) -> None:
        self._children = children
        self._alerter = Alerter(config)
        self._metrics = config.settings.data_path / ".dccd" / "metrics.json"
        self._began = time.monotonic()

    def run(self, stop: Event) -> None:
        """Until `stop` is set. A mistake here must not end the programs."""
        while not stop.wait(EVERY):
            try:
                self.look(time.time())
            except Exception:
                log.exception("alerts about programs cannot be kept")

    def look(self, now: float) -> None:
        """Tell of what is down, and of what is up again."""
        wrong = [*self._dead(), *self._hung(now)]
        again = {f"{Kind.PROGRAM}: {child.name}": "it runs again" for child in self._children}
        self._alerter.report(wrong, {Kind.PROGRAM}, now, ended=again)

    def _dead(self) -> list[Condition]:
        found = []
        for child in self._children:
            up = child.process is not None and time.monotonic() - child.started > STEADY
            if child.trouble and up:
                child.trouble = ""
            if child.trouble:
                found.append(_condition(child.name, f"It {child.trouble}; it is started again."))
        return found

    def _hung(self, now: float) -> list[Condition]:
        """A daemon that runs but does nothing: its health sensor writes no metrics."""
        if time.monotonic() - self._began < WARM_UP:
            return []
        try:
            age = now - self._metrics.stat().st_mtime
        except FileNotFoundError:
            age = time.monotonic() - self._began
        if age < SILENT:
            return []
        text = f"Its health sensor has said nothing for {duration(age)}: no schedule runs."
        return [_condition("daemon: no heartbeat", text)]


def _condition(name: str, text: str) -> Condition:
    log_name = name.partition(":")[0].replace(" ", "_")
    cure = f"Why: dccd logs {log_name}"
    return Condition(kind=Kind.PROGRAM, subject=name, text=text, cure=cure)
