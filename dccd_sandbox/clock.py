"""The sandbox's clock: real time, moved time, or stopped time; and how people write a time."""

import time
from datetime import UTC, datetime


class Clock:
    """Epoch milliseconds as the simulated exchanges see them."""

    __slots__ = ("_from", "_frozen", "_real", "speed")

    def __init__(
        self, now: str | datetime | None = None, frozen: bool = False, speed: float = 1.0
    ) -> None:
        self._frozen: int | None = None
        self.set(now, frozen, speed)

    def now(self) -> int:
        """The time, in milliseconds."""
        if self._frozen is not None:
            return self._frozen
        return self._from + int((time.time_ns() - self._real) * self.speed) // 1_000_000

    def set(
        self, now: str | datetime | None, frozen: bool = False, speed: float | None = None
    ) -> None:
        """Move to `now` (None: real time) and go on from there, or stand still. The speed stays
        unless another is given: how much faster than real time. Raises ValueError."""
        if speed is not None and not 0 < speed <= 100_000:
            raise ValueError(f"clock speed {speed}: want a number above 0 and up to 100,000")
        self._real = time.time_ns()
        self._from = self._real // 1_000_000 if now is None else epoch_ms(now)
        self._frozen = self._from if frozen else None
        if speed is not None:
            self.speed = float(speed)

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
