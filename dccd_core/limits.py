"""The one rate limiter: a request budget that all threads and processes of this machine share."""

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dccd_core.exchanges.base import Banned, Limits
from dccd_core.models import SECOND, iso

# Magic and version, the four moments of _State, and a checksum of all that.
_RECORD = struct.Struct("<4s4d")
_CHECKSUM = struct.Struct("<I")
_MAGIC = b"dlm1"

# Binance bans for up to three days. A longer demand is a mistake in a header or in a clock.
_LONGEST = 7 * 86_400.0
# Who waits looks this often whether a pause or a ban has overtaken the wait.
_STEP = 1.0


class Cancelled(Exception):
    """The work was cancelled while it waited."""


class _State(NamedTuple):
    """Moments in seconds since the epoch.

    `seen` is the clock at the last write, `booked` the moment at which everything granted so far
    is earned at the steady rate, and nobody asks before `paused` or `banned`.
    """

    seen: float
    booked: float
    paused: float
    banned: float


def _nap(seconds: float, cancel: threading.Event | None) -> None:
    if cancel is None:
        time.sleep(seconds)
    else:
        cancel.wait(seconds)


class Limiter:
    """One request budget, kept in one small file under flock: virtual scheduling (GCRA).

    A turn is booked under the lock, the wait for it happens outside. In any `limits.seconds` at
    most `weight + burst` is granted. The state outlives processes: a restart or a kill -9 does
    not forget what was spent, nor a ban. `clock` is the wall clock, which processes share and
    which goes on while the machine is off; when it is set back, all moments move with it.

    A file that is damaged, or gone although it was there, says nothing about what was spent: then
    there is no burst until it is earned again. Only the first use of a new file starts with one.

    Raises OSError where the file cannot be kept, already on construction.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float, threading.Event | None], object] = _nap,
    ) -> None:
        if not (limits.weight > 0 and limits.seconds > 0 and limits.burst >= 0):
            raise ValueError(f"{limits}: weight and seconds must be above 0, burst not below 0")
        self._path = path
        self._most = limits.weight + limits.burst
        self._seconds = limits.seconds
        self._unit = limits.seconds / limits.weight
        self._ahead = limits.burst * self._unit
        # What our steady rate alone reaches: beyond it somebody else spends, or a burst did.
        self._steady = limits.weight / self._most
        self._clock = clock
        self._sleep = sleep
        self._known = False
        self._update(lambda state, _: state)

    def acquire(self, weight: float, cancel: threading.Event | None = None) -> float:
        """Wait for a turn to spend `weight`; the seconds waited.

        Raises Cancelled when `cancel` is set, Banned at once while a ban is in force, and
        ValueError for a weight that no window can hold.
        """
        if not 0 <= weight <= self._most:
            raise ValueError(f"a request of weight {weight} in a budget of {self._most:g}")
        waited = 0.0
        while True:
            _stop_if(cancel)
            left = self._book(weight)
            while left > 0:
                step = min(left, _STEP)
                self._sleep(step, cancel)
                _stop_if(cancel)
                waited += step
                left -= step
                if self._overtaken(left):
                    break
            else:
                return waited

    def pause(self, seconds: float, free: float = 0.0) -> None:
        """Nobody asks for so long, and then at the steady rate; of several the latest end holds.

        `free` may be spent at its end at once: else a budget of a few turns an hour adds minutes.
        """

        def change(state: _State, now: float) -> _State:
            until = now + _bounded(seconds)
            booked = max(state.booked, until + self._ahead - free * self._unit)
            return state._replace(paused=max(state.paused, until), booked=booked)

        self._update(change)

    def ban(self, seconds: float) -> float:
        """As `pause`, but who asks gets Banned instead of waiting. The end, seconds since 1970."""

        def change(state: _State, now: float) -> _State:
            until = now + _bounded(seconds)
            return state._replace(
                banned=max(state.banned, until), booked=max(state.booked, until + self._ahead)
            )

        return self._update(change).banned

    def observe(self, used: float, at: float | None = None) -> None:
        """Heed the part of the budget, 0 to 1, that the exchange counts in its present window.

        The exchange counts everyone on this address. When more is used than our steady rate alone
        would reach, nobody asks until the next window. `at` is the exchange's clock in seconds.
        """
        if used >= self._steady:
            moment = self._clock() if at is None else at
            self.pause(self._seconds - moment % self._seconds)

    def _book(self, weight: float) -> float:
        """Take the next turn; the seconds until it."""

        def change(state: _State, now: float) -> _State:
            self._refuse_banned(state, now)
            return state._replace(booked=max(state.booked, now) + weight * self._unit)

        state = self._update(change)
        return max(0.0, state.booked - self._ahead - state.seen)

    def _overtaken(self, left: float) -> bool:
        """Whether a pause that came after the booking covers the turn in `left` seconds."""

        def change(state: _State, now: float) -> _State:
            self._refuse_banned(state, now)
            return state

        state = self._update(change)
        return state.paused > state.seen + left

    def _refuse_banned(self, state: _State, now: float) -> None:
        if state.banned > now:
            until = iso(int(state.banned) * SECOND)
            raise Banned(
                f"no request before {until}: the exchange has banned this address "
                f"({self._path.name})",
                state.banned - now,
            )

    def _update(self, change: Callable[[_State, float], _State]) -> _State:
        """Read, change and write the state under the lock; what was written."""
        try:
            file, created = self._open()
            try:
                # Read after the lock was got: then the clock never runs backwards by itself.
                now = self._clock()
                state = self._read(file, now, fresh=created and not self._known)
                state = change(state, now)
                body = _RECORD.pack(_MAGIC, *state)
                os.pwrite(file, body + _CHECKSUM.pack(zlib.crc32(body)), 0)
                self._known = True
            finally:
                os.close(file)
        except OSError as error:
            reason = f"cannot keep the request budget here ({error.strerror}); the folder must be"
            raise OSError(error.errno, f"{reason} writable", str(self._path)) from error
        return state

    def _open(self) -> tuple[int, bool]:
        """The locked file and whether this call made it.

        Opened anew each time: the lock then also holds between threads and after a fork, and a
        file that was deleted is noticed.
        """
        while True:
            created = False
            try:
                file = os.open(self._path, os.O_RDWR)
            except FileNotFoundError:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                except FileExistsError:
                    continue
                created = True
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file).st_nlink:
                    return file, created
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _read(self, file: int, now: float, *, fresh: bool) -> _State:
        """The stored state, moved along if the clock was set back since it was written."""
        data = os.pread(file, _RECORD.size + _CHECKSUM.size, 0)
        body, checksum = data[: _RECORD.size], data[_RECORD.size :]
        if body[:4] == _MAGIC and checksum == _CHECKSUM.pack(zlib.crc32(body)):
            _, seen, *moments = _RECORD.unpack(body)
            back = max(0.0, seen - now)
            return _State(now, *(moment - back for moment in moments))
        burst_spent = 0.0 if fresh and not data else self._ahead
        return _State(now, now + burst_spent, 0.0, 0.0)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST)


def _stop_if(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled("cancelled")
