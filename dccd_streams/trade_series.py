"""The series that are made of one market's trades, and since when each of them is written."""

from collections.abc import Iterable

from dccd_core.exchanges.trades import Trade
from dccd_core.models import Channel, Series, Window
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import Loss
from dccd_streams.candle_builder import CandleBuilder
from dccd_streams.heal_plan import Hole


class TradeSeries:
    """The trades themselves, if wanted, and candles built from them. The feed's lock guards it."""

    def __init__(self, journal: JournalWriter) -> None:
        self.record: Series | None = None
        self.builders: dict[Series, CandleBuilder] = {}
        self.joins = 0
        self._journal = journal
        self._numbers: dict[Series, int] = {}
        self._since: dict[Series, int] = {}

    def all(self) -> list[Series]:
        """Every series that is written."""
        return [*([self.record] if self.record else []), *self.builders]

    def add(self, series: Series, since: int | None) -> None:
        """Write one more; of what is streamed it has all from `since` on, None: from the first."""
        self.joins += 1
        self._numbers[series] = self.joins
        if since is not None:
            self._since[series] = since
        if series.channel is Channel.TRADES:
            self.record = series
        else:
            self.builders[series] = CandleBuilder(series)

    def remove(self, series: Series) -> None:
        """Write it no more."""
        self.record = None if series == self.record else self.record
        self.builders.pop(series, None)
        self._since.pop(series, None)

    def lacking(self, hole: Hole) -> list[Series]:
        """Those that get all that is fetched for a hole: written ever since it was found."""
        if hole.series is None:
            return self.all()
        return [
            series
            for series in self.all()
            if series in hole.series and self._numbers.get(series, 0) <= hole.joins
        ]

    def store(self, trades: list[Trade]) -> None:
        """Write trades."""
        if self.record and trades:
            self._journal.append_trades(self.record, trades)
        for builder in self.builders.values():
            builder.add(trades)

    def store_for(self, of: Iterable[Series], trades: list[Trade]) -> None:
        """Write trades to some series only."""
        for series in of:
            if series in self.builders:
                self.builders[series].add(trades)
            else:
                self._journal.append_trades(series, trades)

    def spoilt(self) -> list[tuple[Series, Window]]:
        """What has to be fetched for candles that have got a trade long after they were built."""
        return [
            (series, window)
            for series, builder in self.builders.items()
            for window in builder.spoilt()
        ]

    def mark_streamed(self, window: Window) -> None:
        """A window was streamed without a break: whole for each, as far as it was written then."""
        for series in self.all():
            start = max(window.start, self._since.get(series, window.start))
            if start < window.end:
                self.mark([series], Window(start, window.end))

    def mark(self, of: Iterable[Series], window: Window) -> None:
        """All trades of a window have been written to these."""
        for series in of:
            builder = self.builders.get(series)
            if builder is None:
                self._journal.mark(series, window)
                continue
            candles = builder.cover(window)
            if candles:
                self._journal.append_candles(series, candles)
            for whole in builder.complete():
                self._journal.mark(series, whole)

    def tell_lost(self, of: Iterable[Series], loss: Loss) -> None:
        """Some trades of a window are missing to these."""
        for series in of:
            self._journal.mark(series, loss)

    def give_up(self, of: Iterable[Series], loss: Loss) -> None:
        """They will be missing for ever."""
        self.tell_lost(of, loss)
        for series in of:
            if series in self.builders:
                self.builders[series].lose(Window(loss.start, loss.end))
