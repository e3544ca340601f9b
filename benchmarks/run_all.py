"""All benchmarks, and one table of what is aimed at and what was measured."""

import sys
import time

import archives
import book_cpu
import dagster_year
import definitions
import inventory
import journal
import one_candle
import parquet_size
import parquet_trades
import requests_needed
import rest_to_parquet
import scheduled_run
import stream_cpu
import ui_week
import wall_at_100ms
from lab import Aim, options, print_aims, print_title


def main() -> int:
    """1 if an aim is missed."""
    given = options(__doc__)
    began = time.monotonic()
    aims: list[Aim] = []
    for one in (
        rest_to_parquet,
        wall_at_100ms,
        one_candle,
        parquet_size,
        inventory,
        definitions,
        scheduled_run,
        dagster_year,
        archives,
        requests_needed,
        stream_cpu,
        book_cpu,
        journal,
        parquet_trades,
        ui_week,
    ):
        aims += one.measure(given)
    print_title("All aims")
    print_aims(aims)
    print(f"{time.monotonic() - began:.0f} s in all")
    return 0 if all(aim.met for aim in aims) else 1


if __name__ == "__main__":
    sys.exit(main())
