"""What does a year of 1m candles cost, from the exchange's REST to a Parquet file?

No latency, no limits: what counts is the CPU of the client. Every server has its pages prepared
and gzipped before the first measured round.
"""

import sys
from datetime import timedelta
from functools import partial

from lab import (
    YEAR,
    Aim,
    Options,
    Result,
    client,
    expect,
    in_turn,
    main,
    middle,
    print_table,
    print_title,
    scratch,
)

from dccd_core.models import microseconds
from dccd_sandbox import Sandbox, Settings

CORE, DAGSTER = "ours, core", "ours, Dagster run"
CCXT, DCCD = "ccxt 4.5.64 + polars", "dccd 3.8.1"
COLUMNS = {CORE: 10, DAGSTER: 10, CCXT: 6, DCCD: 8}


def measure(options: Options) -> list[Aim]:
    """The four clients in turn, each with a server of its own, whose cache holds its pages."""
    print_title(__doc__)
    start, end = microseconds(YEAR[0]), microseconds(YEAR[1])
    if options.small:
        end = microseconds(YEAR[0] + timedelta(days=60))
    rows = (end - start) // 60_000_000
    settings = Settings(weight_limit=0)
    with (
        Sandbox(settings, process=True) as own,
        Sandbox(settings, process=True) as for_ccxt,
        Sandbox(settings, process=True) as for_dccd,
    ):
        common = {"start": start, "end": end}
        results = in_turn(
            options.rounds,
            {
                CORE: partial(_run, own, "ours_year", dagster=False, **common),
                DAGSTER: partial(_run, own, "ours_year", dagster=True, **common),
                CCXT: partial(_run, for_ccxt, "ccxt_year", "ccxt", pages=rows, **common),
                DCCD: partial(_run, for_dccd, "dccd_year", "dccd", **common),
            },
        )
    for name, many in results.items():
        for one in many:
            expect(one["rows"], rows, name)
    cpu = {name: middle(many, "cpu") for name, many in results.items()}
    _print(results, cpu, rows)
    return [
        _aim("1m year, CPU against dccd 3.8.1", 10, cpu[DCCD] / cpu[CORE]),
        _aim("1m year, CPU against ccxt + polars", 3, cpu[CCXT] / cpu[CORE]),
    ]


def _run(box: Sandbox, script: str, peer: str | None = None, **given: object) -> Result:
    box.reset()  # the weight used, which our client heeds even where nothing is refused
    with scratch() as folder:
        return client(script, peer, folder=str(folder), url=box.binance_url, limiter=False, **given)


def _print(results: dict[str, list[Result]], cpu: dict[str, float], rows: int) -> None:
    table = [
        (
            name,
            f"{cpu[name]:.2f}",
            f"{min(r['cpu'] for r in many):.2f}-{max(r['cpu'] for r in many):.2f}",
            f"{cpu[name] / rows * 1e6:.2f}",
            f"{rows / cpu[name]:,.0f}",
            f"{middle(many, 'wall'):.1f}",
            str(COLUMNS[name]),
            f"{middle(many, 'bytes') / rows:.1f}",
            f"{cpu[DCCD] / cpu[name]:.1f}x",
            f"{cpu[CCXT] / cpu[name]:.1f}x",
        )
        for name, many in results.items()
    ]
    head = ["client", "CPU s", "range", "µs/candle", "candles/CPU s", "wall s", "columns"]
    print_table([*head, "B/candle", "vs dccd", "vs ccxt"], table)


def _aim(what: str, times: float, measured: float) -> Aim:
    return Aim(what, f">= {times}x less", f"{measured:.1f}x", measured >= times)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
