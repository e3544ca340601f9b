"""What does a trade cost, from the socket to durable daily Parquet?

All clients read the same messages of one local server. Saturated: as fast as they are read. Paced:
2,000 a second over all connections, each at its own time, for half a minute. cryptofeed stores
through a callback that is not crash safe. The bytes are of the sandbox's market, whose amounts are
never round, and of a day that is closed, which costs us something once a day; those of more usual
trades are measured by parquet_trades.py.
"""

import sys
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from lab import (
    PEERS,
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

from dccd_sandbox import Load, Sandbox, Settings

OURS, CRYPTOFEED, DCCD = "ours", "cryptofeed 2.4.1 + Parquet", "dccd 3.8.1"
PEERS["cryptofeed"] = ("cryptofeed==2.4.1", "pyarrow==21.0.0", "uvloop==0.22.1")
RUNS = {OURS: ("ours_stream", None), CRYPTOFEED: ("cryptofeed_stream", "cryptofeed"),
        DCCD: ("dccd_stream", "dccd")}  # fmt: skip
PACED = 2_000.0
HALF_A_MINUTE = 60_000


def measure(options: Options) -> list[Aim]:
    """Every client at each number of connections, in turn."""
    print_title(__doc__)
    messages = 20_000 if options.small else 64_000  # as many for each of 16 connections
    counts = (1, 4) if options.small else (1, 4, 16)
    settings = Settings(many=16, weight_limit=0, rate=300, now="2026-06-01T12:00:00Z")
    cost: dict[tuple[str, int, bool], float] = {}
    size: dict[str, float] = {}
    closing = 0.0
    with Sandbox(settings, process=True) as box:
        for paced in (False, True):
            total = messages
            if paced:
                total = messages // 4 if options.small else HALF_A_MINUTE
            for connections in counts:
                variants = {
                    name: partial(_run, box, name, connections, total, paced) for name in RUNS
                }
                # a saturated run takes seconds only, and two of them differ by a third
                rounds = options.rounds if paced else 3 * options.rounds
                found = in_turn(rounds, variants, warm_up=False)
                for name, many in found.items():
                    cost[name, connections, paced] = middle(many, "cpu") / total * 1e6
                    # of one day's file: many small ones are mostly footers
                    size.setdefault(name, middle(many, "bytes") / total)
                closing = closing or middle(found[OURS], "closing")
    _print(cost, size, counts)
    print(f"Closing a day of one market: {closing / messages * 1e6:.1f} µs a trade.\n")
    return _aims(cost, size, counts)


def _run(box: Sandbox, name: str, connections: int, messages: int, paced: bool) -> Result:
    script, peer = RUNS[name]
    with scratch() as work:
        box.set_load(Load("binance", messages, connections, PACED if paced else None))
        folder = mkdtemp(dir=work)
        found = client(
            script, peer, url=box.url, ws=box.ws_url, folder=str(Path(folder)),
            connections=connections, messages=messages,
        )  # fmt: skip
    box.set_load(None)
    expect(found["rows"], messages, name)
    return found


def _print(
    cost: dict[tuple[str, int, bool], float], size: dict[str, float], counts: tuple[int, ...]
) -> None:
    heads = [f"{kind} x{n}" for kind in ("saturated", "2,000/s") for n in counts]
    rows = [
        [name, *(f"{cost[name, n, paced]:.1f}" for paced in (False, True) for n in counts),
         f"{size[name]:.1f}"]
        for name in RUNS
    ]  # fmt: skip
    print_table(["µs of CPU a trade", *heads, "bytes a trade"], rows)


def _aims(
    cost: dict[tuple[str, int, bool], float], size: dict[str, float], counts: tuple[int, ...]
) -> list[Aim]:
    aims = []
    for paced, kind in ((False, "saturated"), (True, "2,000/s")):
        for peer, wanted in ((CRYPTOFEED, 1.6), (DCCD, 4.0)):
            ratios = [cost[peer, n, paced] / cost[OURS, n, paced] for n in counts]
            what = f"{kind}, {', '.join(map(str, counts))} connections: cheaper than {peer}"
            measured = ", ".join(f"{ratio:.1f}" for ratio in ratios)
            aims.append(Aim(what, f"≥ {wanted} ×", f"{measured} ×", min(ratios) >= wanted))
        grown = cost[OURS, counts[-1], paced] / cost[OURS, 1, paced]
        what = f"{kind}: {counts[-1]} connections against one"
        aims.append(Aim(what, "≤ 1.5 ×", f"{grown:.2f} ×", grown <= 1.5))
    part = size[OURS] / size[DCCD]
    aims.append(Aim("bytes of a trade against dccd", "≤ 0.33", f"{part:.2f}", part <= 1 / 3))
    return aims


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
