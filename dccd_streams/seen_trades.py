"""Which trades of a market have come already: what a new connection repeats is left out."""

from operator import attrgetter

from dccd_core.exchanges.trades import Trade

_ID = attrgetter("trade_id")
REMEMBERED = 8_192
"""Ids of so many trades at least are known."""


class SeenTrades:
    """The newest ids of one market. The feed's lock guards it."""

    def __init__(self) -> None:
        self._newer: set[str] = set()
        self._older: set[str] = set()

    def news(self, trades: list[Trade]) -> list[Trade]:
        """Those that were not seen before, each once."""
        fresh = dict(zip(map(_ID, trades), trades, strict=True))
        for trade_id in fresh.keys() & self._newer | fresh.keys() & self._older:
            del fresh[trade_id]
        self._newer.update(fresh)
        if len(self._newer) > REMEMBERED:
            self._older, self._newer = self._newer, set()
        return list(fresh.values())

    def forget(self, ids: set[str]) -> None:
        """Take these as not seen."""
        self._newer -= ids
        self._older -= ids
