"""`dccd restore`, and what `dccd validate` says of the remotes."""

from typing import Annotated

import typer
from rich.console import Console

from dccd_core.config import Config, load_config
from dccd_core.models import Series
from dccd_core.offsite import RemoteStorage
from dccd_core.offsite_files import show_bytes
from dccd_core.offsite_restored import AWAY, FOLDED, HERE, Restored, is_whole
from dccd_pipelines.console import err, out
from dccd_pipelines.options import ConfigOption
from dccd_pipelines.signals import cancelling

_SHOWN = 20


def register_restore(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(restore)


def warn_of_remotes(config: Config) -> None:
    """Say why remotes cannot be used. The configuration is valid all the same: collecting does
    not need them."""
    for problem in RemoteStorage(config.storage).problems(config.settings.data_path):
        _say(out, f"storage.remotes: {problem}", style="yellow")


def restore(
    config: ConfigOption = None,
    series: Annotated[
        list[str] | None,
        typer.Option("--series", "-s", help="As binance/ohlc/1h/BTC-USDT; may be repeated."),
    ] = None,
    remote: Annotated[
        str | None, typer.Option("--remote", help="Only this one; else each in turn.")
    ] = None,
) -> None:
    """Bring back from a remote what is missing or damaged here, and check it."""
    loaded = load_config(config)
    wanted = [Series.parse(text) for text in series or ()]
    with cancelling(err.print) as cancel:
        storage = RemoteStorage(loaded.storage, say=lambda text: _say(err, text), cancel=cancel)
        found = storage.restore(loaded.settings.data_path, wanted, remote)
    for one in found:
        _show(one)
    if not is_whole(found):
        raise typer.Exit(1)


def _show(found: Restored) -> None:
    for file in found.files:
        _say(out, f"{file.path}: {file.rows:,} rows, {show_bytes(file.bytes)}")
    for aside in found.set_aside:
        _say(out, f"the damaged file is kept as {aside}")
    odd = {path: why for path, why in found.left.items() if why not in (HERE, FOLDED, AWAY)}
    for path, why in odd.items():
        _say(out, f"{path}: left as it is: {why}")
    _show_failures(found)
    if found.error and not found.files:
        return
    size = show_bytes(sum(file.bytes for file in found.files))
    series = len({file.series for file in found.files})
    reasons = list(found.left.values())
    away = reasons.count(AWAY)
    if away:
        _say(out, f"{away} files: {AWAY}")
    _say(
        out,
        f"{found.remote}: {len(found.files)} files of {series} series restored, {size}; "
        f"{reasons.count(HERE) + reasons.count(FOLDED)} are here already",
    )


def _show_failures(found: Restored) -> None:
    for path, why in list(found.failed.items())[:_SHOWN]:
        _say(err, f"{path}: {why}", style="red")
    if len(found.failed) > _SHOWN:
        _say(err, f"… {len(found.failed) - _SHOWN} more", style="red")
    for name, why in found.absent.items():
        _say(err, f"{name}: {why}", style="yellow")
    if found.error:
        _say(err, found.error, style="red")


def _say(console: Console, text: str, style: str | None = None) -> None:
    """A line that may hold a path: whole, whatever its width and its brackets."""
    # a remote's name between colons is no emoji
    console.print(text, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)
