"""Reads for connections whose threads sleep: one wake-up for all of them.

A wake-up costs more than a message. Where messages come often, each connection's own thread would
be woken for every few of them, and all of them would wait for each other.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# Seconds between two reads: the time of receipt is late by so much at most.
_NAP, _LONGEST_NAP = 0.025, 0.08
_READS = 400.0  # a second, of all connections: a read costs as much as several messages


@dataclass(slots=True, eq=False)
class _Loan:
    collect: Callable[[], bool]
    turn: Callable[[], bool]
    every: float
    due: float
    turned: float = 0.0
    full: bool = False
    error: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)


class SharedReader:
    """Reads what is lent to it, and gives each its turns, in a thread of its own.

    Two functions are lent, called by one thread at a time: until `read` returns, the lender leaves
    them alone. `collect` reads what is there, without waiting, and says whether that is enough for
    a turn. `turn` deals with what was read and says whether to go on. A `closed` reader takes none.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._new: list[_Loan] = []
        self.closed = False
        self._thread = threading.Thread(target=self._run, name="stream-read", daemon=True)
        self._thread.start()

    def read(self, collect: Callable[[], bool], turn: Callable[[], bool], every: float) -> None:
        """Sleep while it is read, with a turn every so many seconds and when there is enough, until
        a turn says that it is over. Raises what they raise; nothing once the reader is closed."""
        loan = _Loan(collect, turn, every, _next_beat(every))
        with self._condition:
            if self.closed:
                return
            self._new.append(loan)
            self._condition.notify()
        loan.over.wait()
        if loan.error is not None:
            raise loan.error

    def close(self, seconds: float | None = None) -> bool:
        """Give back what is lent, and end the thread; whether it ended, after so many seconds at
        most: a turn may hang."""
        with self._condition:
            self.closed = True
            self._condition.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        loans: list[_Loan] = []
        try:
            while self._join(loans):
                until = time.monotonic() + min(_LONGEST_NAP, max(_NAP, len(loans) / _READS))
                self._collect(loans)
                full = any(loan.full for loan in loans)
                self._give_turns(loans, until)
                loans[:] = [loan for loan in loans if not loan.over.is_set()]
                if not full:
                    time.sleep(max(0.0, until - time.monotonic()))
        finally:
            with self._condition:
                self.closed = True
            for loan in [*loans, *self._new]:
                loan.over.set()

    def _join(self, loans: list[_Loan]) -> bool:
        """Take what was lent, waiting while there is nothing; False once it is closed."""
        with self._condition:
            while not (loans or self._new or self.closed):
                self._condition.wait()
            loans += self._new
            self._new = []
            return not self.closed

    def _collect(self, loans: list[_Loan]) -> None:
        for loan in loans:
            if loan.full:
                continue  # it still waits for its turn: the network holds what comes after
            try:
                loan.full = loan.collect()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is its owner's business
                loan.error = error
                loan.over.set()

    def _give_turns(self, loans: list[_Loan], until: float) -> None:
        """Give the turns that are due, to who waits longest first, as long as there is time: the
        others wait, for all are to be read again."""
        now = time.monotonic()
        due = [loan for loan in loans if loan.full or loan.due <= now]
        for loan in sorted(due, key=lambda loan: loan.turned):
            if loan.over.is_set():
                continue
            try:
                again = loan.turn()
            except Exception as error:  # noqa: BLE001 - see above
                loan.error, again = error, False
            loan.due, loan.turned, loan.full = _next_beat(loan.every), time.monotonic(), False
            if not again:
                loan.over.set()
            if loan.turned > until:
                return


def _next_beat(every: float) -> float:
    """All have their turns at one time: they use the same code, which is fast while it is hot."""
    return (time.monotonic() // every + 1) * every
