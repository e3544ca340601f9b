"""Which of the files that may be there are worth asking for."""

from collections.abc import Callable, Iterable

from dccd_core.archives.base import ArchiveFile
from dccd_core.exchanges.base import Exchange
from dccd_core.intervals import clip, subtract
from dccd_core.models import SECOND, Channel, Series, Window

# A larger file is taken where so much of it is missing.
SHARE = 0.25
# Of trades, less than this is asked by REST.
LEAST_TRADES = 1_800 * SECOND


def choose(
    candidates: Iterable[ArchiveFile],
    missing: list[Window],
    worth: Callable[[list[Window]], bool],
) -> list[ArchiveFile]:
    """Files that together hold what is missing, in order of time: large ones where a good part of
    them is missing, for the rest the smallest that there is."""
    found: list[ArchiveFile] = []
    listed = [file for file in candidates if worth(clip(missing, file.window))]
    smallest_first = sorted(listed, key=lambda file: length([file.window]))
    left = missing
    for files, least in ((listed, SHARE), (smallest_first, 0.0)):
        for file in files:
            part = clip(left, file.window)
            if length(part) > least * length([file.window]) and worth(part):
                found.append(file)
                left = subtract(left, [file.window])
    return sorted(found, key=lambda file: file.window)


def worth_it(exchange: Exchange, series: Series, *, scarce: bool) -> Callable[[list[Window]], bool]:
    """Whether windows of a series are worth a file: more than a page of REST, or anything at all
    where REST does not have it."""

    def worth(part: list[Window]) -> bool:
        if scarce:
            return length(part) > 0
        if series.channel is Channel.OHLC:
            return sum(map(series.count, part)) > exchange.limits.page
        return length(part) >= LEAST_TRADES

    return worth


def length(windows: Iterable[Window]) -> int:
    """The microseconds of disjoint windows."""
    return sum(end - start for start, end in windows)
