"""The service runs for long, under faults: memory, threads and files stay as they are."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from stream_lab import wait
from test_stream_service import BTC, assert_equals_truth, live, service, wait_whole

from dccd_sandbox import Sandbox, Settings, StreamFault

PAIRS = ("BTC/USDT", "ETH/USDT")
MINUTES = float(os.environ.get("DCCD_SOAK_MINUTES", "60"))
CONFIG = """\
settings: {{data_path: {folder}/data}}
stream_jobs:
  - exchange: binance
    pairs: [{pairs}]
    channels: [trades, book, book_deltas, ohlc]
    time_step: 60
  - {{exchange: kraken, pairs: [BTC/USDT], channels: [trades, book], time_step: 60}}
exchanges:
  binance: {{rest_url: "{url}/binance", ws_url: "{ws}/binance"}}
  kraken: {{rest_url: "{url}/kraken", ws_url: "{ws}/kraken"}}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes of memory, threads and open files of a process."""

    memory: int
    threads: int
    files: int


def sample(pid: int) -> Sample:
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    files = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208
    return Sample(int(found["VmRSS"].split()[0]) * 1024, int(found["Threads"]), len(files))


def record(pid: int, seconds: float, disturb: Callable[[int], None]) -> list[Sample]:
    """A sample every hundredth of the time, and a disturbance with each."""
    found = []
    for number in range(100):
        disturb(number)
        time.sleep(seconds / 100)
        found.append(sample(pid))
    return found


@pytest.mark.parametrize("minutes", [0.25, pytest.param(MINUTES, marks=pytest.mark.soak)])
def test_it_stays_as_large_as_it_is(tmp_path: Path, minutes: float) -> None:
    with Sandbox(Settings(speed=10, rate=500, weight_limit=0)) as box:
        config = tmp_path / "config.yml"
        text = CONFIG.format(folder=tmp_path, pairs=", ".join(PAIRS), url=box.url, ws=box.ws_url)
        config.write_text(text)

        def disturb(number: int) -> None:
            """A cut of every connection now and then, each time of another exchange."""
            if number % 10 == 5:
                name = ("binance", "kraken")[number // 10 % 2]
                box.set_stream_faults(StreamFault("cut", f"/{name}/", count=2))

        with service(config) as process:
            wait(lambda: live(config, *PAIRS), "not live")
            found = record(process.pid, minutes * 60, disturb)
            told = [f"{one.memory / 1e6:.0f} MB {one.threads} {one.files}" for one in found]
            (tmp_path / "samples.txt").write_text("\n".join(told) + "\n")
            box.set_stream_faults()
            # cut as often as in the short run, it waits ever longer before it connects again
            wait_whole(tmp_path / "data", box, BTC)
            process.terminate()
            assert process.wait(60) == 0
        warm, end = found[40:60], found[-20:]
        for what in ("threads", "files"):
            before, after = (median(getattr(one, what) for one in part) for part in (warm, end))
            # one more of each while a connection is made anew
            assert abs(after - before) <= 3, f"{what}: {before} … {after}"
        if minutes > 5:
            before, after = (median(one.memory for one in part) for part in (warm, end))
            assert abs(after / before - 1) <= 0.05, f"memory: {before:,} … {after:,}"
        assert_equals_truth(tmp_path / "data", box, BTC, "BTCUSDT")
