"""The whole loop: everything runs, several things break at once, and each is told once."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers import free_port
from remotes import WebDav, rclone_config, tree, web_dav
from slack import SECRET, Slack

from dccd_core.config import child_environment
from dccd_core.stream_status import read_statuses
from dccd_sandbox import Rule, Sandbox, Settings, StreamFault

pytestmark = pytest.mark.soak

CONFIG = """\
settings: {{data_path: ./data, timezone: UTC, ui_port: {port}}}
histo_jobs:
  - {{exchange: binance, pairs: [BTC/USDT], span: 1m, start: "{start}", max_retries: 1}}
stream_jobs:
  - {{exchange: binance, pairs: [BTC/USDT, ETH/USDT], channels: [trades, book], time_step: 10}}
  - {{exchange: bybit, pairs: [BTC/USDT], channels: [trades], stale_after: 60}}
storage: {{remotes: [{{remote: {disk}}}, {{remote: "dav:copy"}}], sync_interval: 20}}
alerts: {{webhook_url: "{slack}", max_consecutive_errors: 2}}
exchanges:
  binance: {{rest_url: "{url}/binance", ws_url: "{ws}/binance"}}
  bybit: {{rest_url: "{other.url}/bybit", ws_url: "{other.ws_url}/bybit"}}
"""
OPENED, CLOSED = ":red_circle:", ":large_green_circle:"
COMMAND = [sys.executable, "-c", "from dccd_pipelines.cli import main; main()", "start"]


def until(condition: Callable[[], object], what: str, patience: float = 600) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.5)


class Collector:
    """`dccd start` on a folder, and what Slack hears of it."""

    def __init__(self, folder: Path, box: Sandbox, other: Sandbox, slack: Slack) -> None:
        self.folder, self.slack = folder, slack
        self.data, self.disk = folder / "data", folder / "disk"
        self.disk.mkdir()
        port = free_port()
        start = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%d %H:%M")
        (folder / "config.yml").write_text(
            CONFIG.format(
                port=port,
                start=start,
                disk=self.disk,
                slack=slack.url,
                url=box.url,
                ws=box.ws_url,
                other=other,
            )
        )
        (folder / "port").write_text(str(port))

    def start(self) -> None:
        with (self.folder / "start.log").open("a") as log:
            self.process = subprocess.Popen(
                COMMAND, cwd=self.folder, stdout=log, stderr=log, env=child_environment()
            )

    def restart(self) -> None:
        """As after a power cut: nothing says goodbye."""
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(15)

    def streams(self) -> dict[str, str]:
        """The state of each live stream."""
        now = time.time()
        services = [one for one in read_statuses(self.data) if one.alive(now)]
        return {f"{s.pair} {s.channels}": s.state for one in services for s in one.streams}

    def heard(self, sign: str, what: str) -> int:
        """How many messages of a kind came."""
        heads = [one.splitlines()[0] for one in self.slack.messages]
        return sum(head.startswith(sign) and f"{what}:" in head for head in heads)

    def copied(self, place: Path) -> bool:
        return any(path.endswith(".parquet") for path in tree(place))


def break_things(box: Sandbox, other: Sandbox) -> None:
    """A silent stream, an exchange that answers 500, a market in which nothing happens."""
    other.set_clock(None, frozen=True)
    box.set_stream_faults(
        StreamFault("stall", "/binance/", "trades", symbol="BTCUSDT", count=None),
    )
    box.set_faults(Rule("5xx", path="/binance/api/v3/klines"))


def mend_things(box: Sandbox, other: Sandbox, dav: WebDav) -> None:
    other.set_clock(None)
    box.set_stream_faults()
    box.set_faults()
    dav.start()


BROKEN = ("stream", "stale", "job failed", "copy failed")


def test_each_incident_is_told_once_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = Slack()
    with (
        closing(slack),
        Sandbox(Settings(rate=300, weight_limit=0)) as box,
        Sandbox(Settings(rate=50, weight_limit=0)) as other,
        web_dav(tmp_path / "dav") as dav,
    ):
        rclone_config(tmp_path / "rclone.conf", dav, monkeypatch)
        found = Collector(tmp_path, box, other, slack)
        found.start()
        try:
            _drive(found, box, other, dav)
            assert found.stop() == 0
        finally:
            if found.process.poll() is None:
                found.stop()
    log = (tmp_path / "start.log").read_text()
    assert log.rstrip().endswith("Stopped.")
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        told = SECRET.encode() in path.read_bytes()
        assert not told or path.name in ("config.yml", ".config.yml.last-good"), path


def _drive(found: Collector, box: Sandbox, other: Sandbox, dav: WebDav) -> None:
    slack = found.slack
    until(lambda: set(found.streams().values()) == {"live"}, "live streams")
    until(lambda: found.copied(found.disk) and found.copied(dav.folder), "copies")
    assert slack.messages == []

    dav.stop()  # first: a copy is tried when there is something new
    until(lambda: found.heard(OPENED, "copy failed") == 1, f"copy failed: {slack.messages}")
    break_things(box, other)
    for what in BROKEN:
        until(lambda what=what: found.heard(OPENED, what) == 1, f"{what}: {slack.messages}")
    [job] = [one for one in slack.messages if "job failed:" in one]
    assert "2 runs in a row failed" in job
    [rests] = [one for one in slack.messages if "*stale:" in one]
    assert "bybit/trades/BTC-USDT>*\nThe newest data is " in rests
    assert found.streams()["BTC/USDT ['trades']"] == "live", "the exchange said that it rests"

    found.restart()
    until(lambda: found.streams(), "the stream service")
    time.sleep(150)  # as long as an incident takes to be told
    assert [found.heard(OPENED, what) for what in BROKEN] == [1] * len(BROKEN), slack.messages
    assert [found.heard(CLOSED, what) for what in BROKEN] == [0] * len(BROKEN), slack.messages

    before, slack.status = len(slack.messages), 500
    mend_things(box, other, dav)
    incidents = found.data / ".dccd" / "incidents.json"
    until(lambda: _waiting(incidents) >= len(BROKEN), "closing messages that wait")
    assert len(slack.messages) == before
    slack.status = 200
    for what in BROKEN:
        until(lambda what=what: found.heard(CLOSED, what) == 1, f"{what}: {slack.messages}")
    until(lambda: set(found.streams().values()) == {"live"}, "live streams")

    [service] = [one for one in read_statuses(found.data) if one.alive(time.time())]
    os.kill(service.pid, signal.SIGKILL)
    until(lambda: found.heard(CLOSED, "program") == 1, f"the end of a death: {slack.messages}")
    until(lambda: set(found.streams().values()) == {"live"}, "live streams")
    time.sleep(90)
    heads = sorted(re.sub(r"[<*].*", "", one.splitlines()[0]) for one in slack.messages)
    assert len(heads) == 2 * len(BROKEN) + 2, slack.messages
    (found.folder / "messages.txt").write_text("\n\n".join(slack.messages))


def _waiting(incidents: Path) -> int:
    """How many messages wait to be delivered."""
    try:
        return len(json.loads(incidents.read_text())["pending"])
    except (FileNotFoundError, json.JSONDecodeError):
        return 0
