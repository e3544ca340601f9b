"""The asset checks of live series."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from dccd_core.config import Config
from dccd_core.exchanges import load
from dccd_core.exchanges.base import ExchangeError
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.live_check import candles_beside, compare_live
from dccd_core.models import DAY, SECOND, Channel, Series
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.quality import judge
from dccd_core.store.schemas import SchemaError
from dccd_pipelines.cards import quality_metadata
from dccd_pipelines.checks import CONTIGUOUS, QUALITY, describe, verdict
from dccd_pipelines.keys import asset_key

AGREES = "agrees"
_DESCRIPTIONS = {
    QUALITY: "Nothing was lost of the last two days, nothing is doubled or contradicts itself.",
    AGREES: "Live candles equal those that the exchange serves, to the last digit of volume.",
}
RECENT = 2 * DAY * SECOND


def live_check_names(config: Config, series: Series) -> list[str]:
    """The checks that a live series has."""
    names = [QUALITY]
    exchange = load(series.exchange)
    if series.channel is Channel.TRADES and isinstance(exchange, TradesHistory):
        names += [CONTIGUOUS] if exchange.contiguous else []
    if series.channel is Channel.LIVE_OHLC and candles_beside(series) in config.jobs:
        names.append(AGREES)
    return names


def describe_live(name: str) -> str:
    """What a check says, in words."""
    return _DESCRIPTIONS.get(name) or describe(name)


def live_verdict(store: DataStore, series: Series, name: str) -> dg.AssetCheckResult:
    """The result of one check."""
    if name == CONTIGUOUS:
        return verdict(store, series, name, None)
    try:
        return (_quality if name == QUALITY else _agrees)(store, series)
    except (SchemaError, UnreadableError, OSError, ExchangeError) as error:
        return _result(series, name, [str(error)], "", {}, dg.AssetCheckSeverity.ERROR)


def _quality(store: DataStore, series: Series) -> dg.AssetCheckResult:
    """What a stream lost cannot be had any more, so it is a warning, and only for a while."""
    now = time.time_ns() // 1_000
    found = judge(store, series, now)
    lost = [loss for loss in found.lost if loss.end > now - RECENT]
    hard = [line for line in found.problems if not line.startswith(("lost", "missing"))]
    lines = [*hard, *(f"lost: {loss.cause}" for loss in lost[:20])]
    severity = dg.AssetCheckSeverity.ERROR if hard else dg.AssetCheckSeverity.WARN
    good = "nothing was lost, in order and consistent"
    return _result(series, QUALITY, lines, good, quality_metadata(found), severity)


def _agrees(store: DataStore, series: Series) -> dg.AssetCheckResult:
    found = compare_live(store, series, datetime.now(UTC))
    figures = {
        "candles": dg.MetadataValue.int(found.candles),
        "window": dg.MetadataValue.text(str(found.window or "none")),
    }
    good = f"{found.candles:,} candles are equal" if found.candles else "nothing to compare yet"
    lines = [found.difference] if found.difference else []
    return _result(series, AGREES, lines, good, figures, dg.AssetCheckSeverity.ERROR)


def _result(
    series: Series,
    name: str,
    problems: list[str],
    good: str,
    metadata: Mapping[str, dg.MetadataValue],
    severity: dg.AssetCheckSeverity,
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=asset_key(series),
        check_name=name,
        passed=not problems,
        severity=severity,
        description="; ".join(problems)[:1000] or good,
        metadata=metadata,
    )
