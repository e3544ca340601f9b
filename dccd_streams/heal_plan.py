"""What is missing of a stream, and why."""

from dataclasses import dataclass

from dccd_core.models import Window


@dataclass(frozen=True, slots=True)
class Hole:
    """A window, in the exchange's time, of which rows may be missing.

    `end` None: up to now, as nothing has come since.
    """

    start: int
    end: int | None
    cause: str

    def window(self, newest: int) -> Window:
        """As a window; `newest` is where it ends if it has no end of its own."""
        return Window(self.start, max(self.start, newest if self.end is None else self.end))
