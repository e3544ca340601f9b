"""Ours: the code location, loaded once in a new process, up to the graph of its assets."""

import os
from pathlib import Path

from meter import Meter, arguments


def main() -> None:
    """Import Dagster, then our definitions, then resolve them as a code server does."""
    os.environ["DCCD_CONFIG"] = str(Path(arguments()["config"]))
    with Meter() as importing:
        import dagster as dg
    with Meter() as loading:
        from dccd_pipelines.definitions import defs

        loaded = defs()
        if not isinstance(loaded, dg.Definitions):
            raise TypeError(f"{loaded!r} are no definitions")
        repository = loaded.get_repository_def()
    with Meter() as resolving:
        assets = sum("ohlc" in key.path for key in loaded.resolve_all_asset_keys())
        schedules = len(repository.schedule_defs)
    loading.report(
        importing=importing.wall, resolving=resolving.wall, assets=assets, schedules=schedules
    )


main()
