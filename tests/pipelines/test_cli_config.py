"""`dccd add`, `remove` and `validate` as a person runs them, and what a shell completes."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import program
import pytest
from projects import DCCD, REPOSITORY

from dccd_core.config import load_config
from dccd_core.exchanges import load_all
from dccd_core.models import span_label

CONFIG = """\
# mine
settings: {data_path: ./data, timezone: UTC}
histo_jobs:
  # hourly
  - exchange: binance
    pairs: [BTC/USDT, "ETH/USDT"]  # two
    span: 1h

# the end
"""
USED = ("DCCD_CONFIG", "XDG_CONFIG_HOME", "TZ")

Dccd = Callable[..., subprocess.CompletedProcess[str]]


def plain_environment(**variables: str) -> dict[str, str]:
    """The environment without what leads to a configuration, and with more variables."""
    kept = {name: value for name, value in os.environ.items() if name not in USED}
    return kept | {"PYTHONPATH": str(REPOSITORY)} | variables


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def dccd(tmp_path: Path) -> Dccd:
    """Runs `dccd` in the folder of the test, which may have a config.yml, with more variables."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = plain_environment(HOME=str(tmp_path), **variables)
        return program.dccd(arguments, tmp_path, environment)

    return run


def said(result: subprocess.CompletedProcess[str], code: int = 0) -> list[str]:
    """The lines of what a command said: all of it to stdout if it went well, else to stderr."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    text, other = (result.stdout, result.stderr) if code == 0 else (result.stderr, result.stdout)
    assert other == ""
    return text.splitlines()


def series(path: Path) -> list[str]:
    return [str(series) for series in load_config(path).series()]


def test_adds_several_pairs_after_one_flag_and_removes_them(dccd: Dccd, file: Path) -> None:
    more = ("--exchange", "binance", "--pairs", "ADA/USDT", "XRP/USDT", "--span", "1h")
    assert said(dccd("add", *more)) == [
        f"binance/ohlc/1h/ADA-USDT added to {file}",
        f"binance/ohlc/1h/XRP-USDT added to {file}",
        "A running Dagster sees it after 'Reload' (Deployment page).",
    ]
    two = '[BTC/USDT, "ETH/USDT"'
    assert (
        file.read_text()
        .replace('"ADA/USDT", "XRP/USDT"', "…")
        .split("\n")[5]
        .startswith(f"    pairs: {two}, …]")
    )
    assert said(dccd("remove", *more)) == [
        f"binance/ohlc/1h/ADA-USDT removed from {file}; its files stay",
        f"binance/ohlc/1h/XRP-USDT removed from {file}; its files stay",
    ]
    assert "".join(file.read_text().split()) == "".join(CONFIG.split())


def test_short_flags_add_a_job_and_remove_it(dccd: Dccd, file: Path) -> None:
    said(dccd("add", "-e", "binance", "-s", "60", "-p", "SOL/USDT", "ADA/USDT", "-c", str(file)))
    job = "  - exchange: binance\n    pairs:\n      - SOL/USDT\n      - ADA/USDT\n    span: 1m\n"
    assert file.read_text() == CONFIG.replace("    span: 1h\n", f"    span: 1h\n{job}")
    said(dccd("remove", "-e", "binance", "-s", "1m", "-p", "SOL/USDT", "-p", "ADA/USDT"))
    assert file.read_text() == CONFIG


def test_what_is_there_is_said_and_the_file_is_not_touched(dccd: Dccd, file: Path) -> None:
    before = file.stat()
    for span in ("1h", "3600"):
        lines = said(dccd("add", "-e", "binance", "-p", "BTC/USDT", "ETH/USDT", "-s", span))
        assert lines == [
            "binance/ohlc/1h/BTC-USDT is there already",
            "binance/ohlc/1h/ETH-USDT is there already",
        ]
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert file.read_text() == CONFIG


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("add -e binance -p btc/usdt -s 1h",
         "pairs[0]: btc/usdt: write BASE/QUOTE in upper case, as BTC/USDT; did you mean BTC/USDT?"),
        ("add -e binanse -p SOL/USDT -s 1h",
         "exchange: binanse: no such exchange; there are: {exchanges}; did you mean binance?"),
        ("add -e binance -p SOL/USDT -s 61",
         "span: 61: binance has no such span, nor one to build it from; it has 1s, 1m, 3m, "
         "5m, 15m, 30m, 1h, 2h, 4h, 6h, 8h,"
         " 12h, 1d, 3d, 1w; did you mean 1m?"),
        ("add -e binance -p SOL/USDT -s 1H",
         "span: 1H: write seconds (3600) or a label (1m, 1h, 1d, 1w); did you mean 1h?"),
        ("remove -e binance -p BTC/USDX -s 1h",
         "config.yml: binance/ohlc/1h/BTC-USDX is not in histo_jobs; did you mean BTC/USDT?"),
        ("remove -e binance -p BTC/USDT -s 1d",
         "config.yml: binance/ohlc/1d/BTC-USDT is not in histo_jobs;"
         " did you mean binance/ohlc/1h/BTC-USDT?"),
        ("remove -e binance -p BTC/USDT ETH/USDT -s 1h",
         "config.yml: nothing to collect: name a job in histo_jobs, trades_jobs, stream_jobs"),
        ("add -e binance -p SOL/USDT -s 1h -c none.yml",
         "none.yml: cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_changes_nothing(
    dccd: Dccd, file: Path, arguments: str, message: str
) -> None:
    lines = said(dccd(*arguments.split()), code=1)
    assert lines == [message.replace("{exchanges}", ", ".join(load_all()))]
    assert file.read_text() == CONFIG


def test_a_flag_without_a_value_is_told(dccd: Dccd, file: Path) -> None:
    lines = said(dccd("add", "-e", "binance", "-s", "1h", "--pairs"), code=2)
    assert "Option '--pairs' requires an argument" in " ".join(lines)
    assert file.read_text() == CONFIG


def test_a_broken_file_is_told_with_line_key_and_value(dccd: Dccd, file: Path) -> None:
    broken = CONFIG.replace("span: 1h", "span: 1x\n    spam: 1")
    file.write_text(broken)
    for command in (["validate"], ["add", "-e", "binance", "-p", "SOL/USDT", "-s", "1h"]):
        assert said(dccd(*command), code=1) == [
            "config.yml:7: histo_jobs[0].span: 1x:"
            " write seconds (3600) or a label (1m, 1h, 1d, 1w)",
            "config.yml:8: histo_jobs[0].spam: no such key; did you mean span?",
        ]
    assert file.read_text() == broken


def test_validate_shows_what_the_file_stands_for(dccd: Dccd, file: Path) -> None:
    lines = said(dccd("validate"))
    assert lines[0] == f"Config: {file}"
    assert lines[1] == f"data_path: {file.parent / 'data'}   timezone: UTC"
    assert [line.split()[0] for line in lines if "binance" in line] == [
        "binance/ohlc/1h/BTC-USDT",
        "binance/ohlc/1h/ETH-USDT",
    ]
    assert lines[-1] == "Config is valid."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("./file", "./file: cannot be written: it is no folder"),
        ("file/a/data", "file/a/data: cannot be written: {folder}/file is no folder"),
        ("lost/data", "lost/data: cannot be written: {folder}/lost is no folder"),
        ("/proc/data", "/proc/data: cannot be written: /proc says: "),
        ('"${WHERE}/data"', "${{WHERE}}: cannot be written: it is no folder"),
    ],
)
def test_validate_tells_of_a_data_path_that_cannot_be_written(
    dccd: Dccd, file: Path, value: str, text: str
) -> None:
    file.with_name("file").write_text("no folder")
    file.with_name("lost").symlink_to("nowhere")
    file.write_text(file.read_text().replace("data_path: ./data", f"data_path: {value}"))
    (line,) = said(dccd("validate", WHERE=str(file.with_name("file"))), code=1)
    where = f"config.yml:2: settings.data_path: {text.format(folder=file.parent)}"
    assert line.startswith(where) if where.endswith(" ") else line == where


def test_validate_leaves_nothing_where_data_will_be(dccd: Dccd, file: Path) -> None:
    said(dccd("validate"))
    assert list(file.parent.iterdir()) == [file]
    file.with_name("data").mkdir()
    said(dccd("validate"))
    assert list(file.with_name("data").iterdir()) == []


def test_long_paths_with_brackets_are_shown_whole(dccd: Dccd, tmp_path: Path) -> None:
    folder = tmp_path / ("[red]" + 9 * "a long name ")
    folder.mkdir()
    path = folder.rename(folder.with_name(folder.name.strip())) / "config.yml"
    path.write_text(CONFIG)
    config = ("--config", str(path))
    lines = said(dccd("add", "-e", "binance", "-p", "ADA/USDT", "-s", "1h", *config))
    assert lines[0] == f"binance/ohlc/1h/ADA-USDT added to {path}"
    assert said(dccd("validate", *config))[0] == f"Config: {path}"
    path.write_text("settings: {}")
    lines = said(dccd("validate", *config), code=1)
    assert all(str(path.relative_to(tmp_path)) in line for line in lines)


def test_where_the_file_is_looked_for(dccd: Dccd, tmp_path: Path) -> None:
    """--config, then DCCD_CONFIG, then the folder, then XDG's; else all of these are told."""
    names = ("option.yml", "variable.yml", "config.yml", "xdg/dccd/config.yml")
    option, variable, here, user = places = [tmp_path / name for name in names]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(CONFIG)

    def edited(*arguments: str, **variables: str) -> list[Path]:
        add = ("add", "-e", "binance", "-p", "NEW/USDT", "-s", "1h")
        said(dccd(*add, *arguments, XDG_CONFIG_HOME=str(tmp_path / "xdg"), **variables))
        changed = [place for place in places if place.exists() and place.read_text() != CONFIG]
        for place in changed:
            place.write_text(CONFIG)
        return changed

    assert edited("-c", "option.yml", DCCD_CONFIG=str(variable)) == [option]
    assert edited(DCCD_CONFIG="variable.yml") == [variable]
    assert edited() == [here]
    here.unlink()
    assert edited() == [user]
    assert said(dccd("validate"), code=1) == [
        "no config file: looked at $DCCD_CONFIG (not set), config.yml,"
        f" {tmp_path / '.config/dccd/config.yml'}; name one with --config"
    ]
    assert said(dccd("validate", DCCD_CONFIG="none.yml"), code=1) == [
        "none.yml: cannot be read: No such file or directory"
    ]


OFFERED = {
    "dccd re": "remove restore",
    "dccd add --exchange ": "{exchanges}",
    "dccd backfill -e binanc": "{binance}",
    "dccd remove --pairs ": "BTC/USDT ETH/USDT",
    "dccd remove -p E": "ETH/USDT",
    "dccd remove --pairs BTC/USDT E": "ETH/USDT",
    "dccd backfill --pairs BTC/USDT ETH/USDT ": "BTC/USDT ETH/USDT",
    "dccd inventory -p ETH/USDT --ex": "--exchange",
    "dccd remove -p ETH/USDT --span 1h B": "",
    "dccd add -e binance -p NEW/USDT ": "",
    "dccd remove --config other.yml -p BTC/USDT ": "SOL/USDT",
    "dccd remove --config none.yml -p ": "",
    "dccd add --span 1": "{spans}",
}
# A process takes most of a second to start, so one does what a shell would start one for each.
EACH = """
import os, sys
from dccd_pipelines.cli import main
sys.argv = ["dccd"]
for line in sys.stdin.read().splitlines():
    os.environ |= {"COMP_WORDS": line, "COMP_CWORD": str(len((line + "|").split()) - 1)}
    os.environ |= {"_TYPER_COMPLETE_ARGS": line}
    try:
        main()
    except SystemExit:
        print("====", flush=True)
"""


@pytest.mark.parametrize(("shell", "one"), [("bash", r"^(\S+)$"), ("zsh", r'^[^"\n]*"([^"]+)"')])
def test_shells_are_offered_what_there_is(file: Path, shell: str, one: str) -> None:
    other = file.with_name("other.yml")
    other.write_text(CONFIG.replace('[BTC/USDT, "ETH/USDT"]', "[SOL/USDT]"))
    spans = {span_label(span) for exchange in load_all().values() for span in exchange.spans}
    known = {
        "exchanges": " ".join(load_all()),
        "binance": " ".join(name for name in load_all() if name.startswith("binanc")),
        "spans": " ".join(span for span in spans if span.startswith("1")),
    }
    told = subprocess.run(
        [sys.executable, "-c", EACH],
        input="\n".join(OFFERED),
        cwd=file.parent,
        env=plain_environment(_DCCD_COMPLETE=f"complete_{shell}"),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    answers = told.stdout.split("====\n")[:-1]
    found = [sorted(set(re.findall(one, answer, re.MULTILINE)) - {"_files"}) for answer in answers]
    expected = [sorted(words.format(**known).split()) for words in OFFERED.values()]
    assert dict(zip(OFFERED, found, strict=True)) == dict(zip(OFFERED, expected, strict=True))
    assert told.stderr == ""


def test_a_real_bash_completes(dccd: Dccd, file: Path) -> None:
    program = file.with_name("dccd")
    program.write_text(f'#!/bin/sh\nexec {shlex.join(DCCD)} "$@"\n')
    program.chmod(0o755)
    script = dccd(_DCCD_COMPLETE="source_bash").stdout
    script += """
        COMP_WORDS=(dccd remove --pairs ETH/USDT B); COMP_CWORD=4
        "$(complete -p dccd | sed 's/.*-F \\([^ ]*\\).*/\\1/')" ./dccd
        echo "${COMPREPLY[@]}"
    """
    told = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=file.parent,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert (told.stdout, told.stderr) == ("BTC/USDT\n", "")
