"""Binance's trades and order book by REST, spot and USD-M.

That the combination of fromId with times is -1128, and the words of USD-M's refusals of a depth
and of old trades, is from general knowledge. USD-M documents windows of less than an hour; ccxt
asks for whole ones, so these are answered.
"""

from dccd_sandbox.binance_query import Refused, integer
from dccd_sandbox.binance_topics import Dialect
from dccd_sandbox.candles import Trades, decimal
from dccd_sandbox.market import Market
from dccd_sandbox.tape import aggregate_id, aggregated, first_trade_of

AGGREGATES = ("symbol", "fromId", "startTime", "endTime", "limit")
HISTORICAL = ("symbol", "fromId", "limit")
RECENT = ("symbol", "limit")
_DEPTHS = {"5": 2, "10": 2, "20": 2, "50": 2, "100": 5, "500": 10, "1000": 20}
"""USD-M's depths and their weights."""
_HOUR_MS, _YEAR_MS = 3_600_000, 366 * 86_400_000


def depth_weight(dialect: Dialect, limit: str) -> int:
    """What a book of so many levels costs."""
    if not dialect.is_spot:
        return _DEPTHS.get(limit or "500", 2)
    number = int(limit) if limit.isascii() and limit.isdigit() else 100
    return next((cost for most, cost in ((100, 5), (500, 25), (1_000, 50)) if number <= most), 250)


def depth(market: Market, dialect: Dialect, sent: dict[str, str], now: int) -> dict[str, object]:
    """The best levels of both sides."""
    if dialect.is_spot:
        limit = _limit(sent, 100, 5_000)
    elif sent.get("limit", "500") in _DEPTHS:
        limit = int(sent.get("limit", "500"))
    else:
        raise Refused(-4021, f"Invalid depth limit, permit depth limits are {' '.join(_DEPTHS)}.")
    book = market.book.at(now).top(limit)
    times: dict[str, object] = {} if dialect.is_spot else {"E": now, "T": book.time}
    sides: dict[str, object] = {
        name: [
            [market.price(ticks, dialect.places), market.amount(lots, dialect.places)]
            for ticks, lots in levels
        ]
        for name, levels in (("bids", book.bids), ("asks", book.asks))
    }
    return {"lastUpdateId": dialect.last_id(book.sequence)} | times | sides


def aggregates(
    market: Market, dialect: Dialect, sent: dict[str, str], now: int, unit: int = 1
) -> list[dict[str, object]]:
    """aggTrades: from an id or a time on, or the newest. Oldest first; times times `unit`."""
    found, counts = aggregated(_aggregates(market, dialect, sent, now))
    places = dialect.places
    rows: list[dict[str, object]] = []
    columns = (found.time, found.ticks, found.lots, found.buy, counts)
    for index, (time, ticks, lots, buy, count) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        number = found.first_id + index
        first, amount = first_trade_of(number), market.amount(lots, places)
        row: dict[str, object] = {
            "a": number,
            "p": market.price(ticks, places),
            "q": amount,
            "f": first,
            "l": first + count - 1,
            "T": time * unit,
            "m": not buy,
        }
        rows.append(row | ({"M": True} if dialect.is_spot else {"nq": amount}))
    return rows


def trades(
    market: Market, dialect: Dialect, sent: dict[str, str], now: int, unit: int = 1
) -> list[dict[str, object]]:
    """trades and historicalTrades: from an id on, or the newest."""
    limit = _limit(sent, 500, 1_000)
    first = integer(sent, "fromId")
    tape = market.tape
    found = tape.newest(limit, now) if first is None else tape.from_id(first, limit, now)
    digits, places = market.digits, dialect.places
    best: dict[str, object] = {"isBestMatch": True} if dialect.is_spot else {}
    columns = (found.time, found.ticks, found.lots, found.buy)
    return [
        {
            "id": found.first_id + index,
            "price": market.price(ticks, places),
            "qty": market.amount(lots, places),
            "quoteQty": decimal(ticks * lots, digits.quote, places),
            "time": time * unit,
            "isBuyerMaker": not buy,
        }
        | best
        for index, (time, ticks, lots, buy) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]


def _aggregates(market: Market, dialect: Dialect, sent: dict[str, str], now: int) -> Trades:
    """The trades of which a page of aggregates is made, whole groups."""
    limit, tape = _limit(sent, 500, 1_000), market.tape
    first = integer(sent, "fromId")
    start, end = integer(sent, "startTime"), integer(sent, "endTime")
    if first is not None and (start is not None or end is not None):
        raise Refused(-1128, "Combination of optional parameters invalid.")
    if not dialect.is_spot:
        _check_futures(start, end, now)
    stop = now if end is None else min(end, now)
    if first is None:
        newest = aggregate_id(tape.next_id(stop) - 1) + 1 - limit
        first = newest if start is None else aggregate_id(tape.next_id(start - 1))
    first = max(first, 0)
    begin, after = first_trade_of(first), first_trade_of(first + limit)
    return tape.from_id(begin, after - begin, stop)


def _check_futures(start: int | None, end: int | None, now: int) -> None:
    if start is not None and end is not None and end - start > _HOUR_MS:
        raise Refused(-1127, "More than 1 hours between startTime and endTime.")
    if start is not None and start < now - _YEAR_MS:
        raise Refused(-4166, "Search window is restricted to recent 365 days only.")


def _limit(sent: dict[str, str], default: int, most: int) -> int:
    limit = integer(sent, "limit")
    if limit == 0:
        raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(default if limit is None else limit, most)
