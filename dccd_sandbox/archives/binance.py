"""data.binance.vision. https://github.com/binance/binance-public-data

Daily files six hours after the day, monthly ones on the first Monday after the month. Spot has no
header and microseconds since 2025; USD-M has a header since 2022 and milliseconds. From general
knowledge and not documented: the names of USD-M's columns.
"""

import re
from datetime import UTC, datetime, timedelta

from dccd_sandbox import spans
from dccd_sandbox.archives.pack import checksum, zipped
from dccd_sandbox.candles import Trades, texts, times
from dccd_sandbox.exchanges.base import Exchange
from dccd_sandbox.market import Market
from dccd_sandbox.spans import DAY_MS
from dccd_sandbox.tape import aggregated, first_trade_of

_PATH = re.compile(
    r"data/(?P<market>spot|futures/um)/(?P<size>daily|monthly)/"
    r"(?P<kind>klines|trades|aggTrades)/(?P<symbol>[^/]+)(/(?P<span>\w+))?/"
    r"(?P<stem>(?P=symbol)-(?(span)(?P=span)|(?P=kind))-(?P<date>\d{4}-\d\d(-\d\d)?))\.zip"
)
_MICRO = datetime(2025, 1, 1, tzinfo=UTC)
_HEADERS = datetime(2022, 1, 1, tzinfo=UTC)
_DAILY_MS = 6 * 3_600_000
_PLACES = 8
_HEAD = {
    "klines": "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore",
    "aggTrades": "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,"
    "is_buyer_maker",
    "trades": "id,price,qty,quote_qty,time,is_buyer_maker",
}
_END = ".CHECKSUM"


def file(path: str, exchange: Exchange, now: int) -> bytes | None:
    """A zip or its checksum; None where there is none, or not yet."""
    found = _PATH.fullmatch(path.removesuffix(_END))
    if found is None:
        return None
    start, stop, published = _window(found["date"], found["size"])
    market = exchange.market_of(found["symbol"])
    if published > now or stop <= market.first_ms:
        return None
    head, unit = _style(found["market"] == "spot", start, found["kind"])
    if found["kind"] == "klines":
        lines = _klines(market, spans.seconds(found["span"]), start, stop, now, unit)
    else:
        trades = market.tape.between(start, stop)
        rows = _aggregates if found["kind"] == "aggTrades" else _trades
        lines = rows(market, trades, unit)
    content = zipped({f"{found['stem']}.csv": "\n".join([*head, *lines, ""])})
    return checksum(content, f"{found['stem']}.zip") if path.endswith(_END) else content


def _window(date: str, size: str) -> tuple[int, int, int]:
    """The milliseconds of a file, and when it is published."""
    day = date if size == "daily" else f"{date}-01"
    start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    if size == "daily":
        first = _ms(start)
        return first, first + DAY_MS, first + DAY_MS + _DAILY_MS
    stop = (start + timedelta(days=31)).replace(day=1)
    monday = stop + timedelta(days=-stop.weekday() % 7)
    return _ms(start), _ms(stop), _ms(monday)


def _style(spot: bool, start: int, kind: str) -> tuple[list[str], int]:
    """The header, and how many units a millisecond has."""
    if spot:
        return [], 1_000 if start >= _ms(_MICRO) else 1
    return [_HEAD[kind]] if start >= _ms(_HEADERS) else [], 1


def _klines(market: Market, span: int, start: int, stop: int, now: int, unit: int) -> list[str]:
    rows = market.candles(span, start, stop - 1, now)
    columns = texts(rows, market.digits, None if market.verbatim else _PLACES)
    ends = (spans.ends(times(rows), span) * unit - 1).tolist()
    return [
        f"{time * unit},{','.join(prices)},{end},{quote},{count},{taker},{taker_quote},0"
        for time, *prices, quote, count, taker, taker_quote, end in zip(*columns, ends, strict=True)
    ]


def _trades(market: Market, trades: Trades, unit: int) -> list[str]:
    return [
        f"{trades.first_id + n},{market.price(ticks, 8)},{market.amount(lots, 8)},0,{time * unit},"
        f"{not buy},True"
        for n, (time, ticks, lots, buy) in enumerate(_columns(trades))
    ]


def _aggregates(market: Market, trades: Trades, unit: int) -> list[str]:
    found, counts = aggregated(trades)
    lines = []
    for n, (time, ticks, lots, buy) in enumerate(_columns(found)):
        number = found.first_id + n
        first = first_trade_of(number)
        last = first + int(counts[n]) - 1
        price, amount = market.price(ticks), market.amount(lots)
        lines.append(
            f"{number},{price},{amount},{first},{last},{time * unit},{str(not buy).lower()}"
        )
    return lines


def _columns(trades: Trades) -> "zip[tuple[int, int, int, bool]]":
    columns = (trades.time, trades.ticks, trades.lots, trades.buy)
    return zip(*(column.tolist() for column in columns), strict=True)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000
