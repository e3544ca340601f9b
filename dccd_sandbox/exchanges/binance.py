"""Binance spot, market data by REST and streams.

https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from dccd_sandbox import binance_query, binance_trades, spans
from dccd_sandbox.binance_query import Refused, integer, parameters, symbol_list, time_zone
from dccd_sandbox.binance_streams import BinanceStream
from dccd_sandbox.binance_topics import Dialect
from dccd_sandbox.cache import Cache
from dccd_sandbox.candles import Rows, texts, times
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.market import Market, Window

INTERVALS = (
    *("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h"),
    *("1d", "3d", "1w", "1M"),
)
_SPANS = {label: spans.seconds(label) for label in INTERVALS}
_WEIGHTS = {
    "/api/v3/klines": 2,
    "/api/v3/exchangeInfo": 20,
    "/api/v3/ping": 1,
    "/api/v3/time": 1,
    "/api/v3/aggTrades": 4,
    "/api/v3/historicalTrades": 25,
    "/api/v3/trades": 25,
    "/api/v3/depth": 5,
}
_DEFAULT_LIMIT, _MAX_LIMIT = 500, 1_000
_PLACES = 8
# Times of 15 or more digits are microseconds: as milliseconds they lie beyond the year 5000.
_MICROSECONDS = 10**14
_DIALECT = Dialect(is_spot=True, places=_PLACES, numbers=3, kline_ms=2_000, intervals=_SPANS)
_CACHE_BYTES = 256 * 1_024 * 1_024
_KLINES = ("symbol", "interval", "startTime", "endTime", "timeZone", "limit")
_INFO = ("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A page that will never be different."""

    body: Body
    candles: Candles


class Binance(Exchange):
    """klines, trades, depth, exchangeInfo, ping, time; market streams."""

    connects = (300, 300.0)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._pages: Cache[tuple[str, bool], Prepared] = Cache(
            # Half as much again for the compressed copy.
            _CACHE_BYTES,
            lambda page: len(page.body) * 3 // 2,
        )
        self._instruments: dict[str, str] = {}
        self._routes: dict[str, Callable[[Request], Reply]] = {
            "/api/v3/klines": self._klines,
            "/api/v3/exchangeInfo": self._exchange_info,
            "/api/v3/ping": self._ping,
            "/api/v3/time": self._time,
            "/api/v3/aggTrades": self._aggregates,
            "/api/v3/historicalTrades": lambda sent: self._trades(sent, binance_trades.HISTORICAL),
            "/api/v3/trades": lambda sent: self._trades(sent, binance_trades.RECENT),
            "/api/v3/depth": self._depth,
        }

    def answer(self, request: Request, path: str) -> Reply:
        """A reply with the weight used in its header; 404 for paths that are not here."""
        route = self._routes.get(path)
        if route is None:
            return Reply(404, Body(b'{"code":-1000,"msg":"No such path."}'))
        weight = _WEIGHTS[path]
        if path == "/api/v3/depth":
            weight = binance_trades.depth_weight(_DIALECT, dict(request.query).get("limit", ""))
        verdict = self.limit.use(weight)
        if verdict.status != 200:
            reply = self.refusal(verdict.status, verdict.retry_after)
        else:
            try:
                reply = route(request)
            except Refused as error:
                reply = _json({"code": error.code, "msg": str(error)}, 400)
        used = (
            ("x-mbx-used-weight", str(verdict.used)),
            ("x-mbx-used-weight-1m", str(verdict.used)),
        )
        headers = (*reply.headers, *used)
        return Reply(reply.status, reply.body, headers, reply.candles, weight)

    def refusal(self, status: int, retry_after: int) -> Reply:
        """429 slow down, or 418 banned."""
        if status == 418:
            until = self.world.clock.now() + retry_after * 1_000
            message = f"Way too much request weight used; IP banned until {until}. "
        else:
            message = (
                f"Too much request weight used; current limit is {self.limit.limit or 6_000} "
                "request weight per 1 MINUTE. "
            )
        message += "Please use WebSocket Streams for live updates to avoid polling the API."
        body = Body(json.dumps({"code": -1003, "msg": message}).encode())
        return Reply(status, body, (("retry-after", str(retry_after)),))

    def forget(self) -> None:
        """Drop prepared pages."""
        self._pages.clear()

    def stream(self, path: str, query: Query) -> BinanceStream | None:
        """/ws, /ws/<streams> and /stream?streams=<streams>."""
        sent = dict(query)
        unit = 1_000 if sent.get("timeUnit", "").upper() == "MICROSECOND" else 1
        combined, names = path == "/stream", sent.get("streams", "")
        if path.startswith("/ws/"):
            names = path.removeprefix("/ws/")
        elif path != "/ws" and not combined:
            return None
        listed = [name for name in names.split("/") if name]
        return BinanceStream(
            self.world.markets.get, _DIALECT, combined=combined, names=listed, unit=unit
        )

    def _aggregates(self, request: Request) -> Reply:
        sent = parameters(request, binance_trades.AGGREGATES, ("symbol",))
        market, now = self._market(sent["symbol"]), self.world.clock.now()
        return _json(binance_trades.aggregates(market, _DIALECT, sent, now, _unit(request)))

    def _trades(self, request: Request, known: tuple[str, ...]) -> Reply:
        sent = parameters(request, known, ("symbol",))
        market, now = self._market(sent["symbol"]), self.world.clock.now()
        return _json(binance_trades.trades(market, _DIALECT, sent, now, _unit(request)))

    def _depth(self, request: Request) -> Reply:
        sent = parameters(request, binance_trades.RECENT, ("symbol",))
        market = self._market(sent["symbol"])
        return _json(binance_trades.depth(market, _DIALECT, sent, self.world.clock.now()))

    def _klines(self, request: Request) -> Reply:
        micro = _unit(request) > 1
        key = (request.target, micro)
        known = self._pages.get(key)
        if known is not None:
            return Reply(200, known.body, candles=known.candles)
        market, window = self._window(parameters(request, _KLINES, ("symbol", "interval")))

        def encode(rows: Rows) -> bytes:
            return _encode(rows, market, window, micro)

        rows = market.page(window)
        body = Body(encode(rows))
        candles = Candles(lambda: market.page(window), encode)
        if _is_final(rows, window):
            self._pages.put(key, Prepared(body, candles))
        return Reply(200, body, candles=candles)

    def _window(self, sent: dict[str, str]) -> tuple[Market, Window]:
        market = self._market(sent["symbol"])
        span = _SPANS.get(sent["interval"])
        zone = time_zone(sent.get("timeZone", "0"))
        if span is None or market.source_span(span) is None:
            raise Refused(-1120, "Invalid interval.")
        if market.source_span(span, zone) is None:
            raise Refused(-1130, "Data sent for parameter 'timeZone' is not valid.")
        start, end = integer(sent, "startTime"), integer(sent, "endTime")
        if start is not None and start >= _MICROSECONDS:
            start = -(-start // 1_000)
        if end is not None and end >= _MICROSECONDS:
            end //= 1_000
        limit = integer(sent, "limit")
        if limit == 0:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        limit = min(_DEFAULT_LIMIT if limit is None else limit, _MAX_LIMIT)
        return market, Window(span, start, end, limit, self.world.clock.now(), zone)

    def _market(self, symbol: str) -> Market:
        market = self.world.markets.get(binance_query.symbol(symbol))
        if market is None:
            raise Refused(-1121, "Invalid symbol.")
        return market

    def _ping(self, request: Request) -> Reply:
        parameters(request, (), ())
        return _json({})

    def _time(self, request: Request) -> Reply:
        parameters(request, (), ())
        return _json({"serverTime": self.world.clock.now()})

    def _exchange_info(self, request: Request) -> Reply:
        sent = parameters(request, _INFO, ())
        markets = list(self.world.markets.values())
        if "symbol" in sent:
            markets = [self._market(sent["symbol"])]
        elif "symbols" in sent:
            markets = [self._market(symbol) for symbol in symbol_list(sent["symbols"])]
        if sent.get("symbolStatus", "TRADING") != "TRADING":
            markets = []
        limits = [
            ("REQUEST_WEIGHT", "MINUTE", 1, self.limit.limit or 6_000),
            ("RAW_REQUESTS", "MINUTE", 5, 300_000),
        ]
        names = ("rateLimitType", "interval", "intervalNum", "limit")
        head = {
            "timezone": "UTC",
            "serverTime": self.world.clock.now(),
            "rateLimits": [dict(zip(names, values, strict=True)) for values in limits],
            "exchangeFilters": [],
        }
        symbols = ",".join(self._instrument(market) for market in markets)
        return Reply(200, Body(f'{json.dumps(head)[:-1]},"symbols":[{symbols}]}}'.encode()))

    def _instrument(self, market: Market) -> str:
        """JSON of a symbol, kept: with a thousand of them it is most of the work."""
        if market.symbol not in self._instruments:
            self._instruments[market.symbol] = json.dumps(_instrument(market))
        return self._instruments[market.symbol]


EXCHANGE = Binance


def _unit(request: Request) -> int:
    """By what times in ms are multiplied: the client may ask for µs."""
    return 1_000 if request.headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND" else 1


def _is_final(rows: Rows, window: Window) -> bool:
    """Whether the page will be the same for ever: full or ended, with closed candles only."""
    ended = window.end is not None and window.end < window.now
    full = window.start is not None and len(rows) == window.limit
    if not (ended or full):
        return False
    return len(rows) == 0 or _closes(rows[-1:], window)[0] < window.now


def _closes(rows: Rows, window: Window) -> Rows:
    return spans.ends(times(rows), window.span, window.shift_ms) - 1


def _encode(rows: Rows, market: Market, window: Window, micro: bool) -> bytes:
    """JSON of a page: times and counts are numbers, decimals are text, the last field is unused."""
    columns = texts(rows, market.digits, None if market.verbatim else _PLACES)
    unit, rest = (1_000, 999) if micro else (1, 0)
    closes = _closes(rows, window).tolist()
    lines = [
        f'[{time * unit},"{opened}","{high}","{low}","{close}","{volume}",{end * unit + rest},'
        f'"{quote}",{count},"{taker}","{taker_quote}","0"]'
        for time, opened, high, low, close, volume, quote, count, taker, taker_quote, end in zip(
            *columns, closes, strict=True
        )
    ]
    return f"[{','.join(lines)}]".encode()


def _instrument(market: Market) -> dict[str, object]:
    tick, step = (_smallest(digits) for digits in (market.digits.price, market.digits.amount))
    return {
        "symbol": market.symbol,
        "status": "TRADING",
        "baseAsset": market.base,
        "baseAssetPrecision": _PLACES,
        "quoteAsset": market.quote,
        "quotePrecision": _PLACES,
        "quoteAssetPrecision": _PLACES,
        "baseCommissionPrecision": _PLACES,
        "quoteCommissionPrecision": _PLACES,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000"}
            | {"tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "900000000.00000000"}
            | {"stepSize": step},
            {"filterType": "NOTIONAL", "minNotional": "0.00010000", "applyMinToMarket": True}
            | {"maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _smallest(digits: int) -> str:
    return f"{1:.8f}" if digits == 0 else f"{10**-digits:.{max(digits, _PLACES)}f}"


def _json(content: object, status: int = 200) -> Reply:
    return Reply(status, Body(json.dumps(content, separators=(",", ":")).encode()))
