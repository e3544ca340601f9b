"""One page of candles: asked, checked against the grid, and asked again where it has a hole."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dccd_core.exchanges.base import Answer, BadAnswer, Candles, Exchange, Instrument, Request
from dccd_core.models import DAY, SECOND, Series, Window, iso
from dccd_core.store.gaps import absent_windows

# An exchange that serves every interval does not have a hole until it has said so this often:
# answers that lack rows by mistake do happen, and an accepted hole would be final.
AGREEMENTS = 3
ASKS = 12
QUIET = 20
# The newest candles may be published late; only then is their absence an answer. Where an exchange
# serves every interval, it may also be behind for hours, and gives the same answer all the while.
SETTLED, BEHIND = 600 * SECOND, DAY * SECOND
EARLIEST = 1_230_768_000 * SECOND  # 2009: before it there was no market

Ask = Callable[[Request, Callable[[Answer], "Asked"]], "Asked"]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """The candles of one answer, and the exchange's clock when it answered."""

    candles: Candles
    time: int


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Closed candles inside a window, what they settle of it, and how often it was asked."""

    candles: Candles
    covered: list[Window]
    asks: int


def fetch_page(
    ask: Ask, exchange: Exchange, instrument: Instrument, series: Series, window: Window
) -> Page:
    """All closed candles that open in a window of at most one page.

    Raises ExchangeError when they cannot be had, and BadAnswer when the exchange's answers
    contradict each other to the end.
    """
    earliest = window.start - exchange.limits.page * series.span * SECOND

    def read(answer: Answer) -> Asked:
        asked = read_candles(exchange, instrument, series, answer)
        # more than a page before what was asked: this is an answer to something else
        if exchange.gapless and len(asked.candles) and asked.candles.time[0] < earliest:
            raise BadAnswer(
                f"{exchange.title}: asked from {iso(window.start)} on, it answers with a candle of "
                f"{iso(int(asked.candles.time[0]))}"
            )
        return asked

    def question(wanted: Window) -> Asked:
        return ask(exchange.candles_request(instrument, series.span, wanted), read)

    answer = question(window)
    known = inside(answer.candles, Window(window.start, closed_end(series, window, answer)))
    agreements, asks = 0, 1
    while agreements < AGREEMENTS and (absent := _absent(exchange, series, window, known, answer)):
        if asks == ASKS:
            raise BadAnswer(
                f"{exchange.title}: {ASKS} answers about {window} contradict each other: "
                f"each has other candles"
            )
        # Not the same page again: it may merely be shorter than it used to be, cut at one end.
        edge = absent[0] if absent[0].start == window.start else absent[-1]
        wanted = edge if agreements == 1 else max(absent, key=series.count)
        answer = question(wanted)
        asks += 1
        again = inside(answer.candles, Window(wanted.start, closed_end(series, wanted, answer)))
        agreements = 0 if len(again) else agreements + 1
        known = join(known, again)
    return Page(known, _settled(exchange, series, window, known, answer), asks)


def read_candles(
    exchange: Exchange, instrument: Instrument, series: Series, answer: Answer
) -> Asked:
    """Parse an answer and hold it against the series' grid; BadAnswer if it does not fit."""
    candles = exchange.candles(answer, instrument, series.span)
    times = candles.time
    if len(times):
        off_grid = (times - series.floor(int(times[0]))) % (series.span * SECOND)
        if off_grid.any() or times[0] != series.floor(int(times[0])):
            raise BadAnswer(f"{exchange.title}: a candle does not open on the {series} grid")
        if (np.diff(times) <= 0).any():
            raise BadAnswer(f"{exchange.title}: candles are not in order")
        if times[0] < EARLIEST or times[-1] > answer.time + series.span * SECOND:
            raise BadAnswer(f"{exchange.title}: a candle of {iso(int(times[-1]))}")
    return Asked(candles, answer.time)


def closed_end(series: Series, window: Window, answer: Asked) -> int:
    """Where the closed candles of a window end, by the exchange's own clock."""
    return max(window.start, min(window.end, series.floor(answer.time)))


def settles(exchange: Exchange) -> int:
    """How long after its close the absence of a candle is an answer, if there are no later ones."""
    return BEHIND if exchange.gapless else SETTLED


def no_candles() -> Candles:
    """No candles at all."""
    none = np.empty(0)
    return Candles(np.empty(0, np.int64), none, none, none, none, none)


def inside(candles: Candles, window: Window) -> Candles:
    """The candles that open in a window."""
    first, last = np.searchsorted(candles.time, window)
    return pick(candles, np.s_[first:last])


def pick(candles: Candles, rows: slice | NDArray[np.int64]) -> Candles:
    """Some rows of every column."""
    return _candles([None if column is None else column[rows] for column in columns(candles)])


def _candles(values: list[Any]) -> Candles:
    return Candles(*values)


def _concatenate(old: Any, new: Any) -> Any:
    """Two columns as one, those of the later answer first; None if one has none."""
    return None if old is None or new is None else np.concatenate([new, old])


def columns(candles: Candles) -> list[Any]:
    """The columns of candles in the order of their fields."""
    return [getattr(candles, field.name) for field in fields(Candles)]


def concatenate(parts: list[Candles]) -> Candles:
    """Candles of following windows, at least one of them, as one."""
    return _candles(
        [
            None if any(one is None for one in column) else np.concatenate(column)
            for column in zip(*map(columns, parts), strict=True)
        ]
    )


def join(one: Candles, two: Candles) -> Candles:
    """The candles of both, in order; where both have one, that of `two`."""
    both = _candles(list(map(_concatenate, columns(one), columns(two))))
    _, first = np.unique(both.time, return_index=True)
    return pick(both, first)


def _absent(
    exchange: Exchange, series: Series, window: Window, candles: Candles, answer: Asked
) -> list[Window]:
    """Where candles are absent, for longer than publishing takes, that should be there.

    Where intervals without trades are omitted, only a long stretch of nothing is doubtful.
    """
    settled = _settled(exchange, series, window, candles, answer)
    if not exchange.gapless:
        doubtful = not len(candles) and sum(map(series.count, settled)) > QUIET
        return settled if doubtful else []
    return [gap for part in settled for gap in absent_windows(series, part, candles.time)]


def _settled(
    exchange: Exchange, series: Series, window: Window, candles: Candles, answer: Asked
) -> list[Window]:
    start, end = window.start, closed_end(series, window, answer)
    if exchange.candles_depth is not None and len(answer.candles):
        # only the newest are served: what is before them may have left while the page waited
        served = [int(one.time[0]) for one in (answer.candles, candles) if len(one)]
        start = max(start, min(served))
    last = int(candles.time[-1]) + series.span * SECOND if len(candles) else start
    late = max(last, min(end, series.floor(answer.time - settles(exchange))))
    return [Window(start, late)] if late > start else []
