"""public.bitmex.com: trades of all markets by the day, six hours after it."""

import re

from dccd_sandbox.archives.day import day_of
from dccd_sandbox.archives.pack import gzipped
from dccd_sandbox.bitmex_tables import Row, contracts, trades
from dccd_sandbox.exchanges.base import Exchange

_PATH = re.compile(r"data/trade/(?P<day>\d{8})\.csv\.gz")
_LATE_MS = 6 * 3_600_000
_NAMES = (
    *("timestamp", "symbol", "side", "size", "price", "tickDirection", "trdMatchID"),
    *("grossValue", "homeNotional", "foreignNotional"),
)


def file(path: str, exchange: Exchange, now: int) -> bytes | None:
    """A gzip; None where there is none, or not yet."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    start, stop = day_of(found["day"], "%Y%m%d")
    if stop + _LATE_MS > now:
        return None
    rows = [
        row
        for contract in contracts(exchange.world.markets.values())
        for row in trades(contract, contract.market.tape.between(start, stop))
    ]
    rows.sort(key=lambda row: str(row["timestamp"]))
    return gzipped("\n".join([",".join(_NAMES), *map(_line, rows), ""]))


def _line(row: Row) -> str:
    """Times are written with a D and nine digits."""
    time = str(row["timestamp"]).replace("T", "D").removesuffix("Z")
    return ",".join([f"{time}000000", *(str(row[name]) for name in _NAMES[1:])])
