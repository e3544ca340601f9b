"""public.bybit.com: trades by the day, two hours after it; linear contracts and spot.

Spot numbers the trades of each file from 1. As in old files, those of linear contracts before 2021
begin with the newest trade.
"""

import re

from dccd_sandbox.archives.day import day_of
from dccd_sandbox.archives.pack import gzipped
from dccd_sandbox.bybit_streams import deals
from dccd_sandbox.exchanges.base import Exchange

_PATH = re.compile(
    r"(trading/(?P<linear>[^/]+)/(?P=linear)|spot/(?P<spot>[^/]+)/(?P=spot)_)"
    r"(?P<date>\d{4}-\d\d-\d\d)\.csv\.gz"
)
_LATE_MS = 2 * 3_600_000
_LINEAR = (
    "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,"
    "foreignNotional"
)
_SPOT = "id,timestamp,price,volume,side"


def file(path: str, exchange: Exchange, now: int) -> bytes | None:
    """A gzip; None where there is none, or not yet."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    start, stop = day_of(found["date"])
    category = "linear" if found["linear"] else "spot"
    symbol = found["linear"] or found["spot"]
    market = exchange.market_of(f"{category} {symbol}")
    if stop + _LATE_MS > now or stop <= market.first_ms:
        return None
    rows = list(deals(market.tape.between(start, stop), market))
    if category == "spot":
        lines = [
            f"{n},{r['time']},{r['price']},{r['size']},{r['side'].lower()}"
            for n, r in enumerate(rows, 1)
        ]
        return gzipped("\n".join([_SPOT, *lines, ""]))
    lines = [
        f"{r['time'] / 1_000},{symbol},{r['side']},{r['size']},{r['price']},PlusTick,{r['id']},"
        f"0,{r['size']},0"
        for r in rows
    ]
    return gzipped("\n".join([_LINEAR, *(lines[::-1] if found["date"] < "2021" else lines), ""]))
