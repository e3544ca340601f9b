"""Request weight within a minute, and what comes of using too much. Runs on real time, also when
the sandbox's clock stands still: a client that waits must be let in again."""

import time
from dataclasses import dataclass

_REFUSALS_BEFORE_BAN = 10
_BAN_SECONDS = 120
_LONGEST_BAN = 3 * 86_400


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a request meets: status 200, 429 or 418; used is the weight of this minute."""

    status: int
    used: int
    retry_after: int


class WeightLimit:
    """So much weight a clock minute (0: unlimited): 429 beyond it, a ban for who goes on."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.highest = 0
        self.reset()

    def reset(self) -> None:
        """Forget usage, refusals and bans."""
        self.highest = 0
        self._minute = 0
        self._used = 0
        self._refused = 0
        self._bans = 0
        self._banned_until = 0.0

    def use(self, weight: int) -> Verdict:
        """Count a request and judge it."""
        now = time.time()
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._used, self._refused = minute, 0, 0
        if now < self._banned_until:
            return Verdict(418, self._used, int(self._banned_until - now) + 1)
        self._used += weight
        self.highest = max(self.highest, self._used)
        if not self.limit:
            # A client that reads what it has used must not wait in an exchange without a limit.
            return Verdict(200, weight, 0)
        if self._used <= self.limit:
            return Verdict(200, self._used, 0)
        self._refused += 1
        if self._refused <= _REFUSALS_BEFORE_BAN:
            return Verdict(429, self._used, int(60 - now % 60) + 1)
        length = min(_BAN_SECONDS * 2**self._bans, _LONGEST_BAN)
        self._bans += 1
        self._banned_until = now + length
        return Verdict(418, self._used, length)
