"""Secrets: all fails in which one could be told, and then everything that we tell is read."""

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from graphql_walk import Walk
from helpers import free_port
from remotes import needs_rclone
from slack import SECRET

from dccd_sandbox import Sandbox, Settings

pytestmark = [needs_rclone, pytest.mark.soak]

PROXY, REMOTE, TOKEN, UI = "pr0xy-hunter2", "rem0te-hunter2", "str3am-hunter2", "u1-hunter2"
# As they are, and as a proxy and a server are told of them.
SECRETS = [
    "hunter2",
    SECRET,
    *(b64encode(f"ann:{one}".encode()).decode().rstrip("=") for one in (PROXY, REMOTE)),
]
CONFIG = """\
settings: {{data_path: ./data, timezone: UTC, ui_port: {port}, ui_auth_token: {ui}}}
histo_jobs:
  - {{exchange: binance, pairs: [BTC/USDT], span: 1d, start: "{start}", schedule: 0 0 1 1 *}}
  - {{exchange: bybit, pairs: [BTC/USDT], span: 1h, start: "{start}", schedule: 0 0 1 1 *,
     max_retries: 1, retry_delay: 0}}
stream_jobs:
  - {{exchange: binance, pairs: [BTC/USDT], channels: [trades]}}
  - {{exchange: bybit, pairs: [BTC/USDT], channels: [book]}}
storage:
  sync_interval: 5
  remotes:
    - remote: ":webdav,url='http://ann:{remote}@127.0.0.1:1',bearer_token={remote}:x"
    - remote: "{disk}"
alerts: {{webhook_url: "${{WEBHOOK}}", max_consecutive_errors: 1, digest: "* * * * *"}}
exchanges:
  binance: {{rest_url: "{url}/binance", ws_url: "{ws}/binance"}}
  bybit: {{rest_url: "{url}/bybit", ws_url: "{ws}/bybit", proxy: "http://ann:{proxy}@{gate}"}}
"""
WRONG = """\
alerts: {{webhook_url: "htp://{secret}"}}
storage: {{remotes: [":webdav,pass={remote}:x", {{remote: [{remote}]}}]}}
exchanges:
  binance: "http://ann:{proxy}@host"
  bybit: {{proxy: "http//ann:{proxy}@host", rest_url: "https://ann:{proxy}@host"}}
webhook_url: https://hooks.slack.com/{secret}
webhook_url https://hooks.slack.com/{secret}: null
"""
DCCD = [sys.executable, "-c", "from dccd_pipelines.cli import main; main()"]
JOBS = ["binance_ohlc_1d_BTC_USDT_job", "bybit_ohlc_1h_BTC_USDT_job", "offsite_webdav_x_job",
        "health_overview_job"]  # fmt: skip
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "dccd"}
PAGES = ["/", "/assets", "/runs", "/locations", "/deployment", "/overview", "/health",
         "/assets/bybit/ohlc/1h/BTC-USDT", "/server_info", "/dagit_info"]  # fmt: skip


class Gate(socketserver.ThreadingTCPServer):
    """A proxy that lets nobody through, and repeats what it was told as careless ones do."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refuses)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Refuses(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        lines = []
        while line := self.rfile.readline().strip():
            lines.append(line)
        head = b" ".join(sorted(lines, key=lambda line: not line.lower().startswith(b"proxy-a")))
        self.wfile.write(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: %d\r\n\r\n%s"
            % (len(head), head)
        )


class Heard:
    """All that anybody was told, by where; the commands and requests that ask for it."""

    def __init__(self, folder: Path, port: int, environment: dict[str, str]) -> None:
        self.folder, self.port, self.environment = folder, port, environment
        self.texts: dict[str, str] = {}

    def dccd(self, *arguments: str) -> str:
        """What a command says."""
        done = subprocess.run(
            [*DCCD, *arguments], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return self.keep("dccd " + " ".join(arguments), done.stdout + done.stderr)

    def get(self, url: str, method: str = "GET", body: object = None, token: str = "") -> str:
        """What a server answers, with its headers."""
        request = urllib.request.Request(  # noqa: S310
            url,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"} | ({"Authorization": token} if token else {}),
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                told = f"{answer.status} {answer.headers}{answer.read().decode()}"
        except urllib.error.HTTPError as error:
            told = f"{error.status} {error.headers}{error.read().decode()}"
        except OSError as error:
            return str(error)
        return self.keep(f"{method} {url}", told)

    def graphql(self, query: str) -> dict[str, Any]:
        """The data of an answer, empty while nobody answers."""
        told = self.get(f"http://127.0.0.1:{self.port}/graphql", "POST", {"query": query})
        found = re.search(r'\{"data".*', told, re.DOTALL)
        return (json.loads(found[0])["data"] or {}) if found else {}

    def keep(self, place: str, text: str) -> str:
        self.texts[place] = self.texts.get(place, "") + text
        return text

    def leaks(self) -> list[str]:
        """Where a secret was told."""
        return [
            f"{place}: {text[max(0, at - 200) : at + 100]}"
            for place, text in self.texts.items()
            for one in SECRETS
            if (at := text.find(one)) >= 0
        ]


def until(condition: Callable[[], object], what: str, patience: float = 180) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.5)


@contextmanager
def started(heard: Heard) -> Iterator[subprocess.Popen[bytes]]:
    """`dccd start` until the end of the block."""
    with (heard.folder / "start.log").open("w") as log:
        process = subprocess.Popen(
            [*DCCD, "start"], cwd=heard.folder, stdout=log, stderr=log, env=heard.environment
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def test_no_secret_is_told_whatever_fails(tmp_path: Path) -> None:
    with Sandbox(Settings(weight_limit=0)) as box, Gate() as gate:
        port, start = free_port(), f"{datetime.now(UTC) - timedelta(days=9):%Y-%m-%d}"
        (tmp_path / "disk").mkdir()
        good = CONFIG.format(
            port=port, ui=UI, start=start, remote=REMOTE, proxy=PROXY, disk=tmp_path / "disk",
            url=box.url, ws=box.ws_url, gate=f"127.0.0.1:{gate.server_address[1]}",
        )  # fmt: skip
        (tmp_path / "config.yml").write_text(good)
        # urllib3's error about this host names the whole address
        webhook = f"http://127.0.0.1:1/services/{SECRET}"
        given = {"WEBHOOK": webhook, "DCCD_STREAMS_TOKEN": TOKEN}
        heard = Heard(tmp_path, port, {**os.environ, **given})
        with started(heard) as process:
            _fail(heard, process.pid)
            wrong = WRONG.format(secret=SECRET, remote=REMOTE, proxy=PROXY)
            (tmp_path / "config.yml").write_text(good.partition("storage:")[0] + wrong)
            _break(heard)
            _read(heard)
        _commands(heard)
        (tmp_path / "config.yml").write_text(good)
        _commands(heard)
        capital = [name for name in heard.texts if name.startswith("dccd")]
        assert len(capital) > 10
    secretive = {"config.yml", ".config.yml.last-good"}
    for path in (one for one in tmp_path.rglob("*") if one.is_file()):
        if path.name not in secretive:
            heard.keep(str(path), path.read_bytes().decode("latin-1"))
    assert heard.leaks() == []
    assert "407" in heard.texts[str(tmp_path / "start.log")], "the proxy refused"


def _fail(heard: Heard, pid: int) -> None:
    """Runs, copies, streams and the webhook fail."""
    until(lambda: heard.graphql("{ assetNodes { id } }").get("assetNodes"), "the UI")
    ids = [_launch(heard, job) for job in JOBS]
    ended = "{ runsOrError { ... on Runs { results { runId status } } } }"

    def states() -> dict[str, str]:
        runs = heard.graphql(ended).get("runsOrError", {}).get("results", [])
        return {run["runId"]: run["status"] for run in runs}

    until(lambda: all(states().get(one) in ("SUCCESS", "FAILURE") for one in ids), f"{states()}")
    found = states()
    assert [found[one] for one in ids] == ["SUCCESS", "FAILURE", "FAILURE", "SUCCESS"]
    log = heard.folder / "start.log"
    until(lambda: re.search(r"alerts wait: the webhook does not answer", log.read_text()), "alert")
    incidents = heard.folder / "data" / ".dccd" / "incidents.json"
    until(lambda: "copy failed: offsite_webdav_x_job" in incidents.read_text(), "an incident")
    until(lambda: _arguments(heard, pid), "the programs")


def _launch(heard: Heard, job: str) -> str:
    year = f'{{key: "dagster/partition", value: "{datetime.now(UTC):%Y}"}}' if "ohlc" in job else ""
    told = heard.graphql(f"""mutation {{ launchRun(executionParams: {{
        selector: {{ repositoryName: "__repository__", repositoryLocationName: "dccd",
            jobName: "{job}" }},
        runConfigData: {{}}, executionMetadata: {{ tags: [{year}] }} }})
        {{ __typename ... on LaunchRunSuccess {{ run {{ runId }} }}
            ... on PythonError {{ message }} }} }}""")
    assert told["launchRun"]["__typename"] == "LaunchRunSuccess", told
    return str(told["launchRun"]["run"]["runId"])


def _arguments(heard: Heard, pid: int) -> int:
    """The command lines of all programs of ours: everyone on the machine sees these."""
    count = 0
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            count += 1 + _arguments(heard, int(child))
            try:
                line = Path(f"/proc/{child}/cmdline").read_bytes().decode("latin-1")
            except OSError:
                continue
            heard.keep(f"arguments of {child}", line)
    return count


def _break(heard: Heard) -> None:
    """The configuration is broken, and read again by everyone."""
    heard.graphql("""mutation { reloadRepositoryLocation(repositoryLocationName: "dccd") {
        __typename } }""")
    shown = """{ assetNodeOrError(assetKey: {path: ["health", "overview"]}) {
        ... on AssetNode { metadataEntries { label ... on TextMetadataEntry { text } } } } }"""
    assert "config_error" in str(heard.graphql(shown))
    incidents = heard.folder / "data" / ".dccd" / "incidents.json"
    until(lambda: '"config.yml: ' in incidents.read_text(), "an incident")
    health = f"http://127.0.0.1:{_stream_port(heard)}"
    until(lambda: "the config file is not used" in heard.get(f"{health}/health"), "its problem")
    pair = {"exchange": "bybit", "pair": "ETH/USDT", "channels": ["trades"]}
    for token in ("", "Bearer guess", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN}"):
        heard.get(f"{health}/streams", "POST", pair, token)
        heard.get(f"{health}/streams/x", "DELETE", None, token)
    for path in ("health", "metrics", "streams", "else"):
        heard.get(f"{health}/{path}")


def _stream_port(heard: Heard) -> int:
    found = re.search(
        r"streams, http://127\.0\.0\.1:(\d+)", (heard.folder / "start.log").read_text()
    )
    assert found
    return int(found[1])


def _read(heard: Heard) -> None:
    """Everything that Dagster's UI tells."""
    for path in PAGES:
        heard.get(f"http://127.0.0.1:{heard.port}{path}")
    found = heard.graphql("{ runsOrError { ... on Runs { results { runId jobName } } } }")[
        "runsOrError"
    ]["results"]
    assert {run["jobName"] for run in found} >= set(JOBS)
    series = {"path": ["bybit", "ohlc", "1h", "BTC-USDT"]}
    values = {
        "RepositorySelector": REPOSITORY,
        "AssetKeyInput": series,
        "PipelineSelector": REPOSITORY | {"pipelineName": JOBS[1]},
        "runId": next(run["runId"] for run in found if run["jobName"] == JOBS[1]),
        "limit": 5,
    }
    deep = {"assetOrError": 5, "runsOrError": 4, "logsForRun": 6, "sensorsOrError": 6,
            "schedulesOrError": 5, "workspaceOrError": 5, "instance": 5,
            "allTopLevelResourceDetailsOrError": 6}  # fmt: skip
    size = 0
    for name, text in Walk(heard.port, values, deep).answers():
        heard.keep(f"graphql {name}", text)
        size += len(text)
    assert size > 500_000
    for run in found[:20]:
        walk = Walk(heard.port, {"runId": run["runId"]}, {"logsForRun": 6}, depth=0)
        heard.keep(f"log of {run['jobName']}", dict(walk.answers())["logsForRun"])
    assert "407" in heard.texts[f"log of {JOBS[1]}"], "its failure is in the events"
    assert "webdav" in heard.texts[f"log of {JOBS[2]}"]


def _commands(heard: Heard) -> None:
    """What the command line says."""
    for line in (
        "validate", "validate --online", "status", "status --json", "streams --json",
        "logs -n 9999", "alert-test", "collect", "backfill --exchange bybit",
        "inventory --gaps", "restore", "remove --exchange bybit --pairs BTC/USDT --span 4h",
    ):  # fmt: skip
        heard.dccd(*line.split())
