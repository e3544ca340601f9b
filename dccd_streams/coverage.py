"""Which stretch of a stream is known to be whole, in the exchange's own time."""

import time

from dccd_core.models import SECOND, Window


class Coverage:
    """The stretch that is growing now. `until` is how far it has been told, None before any.

    It grows with the times that the exchange gives only: our clock does not know of a stall.
    """

    def __init__(self) -> None:
        self.until: int | None = None
        self.open = False
        self._seen: int | None = None
        self._at = 0.0

    def see(self, moment: int) -> None:
        """Note a time that the exchange gave."""
        if self._seen is None or moment > self._seen:
            self._seen, self._at = moment, time.monotonic()

    @property
    def newest(self) -> int | None:
        """The newest time that was seen."""
        return self._seen

    def now(self) -> int | None:
        """What the exchange's clock shows: its newest time, and what has passed here since.

        None before any time was seen.
        """
        if self._seen is None:
            return None
        return self._seen + int((time.monotonic() - self._at) * SECOND)

    def begin(self, moment: int) -> None:
        """From here on nothing is missing."""
        self.until, self.open = moment, True

    def extend(self) -> Window | None:
        """What has become known to be whole since the last call.

        It ends before the newest time, at which more may come.
        """
        if not self.open or self.until is None or self._seen is None or self._seen <= self.until:
            return None
        window = Window(self.until, self._seen)
        self.until = self._seen
        return window

    def jump(self, before: int, after: int) -> Window | None:
        """Something is missing between two times: what is whole before it; it begins anew."""
        whole = Window(self.until, before) if self.until is not None else None
        self.begin(after)
        return whole if whole and whole.start < whole.end else None

    def end(self) -> Window | None:
        """The stream broke off: whole until just before the newest time, not longer."""
        if not self.open or self.until is None:
            return None
        self.open = False
        end = max(self.until, self._seen or 0)
        window = Window(self.until, end)
        self.until = end
        return window if window.start < window.end else None
