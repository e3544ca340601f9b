"""The `dccd` command line. It drives Dagster, and is the one module that prints.

Commands that need Dagster import it when they run: it takes a second, and completion, `status`
and `inventory` do without.
"""

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from dccd_core.config import Config, ConfigError, load_config, resolve_config_path
from dccd_core.config_edit import add_pair, remove_pair
from dccd_core.config_folder import check_data_path
from dccd_core.messages import many
from dccd_core.store.datastore import DataStore
from dccd_pipelines.cli_offsite import register_restore, warn_of_remotes
from dccd_pipelines.cli_operations import register
from dccd_pipelines.console import err, out, warn
from dccd_pipelines.options import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    PairsOption,
    complete_exchange,
    complete_pair,
    complete_span,
)
from dccd_pipelines.outside import not_yet
from dccd_pipelines.owed import owed
from dccd_pipelines.pairs_option import PAIRS, PairsCommand
from dccd_pipelines.progress import LiveProgress
from dccd_pipelines.report import Report
from dccd_pipelines.signals import cancelling
from dccd_pipelines.tables import (
    gap_table,
    inventory_table,
    jobs_table,
    plan_table,
    short_moment,
    total_line,
)

app = typer.Typer(
    help="Complete, correct, gap-explained crypto market data as plain Parquet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
register(app)
register_restore(app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        _say(f"dccd {version('dccd-pipelines')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """What comes before a command."""


def main() -> None:
    """Run the command line: errors that a user can mend are one message, not a traceback."""
    try:
        app(prog_name="dccd")
    except (ConfigError, ValueError) as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
    except OSError as error:  # the data path: no permission, no room, no such disk
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror or error}"
        err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


def _say(text: str) -> None:
    """Print a line that may hold a path: whole, whatever its width and its brackets."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def validate(
    config: ConfigOption = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the exchanges what they have of it.")
    ] = False,
) -> None:
    """Check the configuration and show what it stands for."""
    loaded = load_config(config)
    check_data_path(loaded)
    _say(f"Config: {loaded.path}")
    settings = loaded.settings
    _say(f"data_path: {settings.data_path.absolute()}   timezone: {loaded.timezone}")
    out.print(jobs_table(loaded, short_moment(loaded)))
    warn_of_remotes(loaded)
    for note in not_yet(loaded, time.time()):
        warn(note)
    out.print("Config is valid.", style="green")
    if online:
        _ask(loaded)


def _ask(config: Config) -> None:
    """Print what the exchanges say of each job; exit code 1 if one of them cannot be collected."""
    from dccd_pipelines.online import look_ahead

    with cancelling(err.print) as cancel:
        found = look_ahead(config, cancel)
    for table in found.shown:
        out.print(table)
    if not found.ok:
        raise typer.Exit(1)


@app.command(cls=PairsCommand)
def backfill(
    config: ConfigOption = None,
    exchange: ExchangeOption = None,
    pairs: PairsOption = None,
    start: Annotated[str | None, typer.Option(help="A date, as 2024-01-01.")] = None,
    end: Annotated[str | None, typer.Option(help="A date; the data ends before it.")] = None,
    parallel: Annotated[bool, typer.Option(help="Collect the groups at the same time.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only show what is missing.")] = False,
) -> None:
    """Fetch what is missing of the configured history, now, as Dagster runs."""
    from dccd_pipelines.backfill import run_backfill

    loaded = load_config(config)
    with cancelling(err.print) as cancel, LiveProgress(out) as progress:
        report = run_backfill(
            loaded,
            exchange=exchange,
            pairs=pairs,
            start=start,
            end=end,
            parallel=parallel,
            dry_run=dry_run,
            progress=progress,
            planned=lambda plan: None if dry_run else _announce(plan),
            cancel=cancel,
        )
    if dry_run:
        _show_plan(loaded, report)
    else:
        _conclude(report)


def _show_plan(config: Config, report: Report) -> None:
    out.print(plan_table(report, short_moment(config)))
    out.print(total_line(report))
    if any(plan.problem for plan in report.plans):
        raise typer.Exit(1)


@app.command()
def collect(config: ConfigOption = None) -> None:
    """Bring every job up to now, once, however far behind it is."""
    from dccd_pipelines.backfill import run_once

    loaded = load_config(config)
    with cancelling(err.print) as cancel, LiveProgress(out) as progress:
        report = run_once(loaded, progress=progress, cancel=cancel)
    _conclude(report)


def _announce(report: Report) -> None:
    for plan in report.plans:
        if not plan.missing:
            _say(f"{plan.series}: {plan.note or 'already up to date'}")


def _conclude(report: Report) -> None:
    for line in report.failed[:50]:
        err.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    if len(report.failed) > 50:
        err.print(f"… {many(len(report.failed) - 50, 'more window')}", style="red")
    revised = f", {report.revised:,} revised" if report.revised else ""
    runs = many(len(report.runs), "Dagster run")
    out.print(f"{many(report.rows, 'row')} added{revised}; {runs}")
    if not report.ok:
        lack = many(len(report.failed), "window")
        err.print(f"{lack} {'is' if len(report.failed) == 1 else 'are'} still missing", style="red")
        raise typer.Exit(1)


@app.command(cls=PairsCommand)
def inventory(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    gaps: Annotated[bool, typer.Option("--gaps", help="List every gap with its reason.")] = False,
    exchange: ExchangeOption = None,
    pairs: PairsOption = None,
) -> None:
    """Show what is stored: rows, dates, gaps in candles, size."""
    loaded = load_config(config, warn)
    store, due = DataStore(loaded.settings.data_path), owed(loaded, time.time())
    rows = [
        row
        for row in store.inventory_rows(due)
        if exchange in (None, row.series.exchange)
        and (not pairs or str(row.series.symbol) in pairs)
    ]
    if not rows and (exchange or pairs):
        raise ValueError(f"nothing is stored of {exchange or ''} {' '.join(pairs or ())}".rstrip())
    if gaps:
        broken = {row.series for row in rows if row.error}
        whole = [row.series for row in rows if row.series not in broken]
        found = [(one, gap) for one in whole for gap in store.gaps(one, owed=due.get(one))]
        if as_json:
            _print_json([{"series": str(series)} | gap.row() for series, gap in found])
        else:
            out.print(gap_table(found, short_moment(loaded)))
    elif as_json:
        _print_json([row.row() for row in rows])
    else:
        out.print(inventory_table(rows, short_moment(loaded)))
    _complain([row.error for row in rows if row.error])


def _complain(broken: list[str]) -> None:
    """Name the files that cannot be used; then the exit code is 1."""
    for line in broken:
        err.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    if broken:
        raise typer.Exit(1)


@app.command(cls=PairsCommand)
def add(
    exchange: Annotated[str, typer.Option("--exchange", "-e", autocompletion=complete_exchange)],
    pairs: Annotated[list[str], typer.Option(*PAIRS, help="One or several.")],
    span: Annotated[str, typer.Option("--span", "-s", autocompletion=complete_span)],
    config: ConfigOption = None,
) -> None:
    """Add pairs to the configuration file, keeping its comments and order."""
    edit = add_pair(resolve_config_path(config), exchange, pairs, span)
    for series in edit.unchanged:
        _say(f"{series} is there already")
    for series in edit.changed:
        _say(f"{series} added to {edit.path}")
    if edit.changed:
        out.print("A running Dagster sees it after 'Reload' (Deployment page).")


@app.command(cls=PairsCommand)
def remove(
    exchange: Annotated[str, typer.Option("--exchange", "-e", autocompletion=complete_exchange)],
    pairs: Annotated[list[str], typer.Option(*PAIRS, autocompletion=complete_pair)],
    span: Annotated[str, typer.Option("--span", "-s", autocompletion=complete_span)],
    config: ConfigOption = None,
) -> None:
    """Take pairs out of the configuration file. Their data stays on disk."""
    edit = remove_pair(resolve_config_path(config), exchange, pairs, span)
    for series in edit.changed:
        _say(f"{series} removed from {edit.path}; its files stay")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's files go.")] = Path("demo"),
) -> None:
    """Show the whole way offline, against exchanges that run on this machine."""
    from dccd_pipelines.demo import run_demo

    raise typer.Exit(run_demo(folder, out))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))
