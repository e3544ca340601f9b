"""OKX v5, market data: candles, trades, books, instruments, time, and the streams.

https://www.okx.com/docs-v5/en/. From general knowledge and not documented: a `limit` above the
maximum is cut to it, an unknown path is code 404, there is no Retry-After.
"""

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

from dccd_sandbox import spans
from dccd_sandbox.candles import TIME, Rows, empty
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market, Window
from dccd_sandbox.okx_products import Product, announced, candle_cells, entry, products
from dccd_sandbox.okx_streams import OkxStream
from dccd_sandbox.spans import DAY_MS
from dccd_sandbox.stream import Stream

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
_TRADES, _OLD_TRADES = "/api/v5/market/trades", "/api/v5/market/history-trades"
_BOOKS = "/api/v5/market/books"
_PER_WINDOW = {
    _CANDLES: 40, _HISTORY: 20, _INSTRUMENTS: 20, _TIME: 10, _TRADES: 100, _OLD_TRADES: 20,
    _BOOKS: 40,
}  # fmt: skip
_KEPT = 92 * DAY_MS
_WINDOW = 2.0
_DEFAULT_LIMIT, _MAX_LIMIT = 100, 300
_NEWEST = 1_440


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
            _TRADES: self._trades,
            _OLD_TRADES: self._old_trades,
            _BOOKS: self._books,
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
        found = [product for m in self.world.markets.values() for product in products(m, now)]
        self._products = {product.name: product for product in found}

    def stream(self, path: str, query: Query) -> Stream | None:
        """Public: trades, books. Business: all trades, candles."""
        kind = path.removeprefix("/ws/v5/")
        if kind not in ("public", "business"):
            return None
        return OkxStream(kind, lambda name: self._products.get(name), BARS)

    def market_of(self, symbol: str) -> Market:
        """The market of an instId."""
        return self._products[symbol].market

    def _page(self, sent: dict[str, str], history: bool) -> Reply:
        product = self._product(sent)
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
            cells = candle_cells(rows, product, span, shift, now)
            return json.dumps({"code": "0", "msg": "", "data": cells[::-1]}).encode()

        return Reply(200, Body(encode(rows())), candles=Candles(rows, encode))

    def _product(self, sent: dict[str, str]) -> Product:
        product = self._products.get(_required(sent, "instId"))
        if product is None:
            raise _no_such_market()
        return product

    def _trades(self, sent: dict[str, str]) -> Reply:
        """The newest, up to 500."""
        product, limit = self._product(sent), min(_integer(sent, "limit") or 100, 500)
        found = product.market.tape.newest(limit, self.world.clock.now())
        return _data(product.deals(found)[::-1])

    def _old_trades(self, sent: dict[str, str]) -> Reply:
        """Newest first: those before `after`, or the newest; of three months."""
        product, limit = self._product(sent), min(_integer(sent, "limit") or 100, 100)
        after, before = _integer(sent, "after"), _integer(sent, "before")
        tape, now = product.market.tape, self.world.clock.now()
        first, stop = tape.next_id(max(now - _KEPT, product.listed - 1)), tape.next_id(now)
        if sent.get("type", "1") == "2":
            if before is not None:
                raise Refused(400, "50039", "The before parameter is not available for ts")
            stop = stop if after is None else min(stop, tape.next_id(after - 1))
        else:
            stop = stop if after is None else min(stop, after)
            first = first if before is None else max(first, before + 1)
        first = max(first, stop - limit)
        return _data(product.deals(tape.from_id(first, max(stop - first, 0), now))[::-1])

    def _books(self, sent: dict[str, str]) -> Reply:
        product, depth = self._product(sent), min(_integer(sent, "sz") or 1, 400)
        now = self.world.clock.now()
        book = product.market.book.at(now).top(depth)
        sides = {"asks": product.levels(book.asks), "bids": product.levels(book.bids)}
        return _data([sides | {"ts": str(book.time)}])

    def _instruments(self, sent: dict[str, str]) -> Reply:
        kind = _required(sent, "instType")
        if kind not in ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION"):
            raise Refused(400, "51000", "Parameter instType error")
        found = [product for product in self._products.values() if product.kind == kind]
        if "instId" in sent:
            found = [product for product in found if product.name == sent["instId"]]
            if not found:
                raise _no_such_market()
        entries = [entry(product) for product in found]
        if kind == "SWAP" and "instId" not in sent:
            entries.append(announced())
        return _data(entries)


EXCHANGE = Okx


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


def _data(entries: Sequence[Mapping[str, object]]) -> Reply:
    return Reply(200, Body(json.dumps({"code": "0", "msg": "", "data": entries}).encode()))


def _problem(status: int, code: str, message: str) -> Reply:
    return Reply(status, Body(json.dumps({"code": code, "msg": message, "data": []}).encode()))
