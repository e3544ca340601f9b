"""Series as Dagster names them."""

import dagster as dg

from dccd_core.models import Series


def asset_key(series: Series) -> dg.AssetKey:
    """The asset key of a series; it ends in the pair, which is what the lineage graph shows."""
    return dg.AssetKey(list(series.key))
