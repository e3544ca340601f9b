"""The commands that run and watch: start, stream, status, streams, logs, alert-test."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from dccd_core.alerts import send_test
from dccd_core.config import Config, child_environment, load_config
from dccd_core.joblog import Logs
from dccd_core.last_good import load_or_last_good
from dccd_core.stream_status import read_statuses
from dccd_pipelines.console import err, out, warn
from dccd_pipelines.options import ConfigOption, JsonOption
from dccd_pipelines.status_view import read_status, stream_tables


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (start, stream, status, streams, logs):
        app.command()(command)
    app.command("alert-test")(alert_test)


def start(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Where the UI listens.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="The UI's port.")] = None,
) -> None:
    """Run webserver, daemon and stream service until Ctrl-C, and restart what dies."""
    from dccd_pipelines.supervisor import supervise

    loaded = load_config(config)
    settings = loaded.settings
    code = supervise(loaded, host or settings.ui_host, port or settings.ui_port, out.print)
    raise typer.Exit(code)


def stream(
    config: ConfigOption = None,
    shard: Annotated[str | None, typer.Option(help="A share of the pairs, as 2/8.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Of /health and /metrics.")
    ] = None,
) -> None:
    """Run the stream service alone, in this terminal, until Ctrl-C."""
    loaded = load_config(config)
    command = [sys.executable, "-m", "dccd_streams", "--config", str(loaded.path)]
    command += ["--shard", shard] if shard else []
    command += ["--port", str(port)] if port is not None else []
    # it takes our place, so that signals and the exit code are its own
    os.execve(sys.executable, command, child_environment())  # noqa: S606


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how history and streams are: runs, errors, age of the data, open incidents."""
    loaded, problem = _loaded(config)
    found = read_status(loaded)
    if as_json:
        _say_json(found.builtins())
    else:
        out.print(*found.tables(), sep="\n")
    for line in found.broken:
        err.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    if found.broken or problem:
        raise typer.Exit(1)


def streams(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the live streams; exit code 1 if no service runs."""
    now = time.time()
    loaded, problem = _loaded(config)
    services = read_statuses(loaded.settings.data_path)
    if as_json:
        _say_json([msgspec.to_builtins(one) | {"running": one.alive(now)} for one in services])
    else:
        out.print(*stream_tables(services, now), sep="\n")
    if not any(one.alive(now) for one in services):
        err.print("no stream service runs on this data path: dccd start", style="red")
        raise typer.Exit(1)
    if problem:
        raise typer.Exit(1)


def logs(
    job: Annotated[str | None, typer.Argument(help="A series or a program; else all.")] = None,
    config: ConfigOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 50,
) -> None:
    """Show the last lines of the log of a job, or of everything."""
    loaded, problem = _loaded(config)
    kept = Logs(loaded.settings.data_path)
    if not job and not kept.jobs():
        where = kept.folder.absolute()
        text = f"There are no logs yet: what runs writes them to {where}"
        err.print(text, markup=False, highlight=False, soft_wrap=True)
    for line in kept.tail(job, lines):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if problem:
        raise typer.Exit(1)


def alert_test(config: ConfigOption = None) -> None:
    """Send one message to the webhook of alerts.webhook_url."""
    problem = send_test(load_config(config))
    if problem:
        raise ValueError(f"alerts.webhook_url: the message did not arrive: {problem}")
    out.print("Sent. It is in the channel now.", style="green")


def _loaded(path: Path | None) -> tuple[Config, str]:
    """The configuration, or the last good one and why: who looks for a fault must see something."""
    config, problem = load_or_last_good(path, warn)
    if problem:
        text = f"{problem}\nWhat is shown is of the last good configuration."
        err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return config, problem


def _say_json(value: Any) -> None:
    out.print(json.dumps(value, indent=2), markup=False, highlight=False, soft_wrap=True)
