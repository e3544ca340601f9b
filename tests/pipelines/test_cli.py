"""`dccd` as a user runs it: what it says, and its exit code."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import pytest
from helpers import assert_sound, assert_whole, truth, window
from projects import REPOSITORY, Project, spoil
from typer.testing import CliRunner

from dccd_core.models import Channel, Series, Symbol
from dccd_pipelines import run_backfill
from dccd_pipelines.cli import app, main
from dccd_pipelines.tables import brief
from dccd_sandbox import Rule, Sandbox

BTC = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 86_400)
ETH = replace(BTC, symbol=Symbol("ETH", "USDT"))
COMMANDS = [
    *("validate", "backfill", "collect", "start", "status", "inventory"),
    *("add", "remove", "demo"),
    *("stream", "streams", "logs", "alert-test", "restore"),
]


def test_a_session_from_the_plan_to_the_inventory(project: Project, box: Sandbox) -> None:
    project.write("pairs: [BTC/USDT, ETH/USDT, SOL/USDT], span: 1d, start: 2024-12-01")
    valid = project.dccd("validate")
    assert valid.returncode == 0
    assert "Config is valid." in valid.stdout
    assert re.search(r"binance/ohlc/1d/BTC-USDT +2024-12-01 00:00 +0 0 \* \* \*", valid.stdout)

    two = ["backfill", "--pairs", "BTC/USDT", "ETH/USDT", "--end", "2025-01-11"]
    plan = project.dccd(*two, "--dry-run")
    assert plan.returncode == 0
    line = r"{} +41 +2024-12-01 00:00 → 2025-01-11 00:00 +2 "
    assert re.search(line.format(BTC), plan.stdout)
    assert re.search(line.format(ETH), plan.stdout)
    assert "SOL" not in plan.stdout
    assert re.search(r"^4 requests, about \d+ s$", plan.stdout, re.MULTILINE)
    assert not list(project.folder.rglob("*.parquet"))

    done = project.dccd(*two)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        "82 rows added; 1 Dagster run",
        f"{BTC}: 41 candles in 2 pages",
        f"{ETH}: 41 candles in 2 pages",
    ]
    wanted = window("2024-12-01", "2025-01-11")
    for series in (BTC, ETH):
        assert_whole(project.store, series, truth(box, series, wanted))
    again = project.dccd(*two)
    assert again.returncode == 0
    assert again.stdout.splitlines() == [
        f"{BTC}: already up to date",
        f"{ETH}: already up to date",
        "0 rows added; 0 Dagster runs",
    ]

    collected = project.dccd("collect")
    assert collected.returncode == 0
    days = (datetime.now(UTC) - datetime(2024, 12, 1, tzinfo=UTC)).days
    listed = project.dccd("inventory", "--json")
    assert listed.returncode == 0
    rows = {row["pair"]: row for row in json.loads(listed.stdout)}
    assert rows.keys() == {"BTC/USDT", "ETH/USDT", "SOL/USDT"}
    for row in rows.values():
        assert row["rows"] in (days, days - 1)  # - 1: the day began between the two
        assert row["from"].startswith("2024-12-01")
        assert (row["gaps"], row["missing"], row["error"]) == (0, 0, None)
        assert row["bytes"] == sum(
            path.stat().st_size
            for path in project.store.folder(f"binance/ohlc/1d/{row['pair'].replace('/', '-')}")
            .glob("*.parquet")
        )  # fmt: skip

    told = json.loads(project.dccd("status", "--json").stdout)["history"]
    assert told.keys() == {f"binance/ohlc/1d/{pair}-USDT" for pair in ("BTC", "ETH", "SOL")}
    assert "rows fetched" in project.dccd("status").stdout, "not those that are stored"
    assert told[str(BTC)]["rows_collected"] == rows["BTC/USDT"]["rows"]
    assert told[str(BTC)]["consecutive_errors"] == 0
    assert 0 <= told[str(BTC)]["data_age"] < 2 * 86_400
    assert json.loads(project.dccd("inventory", "--gaps", "--json").stdout) == []


def test_a_file_that_cannot_be_read_is_one_marked_line(project: Project, box: Sandbox) -> None:
    config = project.write("pairs: [BTC/USDT, ETH/USDT], span: 1d, start: 2024-12-01")
    assert run_backfill(config, end="2025-01-11").ok
    file = project.store.folder(BTC) / "2025.parquet"
    file.write_bytes(b"no parquet")
    listed = project.dccd("inventory")
    assert listed.returncode == 1
    lines = [line.split() for line in listed.stdout.splitlines() if "BTC/USDT" in line]
    assert " ".join(lines[0]) == "binance BTC/USDT ohlc 1d 2025: unreadable 10 B"
    assert lines[1][4:8] == ["2024-12-01", "00:00", "2024-12-31", "00:00"]
    assert len(lines) == 2
    [said] = listed.stderr.splitlines()
    assert said.startswith(f"2025: {file} cannot be read: ")
    assert said.endswith("(dccd restore brings it back, if a remote has it)")
    assert re.search(r"ETH/USDT +ohlc +1d +2024-12-01 00:00 +2025-01-10 00:00 +41 +[1-9]",
                     listed.stdout)  # fmt: skip
    rows = json.loads(project.dccd("inventory", "--json").stdout)
    assert [bool(row["error"]) for row in rows] == [True, False, False]

    gaps = project.dccd("inventory", "--gaps")
    assert (gaps.returncode, gaps.stderr) == (1, listed.stderr)
    status = project.dccd("status")
    assert status.returncode == 1
    assert status.stderr.startswith(f"{file} cannot be read: ")
    assert "Traceback" not in status.stderr
    for series in (BTC, ETH):
        assert str(series) in status.stdout


def test_a_failure_is_one_message_and_exit_code_1(project: Project, box: Sandbox) -> None:
    project.write("pairs: [BTC/USDT, ETH/USDT], span: 1d, start: 2024-12-01")
    box.set_faults(spoil("5xx", "ETHUSDT", "2025-01-01"))
    failed = project.dccd("backfill", "--end", "2025-01-11")
    assert failed.returncode == 1
    assert f"{ETH} {window('2025-01-01', '2025-01-11')}: " in failed.stderr
    assert "1 window is still missing" in failed.stderr
    assert "72 rows added; 1 Dagster run" in failed.stdout
    assert "Traceback" not in failed.stderr
    status = project.dccd("status")
    assert re.search(rf"{ETH} .* 31 +1 ", status.stdout), "31 rows, an error"
    assert "HTTP 5" in status.stdout


def test_a_long_failure_is_one_line_where_there_is_no_terminal(
    project: Project, box: Sandbox
) -> None:
    project.write("pairs: [BTC/USDT, ETH/USDT], span: 1d, start: 2024-12-01")
    box.set_faults(spoil("5xx", "ETHUSDT", "2025-01-01"))
    failed = project.dccd("backfill", "--end", "2025-01-11")
    assert failed.returncode == 1
    *lines, last = failed.stderr.splitlines()
    assert len(lines) == 1, failed.stderr
    assert len(lines[0]) > 150
    assert last == "1 window is still missing"


def test_a_job_of_the_future_is_a_line_of_the_plan(project: Project, box: Sandbox) -> None:
    project.write(
        "pairs: [BTC/USDT], span: 1d, start: 2999-01-01",
        "pairs: [ETH/USDT], span: 1d, start: 2024-12-01",
    )
    warned = project.dccd("validate")
    assert (warned.returncode, warned.stderr) == (
        0, f"{BTC}: nothing yet: the start is in the future, at 2999-01-01 00:00:00+00:00\n"
    )  # fmt: skip
    future = "nothing yet: it starts in the future, at 2999-01-01 00:00:00+00:00"
    for command in (["validate", "--online"], ["backfill", "--dry-run"]):
        told = project.dccd(*command)
        assert told.returncode == 0
        assert re.search(rf"{BTC} +0 +{re.escape(future)} +0 +–", told.stdout)
    done = project.dccd("backfill", "--start", "2999-01-01", "--pairs", "BTC/USDT")
    assert done.stdout.splitlines() == [f"{BTC}: {future}", "0 rows added; 0 Dagster runs"]
    early = project.dccd("backfill", "--start", "2010-01-01", "--end", "2011-01-01")
    listed = "before listing: the first candle opens at 2019-01-01T00:00:00Z"
    assert f"{ETH}: {listed}" in early.stdout.splitlines()


def test_status_has_the_same_keys_for_a_series_that_never_ran(project: Project) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    told = project.dccd("status", "--json")
    assert told.returncode == 0
    assert json.loads(told.stdout)["history"] == {
        str(BTC): {
            "series": str(BTC),
            "last_run": None,
            "last_success": None,
            "rows_collected": 0,
            "errors_count": 0,
            "consecutive_errors": 0,
            "last_error": None,
            "data_age": None,
        }
    }


def test_a_long_text_is_cut_after_a_word() -> None:
    assert brief("no connection", 13) == "no connection"
    assert brief("no connection: [Errno 111] Connection refused", 21) == "no connection: …"
    assert brief("x" * 30, 10) == f"{'x' * 9} …"


def test_the_version_is_told() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"dccd {metadata.version('dccd-pipelines')}\n")


def test_a_signal_while_it_is_imported_ends_it_without_a_word() -> None:
    code = """
import os, signal, sys, types
class Cli(types.ModuleType):
    def __getattr__(self, name):
        os.kill(os.getpid(), signal.SIGINT)
sys.modules["dccd_pipelines.cli"] = Cli("dccd_pipelines.cli")
from dccd_pipelines.entry import main
assert "polars" not in sys.modules, "nothing that takes long comes before"
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["backfill", "--pairs", "BTC/USD"], "no pair 'BTC/USD'; did you mean BTC/USDT?"),
        (["backfill", "--start", "soon"], "'soon' is not a moment"),
        (
            ["backfill", "--start", "2025-02-01", "--end", "2025-01-01"],
            "start 2025-02-01 is not before end 2025-01-01",
        ),
        (["inventory", "-c", "none.yml"], "none.yml: cannot be read"),
    ],
)
def test_a_mistake_is_one_message(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    project.write("pairs: [BTC/USDT, ETH/USDT], span: 1d, start: 2024-12-01")
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("sys.argv", ["dccd", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


@pytest.mark.parametrize("command", ["backfill", "collect", "start"])
def test_a_data_path_that_cannot_be_written_is_one_message(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    file = project.folder / "file"
    file.write_text("no folder")
    text = project.path.read_text().replace("./data", "./file/data")
    project.path.write_text(text)
    monkeypatch.setattr("sys.argv", ["dccd", command, "-c", str(project.path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert str(file) in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


def test_a_path_that_dagster_takes_for_a_pattern_is_refused(project: Project) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    project.path.write_text(project.path.read_text().replace("./data", "'./data[1]'"))
    done = project.dccd("backfill", "--end", "2024-12-02")
    assert done.returncode == 1
    assert "settings.data_path: " in done.stderr
    assert "Dagster takes a path with [ ] * or ? for a pattern" in done.stderr


@pytest.fixture
def no_nohup() -> Iterator[None]:
    """A program under nohup is to ignore hangups, also where the tests run under it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("no_nohup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_backfill_and_keeps_what_is_stored(
    project: Project, box: Sandbox, number: signal.Signals
) -> None:
    project.write("pairs: [BTC/USDT, ETH/USDT], span: 1d, start: 2024-12-01")
    box.set_faults(spoil("slow", "ETHUSDT", "2025-01-01", seconds=600))
    with project.start("backfill", "--end", "2025-01-11") as process:
        periods, stored = project.store.existing_periods, (["2024", "2025"], ["2024"])
        while process.poll() is None and (periods(BTC), periods(ETH)) != stored:
            time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)  # the request alone would take 600
    assert process.returncode == 1
    assert "Stopping; what is stored stays." in err
    assert f"{ETH} {window('2025-01-01', '2025-01-11')}: cancelled" in err
    assert "Traceback" not in err
    assert_sound(project.store.root)
    wanted = window("2024-12-01", "2025-01-11")
    assert_whole(project.store, BTC, truth(box, BTC, wanted))
    box.reset()
    assert run_backfill(project.config, end="2025-01-11").ok
    assert_whole(project.store, ETH, truth(box, ETH, wanted))


def test_a_signal_ends_a_plan(project: Project, box: Sandbox) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    box.set_faults(Rule("slow", path="/binance", seconds=600))
    with project.start("backfill", "--dry-run") as process:
        while process.poll() is None and not box.stats()["faults"]:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Stopping" in err
    assert "cancelled" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"Usage: dccd {command}" in shown.output or f"{command} [OPTIONS]" in shown.output
    [info] = [one for one in app.registered_commands if name_of(one) == command]
    words = (info.callback.__doc__ or "").split()[:4]
    assert " ".join(words) in " ".join(shown.output.split())


def test_there_are_no_other_commands() -> None:
    assert {name_of(one) for one in app.registered_commands} == {*COMMANDS}


def name_of(command: Any) -> str:
    return str(command.name or command.callback.__name__)
