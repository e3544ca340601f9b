"""The sandbox's clock: real time, moved time, or stopped time; and how people write a time."""

import time
from datetime import UTC, datetime


class Clock:
    """Epoch milliseconds as the simulated exchanges see them."""

    __slots__ = ("_frozen", "_offset")

    def __init__(self, now: str | datetime | None = None, frozen: bool = False) -> None:
        self._offset = 0
        self._frozen: int | None = None
        self.set(now, frozen)

    def now(self) -> int:
        """The time, in milliseconds."""
        if self._frozen is not None:
            return self._frozen
        return time.time_ns() // 1_000_000 + self._offset

    def set(self, now: str | datetime | None, frozen: bool = False) -> None:
        """Move to `now` (None: real time) and go on from there, or stand still."""
        real = time.time_ns() // 1_000_000
        target = real if now is None else epoch_ms(now)
        self._offset = target - real
        self._frozen = target if frozen else None

    @property
    def frozen(self) -> bool:
        """Whether the time stands still."""
        return self._frozen is not None


def epoch_ms(moment: str | datetime | int) -> int:
    """Milliseconds of an ISO text or datetime (UTC where it names no zone), or of themselves."""
    if isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000)


def iso(ms: int) -> str:
    """A time in milliseconds as ISO text in UTC."""
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds")
