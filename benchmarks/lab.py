"""What every benchmark here needs: the peers' environments, clients in processes of their own,
tables, and the aims of issue 2."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # a checkout works without being installed
    sys.path.insert(0, str(ROOT))

BENCH = ROOT / ".bench"
CLIENTS = ROOT / "benchmarks" / "peers"
PEERS = {
    "ccxt": ("ccxt==4.5.64", "polars==2.1.0"),
    "dccd": ("dccd==3.8.1", "polars==2.1.0", "pyyaml==6.0.3"),
}
LONGEST = 900.0  # seconds of one client
YEAR = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
MINUTE = 60_000_000
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """`rounds` is how often each variant runs, in turn with the others."""

    rounds: int
    small: bool


@dataclass(frozen=True, slots=True)
class Aim:
    """One aim and what was measured."""

    what: str
    aim: str
    measured: str
    met: bool


def main(measure: Callable[[Options], list[Aim]], title: str | None) -> int:
    """Run one benchmark file; 1 if an aim is missed."""
    aims = measure(options(title))
    print_aims(aims)
    return 0 if all(aim.met for aim in aims) else 1


def options(title: str | None) -> Options:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--rounds", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--small", action="store_true", help="small sizes, for a quick look")
    given = parser.parse_args()
    return Options(max(1, given.rounds), given.small)


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made at the first use."""
    home = BENCH / peer
    python, stamp = home / "bin" / "python", home / "pins.txt"
    pins = "\n".join(PEERS[peer])
    if not stamp.exists() or stamp.read_text() != pins:
        print(f"making {home.relative_to(ROOT)}: {', '.join(PEERS[peer])}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        command = [str(python), "-m", "pip", "install", "-qq", *PEERS[peer]]
        subprocess.run([*command, "--disable-pip-version-check"], check=True)
        stamp.write_text(pins)
    return python


def client(script: str, peer: str | None = None, **given: Any) -> Result:
    """Run peers/SCRIPT.py in a process of its own; what it reports.

    RuntimeError if it fails; subprocess.TimeoutExpired, with what it said, if it hangs.
    """
    python = str(python_of(peer)) if peer else sys.executable
    environment = {k: v for k, v in os.environ.items() if k not in ("DCCD_CONFIG", "DAGSTER_HOME")}
    if not peer:
        environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [python, str(CLIENTS / f"{script}.py"), json.dumps(given)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    if done.returncode:
        raise RuntimeError(f"{script} {given} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    report: Result = json.loads(done.stdout.splitlines()[-1])
    return report


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the checkout, since /tmp may be memory."""
    parent = BENCH / "work"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def in_turn(
    rounds: int, variants: Mapping[str, Callable[[], Result]], warm_up: bool = True
) -> dict[str, list[Result]]:
    """Run the variants one after the other, so that a noisy minute meets all of them."""
    if warm_up:
        for run in variants.values():
            run()
    found: dict[str, list[Result]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            found[name].append(run())
    return found


def middle(results: Sequence[Result], figure: str) -> float:
    """The median of one figure."""
    return float(median(result[figure] for result in results))


def expect(rows: int, wanted: int, who: str) -> None:
    """RuntimeError if a client did not do all of the work."""
    if rows != wanted:
        raise RuntimeError(f"{who} has {rows:,} rows, not {wanted:,}")


def print_title(text: str | None) -> None:
    """What is measured, and how busy the machine is."""
    load = os.getloadavg()[0]
    at = time.strftime("%H:%M:%S")
    print(f"\n## {(text or '').splitlines()[0]}\n({at}, load {load:.1f}, {os.cpu_count()} cores)\n")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table; all but the first column are figures."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for number, row in enumerate([head, *rows]):
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        print(f"| {' | '.join(cells)} |")
        if not number:
            print(f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    print(flush=True)


def print_aims(aims: Sequence[Aim]) -> None:
    """The aims of a benchmark, or of all of them."""
    rows = [(aim.what, aim.aim, aim.measured, "yes" if aim.met else "NO") for aim in aims]
    print_table(("aim", "wanted", "measured", "met"), rows)
