"""Entries of Bybit's instrument lists. https://bybit-exchange.github.io/docs/v5/market/instrument"""

from typing import Any

from dccd_sandbox.market import Market


def pair_entry(name: str, market: Market) -> dict[str, Any]:
    """A spot entry. There is no listing date in it, and what has ended is not listed."""
    return {
        "symbol": name,
        "baseCoin": market.base,
        "quoteCoin": market.quote,
        "innovation": "0",
        "status": "Trading" if market.last_ms is None else "Closed",
        "marginTrading": "utaOnly",
        "stTag": "0",
        "lotSizeFilter": {"basePrecision": _smallest(market.digits.amount)}
        | {"quotePrecision": _smallest(market.digits.quote)}
        | {"minOrderQty": _smallest(market.digits.amount), "maxOrderQty": "1000000"}
        | {"minOrderAmt": "5", "maxOrderAmt": "8000000"},
        "priceFilter": {"tickSize": _smallest(market.digits.price)},
        "symbolType": "",
    }


def contract_entry(name: str, market: Market) -> dict[str, Any]:
    """A linear entry; the delivery time of a perpetual is when it was delisted, 0 while it runs."""
    tick, step = _smallest(market.digits.price), _smallest(market.digits.amount)
    return {
        "symbol": name,
        "contractType": "LinearPerpetual",
        "status": "Trading" if market.last_ms is None else "Closed",
        "baseCoin": market.base,
        "quoteCoin": market.quote,
        "launchTime": str(market.first_ms),
        "deliveryTime": str(market.last_ms or 0),
        "deliveryFeeRate": "",
        "priceScale": str(market.digits.price),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": tick, "maxPrice": "1999999.80", "tickSize": tick},
        "lotSizeFilter": {"maxOrderQty": "1190.000", "minOrderQty": step, "qtyStep": step}
        | {"postOnlyMaxOrderQty": "1190.000", "maxMktOrderQty": "500.000"}
        | {"minNotionalValue": "5"},
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": market.quote,
        "copyTrading": "both",
        "isPreListing": False,
        "preListingInfo": None,
        "symbolType": "",
    }


def _smallest(digits: int) -> str:
    return f"{10**-digits:.{digits}f}"
