"""What does a scheduled run of 100 pairs take beyond its requests?

A real daemon with Dagster's SQLite storage fires at the minute, starts the run, and each of 100
pairs gets its new 1m candle. The sandbox answers at once, so nearly all of the time is ours and
Dagster's; the time from the first request to the last answer is counted and taken off.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import dagster as dg
from lab import (
    ROOT,
    Aim,
    Options,
    client,
    expect,
    main,
    print_table,
    print_title,
    scratch,
)

from dccd_core.config import load_config
from dccd_pipelines.instance import dagster_home
from dccd_sandbox import Sandbox, Settings

AIM = 15.0
TICKS = 2
PATIENCE = 150.0
CONFIG = """\
settings: {{data_path: ./data, timezone: UTC}}
histo_jobs: [{{exchange: binance, span: 1m, start: {start}, pairs: [{pairs}]}}]
exchanges: {{binance: {{rest_url: {url}}}}}
"""


def measure(options: Options) -> list[Aim]:
    """Fill up to now, start the daemon, and look at the runs of the next minutes."""
    print_title(__doc__)
    count, ticks = (20, 1) if options.small else (100, TICKS)
    settings = Settings(symbols=(), many=count, weight_limit=0)
    with scratch() as folder, Sandbox(settings, process=True) as box:
        path = folder / "config.yml"
        pairs = ", ".join(f"N{number:04}/USDT" for number in range(count))
        start = datetime.now(UTC).date().isoformat()
        path.write_text(CONFIG.format(start=start, pairs=pairs, url=box.binance_url))
        client("ours_fill", config=str(path))
        home = dagster_home(load_config(path))
        with (
            dg.DagsterInstance.from_config(str(home)) as instance,
            _daemon(path, home, folder) as group,
        ):
            records, cpu = _wait(instance, ticks, group)
            rows = [_row(instance, record, box, count) for record in records]
    print_table(
        ("run", "queued s", "started s", "worked s", "of it requests s", "beyond requests s"),
        [(f"{number}", *(f"{x:.2f}" for x in row)) for number, row in enumerate(rows, 1)],
    )
    print(f"CPU of daemon, code server and run process: {cpu:.1f} s a run\n")
    beyond = median(row[-1] for row in rows)
    what = f"scheduled run of {count} pairs beyond its requests"
    return [Aim(what, f"<= {AIM:.0f} s", f"{beyond:.1f} s", beyond <= AIM)]


@contextmanager
def _daemon(config: Path, home: Path, folder: Path) -> Iterator[int]:
    """Dagster's daemon with our code location; nothing of it is left at the end.

    Its code server and its runs outlive it for a while, in its process group.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DCCD_CONFIG": str(config),
        "DAGSTER_HOME": str(home),
    }
    tool = Path(sys.executable).with_name("dagster-daemon")
    command = [str(tool), "run", "-m", "dccd_pipelines.definitions"]
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process.pid
        except BaseException:
            print((folder / "daemon.log").read_text()[-3000:], file=sys.stderr)
            raise
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(30)
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.1)


def _group_cpu(group: int) -> float:
    """Seconds of CPU of a process group, its ended members included."""
    used = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            used += sum(map(int, fields[11:15])) if int(fields[2]) == group else 0
    return used / os.sysconf("SC_CLK_TCK")


def _wait(instance: dg.DagsterInstance, ticks: int, group: int) -> tuple[list[dg.RunRecord], float]:
    """The first runs that have ended, and the CPU of one; RuntimeError if they fail or do not
    come."""
    before = None
    deadline = time.monotonic() + PATIENCE + 60 * ticks
    while time.monotonic() < deadline:
        records = sorted(instance.get_run_records(), key=lambda record: record.create_timestamp)
        if records and before is None:
            before = _group_cpu(group)
        failed = [r for r in records if r.dagster_run.status is dg.DagsterRunStatus.FAILURE]
        if failed:
            raise RuntimeError(f"run {failed[0].dagster_run.run_id} failed")
        ended = [record for record in records if record.end_time]
        if len(ended) >= ticks and before is not None:
            return ended[:ticks], (_group_cpu(group) - before) / len(ended)
        time.sleep(0.5)
    raise RuntimeError(f"no {ticks} runs within {PATIENCE:.0f} s and {ticks} minutes")


def _row(
    instance: dg.DagsterInstance, record: dg.RunRecord, box: Sandbox, count: int
) -> tuple[float, ...]:
    """Seconds: from the tick to the queue, to the start, work, requests, all but requests."""
    run_id = record.dagster_run.run_id
    told = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    expect(len(told), count, f"run {run_id}")
    minute = record.create_timestamp.timestamp() // 60 * 60
    created = record.create_timestamp.timestamp()
    started, ended = record.start_time or 0.0, record.end_time or 0.0
    asked = [one["at"] for one in box.stats(last=1_000)["last"]]
    during = [at for at in asked if started <= at <= ended]
    requests = max(during) - min(during) if during else 0.0
    return (
        created - minute,
        started - created,
        ended - started,
        requests,
        ended - minute - requests,
    )


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
