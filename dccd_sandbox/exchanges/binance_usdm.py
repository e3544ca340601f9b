"""Binance USD-M futures, market data by REST: perpetuals, and quarterly contracts of BTC and ETH.

https://developers.binance.com/docs/derivatives/usds-margined-futures. That delivered contracts are
gone from the list while their candles stay, and that a limit beyond 1,500 is refused, is from
general knowledge.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

from dccd_sandbox import binance_query, spans
from dccd_sandbox.binance_query import Refused, integer, parameters
from dccd_sandbox.candles import Rows, raised, texts, times
from dccd_sandbox.exchanges.base import Exchange, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market, Window

DATED_TICKS = 5
"""A quarterly contract trades as the perpetual does, at prices so much higher."""
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


class Dated(Market):
    """A quarterly contract: another market's trading between two quarter days, a little higher."""

    def __init__(self, model: Market, delivery: date) -> None:
        name = f"{model.symbol}_{delivery:%y%m%d}"
        super().__init__(name, model.base, model.quote, model.digits)
        self._model = model
        self.delivery_ms = _at_eight(delivery)
        # It is listed when the contract of two quarters before is delivered.
        onboard = _at_eight(quarter_day(delivery - timedelta(days=200)))
        self._onboard = max(onboard, model.first_ms)

    @property
    def first_ms(self) -> int:
        """When it was listed."""
        return self._onboard

    @property
    def last_ms(self) -> int:
        """Its last millisecond."""
        return self.delivery_ms - 1

    def source_span(self, span: int, shift_ms: int = 0) -> int | None:
        """As the model."""
        return self._model.source_span(span, shift_ms)

    def join(self, rows: Rows, span: int, shift_ms: int) -> Rows:
        """As the model."""
        return self._model.join(rows, span, shift_ms)

    def source(self, span: int, start: int, stop: int, now: int) -> Rows:
        """The model's rows within its life, raised."""
        first, last = spans.open_of(self._onboard, span), self.delivery_ms
        rows = self._model.source(span, max(start, first), min(stop, last), now)
        return raised(rows, DATED_TICKS)


class BinanceUsdm(Exchange):
    """klines, exchangeInfo, ping and time."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        # The settings speak of the spot limit, 6,000: here it is 2,400.
        self.limit = WeightLimit(-(-world.weight_limit * 2_400 // 6_000))
        self._routes: dict[str, Callable[[dict[str, str]], Reply]] = {
            "/fapi/v1/klines": self._klines,
            "/fapi/v1/exchangeInfo": self._exchange_info,
            "/fapi/v1/ping": lambda _: _json({}),
            "/fapi/v1/time": lambda _: _json({"serverTime": self.world.clock.now()}),
        }

    def answer(self, request: Request, path: str) -> Reply:
        """A reply with the weight used in its header; 404 for paths that are not here."""
        route = self._routes.get(path)
        if route is None:
            return Reply(404, Body(b'{"code":-5000,"msg":"Path is invalid."}'))
        weight = _weight(dict(request.query)) if route == self._klines else 1
        verdict = self.limit.use(weight)
        if verdict.status != 200:
            reply = self.refusal(verdict.status, verdict.retry_after)
        else:
            try:
                reply = self._routed(route, request)
            except Refused as error:
                reply = _json({"code": error.code, "msg": str(error)}, 400)
        headers = (*reply.headers, ("x-mbx-used-weight-1m", str(verdict.used)))
        return Reply(reply.status, reply.body, headers, reply.candles, weight)

    def _routed(self, route: Callable[[dict[str, str]], Reply], request: Request) -> Reply:
        is_klines = route == self._klines
        known = _KLINES if is_klines else ()
        return route(parameters(request, known, known[:2]))

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

    def _market(self, symbol: str) -> Market:
        """A perpetual or a quarterly contract that has been listed. Raises Refused."""
        pair, _, delivery = symbol.partition("_")
        model = self.world.markets.get(pair)
        if model is not None and not delivery:
            return model
        day = _day(delivery)
        if model is not None and model.base in _QUARTERLY and day and day == quarter_day(day):
            dated = Dated(model, day)
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


def quarter_day(day: date) -> date:
    """The last Friday of March, June, September or December, the first such day from `day` on."""
    year, month = day.year, -(-day.month // 3) * 3
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    friday = last - timedelta(days=(last.weekday() - 4) % 7)
    return friday if friday >= day else quarter_day(last + timedelta(days=1))


def quarterlies(model: Market, now: int) -> list[Dated]:
    """The two contracts that are delivered next."""
    # A contract is gone at eight o'clock of its day.
    after = datetime.fromtimestamp(now / 1_000, UTC) + timedelta(hours=16)
    first = quarter_day(after.date())
    return [Dated(model, first), Dated(model, quarter_day(first + timedelta(days=1)))]


def _day(text: str) -> date | None:
    """The day that YYMMDD names, None if it names none."""
    try:
        return (
            date(2_000 + int(text[:2]), int(text[2:4]), int(text[4:])) if len(text) == 6 else None
        )
    except ValueError:
        return None


def _at_eight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 8, tzinfo=UTC).timestamp()) * 1_000


def _weight(sent: dict[str, str]) -> int:
    text = sent.get("limit", "")
    limit = int(text) if re.fullmatch("[0-9]{1,20}", text) else _DEFAULT_LIMIT
    return next((weight for below, weight in ((100, 1), (500, 2), (1_001, 5)) if limit < below), 10)


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
