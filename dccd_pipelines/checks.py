"""The asset checks of a series, each over the whole of it."""

import time
from collections.abc import Iterable, Mapping

import dagster as dg

from dccd_core.contiguity import check_contiguity
from dccd_core.exchanges import load
from dccd_core.exchanges.base import ExchangeError
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.lineage import source_of
from dccd_core.models import Channel, Series
from dccd_core.overlap import compare_overlap
from dccd_core.store.datastore import DataStore
from dccd_core.store.files import UnreadableError
from dccd_core.store.quality import judge
from dccd_core.store.schemas import SchemaError
from dccd_pipelines.cards import quality_metadata
from dccd_pipelines.keys import asset_key

QUALITY, CONTIGUOUS, OVERLAP = "quality", "contiguous", "overlap"
_DESCRIPTIONS = {
    QUALITY: "Nothing is missing or doubled, and no prices contradict each other.",
    CONTIGUOUS: "The ids of the trades follow each other without a hole.",
    OVERLAP: "Candles from trades equal those that the exchange serves, where both are stored.",
}
Said = tuple[list[str], Mapping[str, dg.MetadataValue], str]


def check_names(series: Series) -> list[str]:
    """The checks that a series has."""
    source, exchange = source_of(series), load(series.exchange)
    names = [QUALITY]
    if series.channel is Channel.TRADES and isinstance(exchange, TradesHistory):
        names += [CONTIGUOUS] if exchange.contiguous else []
    if source is not None and source.channel is Channel.TRADES:
        names.append(OVERLAP)
    return names


def check_keys(series: Iterable[Series]) -> list[dg.AssetCheckKey]:
    """All checks that runs of these series make; `fresh` is the health sensor's."""
    return [dg.AssetCheckKey(asset_key(one), name) for one in series for name in check_names(one)]


def describe(name: str) -> str:
    """What a check says, in words."""
    return _DESCRIPTIONS[name]


def verdict(
    store: DataStore,
    series: Series,
    name: str,
    errors: str | None,
    since: int | None = None,
    note: str = "",
) -> dg.AssetCheckResult:
    """The result of one check; `errors` are those of a run that has just ended, which `quality`
    tells, `since` is where the series is configured to begin, `note` is what else is to be said."""
    try:
        problems, metadata, good = (
            _quality(store, series, since or 0) if name == QUALITY else _OTHERS[name](store, series)
        )
    except (SchemaError, UnreadableError, OSError, ExchangeError) as error:
        problems, metadata, good = [str(error)], {}, ""
    problems = [*([errors] if errors and name == QUALITY else []), *problems]
    return dg.AssetCheckResult(
        asset_key=asset_key(series),
        check_name=name,
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(filter(None, [*(problems or [good]), note]))[:1000],
        metadata=metadata,
    )


def _quality(store: DataStore, series: Series, since: int) -> Said:
    found = judge(store, series, time.time_ns() // 1_000, since)
    return found.problems, quality_metadata(found), "complete, in order and consistent"


def _contiguous(store: DataStore, series: Series) -> Said:
    found = check_contiguity(store, series)
    figures = {
        "days": dg.MetadataValue.int(found.days),
        "trades": dg.MetadataValue.int(found.trades),
        "holes": dg.MetadataValue.int(len(found.holes)),
    }
    return found.holes[:20], figures, f"{found.trades:,} trades in a row"


def _overlap(store: DataStore, series: Series) -> Said:
    found = compare_overlap(store, series)
    figures = {
        "candles": dg.MetadataValue.int(found.candles),
        "window": dg.MetadataValue.text(str(found.window or "none")),
    }
    difference = [found.difference] if found.difference else []
    good = f"{found.candles:,} candles are equal" if found.candles else "nothing to compare yet"
    return difference, figures, good


_OTHERS = {CONTIGUOUS: _contiguous, OVERLAP: _overlap}
