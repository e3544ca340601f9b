"""Where the command line writes."""

import sys

from rich.console import Console

# A file or a pipe has no width: its lines are not to be cut at 80.
_WIDTH = None if sys.stdout.isatty() else 150
# :x: in rclone's words is a remote's path and not a cross
out = Console(width=_WIDTH, emoji=False)
err = Console(stderr=True, width=_WIDTH, emoji=False)


def warn(text: str) -> None:
    """Say something on stderr that stops nothing."""
    err.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
