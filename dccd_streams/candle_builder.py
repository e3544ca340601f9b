"""Candles of one span, built from the trades of a stream.

A candle is given out once every trade of its interval is known to be there; never a part of one.
"""

from math import fsum

from dccd_core.exchanges.live import LiveCandle
from dccd_core.exchanges.trades import Trade
from dccd_core.intervals import subtract, union
from dccd_core.models import DAY, SECOND, Series, Window

KEPT = 120 * SECOND
"""How long trades of a closed candle are kept, for one that comes late: it is built again."""
_LONGEST = 2 * DAY * SECOND
"""How long trades wait for what is missing before or after them, in whole intervals: one that was
dropped must not seem to be covered."""


class CandleBuilder:
    """Builds the candles of one series. Trades may come in any order and more than once."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self._longest = -(-_LONGEST // (series.span * SECOND)) * series.span * SECOND
        self._trades: dict[int, dict[str, Trade]] = {}
        self._covered: list[Window] = []
        self._given: dict[int, int] = {}
        self._told: list[Window] = []
        self._horizon = 0
        self._spoilt: set[int] = set()

    def add(self, trades: list[Trade]) -> None:
        """Take trades."""
        size = self.series.span * SECOND
        buckets, start, end = self._trades, 0, 0
        bucket: dict[str, Trade] = {}
        for trade in trades:
            if not start <= trade.time < end:
                start = self.series.floor(trade.time)
                end = start + size
                bucket = buckets.get(start) or self._new_bucket(start)
            bucket.setdefault(trade.trade_id, trade)

    def _new_bucket(self, start: int) -> dict[str, Trade]:
        """The trades of an interval of which none are kept, as those of a candle given long ago."""
        bucket: dict[str, Trade] = {}
        if start < self._horizon and _within(self._told, start):
            self._spoilt.add(start)  # a part of an interval makes no candle: the rest is forgotten
        else:
            self._trades[start] = bucket
        return bucket

    def spoilt(self) -> list[Window]:
        """Intervals that have got a trade after the others were forgotten, each told once.

        They count as incomplete from now on: what is to be fetched for their candle is all of them.
        """
        size = self.series.span * SECOND
        found = union(Window(start, start + size) for start in self._spoilt)
        self._spoilt.clear()
        if found:
            self._covered, self._told = subtract(self._covered, found), subtract(self._told, found)
        return found

    def cover(self, window: Window) -> list[LiveCandle]:
        """Say that all trades of a window have been added; the candles that this completes.

        One that a late trade has changed is given again. Intervals without trades have no candle.
        """
        # what is older than what is kept may be without its trades
        recent = Window(max(window.start, self._horizon - self._longest), window.end)
        self._covered = union([*self._covered, recent])
        size = self.series.span * SECOND
        found = []
        for start in sorted(self._trades):
            trades = self._trades[start]
            if self._given.get(start) == len(trades) or not self._is_covered(start, start + size):
                continue
            self._given[start] = len(trades)
            found.append(_candle(start, sorted(trades.values(), key=_order)))
        self._forget()
        return found

    def complete(self) -> list[Window]:
        """The windows of whole intervals that have become complete since the last call."""
        floor = self.series.floor
        whole = [Window(self.series.ceil(w.start), floor(w.end)) for w in self._covered]
        news = subtract(whole, self._told)
        self._told = union(whole)
        return news

    def _is_covered(self, start: int, end: int) -> bool:
        return any(w.start <= start and end <= w.end for w in self._covered)

    def _forget(self) -> None:
        """Drop what is given out and old, and windows that no open interval can need."""
        if not self._covered:
            return
        horizon = self.series.floor(self._covered[-1].end - KEPT)
        self._horizon = horizon = max(self._horizon, horizon)
        old = [start for start in self._given if start < horizon]
        old += [start for start in self._trades if start < horizon - self._longest]
        for start in old:
            self._given.pop(start, None)
            self._trades.pop(start, None)
        self._covered = [w for w in self._covered if w.end > horizon - self._longest]

    def lose(self, window: Window) -> None:
        """Give up the intervals that a window touches: their trades will never be all there."""
        touched = Window(self.series.floor(window.start), self.series.ceil(window.end))
        # the trades that are dropped now are missing, though what was lost be fetched one day
        self._covered = subtract(self._covered, subtract([touched], self._told))
        for start in [one for one in self._trades if touched.start <= one < touched.end]:
            if start not in self._given:
                del self._trades[start]


def _within(windows: list[Window], moment: int) -> bool:
    return any(window.start <= moment < window.end for window in windows)


def _candle(start: int, trades: list[Trade]) -> LiveCandle:
    prices = [trade.price for trade in trades]
    bought = [trade for trade in trades if trade.buy]
    received = [trade.received for trade in trades if trade.received is not None]
    return LiveCandle(
        time=start,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=fsum(trade.amount for trade in trades),
        quote_volume=fsum(trade.amount * trade.price for trade in trades),
        trades=len(trades),
        taker_buy_volume=fsum(trade.amount for trade in bought),
        taker_buy_quote_volume=fsum(trade.amount * trade.price for trade in bought),
        received=max(received, default=trades[-1].time),
    )


def _order(trade: Trade) -> tuple[int, int]:
    """By time; inside one time by number where ids are numbers, else as they came."""
    return trade.time, int(trade.trade_id) if trade.trade_id.isdecimal() else 0
