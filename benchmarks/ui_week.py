"""How long do the catalog and the page of a series take to open, after a week of 100 series?

The real jobs over a sandbox: 168 hourly runs with their events, the daily checks, overview and
deletion of old runs, and what live series tell in a week. Then `dccd start`, and a Chromium that
looks at it. A page is open when the state of its series is to be read, and it answers.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from browser import browser
from lab import BENCH, ROOT, Aim, Options, client, main, print_table, print_title, scratch

from dccd_core.config import load_config
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import trades_table
from dccd_pipelines import run_backfill
from dccd_sandbox import Sandbox, Settings

AIM = 3.0  # seconds, on a machine that does nothing else
PATIENCE = 120.0
CONFIG = """\
settings: {{data_path: ./data, timezone: UTC}}
histo_jobs: [{{exchange: binance, span: 1h, start: {start}, pairs: [{pairs}]}}]
stream_jobs: [{{exchange: binance, channels: [trades], pairs: [{live}]}}]
exchanges: {{binance: {{rest_url: {url}, ws_url: {ws}/binance}}}}
"""
LOADS = "document.querySelector('[class*=skeleton], [class*=spinner], [class*=Spinner]')"
TEXT = "document.body.innerText"
# A row has its state when it says of how many partitions it is; until then it says "- partitions".
ROWS = "document.querySelectorAll('a[href*=\"/assets/binance\"]').length"
CATALOG = (
    f"{ROWS} > 5 && /\\d+ partitions?/.test({TEXT}) && !/- partitions/.test({TEXT}) && !{LOADS}"
)
SERIES = f"/Latest materialization/.test({TEXT}) && /Row count/.test({TEXT}) && !{LOADS}"


def measure(options: Options) -> list[Aim]:
    """Make the week, then open each page in new browsers, and once more in the same one."""
    print_title(__doc__)
    count, live, days = (20, 2, 1) if options.small else (100, 10, 7)
    settings = Settings(symbols=(), many=count, weight_limit=0)
    with scratch() as folder, Sandbox(settings, process=True) as box:
        path = folder / "config.yml"
        make_week(path, box, count, live, days)
        with _started(path, folder) as url:
            found = _look(url, options)
    print_table(
        ("page", "new browser", "again"),
        [(what, *(f"{seconds:.1f} s" for seconds in times)) for what, times in found.items()],
    )
    slowest = {what: max(times) for what, times in found.items()}
    return [
        Aim(f"{what}, {count} series after {days} days", f"<= {AIM:.0f} s", f"{s:.1f} s", s <= AIM)
        for what, s in slowest.items()
    ]


def make_week(path: Path, box: Sandbox, count: int, live: int, days: int) -> None:
    """Write the configuration, and do what happens in some days of it."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=days)
    pairs = [f"N{number:04}/USDT" for number in range(count)]
    path.write_text(
        CONFIG.format(
            start=(hour - timedelta(days=2)).date().isoformat(),
            pairs=", ".join(pairs),
            live=", ".join(pairs[:live]),
            url=box.binance_url,
            ws=box.ws_url,
        )
    )
    _store_trades(path, pairs[:live], hour, days)
    run_backfill(load_config(path), end=hour)
    for day in range(days):
        began = time.monotonic()
        ends = [hour + timedelta(days=day, hours=number + 1) for number in range(24)]
        texts = [f"{end:%Y-%m-%dT%H:%M:%SZ}" for end in ends]
        size = client("ours_dagster_day", config=str(path), ends=texts, keep=7)["sizes"][-1]
        took = time.monotonic() - began
        print(f"day {day + 1}: {size / 1e6:.0f} MB, in {took:.0f} s", flush=True)
    told = client("ours_live_days", config=str(path), now=time.time())
    print(
        f"{told['events']:,} events of {live} live series: {told['bytes'] / 1e6:.1f} MB, "
        f"{told['bytes'] / told['events']:.0f} bytes each\n",
        flush=True,
    )


def _store_trades(path: Path, pairs: list[str], start: datetime, days: int) -> None:
    """A file a day of each live series, as the service leaves them."""
    store = DataStore(load_config(path).settings.data_path)
    for pair in pairs:
        series = Series("binance", Channel.TRADES, Symbol(*pair.split("/")))
        for number in range(days):
            day = (start + timedelta(days=number)).date().isoformat()
            window = series.period_window(day)
            trades = [
                Trade(
                    window.start + 60 * n * SECOND, None, f"{number}{n:04}", 1.0, 2.0, bool(n % 2)
                )
                for n in range(1_000)
            ]
            covered = Window(window.start, window.end)
            store.merge(series, day, trades_table(trades), [covered], "rest")


@contextmanager
def _started(path: Path, folder: Path) -> Iterator[str]:
    """`dccd start` on a free port, until its page answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("DAGSTER_HOME", None)
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("dccd"), "start", "-c", path, "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "start.log").read_text()[-3000:])
            time.sleep(0.2)
        time.sleep(15)  # the daemon's first looks are over
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _look(url: str, options: Options) -> dict[str, tuple[float, float]]:
    pages = {
        "catalog": ("/assets", CATALOG),
        "page of candles": ("/assets/binance/ohlc/1h/N0007-USDT", SERIES),
        "page of live trades": ("/assets/binance/trades/N0001-USDT", SERIES),
    }
    found = {}
    for what, (place, shows) in pages.items():
        times = [_open_twice(url + place, shows, what) for _ in range(options.rounds)]
        found[what] = (median(first for first, _ in times), median(again for _, again in times))
    return found


def _open_twice(address: str, shows: str, what: str) -> tuple[float, float]:
    with browser() as page:
        first = page.open(address, shows)
        page.picture(BENCH / f"{what.replace(' ', '_')}.png")
        page.call("Page.navigate", url="about:blank")
        return first, page.open(address, shows)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
