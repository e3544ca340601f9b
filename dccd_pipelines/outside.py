"""Why nothing at all is wanted of a series: its window is empty, which is no plan but an answer."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from dccd_core.collection import wanted
from dccd_core.config import Config
from dccd_core.messages import some
from dccd_core.models import SECOND, Series
from dccd_pipelines.report import SeriesPlan

Bounds = tuple[int | None, int | None]


def not_yet(config: Config, now: float) -> list[str]:
    """What there is to say of series that start in the future: a line for each start."""
    found = defaultdict(list)
    for series in config.series():
        start = config.start_of(series)
        if start is not None and start > now * SECOND:
            found[start].append(str(series))
    return [
        f"{some(names)}: nothing yet: the start is in the future, at {config.show_moment(start)}"
        for start, names in sorted(found.items())
    ]


def outside(
    config: Config, series: Sequence[Series], now: int, bounds: Bounds
) -> Iterator[SeriesPlan]:
    """A plan of nothing, with its reason, for each series of which nothing is wanted yet."""
    for one in series:
        window = wanted(config, one, now, *bounds)
        if window.start < window.end:
            continue
        start, end = config.show_moment(window.start), bounds[1]
        if window.start > now:
            note = f"nothing yet: it starts in the future, at {start}"
        elif end is not None and end <= window.start:
            note = f"nothing: it starts at {start}, not before the end"
        else:
            note = f"nothing yet: no candle has closed since {start}"
        yield SeriesPlan(one, [], 0, 0.0, "", note)
