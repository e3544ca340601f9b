"""`dccd start`: it serves, restarts what dies, works alone on its data, and ends cleanly."""

import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from helpers import free_port
from projects import Project

PATIENCE = 180  # seconds, on a busy machine


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something; AssertionError if it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.2)


def children(pid: int) -> dict[int, str]:
    """The command lines of all processes below one."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found |= {int(child): command} | children(int(child))
    return found


def daemons(pid: int) -> set[int]:
    """The processes of Dagster's daemon below one."""
    return {child for child, command in children(pid).items() if "dagster-daemon" in command}


def ask(port: int, query: str) -> dict[str, object]:
    """The answer of the UI's API; empty if it does not answer yet."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310
            answer: dict[str, object] = json.loads(response.read())["data"]
    except OSError:
        return {}
    return answer


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_start_serves_restarts_and_stops(project: Project) -> None:
    port = free_port()
    project.write(
        "pairs: [BTC/USDT], span: 1d, start: 2026-01-01, schedule: off",
        settings=f", ui_port: {port}",
    )
    log = project.folder / "log"
    left = kill_in_the_middle(project)
    with log.open("w") as file, project.start("start", stdout=file, stderr=file) as process:
        try:
            _drive(project, process.pid, port)
            assert [pid for pid in left if alive(pid)] == [], "what was killed left nothing"
            everyone = children(process.pid)
            assert len(everyone) >= 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 0, log.read_text()
            stays = {pid: command for pid, command in everyone.items() if alive(pid)}
            assert stays == {}
        finally:
            if process.poll() is None:
                process.terminate()
    said = log.read_text()
    assert re.search(r"An earlier dccd start was killed; ended what it left: \d of its", said)
    assert f"Dagster's UI: http://127.0.0.1:{port}" in said
    assert re.search(r"daemon ended with code -9; it is started again in \d+ s", said)
    assert said.rstrip().endswith("Stopped.")


def kill_in_the_middle(project: Project) -> list[int]:
    """What runs on of a `dccd start` that was killed."""
    noted = project.store.private / "start.json"
    with (
        (project.folder / "killed").open("w") as file,
        project.start("start", stdout=file, stderr=file) as process,
    ):
        until(noted.exists, "the first program")
        found = list(children(process.pid))
        process.kill()
    assert any(map(alive, found))
    return found


def _drive(project: Project, pid: int, port: int) -> None:
    """What is done while it runs."""
    assets = "{ assetNodes { assetKey { path } } }"
    until(lambda: ask(port, assets).get("assetNodes"), "the UI with its assets")
    nodes: Any = ask(port, assets)["assetNodes"]
    paths = ["/".join(node["assetKey"]["path"]) for node in nodes]
    assert sorted(paths) == ["binance/ohlc/1d/BTC-USDT", "health/old_runs", "health/overview"]

    second = project.dccd("start", "--port", str(free_port()))
    assert second.returncode == 1
    assert f"as process {pid}" in second.stderr
    assert "Traceback" not in second.stderr

    until(lambda: daemons(pid), "the daemon")
    before = daemons(pid)
    os.kill(min(before), signal.SIGKILL)
    until(lambda: daemons(pid) - before, "another daemon")
    assert ask(port, "{ version }"), "the UI is still there"


def test_a_taken_port_is_refused(project: Project) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2026-01-01")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = project.dccd("start", "--port", str(port))
    assert refused.returncode == 1
    assert f"the UI cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr
