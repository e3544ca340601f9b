"""From which other series a series is made, where its exchange does not serve all of it."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from dccd_core.exchanges import load_all
from dccd_core.models import DAY, WEEK, Channel, Series

# 61 s from 61 times as many rows: that is a slip of the pen, not a wish.
MOST_PARTS = 60


def source_span(spans: Collection[int], span: int) -> int | None:
    """The longest of some spans whose candles fill one of `span` exactly; None if none does.

    A candle of more than a year would belong to no year's file. Weeks open on a Monday, four days
    after the epoch at which all other spans begin.
    """
    if span > 366 * DAY:
        return None
    fitting = [one for one in spans if one < span and span % one == 0 and _same_grid(one, span)]
    longest = max(fitting, default=None)
    return longest if longest and span <= MOST_PARTS * longest else None


def _same_grid(short: int, span: int) -> bool:
    return span % WEEK != 0 or short % WEEK == 0 or (4 * DAY) % short == 0


def source_of(series: Series) -> Series | None:
    """The series that this one is built from; None where the exchange serves it all.

    Candles of a span that the exchange lacks are built from shorter ones, and those that it serves
    only the newest of from the trades.
    """
    exchange = load_all().get(series.exchange)
    if series.channel is not Channel.OHLC or exchange is None:
        return None
    if series.span not in exchange.spans:
        span = source_span(exchange.spans, series.span)
        return None if span is None else replace(series, span=span)
    if exchange.candles_depth is not None:
        return replace(series, channel=Channel.TRADES, span=0)
    return None


def is_derived(series: Series) -> bool:
    """Whether a series is built from shorter candles, without asking the exchange."""
    source = source_of(series)
    return source is not None and source.channel is Channel.OHLC


def sources_first(series: Iterable[Series]) -> list[Series]:
    """The same series, those that others are built from before them."""
    return sorted(series, key=_generation)


def _generation(series: Series) -> int:
    source = source_of(series)
    return 0 if source is None else 1 + _generation(source)
