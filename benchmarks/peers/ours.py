"""Our own clients: a configuration, a collector, and a budget that does not slow it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dccd_core.collection import open_collector
from dccd_core.config import Config, parse_config
from dccd_core.exchanges import load
from dccd_core.history import Outcome
from dccd_core.models import Series, Window
from dccd_core.plan import cells


def configuration(given: dict[str, Any], pairs: tuple[str, ...] = ("BTC/USDT",)) -> Config:
    """1m candles of some pairs, stored in the folder `data`."""
    folder = Path(given["folder"])
    text = (
        "settings: {data_path: ./data, timezone: UTC}\n"
        f"histo_jobs: [{{exchange: binance, span: 1m, pairs: [{', '.join(pairs)}]}}]\n"
        f"exchanges: {{binance: {{rest_url: {given['url']}}}}}\n"
    )
    return parse_config(text, folder / "config.yml")


def without_limiter() -> None:
    """Let the budget grant everything; its file and its lock are used as ever."""
    kind = type(load("binance"))
    kind.limits = replace(kind.limits, weight=1e9, burst=1e9)


def collect(config: Config, series: Series, window: Window) -> Outcome:
    """Fetch a window that lies in one year; RuntimeError if any of it is missing."""
    with open_collector(config, "binance") as collector:
        (outcome,) = collector.collect(cells(series, window))
    if outcome.error:
        raise RuntimeError(outcome.error)
    return outcome
