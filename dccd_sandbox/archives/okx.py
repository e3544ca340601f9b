"""static.okx.com: trades by the day of UTC+8, a day after it."""

import re

from dccd_sandbox.archives.day import day_of
from dccd_sandbox.archives.pack import zipped
from dccd_sandbox.exchanges.base import Exchange
from dccd_sandbox.okx_products import products
from dccd_sandbox.spans import DAY_MS

_PATH = re.compile(
    r"cdn/okex/traderecords/trades/daily/(?P<day>\d{8})/"
    r"(?P<stem>(?P<name>[^/]+)-trades-(?P<date>\d{4}-\d\d-\d\d))\.zip"
)
_AHEAD_MS = 8 * 3_600_000
_HEAD = "instrument_name,trade_id,side,price,size,created_time"


def file(path: str, exchange: Exchange, now: int) -> bytes | None:
    """A zip; None where there is none, or not yet. KeyError: no such market."""
    found = _PATH.fullmatch(path)
    if found is None or found["date"].replace("-", "") != found["day"]:
        return None
    start, stop = day_of(found["date"], ahead_ms=_AHEAD_MS)
    sold = (one for market in exchange.world.markets.values() for one in products(market, now))
    product = {one.name: one for one in sold}[found["name"]]
    if stop + DAY_MS > now or stop <= product.market.first_ms:
        return None
    lines = [
        f"{r['instId']},{r['tradeId']},{r['side']},{r['px']},{r['sz']},{r['ts']}"
        for r in product.deals(product.market.tape.between(start, stop))
    ]
    return zipped({f"{found['stem']}.csv": "\n".join([_HEAD, *lines, ""])})
