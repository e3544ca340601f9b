"""Reads for connections whose threads sleep: one wake-up for all of them.

A wake-up costs more than a message. Where messages come often but not at once, each connection's
own thread would be woken for every few of them, and all of them would wait for each other.
"""

import threading
import time
from dataclasses import dataclass, field

from dccd_core.exchanges.live import Frame
from dccd_streams.transport import Transport

ENOUGH = 2_000
"""Frames of one connection that are held at most, about."""

_NAP = 0.025  # `received` is late by so much at most


@dataclass(slots=True, eq=False)
class _Loan:
    transport: Transport
    frames: list[Frame]
    until: float
    error: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)


class SharedReader:
    """Reads what is lent to it, every few milliseconds, in a thread of its own.

    A transport is lent for the time of one `read`: two threads never use it at once.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._new: list[_Loan] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="stream-read", daemon=True)
        self._thread.start()

    def read(self, transport: Transport, frames: list[Frame], until: float) -> None:
        """Sleep until a moment of the monotonic clock, and append what comes meanwhile.

        Wakes sooner when that is a lot. Raises what the transport raises.
        """
        loan = _Loan(transport, frames, until)
        with self._condition:
            if self._closed:
                return
            self._new.append(loan)
            self._condition.notify()
        loan.over.wait()
        if loan.error is not None:
            raise loan.error

    def close(self) -> None:
        """Give back what is lent, and end the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        loans: list[_Loan] = []
        while True:
            with self._condition:
                while not (loans or self._new or self._closed):
                    self._condition.wait()
                loans += self._new
                self._new = []
                closed = self._closed
            now = time.monotonic()
            over = [loan for loan in loans if _read(loan, now) or closed]
            # only now: whoever wakes wants the interpreter
            for loan in over:
                loan.over.set()
            if closed:
                return
            loans = [loan for loan in loans if not loan.over.is_set()]
            time.sleep(_NAP)


def _read(loan: _Loan, now: float) -> bool:
    """Read what is there; whether the loan is over."""
    try:
        loan.frames += loan.transport.receive(0)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is its owner's business
        loan.error = error
    return loan.error is not None or now >= loan.until or len(loan.frames) >= ENOUGH
