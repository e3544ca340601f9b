"""What OKX sells: pairs for cash, perpetual swaps and futures; its lists, and its contracts."""

from dataclasses import dataclass

from dccd_sandbox import spans
from dccd_sandbox.book import Level
from dccd_sandbox.candles import Digits, Rows, Trades, decimal, texts, times
from dccd_sandbox.clock import iso
from dccd_sandbox.market import Market
from dccd_sandbox.spans import DAY_MS

# The list time of markets that are older than the third and the fifth version of the API.
_MOVED = {"SPOT": 1_548_133_413_000, "SWAP": 1_611_916_828_000}
_LIFE = 26 * 7 * DAY_MS
_CENTS = 2
_FIELDS = (
    *("alias", "baseCcy", "category", "ctMult", "ctType", "ctVal", "ctValCcy", "expTime"),
    *("instFamily", "instId", "instType", "lever", "listTime", "lotSz", "minSz", "optType"),
    *("quoteCcy", "settleCcy", "state", "stk", "tickSz", "uly"),
)


@dataclass(frozen=True, slots=True)
class Product:
    """A market as OKX sells it: for cash, or as a contract of `value` base units or dollars."""

    kind: str
    name: str
    market: Market
    listed: int
    ends: int | None = None
    style: str = ""
    settled: str = ""

    @property
    def places(self) -> int:
        """Digits of the base amount in one contract, which is 0.01 unless amounts are coarser."""
        return min(_CENTS, self.market.digits.amount)

    def amount(self, lots: int, ticks: int) -> str:
        """Base units, or contracts at a price, as decimal text."""
        digits = self.market.digits
        if self.style == "inverse":
            return decimal(lots * ticks, digits.amount + digits.price + _CENTS)
        return decimal(lots, digits.amount - (self.places if self.style else 0))

    def levels(self, levels: list[Level]) -> list[list[str]]:
        """A side of the book as it is sent."""
        price = self.market.price
        return [
            [price(ticks), self.amount(lots, ticks), "0", "1" if lots else "0"]
            for ticks, lots in levels
        ]

    def deals(self, found: Trades) -> list[dict[str, str]]:
        """Trades as they are sent, oldest first."""
        columns = (found.time.tolist(), found.ticks.tolist(), found.lots.tolist())
        rows = zip(*columns, found.buy.tolist(), strict=True)
        return [
            {"instId": self.name, "side": "buy" if buy else "sell", "sz": self.amount(lots, ticks)}
            | {"px": self.market.price(ticks), "source": "0", "ts": str(time)}
            | {"tradeId": str(found.first_id + place)}
            for place, (time, ticks, lots, buy) in enumerate(rows)
        ]


def products(market: Market, now: int) -> list[Product]:
    """Each pair for cash; those in dollars also as swaps and as a future."""
    pair = f"{market.base}-{market.quote}"
    listed = market.first_ms
    found = [Product("SPOT", pair, market, listed)]
    if market.quote not in ("USD", "USDT", "USDC"):
        return found
    inverse = market.quote == "USD"
    style, settled = ("inverse", market.base) if inverse else ("linear", market.quote)
    found.append(Product("SWAP", f"{pair}-SWAP", market, listed, None, style, settled))
    if inverse:
        name = f"{pair}_UM-SWAP"
        found.append(Product("SWAP", name, market, listed, None, "linear", market.quote))
    # The last Friday before three months have gone, at 8 o'clock.
    ends = (now // DAY_MS + 91 - (now // DAY_MS + 91 - 1) % 7) * DAY_MS + DAY_MS // 3
    name = f"{pair}-{iso(ends)[2:10].replace('-', '')}"
    listed = max(listed, ends - _LIFE)
    return [*found, Product("FUTURES", name, market, listed, ends, style, settled)]


def candle_cells(
    rows: Rows, product: Product, span: int, shift: int, now: int
) -> list[tuple[str, ...]]:
    """Oldest first; contracts where there are such, what is base and what is quote beside them."""
    digits = product.market.digits
    opened, o, h, low, c, base, quote, *_ = texts(rows, digits)
    if product.style == "inverse":  # contracts of 100 dollars
        counts = texts(rows, Digits(digits.price, digits.amount, digits.quote + 2))[6]
    else:
        places = digits.amount - product.places
        counts = texts(rows, Digits(digits.price, places, digits.quote))[5]
    volume, currency = (counts, base) if product.style else (base, quote)
    ends = spans.ends(times(rows), span, shift)
    confirm = ["1" if end <= now else "0" for end in ends.tolist()]
    opens = map(str, opened)
    return list(zip(opens, o, h, low, c, volume, currency, quote, confirm, strict=True))


def entry(product: Product) -> dict[str, str]:
    """As the instrument list has it."""
    market, filled = product.market, dict.fromkeys(_FIELDS, "")
    filled |= {"instId": product.name, "instType": product.kind, "state": "live"}
    filled |= {"lever": "10", "category": "1", "tickSz": _smallest(market.digits.price)}
    filled["listTime"] = str(max(product.listed, _MOVED.get(product.kind, 0)))
    if not product.style:
        step = _smallest(market.digits.amount)
        return filled | {
            "baseCcy": market.base, "quoteCcy": market.quote, "lotSz": step, "minSz": step,
        }  # fmt: skip
    value, unit = (
        ("100", "USD") if product.style == "inverse" else (_smallest(product.places), market.base)
    )
    step = _smallest(market.digits.amount - product.places)
    filled |= {"ctMult": "1", "ctType": product.style, "ctVal": value, "ctValCcy": unit}
    filled |= {"settleCcy": product.settled, "uly": f"{market.base}-{market.quote}"}
    filled |= {"instFamily": product.name.rpartition("-")[0], "lotSz": step, "minSz": step}
    return filled | {"expTime": "" if product.ends is None else str(product.ends)}


def announced() -> dict[str, str]:
    """A swap that is not traded yet: only its name is known."""
    known = {"instId": "SOON-USDT-SWAP", "instType": "SWAP", "state": "preopen"}
    return dict.fromkeys(_FIELDS, "") | known


def _smallest(digits: int) -> str:
    return f"{10**-digits:.{digits}f}"
