"""Where the command line writes."""

import sys

from rich.console import Console

# A file or a pipe has no width: its lines are not to be cut at 80.
_WIDTH = None if sys.stdout.isatty() else 150
out, err = Console(width=_WIDTH), Console(stderr=True, width=_WIDTH)
