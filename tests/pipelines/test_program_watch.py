"""What `dccd start` does with its programs: it hears them, restarts them, and tells of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from projects import Project

from dccd_core.config import Config
from dccd_core.incidents import Register
from dccd_core.joblog import Logs
from dccd_core.last_good import remember
from dccd_core.stream_status import ServiceStatus, this_host, write_status
from dccd_pipelines import program_watch
from dccd_pipelines.child import Child
from dccd_pipelines.program_watch import Watch
from dccd_pipelines.supervisor import _children, _Ear, _tend


def until(condition: Callable[[], object], what: str, patience: float = 60.0) -> None:
    """Wait for something; AssertionError if it does not come."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


def config_of(data: Path, streams: bool = True) -> Config:
    job = {"exchange": "binance", "pairs": ["BTC/USDT"]}
    return Config.model_validate(
        {
            "settings": {"data_path": str(data)},
            "histo_jobs": [{**job, "span": "1h"}],
            "stream_jobs": [{**job, "channels": ["trades"]}] if streams else [],
        }
    )


def test_the_stream_service_is_a_child_where_there_are_streams(tmp_path: Path) -> None:
    names = ["code server", "webserver", "daemon"]
    children = _children(config_of(tmp_path), "127.0.0.1", 3000)
    assert [child.name for child in children] == [*names, "streams"]
    assert children[3].command[1:3] == ["-m", "dccd_streams"]
    assert "--no-log" in children[3].command, "what is heard of it is logged: once"
    assert "--port" not in children[3].command, "settings.stream_port is its own affair"
    without = _children(config_of(tmp_path, streams=False), "127.0.0.1", 3000)
    assert [child.name for child in without] == names


def test_what_a_child_says_is_heard_without_colours() -> None:
    code = "import sys; print('\\x1b[32mgreen\\x1b[0m'); print('wrong', file=sys.stderr)"
    heard: list[tuple[str, str]] = []
    child = Child("one", [sys.executable, "-c", code], dict(os.environ))
    child.heard = lambda name, line: heard.append((name, line))
    child.start()
    until(lambda: len(heard) == 2, "both lines")
    assert sorted(heard) == [("one", "green\n"), ("one", "wrong\n")]
    until(lambda: child.died() == 0, "its end")
    assert child.ear
    child.ear.join()


def test_a_child_that_dies_is_an_incident_until_it_runs_steadily(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path)
    child = Child("streams", [sys.executable, "-c", "import time; time.sleep(99)"], {})
    register, said = Register(tmp_path), list[str]()
    watch = Watch(config, [child])
    child.start()
    try:
        watch.look(1.0)
        assert register.read().open == {}
        assert child.process
        os.kill(child.process.pid, signal.SIGKILL)
        until(lambda: child.died() == -9, "its end")
        _tend(child, said.append)
        watch.look(2.0)
        watch.look(3.0)
        [incident] = register.read().open.values()
        assert incident.last.text == "It ended with code -9; it is started again."
        until(lambda: child.process or _tend(child, said.append), "its restart")
        watch.look(4.0)
        assert register.read().open, "it may die again at once"
        monkeypatch.setattr(program_watch, "STEADY", -1.0)
        watch.look(5.0)
        assert register.read().open == {}
        assert said == ["streams ended with code -9; it is started again in 1 s"]
    finally:
        if child.process and child.ear:
            child.process.kill()
            child.process.wait()
            child.ear.join()


def test_a_daemon_without_a_heartbeat_is_an_incident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register, watch = Register(tmp_path), Watch(config_of(tmp_path), [])
    metrics = tmp_path / ".dccd" / "metrics.json"
    metrics.parent.mkdir(parents=True)
    metrics.touch()
    os.utime(metrics, (1_000, 1_000))
    watch.look(1_000 + 3_600)
    assert register.read().open == {}, "after a start the daemon needs a while"
    monkeypatch.setattr(program_watch, "WARM_UP", -1.0)
    watch.look(1_000 + 3_600)
    [incident] = register.read().open.values()
    assert incident.last.key == "program: daemon: no heartbeat"
    assert "nothing for 1 h" in incident.last.text
    os.utime(metrics, (5_000, 5_000))
    watch.look(5_030)
    assert register.read().open == {}


def test_the_stream_service_alone_and_what_the_commands_show(project: Project) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2026-01-01")
    base = project.url.removeprefix("http://").rsplit("/", 1)[0]
    text = project.path.read_text().replace(
        "rest_url: http", f"ws_url: ws://{base}/binance, rest_url: http"
    )
    streams = "stream_jobs: [{exchange: binance, pairs: [BTC/USDT], channels: [trades]}]\n"
    project.path.write_text(text + streams)
    none = project.dccd("streams")
    assert (none.returncode, none.stderr) == (
        1,
        "no stream service runs on this data path: dccd start\n",
    )
    assert "has never run here" in project.dccd("status").stdout
    with project.start("stream", "--port", "0") as process:
        try:
            folder = project.config.settings.data_path / ".dccd" / "streams"
            until(lambda: (folder / "status.json").exists(), "its status")
            until(_live(folder / "status.json"), "the stream")
            told = json.loads(project.dccd("status", "--json").stdout)
            assert told["streams"][0]["running"] is True
            assert told["streams"][0]["streams"][0]["key"] == "binance_BTC_USDT_trades"
            shown = project.dccd("streams")
            assert shown.returncode == 0, shown.stderr
            assert "binance_BTC_USDT_trades" in shown.stdout
            assert "live" in shown.stdout
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0


def _live(path: Path) -> Callable[[], bool]:
    return lambda: json.loads(path.read_bytes())["streams"][0]["state"] == "live"


def test_logs_are_shown(project: Project) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2026-01-01")
    none = project.dccd("logs")
    where = project.folder / "data" / ".dccd" / "logs"
    assert (none.returncode, none.stdout) == (0, "")
    assert none.stderr == f"There are no logs yet: what runs writes them to {where}\n"
    logs = Logs(project.config.settings.data_path)
    for n in range(60):
        logs.write("daemon", f"line {n} :x: [not markup]", 0.0)
    shown = project.dccd("logs", "daemon", "--lines", "2")
    assert shown.stdout.splitlines() == [
        "1970-01-01 00:00:00Z line 58 :x: [not markup]",
        "1970-01-01 00:00:00Z line 59 :x: [not markup]",
    ]
    assert len(project.dccd("logs").stdout.splitlines()) == 50
    wrong = project.dccd("logs", "demon")
    assert (wrong.returncode, wrong.stderr) == (1, "demon has no log; there are: daemon\n")


@pytest.mark.parametrize("command", ["status", "streams", "logs"])
def test_who_looks_for_a_fault_sees_something_though_the_file_is_broken(
    project: Project, command: str
) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2026-01-01")
    data = project.config.settings.data_path
    Logs(data).write("daemon", "it ran", 0.0)
    service = ServiceStatus(pid=os.getpid(), host=this_host(), started=0.0, written=time.time())
    write_status(data, service)
    good = project.path.read_text()
    project.path.write_text(good.replace("1d", "61"))
    told = project.dccd(command)
    assert (told.returncode, told.stdout) == (1, "")
    assert "histo_jobs[0].span" in told.stderr

    project.path.write_text(good)
    remember(project.path)
    project.path.write_text(good.replace("1d", "61"))
    told = project.dccd(command)
    assert told.returncode == 1
    assert "histo_jobs[0].span" in told.stderr
    assert told.stderr.endswith("What is shown is of the last good configuration.\n")
    shown = {"status": "binance/ohlc/1d/BTC-USDT", "streams": str(os.getpid()), "logs": "it ran"}
    assert shown[command] in told.stdout


def test_what_dagster_says_to_its_developers_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard, moment = _Ear(tmp_path), "2026-11-30 09:00:00 +0000"
    heard("daemon", f"{moment} - dagster - DEBUG - binance_ohlc_1m_job - 0a1b - STEP_START\n")
    heard("daemon", f"{moment} - dagster - ERROR - binance_ohlc_1m_job - 0a1b - RUN_FAILURE\n")
    [kept] = Logs(tmp_path).tail("daemon", 9)
    assert kept.endswith("RUN_FAILURE")
    assert capsys.readouterr().err.count("\n") == 1


def test_a_service_that_was_killed_is_not_called_alive(project: Project) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2026-01-01")
    data = project.config.settings.data_path
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        now = time.time()
        service = ServiceStatus(pid=process.pid, host=this_host(), started=now, written=now)
        elsewhere = msgspec.structs.replace(service, host="elsewhere")
        assert service.alive(now)
        process.kill()
    assert not service.alive(now)
    assert elsewhere.alive(now), "nobody here knows its processes"
    write_status(data, service)
    told = project.dccd("streams")
    assert told.returncode == 1
    assert "does not run" in told.stdout


def test_who_only_looks_needs_no_secrets(project: Project) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2026-01-01")
    data = project.config.settings.data_path
    Logs(data).write("daemon", "it ran", 0.0)
    service = ServiceStatus(pid=os.getpid(), host=this_host(), started=0.0, written=time.time())
    write_status(data, service)
    with project.path.open("a") as file:
        file.write("alerts: {webhook_url: '${DCCD_NOT_THERE}'}\n")
    lacks = "alerts.webhook_url: the environment has no variable DCCD_NOT_THERE: set it\n"
    for command in ("status", "streams", "inventory", "logs"):
        told = project.dccd(command)
        assert (told.returncode, bool(told.stdout)) == (0, True), command
        assert told.stderr.startswith("config.yml:")
        assert told.stderr.endswith(lacks)
    for command in ("validate", "backfill", "alert-test"):
        told = project.dccd(command)
        assert (told.returncode, told.stdout) == (1, ""), command
        assert told.stderr.endswith(lacks)

    project.path.write_text(project.path.read_text().replace("./data", "'${DCCD_NOT_THERE}'"))
    told = project.dccd("status")
    assert (told.returncode, told.stdout) == (1, "")
    assert "settings.data_path: missing: write a folder" in told.stderr


def test_an_alert_test_without_a_webhook_says_so(project: Project) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2026-01-01")
    told = project.dccd("alert-test")
    assert told.returncode == 1
    assert told.stderr == "alerts.webhook_url is not set: there is nobody to tell\n"
    secret = "T0P5ECRET"
    with project.path.open("a") as file:
        file.write(f"alerts: {{webhook_url: 'http://127.0.0.1:1/services/{secret}'}}\n")
    told = project.dccd("alert-test")
    assert told.returncode == 1
    assert "the message did not arrive: the webhook does not answer" in told.stderr
    assert secret not in told.stderr + told.stdout
