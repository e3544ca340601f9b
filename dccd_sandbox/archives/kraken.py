"""assets.kraken.com: zips of candles by the quarter, ten weeks after it, and of all quarters.

They hold PAIR_MINUTES.csv of every pair, without the intervals that had no trades. Unlike the real
ones, those of all quarters have spans of an hour and more only: minutes of years take too long.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

from dccd_sandbox.archives.pack import zipped
from dccd_sandbox.candles import COUNT, texts
from dccd_sandbox.exchanges.base import Exchange
from dccd_sandbox.market import Market
from dccd_sandbox.spans import DAY_MS

_PATH = re.compile(
    r"marketing/institutions/Kraken_OHLCVT_(?P<full>Full_)?(?P<year>\d{4})Q(?P<quarter>[1-4])"
    r"\.zip(\.part(?P<part>\d\d))?"
)
_LATE_MS = 70 * DAY_MS
_MINUTES = (1, 5, 15, 30, 60, 240, 720, 1_440)
_PART = 2**20
_NAMES = {"BTC": "XBT", "DOGE": "XDG"}


def file(path: str, exchange: Exchange, now: int) -> bytes | None:
    """A zip or a part of one; None where there is none, or not yet."""
    found = _PATH.fullmatch(path)
    if found is None or bool(found["full"]) != bool(found["part"]):
        return None
    start = _quarter(int(found["year"]), int(found["quarter"]) - 1)
    stop = _quarter(int(found["year"]), int(found["quarter"]))
    if stop + _LATE_MS > now:
        return None
    markets = tuple(exchange.world.markets.values())
    if not found["full"]:
        return _zip(markets, start, stop, 1)
    content, part = _zip(markets, 0, stop, 60), int(found["part"])
    return content[part * _PART : (part + 1) * _PART] or None


@lru_cache(maxsize=4)
def _zip(markets: tuple[Market, ...], start: int, stop: int, shortest: int) -> bytes:
    files = {}
    for market in markets:
        name = "".join(_NAMES.get(code, code) for code in (market.base, market.quote))
        for minutes in _MINUTES:
            if minutes >= shortest and market.source_span(minutes * 60) is not None:
                files[f"{name}_{minutes}.csv"] = _candles(market, minutes * 60, start, stop)
    return zipped(files)


def _candles(market: Market, span: int, start: int, stop: int) -> str:
    rows = market.candles(span, start, stop - 1, stop)
    rows = rows[rows[:, COUNT] > 0]
    time, o, h, low, c, volume, _, count, *_ = texts(rows, market.digits)
    lines = [
        f"{t // 1_000},{','.join(values)},{n}"
        for t, *values, n in zip(time, o, h, low, c, volume, count, strict=True)
    ]
    return "\n".join([*lines, ""])


def _quarter(year: int, number: int) -> int:
    """The first millisecond of a quarter, 0 to 4 of a year."""
    first = datetime(year + number // 4, number % 4 * 3 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()) * 1_000
