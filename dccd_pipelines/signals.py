"""How a person, a service manager or a terminal that closes asks a program to stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from threading import Event
from types import FrameType


@contextmanager
def stop_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle` with the number of each such signal while the block runs."""

    def react(number: int, _: FrameType | None) -> None:
        handle(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's programs outlive a terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, react) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def cancelling(say: Callable[[str], None]) -> Iterator[Event]:
    """An event that the first such signal sets; the second one ends the program at once."""
    cancel = Event()
    signals = count()

    def stop(number: int) -> None:
        if next(signals):
            raise SystemExit(128 + number)
        cancel.set()
        with suppress(OSError):  # the terminal may be what is gone
            say("Stopping; what is stored stays. Once more to leave at once.")

    with stop_signals(stop):
        yield cancel
