"""How large does Dagster's database become in a year of hourly schedules?

The real jobs over a sandbox, an hour of new candles a run. A simulated day is some of these runs,
the checks and the overview; then old runs are deleted. What a day adds stays for a week, what is
left of it for ever. Ticks of schedules and sensors are not in it: Dagster purges them after a day
or a week (dagster.yaml), and they take some MB.
"""

import sys
from datetime import UTC, datetime, timedelta

from lab import Aim, Options, client, main, print_table, print_title, scratch

from dccd_core.config import load_config
from dccd_pipelines import run_backfill
from dccd_pipelines.defs.old_runs import KEEP
from dccd_sandbox import Sandbox, Settings

AIM = 1_000.0  # MB
DAYS = 3
CONFIG = """\
settings: {{data_path: ./data, timezone: UTC}}
histo_jobs: [{{exchange: binance, span: 1h, start: {start}, pairs: [{pairs}]}}]
exchanges: {{binance: {{rest_url: {url}}}}}
"""


def measure(options: Options) -> list[Aim]:
    """Fill up to some hours ago, then run hour by hour."""
    print_title(__doc__)
    count, runs = (30, 3) if options.small else (300, 6)
    settings = Settings(symbols=(), many=count, weight_limit=0)
    with scratch() as folder, Sandbox(settings, process=True) as box:
        path = folder / "config.yml"
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        hour -= timedelta(hours=DAYS * runs)
        pairs = ", ".join(f"N{number:04}/USDT" for number in range(count))
        start = (hour - timedelta(days=2)).date().isoformat()
        path.write_text(CONFIG.format(start=start, pairs=pairs, url=box.binance_url))
        run_backfill(load_config(path), end=hour)
        days = []
        for _ in range(DAYS):
            hours = [hour + timedelta(hours=number + 1) for number in range(runs)]
            ends = [f"{end:%Y-%m-%dT%H:%M:%SZ}" for end in hours]
            days.append(client("ours_dagster_day", config=str(path), ends=ends)["sizes"])
            hour = hours[-1]
    rows = [_megabytes(sizes, runs) for sizes in days]
    print_table(
        ("day", "MB a run", "MB of checks", "MB left of a day"),
        [(str(number), *(f"{mb:.2f}" for mb in row)) for number, row in enumerate(rows, 1)],
    )
    run, checks, left = rows[-1]
    day = 24 * run + checks
    print(f"{count} series. Without deleting: {365 * day:,.0f} MB a year.\n")
    year = 365 * left + KEEP.days * day
    what = f"Dagster's database after a year of {count} hourly series"
    return [Aim(what, f"<= {AIM:,.0f} MB", f"{year:,.0f} MB", year <= AIM)]


def _megabytes(sizes: list[int], runs: int) -> tuple[float, float, float]:
    """Of a run, of a day's checks, and what is left of a day."""
    before, ran, checked, left = (size / 1e6 for size in sizes)
    return (ran - before) / runs, checked - ran, max(0.0, left - before)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
