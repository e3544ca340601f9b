"""How long does a year of 1m candles take at a round trip of 100 ms, under the real weight limit?

Ours fetches the whole year. The peers fetch one page after the other, so that 60 pages tell what
the year's 526 take; their time is scaled.
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

OURS, CCXT, DCCD = "ours, core", "ccxt 4.5.64 + polars", "dccd 3.8.1"
AIM = 11.0
SAMPLE = 60


def measure(options: Options) -> list[Aim]:
    """The three in turn. The warm-up fills the servers' caches."""
    print_title(__doc__)
    start, end = microseconds(YEAR[0]), microseconds(YEAR[1])
    if options.small:
        end = microseconds(YEAR[0] + timedelta(days=60))
    sample = {"start": start, "end": start + SAMPLE * 1_000 * 60_000_000}
    rows = (end - start) // 60_000_000
    settings = Settings(weight_limit=6_000, latency=0.1)
    with Sandbox(settings, process=True) as own, Sandbox(settings, process=True) as other:
        results = in_turn(
            options.rounds,
            {
                OURS: partial(_run, own, "ours_year", dagster=False, start=start, end=end),
                CCXT: partial(_run, other, "ccxt_year", "ccxt", pages=SAMPLE, **sample),
                DCCD: partial(_run, other, "dccd_year", "dccd", **sample),
            },
        )
    for one in results[OURS]:
        expect(one["rows"], rows, OURS)
    for one in (*results[CCXT], *results[DCCD]):
        expect(one["rows"], SAMPLE * 1_000, "a peer")
    walls = {name: middle(many, "wall") for name, many in results.items()}
    for name in (CCXT, DCCD):
        walls[name] *= rows / (SAMPLE * 1_000)
    _print(results, walls, rows)
    times = min(walls[CCXT], walls[DCCD]) / walls[OURS]
    measured = f"{walls[OURS]:.1f} s ({times:.1f}x less than the faster peer)"
    return [Aim("1m year at 100 ms round trip", f"<= {AIM:.0f} s", measured, walls[OURS] <= AIM)]


def _run(box: Sandbox, script: str, peer: str | None = None, **given: object) -> Result:
    box.reset()  # the weight that the run before has used in this minute
    with scratch() as folder:
        found = client(script, peer, folder=str(folder), url=box.binance_url, limiter=True, **given)
    stats = box.stats(last=0)
    answers = [item for path in stats["paths"].values() for item in path.items()]
    refused = sum(count for status, count in answers if status in ("429", "418"))
    return found | {"refused": refused, "weight": stats["max_used_weight"]["binance"]}


def _print(results: dict[str, list[Result]], walls: dict[str, float], rows: int) -> None:
    table = [
        (
            name,
            f"{walls[name]:.1f}",
            f"{rows / walls[name]:,.0f}",
            f"{walls[name] / walls[OURS]:.1f}x",
            "" if name == OURS else f"from {SAMPLE} pages",
            str(max(r["weight"] for r in many)),
            str(max(r["refused"] for r in many)),
        )
        for name, many in results.items()
    ]
    head = ["client", "s per year", "candles/s", "vs ours", "scaled", "weight in a minute"]
    print_table([*head, "429 or 418"], table)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
