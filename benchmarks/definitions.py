"""How long does Dagster take to load 1,000 series?

From a config.yml of 1,000 pairs: our part in a new process, and the whole command
`dagster definitions validate`, which starts a code server, loads and sends everything.
"""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from lab import (
    ROOT,
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

AIM = 5.0
CONFIG = """\
settings: {{data_path: ./data, timezone: UTC}}
histo_jobs: [{{exchange: binance, span: 1h, start: 2023-01-01, pairs: [{pairs}]}}]
"""


def measure(options: Options) -> list[Aim]:
    """A few pairs for comparison, then the thousand."""
    print_title(__doc__)
    counts = (10, 100) if options.small else (10, 1_000)
    with scratch() as folder:
        runs = {}
        for count in counts:
            config = folder / f"{count}.yml"
            pairs = ", ".join(f"N{number:04}/USDT" for number in range(count))
            config.write_text(CONFIG.format(pairs=pairs))
            runs[f"{count:,} series"] = partial(client, "ours_definitions", config=str(config))
        results = in_turn(options.rounds, runs)
        whole = {f"{count:,} series": _validate(folder, count) for count in counts}
    for count in counts:
        expect(int(results[f"{count:,} series"][0]["assets"]), count, "the asset graph")
    _print(results, whole)
    name = f"{counts[-1]:,} series"
    took = sum(middle(results[name], part) for part in ("importing", "wall", "resolving"))
    return [Aim(f"definitions of {name}", f"<= {AIM:.0f} s", f"{took:.1f} s", took <= AIM)]


def _validate(folder: Path, count: int) -> float:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DCCD_CONFIG": str(folder / f"{count}.yml"),
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    dagster = Path(sys.executable).with_name("dagster")
    command = [str(dagster), "definitions", "validate", "-m", "dccd_pipelines.definitions"]
    before = time.monotonic()
    subprocess.run(command, env=environment, cwd=home, check=True, capture_output=True)
    return time.monotonic() - before


def _print(results: dict[str, list[Result]], whole: dict[str, float]) -> None:
    table = [
        (
            name,
            f"{middle(many, 'importing'):.2f}",
            f"{middle(many, 'wall'):.2f}",
            f"{middle(many, 'cpu'):.2f}",
            f"{middle(many, 'resolving'):.2f}",
            f"{whole[name]:.1f}",
        )
        for name, many in results.items()
    ]
    head = ("", "import dagster s", "load s", "load CPU s", "resolve s", "dagster validate s")
    print_table(head, table)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
