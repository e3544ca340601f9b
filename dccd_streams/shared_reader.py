"""Reads for connections whose threads sleep: one wake-up for all of them.

A wake-up costs more than a message. Where messages come often but not at once, each connection's
own thread would be woken for every few of them, and all of them would wait for each other.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_NAP = 0.025  # the time of receipt is late by so much at most


@dataclass(slots=True, eq=False)
class _Loan:
    collect: Callable[[], bool]
    until: float
    error: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)


class SharedReader:
    """Reads what is lent to it, every few milliseconds, in a thread of its own.

    What is lent is a function that reads what is there, without waiting, and says whether that is
    enough. It is called by one thread at a time: until `read` returns, the lender leaves it alone.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._new: list[_Loan] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="stream-read", daemon=True)
        self._thread.start()

    def read(self, collect: Callable[[], bool], seconds: float) -> None:
        """Sleep while it is read, for so long, or until that was enough. Raises what it raises."""
        loan = _Loan(collect, time.monotonic() + seconds)
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
            over = [loan for loan in loans if _read(loan) or now >= loan.until or closed]
            # only now: whoever wakes wants the interpreter
            for loan in over:
                loan.over.set()
            if closed:
                return
            if over:
                loans = [loan for loan in loans if loan not in over]
            time.sleep(_NAP)


def _read(loan: _Loan) -> bool:
    """Read what is there; whether the loan is over."""
    try:
        return loan.collect()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is its owner's business
        loan.error = error
        return True
