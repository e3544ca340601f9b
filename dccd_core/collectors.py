"""One exchange's series of every kind: each cell goes to the collector that knows its kind."""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from enum import IntEnum
from typing import Protocol

from dccd_core.archived import ArchiveFirst
from dccd_core.deep import DeepCollector
from dccd_core.derived import Deriver
from dccd_core.exchanges.base import Instrument
from dccd_core.history import Collector, Outcome
from dccd_core.intervals import union
from dccd_core.lineage import is_derived
from dccd_core.models import Channel, Series, Window
from dccd_core.plan import Cell, Plan
from dccd_core.store.datastore import DataStore
from dccd_core.trades_history import TradesCollector


class Kind(IntEnum):
    """How a series is collected, in the order in which kinds need each other."""

    TRADES = 0
    CANDLES = 1
    DERIVED = 2


class Collects(Protocol):
    """Plans cells and collects them."""

    def plan(self, cells: Sequence[Cell]) -> list[Plan]:
        """What the cells take, in their order."""

    def collect(self, cells: Sequence[Cell]) -> Generator[Outcome]:
        """Fetch and store the cells; one outcome each, as soon as it is known."""


class ExchangeCollector:
    """Fetches cells of one exchange into the store, those first that others are built from.

    `trades` is None where the exchange serves no past trades, `files` where none are published;
    `fetched` hears of every day of trades that was fetched because candles needed it.
    """

    def __init__(
        self,
        candles: Collector,
        trades: TradesCollector | None,
        store: DataStore,
        files: ArchiveFirst | None,
        fetched: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self.exchange = candles.exchange
        self._files, self._instrument = files, candles.instrument
        self._trades = trades
        self._by_kind: dict[Kind, Collects] = {Kind.CANDLES: candles, Kind.DERIVED: Deriver(store)}
        if trades:
            self._by_kind[Kind.TRADES] = trades
            if self.exchange.candles_depth is not None:
                self._by_kind[Kind.CANDLES] = DeepCollector(candles, trades, store, fetched)

    def plan(self, cells: Sequence[Cell], *, sample: bool = False) -> list[Plan]:
        """What the cells take, in their order. Asks when a series begins where that is unknown;
        with `sample` also for some pages of trades where nobody knows how many there are."""
        plans = self._plan(cells)
        missing: dict[Series, list[Window]] = defaultdict(list)
        for plan in plans:
            if plan.others is None and not plan.problem:
                trades = replace(plan.cell.series, channel=Channel.TRADES, span=0)
                missing[trades] += plan.missing
        if sample and missing and self._trades:
            self._trades.sample({one: union(windows) for one, windows in missing.items()})
            plans = self._plan(cells)
        return plans

    def _plan(self, cells: Sequence[Cell]) -> list[Plan]:
        plans = [
            plan for kind, some in self._split(cells) for plan in self._by_kind[kind].plan(some)
        ]
        if self._files:
            plans = self._files.expect(plans)
        else:
            plans = [replace(plan, beyond=[]) for plan in plans]
        found = {plan.cell: plan for plan in plans}
        return [found[cell] for cell in cells]

    def instrument(self, series: Series) -> Instrument:
        """The exchange's market of a series; ExchangeError if it cannot be had."""
        return self._instrument(series)

    def collect(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Fetch and store the cells; one outcome each, as soon as it is known."""
        for kind, some in self._split(cells):
            collector, files = self._by_kind[kind], self._files
            if files is None or kind is Kind.DERIVED:
                yield from collector.collect(some)
                continue
            files.fill(collector.plan(some))
            with closing(collector.collect(some)) as outcomes:
                for outcome in outcomes:
                    yield files.told(outcome)

    def _split(self, cells: Sequence[Cell]) -> list[tuple[Kind, list[Cell]]]:
        found: dict[Kind, list[Cell]] = defaultdict(list)
        for cell in cells:
            found[kind_of(cell.series)].append(cell)
        return sorted(found.items())


def kind_of(series: Series) -> Kind:
    """How a series is collected; ValueError for one that is no history."""
    if series.channel is Channel.TRADES:
        return Kind.TRADES
    if series.channel is not Channel.OHLC:
        raise ValueError(f"{series} is recorded live: it has no history to collect")
    return Kind.DERIVED if is_derived(series) else Kind.CANDLES
