"""What does one new 1m candle cost, on a thousand and on half a million stored rows?

Each update of ours is a collector of its own, as at each tick of a schedule: connection, request,
merge, durable write. The peer's client stays open, and does not wait for the disk.
"""

import sys
from statistics import median

from lab import (
    YEAR,
    Aim,
    Options,
    Result,
    client,
    main,
    print_table,
    print_title,
    scratch,
)

from dccd_core.models import microseconds
from dccd_core.store.period import TAIL_ROWS
from dccd_sandbox import Sandbox, Settings

FEW, MANY = 1_000, 500_000
CPU, BYTES, TIMES = 10.0, 200_000, 2.0
UPDATES = 12


def measure(options: Options) -> list[Aim]:
    """Two sizes and two clients in turn; the medians of all updates."""
    print_title(__doc__)
    many = 100_000 if options.small else MANY
    found: dict[tuple[str, int], list[list[float]]] = {}
    folds: dict[int, Result] = {}
    settings = Settings(weight_limit=0)
    with scratch() as folder, Sandbox(settings, process=True) as box:
        for number in range(options.rounds):
            for rows in (FEW, many):
                given = {"url": box.binance_url, "start": microseconds(YEAR[0])}
                given |= {"updates": UPDATES, "batch": TAIL_ROWS + 1}
                box.reset()
                with scratch() as fresh:
                    ours = client("ours_update", rows=rows, folder=str(fresh), **given)
                kept = folder / f"dccd-{rows}"
                kept.mkdir(exist_ok=True)
                given["rows"] = rows + number * UPDATES
                peer = client("dccd_update", "dccd", folder=str(kept), **given)
                found.setdefault(("ours", rows), []).extend(ours["each"])
                found.setdefault(("dccd 3.8.1", rows), []).extend(peer["each"])
                folds[rows] = ours
    figures = {key: _middle(each) for key, each in found.items()}
    _print(figures)
    fold = folds[many]["cpu"] * 1e3
    print(
        f"A batch of {TAIL_ROWS + 1:,} candles onto {many:,} rows, which folds the tail into the "
        f"year's file: {fold:.0f} ms CPU, {folds[many]['written'] / 1e6:.1f} MB; "
        f"{fold / TAIL_ROWS:.2f} ms a candle.\n"
    )
    (few_cpu, few_bytes), (cpu, size) = (figures["ours", rows][:2] for rows in (FEW, many))
    times = max(cpu / few_cpu, size / few_bytes)
    return [
        Aim(f"one candle on {many:,} rows, CPU", f"<= {CPU:.0f} ms", f"{cpu:.1f} ms", cpu <= CPU),
        Aim(f"one candle on {many:,} rows, written", "<= 200 kB", _kb(size), size <= BYTES),
        Aim(f"one candle, {many:,} against {FEW:,}", "<= 2x", f"{times:.1f}x", times <= TIMES),
    ]


def _middle(each: list[list[float]]) -> tuple[float, float, float, float]:
    """Median CPU in ms, written bytes and bytes to disk of the updates, and the dearest CPU."""
    cpu, written, to_disk = zip(*each, strict=True)
    return median(cpu) * 1e3, median(written), median(to_disk), max(cpu) * 1e3


def _print(figures: dict[tuple[str, int], tuple[float, float, float, float]]) -> None:
    table = [
        (
            name,
            f"{rows:,}",
            f"{cpu:.1f}",
            f"{most:.1f}",
            _kb(written),
            _kb(to_disk),
            f"{figures['dccd 3.8.1', rows][0] / cpu:.1f}x",
        )
        for (name, rows), (cpu, written, to_disk, most) in figures.items()
    ]
    head = ["client", "stored rows", "CPU ms", "dearest", "written", "to disk", "vs dccd"]
    print_table(head, table)


def _kb(size: float) -> str:
    return f"{size / 1e3:,.0f} kB"


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
