"""What BitMEX's tables hold of a market: trades, levels of a book, buckets; REST and streams."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dccd_sandbox.book import Book, Level
from dccd_sandbox.candles import CLOSE, OPEN, Rows, Trades, empty, numbers, times
from dccd_sandbox.clock import iso
from dccd_sandbox.market import Market

BINS = {"1m": 60, "5m": 300, "1h": 3_600, "1d": 86_400}
Row = dict[str, Any]
SPOT = "IFXXXP"
SPOT_DIGITS = 8
_IDS = 10**10


@dataclass(frozen=True, slots=True)
class Contract:
    """A market as BitMEX has it: `typ` is its CFI code."""

    symbol: str
    typ: str
    market: Market
    index: int

    @property
    def is_inverse(self) -> bool:
        """Whether a contract is a dollar; else it is a part of the base."""
        return self.market.quote == "USD"

    @property
    def digits(self) -> int:
        """Decimals of the base that a contract, not an inverse one, is one in the last of. Spot
        is counted in satoshi; of other coins than Bitcoin BitMEX's own unit is not known."""
        amount = self.market.digits.amount
        return max(SPOT_DIGITS, amount) if self.typ == SPOT else amount


def contracts(markets: Iterable[Market]) -> list[Contract]:
    """USDT markets are a linear perpetual and spot, USD ones inverse, the rest dated futures."""
    found: list[Contract] = []
    for market in markets:
        base = "XBT" if market.base == "BTC" else market.base
        names = [(f"{base}{market.quote}", "FFWCSX")]
        if market.quote == "USDT":
            names.append((f"{base}_USDT", SPOT))
        elif market.quote == "BTC":
            names = [(f"{base}U26", "FFCCSX")]
        for symbol, typ in names:
            found.append(Contract(symbol, typ, market, len(found)))
    return found


def size_of(contract: Contract, ticks: int, lots: int) -> int:
    """A number of contracts."""
    digits = contract.market.digits
    if not contract.is_inverse:
        return lots * int(10 ** (contract.digits - digits.amount))
    scale: int = 10 ** (digits.price + digits.amount)
    return max(ticks * lots // scale, 1)


def trades(contract: Contract, found: Trades) -> list[Row]:
    """Trades in order. The amount in base units is exact, that in contracts is a whole number."""
    digits = contract.market.digits
    columns = (found.time, found.ticks, found.lots, found.buy)
    rows = []
    for index, (time, ticks, lots, buy) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        base = lots / 10**digits.amount
        rows.append(
            {
                "timestamp": stamp(time),
                "symbol": contract.symbol,
                "side": "Buy" if buy else "Sell",
                "size": size_of(contract, ticks, lots),
                "price": ticks / 10**digits.price,
                "tickDirection": "ZeroPlusTick",
                "trdMatchID": match_id(found.first_id + index),
                "grossValue": round(base * 1e8),
                "homeNotional": base,
                "foreignNotional": ticks * lots / 10 ** (digits.price + digits.amount),
                "trdType": "Regular",
            }
        )
    return rows


def match_id(number: int) -> str:
    """What BitMEX calls a trade."""
    return f"00000000-006d-1000-0000-{number:012x}"


def levels(contract: Contract, book: Book) -> list[Row]:
    """A book in the order of its ids: from the highest price down."""
    rows = level_rows(contract, "Sell", book.asks[::-1], book.time)
    return rows + level_rows(contract, "Buy", book.bids, book.time)


def level_rows(contract: Contract, side: str, found: Iterable[Level], time: int) -> list[Row]:
    """Levels of a side. An id goes down where a price goes up; each market has ids of its own."""
    digits = contract.market.digits
    return [
        {
            "symbol": contract.symbol,
            "id": (contract.index + 1) * _IDS - ticks,
            "side": side,
            "size": size_of(contract, ticks, lots),
            "price": ticks / 10**digits.price,
            "timestamp": stamp(time),
            "transactTime": stamp(time),
        }
        for ticks, lots in found
    ]


def buckets(market: Market, span: int, oldest: int, newest: int, now: int) -> Rows:
    """Candles that open in [oldest, newest], each with the close before it as its open."""
    if newest < oldest:
        return empty()
    rows = market.candles(span, oldest - span * 1_000, newest, now).copy()
    if len(rows):
        rows[1:, OPEN] = rows[:-1, CLOSE].copy()
    return rows[int(np.searchsorted(times(rows), oldest)) :]


def bins(rows: Rows, contract: Contract, step: int) -> list[dict[str, Any]]:
    """Buckets as objects, stamped with their END; numbers of contracts depend on the market."""
    inverse, spot = contract.is_inverse, contract.typ == SPOT
    units = 10**contract.digits
    found = []
    for opened, open_, high, low, close, amount, quote, count, _, _ in zip(
        *numbers(rows, contract.market.digits), strict=True
    ):
        volume = round(quote) if inverse else round(amount * units)
        prices = {"open": open_, "high": high, "low": low, "close": close}
        found.append(
            {"timestamp": stamp(opened + step), "symbol": contract.symbol}
            | prices
            | {"trades": count, "volume": volume, "vwap": quote / amount if amount else None}
            | {"lastSize": None if count == 0 else volume // count}
            | {"turnover": round(quote * 1e6) if not inverse or spot else round(amount * 1e8)}
            | {"homeNotional": amount, "foreignNotional": quote}
        )
    return found


def stamp(ms: int) -> str:
    """A time as BitMEX writes it."""
    return iso(ms).replace("+00:00", "Z")
