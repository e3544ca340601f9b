"""Ours: what is stored, asked twice by one process; or the same by reading everything."""

from pathlib import Path

import polars as pl
from meter import Meter, arguments

from dccd_core.store.datastore import DataStore


def main() -> None:
    """The first and the second look."""
    given = arguments()
    folder = Path(given["folder"])
    if given["read"]:
        with Meter() as first:
            frames = (pl.read_parquet(file) for file in folder.rglob("*.parquet"))
            rows = [(len(f), f["time"].min(), f["time"].max()) for f in frames]
        first.report(rows=len(rows))
        return
    store = DataStore(folder)
    with Meter() as first:
        found = store.inventory()
    with Meter() as second:
        store.inventory()
    if found["error"].count():
        raise RuntimeError(found["error"].drop_nulls()[0])
    first.report(rows=len(found), again=second.wall, cpu_again=second.cpu)


main()
