"""How many requests a plan takes, and how long."""

import math
from collections.abc import Iterable
from dataclasses import replace

from dccd_core.exchanges import load
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.history import THREADS
from dccd_core.models import Series
from dccd_core.plan import Plan, estimate


def requests_of(plans: Iterable[Plan]) -> int | None:
    """The requests that plans take in all; None where nobody can know."""
    pages, others = 0, 0.0
    for plan in plans:
        pages += len(plan.pages)
        if plan.others is None:
            return None
        others += plan.others
    return pages + math.ceil(others)


def seconds_of(series: Series, requests: int) -> float:
    """How long requests about a series take under the exchange's own limit."""
    exchange = load(series.exchange)
    limits = exchange.limits
    if isinstance(exchange, TradesHistory) and not series.span:
        limits = replace(limits, page_weight=exchange.trades_weight)
    return estimate(requests, limits, THREADS)
