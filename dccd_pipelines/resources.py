"""What an asset needs to collect: a way to a collector, and whom to tell of its work."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event

from dccd_core.collection import open_collector
from dccd_core.collectors import ExchangeCollector
from dccd_core.config import Config
from dccd_core.history import Outcome, Progress


def _unheard(_: object) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Collectors:
    """Opens collectors for a configuration.

    `progress` hears of every page, `outcome` of every finished year, both in the calling thread;
    setting `cancel` ends the work early, and keeps what is stored.
    """

    config: Config
    progress: Callable[[Progress], None] = _unheard
    outcome: Callable[[Outcome], None] = _unheard
    cancel: Event = field(default_factory=Event)

    def open(
        self, exchange: str, fetched: Callable[[Outcome], None] = _unheard
    ) -> AbstractContextManager[ExchangeCollector]:
        """A collector for one exchange; `fetched` hears of trades that candles needed."""
        return open_collector(
            self.config, exchange, progress=self.progress, cancel=self.cancel, fetched=fetched
        )
