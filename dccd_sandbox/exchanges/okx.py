"""OKX v5, market data by REST: candles, history-candles, instruments, time.

https://www.okx.com/docs-v5/en/. From general knowledge and not documented: a `limit` above the
maximum is cut to it, an unknown path is code 404, there is no Retry-After.
"""

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from dccd_sandbox import spans
from dccd_sandbox.candles import TIME, Digits, Rows, empty, texts, times
from dccd_sandbox.clock import iso
from dccd_sandbox.exchanges.base import Exchange, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market, Window
from dccd_sandbox.spans import DAY_MS

_HONG_KONG = 8 * 3_600_000
_PLAIN = ("1m", "3m", "5m", "15m", "30m", "1H", "2H", "4H")
_ZONED = ("6H", "12H", "1D", "2D", "3D", "1W", "1M")
# Span and the shift of its grid: from 6H on, bars open by Hong Kong's clock unless they say utc.
BARS = {
    **{bar: (spans.seconds(bar.replace("H", "h")), 0) for bar in _PLAIN},
    **{
        bar + zone: (spans.seconds(bar if bar[-1] == "M" else bar.lower()), shift)
        for zone, shift in (("", _HONG_KONG), ("utc", 0))
        for bar in _ZONED
    },
}
_CANDLES, _HISTORY = "/api/v5/market/candles", "/api/v5/market/history-candles"
_INSTRUMENTS, _TIME = "/api/v5/public/instruments", "/api/v5/public/time"
_PER_WINDOW = {_CANDLES: 40, _HISTORY: 20, _INSTRUMENTS: 20, _TIME: 10}
_WINDOW = 2.0
_DEFAULT_LIMIT, _MAX_LIMIT = 100, 300
_NEWEST = 1_440
# The list time of markets that are older than the third and the fifth version of the API.
_MOVED = {"SPOT": 1_548_133_413_000, "SWAP": 1_611_916_828_000}
_LIFE = 26 * 7 * DAY_MS
_CENTS = 2
_FIELDS = (
    *("alias", "baseCcy", "category", "ctMult", "ctType", "ctVal", "ctValCcy", "expTime"),
    *("instFamily", "instId", "instType", "lever", "listTime", "lotSz", "minSz", "optType"),
    *("quoteCcy", "settleCcy", "state", "stk", "tickSz", "uly"),
)


class Refused(Exception):
    """An error body: HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class PathLimit(WeightLimit):
    """So many requests of each path in any two seconds; a limit of 0 is none."""

    def reset(self) -> None:
        """Forget what was asked."""
        super().reset()
        self._asked: defaultdict[str, deque[float]] = defaultdict(deque)

    def allows(self, path: str) -> bool:
        """Count a request; one that is refused does not count."""
        now, asked = time.monotonic(), self._asked[path]
        while asked and asked[0] <= now - _WINDOW:
            asked.popleft()
        if self.limit and len(asked) >= _PER_WINDOW[path]:
            return False
        asked.append(now)
        self.highest = max(self.highest, len(asked))
        return True


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


class Okx(Exchange):
    """Each pair for cash; those in dollars also as swaps and as a future."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.limit: PathLimit = PathLimit(world.weight_limit)
        self.forget()
        self._routes: dict[str, Callable[[dict[str, str]], Reply]] = {
            _CANDLES: lambda sent: self._page(sent, history=False),
            _HISTORY: lambda sent: self._page(sent, history=True),
            _INSTRUMENTS: self._instruments,
            _TIME: lambda _: _data([{"ts": str(world.clock.now())}]),
        }

    def answer(self, request: Request, path: str) -> Reply:
        """A reply in OKX's envelope."""
        route = self._routes.get(path)
        if route is None:
            return _problem(404, "404", "Invalid request path.")
        if not self.limit.allows(path):
            return self.refusal(429, 0)
        try:
            return route(dict(request.query))
        except Refused as error:
            return _problem(error.status, error.code, str(error))

    def refusal(self, status: int, retry_after: int) -> Reply:
        """Too many requests; a ban is not documented, and no header says how long to wait."""
        return _problem(429, "50011", "Too Many Requests")

    def forget(self) -> None:
        """Make the products anew: which future is traded depends on the clock."""
        now = self.world.clock.now()
        found = [product for m in self.world.markets.values() for product in _products(m, now)]
        self._products = {product.name: product for product in found}

    def _page(self, sent: dict[str, str], history: bool) -> Reply:
        product = self._products.get(_required(sent, "instId"))
        if product is None:
            raise _no_such_market()
        span, shift = _bar(sent.get("bar", "1m"))
        after, before = _integer(sent, "after"), _integer(sent, "before")
        limit = min(_integer(sent, "limit") or _DEFAULT_LIMIT, _MAX_LIMIT)
        now = self.world.clock.now()
        running = spans.open_of(now, span, shift)
        last = running - 1 if history else now
        last = min([last, *(bound - 1 for bound in (after, product.ends) if bound is not None)])
        first = spans.open_of(product.listed, span, shift)
        if before is not None:
            first = max(first, before + 1)
        if not history:
            first = max(first, running - (_NEWEST - 1) * span * 1_000)
        window = Window(span, None, last, limit, now, shift)

        def rows() -> Rows:
            found = product.market.page(window) if first <= last else empty()
            return found[found[:, TIME] >= first]

        def encode(rows: Rows) -> bytes:
            return _encode(rows, product, window)

        return Reply(200, Body(encode(rows())), candles=Candles(rows, encode))

    def _instruments(self, sent: dict[str, str]) -> Reply:
        kind = _required(sent, "instType")
        if kind not in ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION"):
            raise Refused(400, "51000", "Parameter instType error")
        found = [product for product in self._products.values() if product.kind == kind]
        if "instId" in sent:
            found = [product for product in found if product.name == sent["instId"]]
            if not found:
                raise _no_such_market()
        entries = [_entry(product) for product in found]
        if kind == "SWAP" and "instId" not in sent:
            entries.append(_announced())
        return _data(entries)


EXCHANGE = Okx


def _products(market: Market, now: int) -> list[Product]:
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


def _encode(rows: Rows, product: Product, window: Window) -> bytes:
    """Newest first; contracts where there are such, what is base and what is quote beside them."""
    digits = product.market.digits
    opened, o, h, low, c, base, quote, *_ = texts(rows, digits)
    if product.style == "inverse":  # contracts of 100 dollars
        counts = texts(rows, Digits(digits.price, digits.amount, digits.quote + 2))[6]
    else:
        places = digits.amount - product.places
        counts = texts(rows, Digits(digits.price, places, digits.quote))[5]
    volume, currency = (counts, base) if product.style else (base, quote)
    ends = spans.ends(times(rows), window.span, window.shift_ms)
    confirm = ["1" if end <= window.now else "0" for end in ends.tolist()]
    table = zip(map(str, opened), o, h, low, c, volume, currency, quote, confirm, strict=True)
    return json.dumps({"code": "0", "msg": "", "data": list(table)[::-1]}).encode()


def _entry(product: Product) -> dict[str, str]:
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


def _announced() -> dict[str, str]:
    """A swap that is not traded yet: only its name is known."""
    known = {"instId": "SOON-USDT-SWAP", "instType": "SWAP", "state": "preopen"}
    return dict.fromkeys(_FIELDS, "") | known


def _bar(bar: str) -> tuple[int, int]:
    if bar not in BARS:
        raise Refused(400, "51000", "Parameter bar error")
    return BARS[bar]


def _required(sent: dict[str, str], name: str) -> str:
    if not sent.get(name):
        raise Refused(400, "50014", f"Parameter {name} can not be empty")
    return sent[name]


def _integer(sent: dict[str, str], name: str) -> int | None:
    text = sent.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(400, "51000", f"Parameter {name} error")
    return int(text) if text else None


def _no_such_market() -> Refused:
    message = "Instrument ID, Instrument ID code or Spread ID doesn't exist."
    return Refused(200, "51001", message)


def _smallest(digits: int) -> str:
    return f"{10**-digits:.{digits}f}"


def _data(entries: list[dict[str, str]]) -> Reply:
    return Reply(200, Body(json.dumps({"code": "0", "msg": "", "data": entries}).encode()))


def _problem(status: int, code: str, message: str) -> Reply:
    return Reply(status, Body(json.dumps({"code": code, "msg": message, "data": []}).encode()))
