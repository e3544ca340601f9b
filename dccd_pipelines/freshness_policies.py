"""Freshness as Dagster's pages show it. It looks at the time of events, so alerts do not use it."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import dagster as dg

from dccd_core.config import Config
from dccd_core.freshness import history_limits, live_limit
from dccd_core.live_series import live_series
from dccd_pipelines.health_run import observer_of
from dccd_pipelines.keys import asset_key

# A stream's open day is told of when it is folded and an hour has passed.
LIVE = timedelta(hours=2)


def with_freshness(
    config: Config, assets: Iterable[dg.AssetsDefinition | dg.AssetSpec]
) -> Sequence[dg.AssetsDefinition | dg.AssetSpec]:
    """The same assets, with a policy where something says how old their data may be."""
    windows = _windows(config)

    def add(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.key not in windows:
            return spec
        policy = dg.FreshnessPolicy.time_window(fail_window=windows[spec.key])
        return spec.replace_attributes(freshness_policy=policy)

    return dg.map_asset_specs(add, assets)


def _windows(config: Config) -> dict[dg.AssetKey, timedelta]:
    """Each asset's time from one event to the next. A market that is known to rest has none."""
    observer = observer_of(config)
    found = {
        asset_key(series): timedelta(seconds=limit)
        for series, limit in history_limits(config, dict(observer.crons)).items()
        if limit is not None
    }
    for series, job in live_series(config).items():
        rows, seconds = observer.rate(series)
        limit = live_limit(series, job, rows, seconds)
        if limit is not None or not rows:
            found[asset_key(series)] = max(LIVE, timedelta(seconds=limit or 0))
    return found
