"""Binance USD-M futures, market data by REST and streams: perpetuals, quarterly contracts.

https://developers.binance.com/docs/derivatives/usds-margined-futures. That delivered contracts are
gone from the list while their candles stay, and that a limit beyond 1,500 is refused, is from
general knowledge.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import date

from dccd_sandbox import binance_query, binance_trades, spans
from dccd_sandbox.binance_query import Refused, integer, parameters
from dccd_sandbox.binance_streams import BinanceStream
from dccd_sandbox.binance_topics import Dialect
from dccd_sandbox.candles import Rows, texts, times
from dccd_sandbox.dated import Dated, quarter_day, quarterlies
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market, Window

INTERVALS = {
    label: spans.seconds(label)
    for label in (
        *("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h"),
        *("1d", "3d", "1w", "1M"),
    )
}
_NEVER = 4_133_404_800_000
"""What a perpetual has for a delivery date: 2100-12-25."""
_KLINES = ("symbol", "interval", "startTime", "endTime", "limit")
_DEFAULT_LIMIT, _MAX_LIMIT = 500, 1_500
_QUARTERLY = ("BTC", "ETH")
_DIALECT = Dialect(is_spot=False, places=None, numbers=7, kline_ms=250, intervals=INTERVALS)
_PUBLIC = ("depth", "bookTicker", "rpiDepth")
"""What /public delivers, and the address without a route; the other streams are of /market."""


Route = Callable[[dict[str, str]], Reply]


class UsdmStream(BinanceStream):
    """One connection: it is more patient than spot's."""

    ping_seconds = 180.0
    pong_seconds = 600.0
    messages = 10


class BinanceUsdm(Exchange):
    """klines, trades, depth, exchangeInfo, ping, time; market streams."""

    connects = (300, 300.0)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._dated: dict[str, Dated] = {}
        # The settings speak of the spot limit, 6,000: here it is 2,400.
        self.limit = WeightLimit(-(-world.weight_limit * 2_400 // 6_000))
        self._routes: dict[str, tuple[Route, tuple[str, ...], int]] = {
            "/fapi/v1/klines": (self._klines, _KLINES, 2),
            "/fapi/v1/exchangeInfo": (self._exchange_info, (), 0),
            "/fapi/v1/ping": (lambda _: _json({}), (), 0),
            "/fapi/v1/time": (lambda _: _json({"serverTime": self.world.clock.now()}), (), 0),
            "/fapi/v1/aggTrades": (self._aggregates, binance_trades.AGGREGATES, 1),
            "/fapi/v1/historicalTrades": (self._trades, binance_trades.HISTORICAL, 1),
            "/fapi/v1/trades": (self._trades, binance_trades.RECENT, 1),
            "/fapi/v1/depth": (self._depth, binance_trades.RECENT, 1),
        }

    def answer(self, request: Request, path: str) -> Reply:
        """A reply with the weight used in its header; 404 for paths that are not here."""
        if path not in self._routes:
            return Reply(404, Body(b'{"code":-5000,"msg":"Path is invalid."}'))
        weight = _weight(path, dict(request.query))
        verdict = self.limit.use(weight)
        if verdict.status != 200:
            reply = self.refusal(verdict.status, verdict.retry_after)
        elif path.endswith("/historicalTrades") and "x-mbx-apikey" not in request.headers:
            reply = _json({"code": -2014, "msg": "API-key format invalid."}, 401)
        else:
            try:
                route, known, wanted = self._routes[path]
                reply = route(parameters(request, known, known[:wanted]))
            except Refused as error:
                reply = _json({"code": error.code, "msg": str(error)}, 400)
        headers = (*reply.headers, ("x-mbx-used-weight-1m", str(verdict.used)))
        return Reply(reply.status, reply.body, headers, reply.candles, weight)

    def stream(self, path: str, query: Query) -> BinanceStream | None:
        """/public/ws, /market/ws and without a route; /stream?streams= for combined ones."""
        route = next((name for name in ("/public", "/market") if path.startswith(name)), "")
        rest = path.removeprefix(route)
        combined, names = rest == "/stream", dict(query).get("streams", "")
        if rest.startswith("/ws/"):
            names = rest.removeprefix("/ws/")
        elif rest != "/ws" and not combined:
            return None
        is_market = route == "/market"
        return UsdmStream(
            self._found,
            _DIALECT,
            combined=combined,
            names=[name for name in names.split("/") if name],
            serves=lambda name: name.partition("@")[2].startswith(_PUBLIC) is not is_market,
        )

    def market_of(self, symbol: str) -> Market:
        """A perpetual or a quarterly contract."""
        market = self._found(symbol)
        if market is None:
            raise KeyError(symbol)
        return market

    def refusal(self, status: int, retry_after: int) -> Reply:
        """429 slow down, or 418 banned."""
        if status == 418:
            until = self.world.clock.now() + retry_after * 1_000
            message = f"Way too many requests; IP banned until {until}. "
        else:
            limit = self.limit.limit or 2_400
            message = f"Too many requests; current limit is {limit} request weight per 1 MINUTE. "
        message += "Please use the websocket for live updates to avoid polling the API."
        body = Body(json.dumps({"code": -1003, "msg": message}).encode())
        return Reply(status, body, (("retry-after", str(retry_after)),))

    def forget(self) -> None:
        """Nothing is kept."""

    def _klines(self, sent: dict[str, str]) -> Reply:
        market = self._market(binance_query.symbol(sent["symbol"]))
        span = INTERVALS.get(sent["interval"])
        if span is None or market.source_span(span) is None:
            raise Refused(-1120, "Invalid interval.")
        limit = integer(sent, "limit")
        limit = _DEFAULT_LIMIT if limit is None else limit
        if not 1 <= limit <= _MAX_LIMIT:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        start, end = integer(sent, "startTime"), integer(sent, "endTime")
        if start is not None and end is not None and start > end:
            raise Refused(-1023, "Start time is greater than end time.")
        window = Window(span, start, end, limit, self.world.clock.now())

        def encode(rows: Rows) -> bytes:
            return _encode(rows, market, span)

        rows = market.page(window)
        return Reply(200, Body(encode(rows)), candles=Candles(lambda: market.page(window), encode))

    def _aggregates(self, sent: dict[str, str]) -> Reply:
        market = self._market(binance_query.symbol(sent["symbol"]))
        return _json(binance_trades.aggregates(market, _DIALECT, sent, self.world.clock.now()))

    def _trades(self, sent: dict[str, str]) -> Reply:
        market = self._market(binance_query.symbol(sent["symbol"]))
        return _json(binance_trades.trades(market, _DIALECT, sent, self.world.clock.now()))

    def _depth(self, sent: dict[str, str]) -> Reply:
        market = self._market(binance_query.symbol(sent["symbol"]))
        return _json(binance_trades.depth(market, _DIALECT, sent, self.world.clock.now()))

    def _found(self, symbol: str) -> Market | None:
        try:
            return self._market(symbol)
        except Refused:
            return None

    def _market(self, symbol: str) -> Market:
        """A perpetual or a quarterly contract that has been listed. Raises Refused."""
        pair, _, delivery = symbol.partition("_")
        model = self.world.markets.get(pair)
        if model is not None and not delivery:
            return model
        day = _day(delivery)
        if model is not None and model.base in _QUARTERLY and day and day == quarter_day(day):
            dated = self._dated.setdefault(symbol, Dated(model, day))
            if dated.first_ms <= self.world.clock.now():
                return dated
        raise Refused(-1121, "Invalid symbol.")

    def _contracts(self) -> Iterator[dict[str, object]]:
        now = self.world.clock.now()
        for market in self.world.markets.values():
            ended = market.last_ms is not None
            status, delivery = ("SETTLING", market.last_ms) if ended else ("TRADING", _NEVER)
            yield _contract(market, market.symbol, "PERPETUAL", status, delivery)
            if market.base in _QUARTERLY and not ended:
                for kind, dated in zip(
                    ("CURRENT_QUARTER", "NEXT_QUARTER"), quarterlies(market, now), strict=True
                ):
                    yield _contract(dated, market.symbol, kind, "TRADING", dated.delivery_ms)

    def _exchange_info(self, sent: dict[str, str]) -> Reply:
        limit = self.limit.limit or 2_400
        head = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE"}
        return _json(
            {
                "timezone": "UTC",
                "serverTime": self.world.clock.now(),
                "futuresType": "U_MARGINED",
                "rateLimits": [head | {"intervalNum": 1, "limit": limit}],
                "exchangeFilters": [],
                "assets": [],
                "symbols": list(self._contracts()),
            }
        )


EXCHANGE = BinanceUsdm


def _day(text: str) -> date | None:
    """The day that YYMMDD names, None if it names none."""
    try:
        return (
            date(2_000 + int(text[:2]), int(text[2:4]), int(text[4:])) if len(text) == 6 else None
        )
    except ValueError:
        return None


def _weight(path: str, sent: dict[str, str]) -> int:
    text = sent.get("limit", "")
    match path.removeprefix("/fapi/v1/"):
        case "klines":
            limit = int(text) if re.fullmatch("[0-9]{1,20}", text) else _DEFAULT_LIMIT
            steps = ((100, 1), (500, 2), (1_001, 5))
            return next((weight for below, weight in steps if limit < below), 10)
        case "depth":
            return binance_trades.depth_weight(_DIALECT, text)
        case "aggTrades" | "historicalTrades":
            return 20
        case "trades":
            return 5
        case _:
            return 1


def _encode(rows: Rows, market: Market, span: int) -> bytes:
    """JSON of a page: times and counts are numbers, decimals are text, the last field is unused."""
    closes = (spans.ends(times(rows), span) - 1).tolist()
    lines = [
        [row[0], *row[1:6], close, row[6], row[7], *row[8:10], "0"]
        for row, close in zip(zip(*texts(rows, market.digits), strict=True), closes, strict=True)
    ]
    return json.dumps(lines).encode()


def _contract(
    market: Market, pair: str, kind: str, status: str, delivery: int | None
) -> dict[str, object]:
    """An entry of exchangeInfo. As at Binance, the onboard date is not when candles begin: here it
    is the day after."""
    tick, step = (f"{10**-n:.{n}f}" for n in (market.digits.price, market.digits.amount))
    return {
        "symbol": market.symbol,
        "pair": pair,
        "contractType": kind,
        "deliveryDate": delivery,
        "onboardDate": market.first_ms + spans.DAY_MS,
        "status": status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": market.base,
        "quoteAsset": market.quote,
        "marginAsset": market.quote,
        "pricePrecision": market.digits.price,
        "quantityPrecision": market.digits.amount,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "4529764"}
            | {"tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000", "stepSize": step},
            {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": "120", "stepSize": step},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def _json(content: object, status: int = 200) -> Reply:
    return Reply(status, Body(json.dumps(content, separators=(",", ":")).encode()))
