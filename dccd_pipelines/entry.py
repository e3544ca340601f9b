"""What the program `dccd` starts with: it imports nothing of ours before Ctrl-C is looked after."""

import os
import signal
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it without a word."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a background job ignores it: that stays
        signal.signal(signal.SIGINT, _leave)
    from dccd_pipelines.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


def _leave(_: int, __: FrameType | None) -> None:
    """At once: nothing is open yet, and libraries swallow exceptions while they are imported."""
    os._exit(INTERRUPTED)
