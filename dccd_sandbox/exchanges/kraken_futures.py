"""Kraken Futures, market data by REST (charts, executions, order book, instruments) and stream.

https://docs.kraken.com/api/docs/futures-api/charts/candles. From general knowledge and not
documented: `from`, `to` and `since` are inclusive, `before` is not, 2,000 candles and 1,000
executions at most, quiet intervals are flat, the running candle is there, an unknown market is
notFound with 404.
"""

import json
from base64 import b64decode, b64encode
from decimal import Decimal
from typing import Any

from dccd_sandbox import spans
from dccd_sandbox.candles import Rows, texts
from dccd_sandbox.clock import epoch_ms, iso
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.kraken_futures_stream import KrakenFuturesStream, fills
from dccd_sandbox.market import Market

RESOLUTIONS = ("1m", "5m", "15m", "30m", "1h", "4h", "12h", "1d", "1w")
_SPANS = {label: spans.seconds(label) for label in RESOLUTIONS}
_TICK_TYPES = ("spot", "mark", "trade")
_PAGE = 2_000
_PLACES = 11
_EXECUTIONS = 1_000
_NEWEST = 100
_EXPIRED = "2026-03-27T16:00:00.000Z"


class Refused(Exception):
    """An error body with its HTTP status."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class KrakenFutures(Exchange):
    """Each market is a linear perpetual in USD, whatever its quote; and one is an old future."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._markets = {_name(market): market for market in world.markets.values()}
        bitcoin = next((m for m in world.markets.values() if m.base == "BTC"), None)
        if bitcoin is not None:
            self._markets["FF_XBTUSD_260327"] = bitcoin

    def answer(self, request: Request, path: str) -> Reply:
        """A reply; there are no budgets for market data."""
        try:
            match path.strip("/").split("/"):
                case ["derivatives", "api", "v3", "instruments"]:
                    return self._instruments()
                case ["api", "charts", "v1", tick_type, symbol, resolution]:
                    return self._charts(tick_type, symbol, resolution, dict(request.query))
                case ["api", "history", "v3", "market", symbol, "executions"]:
                    return self._executions(symbol.upper(), dict(request.query))
                case ["derivatives", "api", "v3", "orderbook"]:
                    return self._book(dict(request.query))
                case ["derivatives", "api", "v3", "history"]:
                    return self._history(dict(request.query))
            raise Refused(404, "notFound")
        except Refused as error:
            return self._error(error.status, str(error))

    def refusal(self, status: int, retry_after: int) -> Reply:
        """429 either way, in the words of the derivatives API."""
        reply = self._error(429, "apiLimitExceeded")
        return Reply(429, reply.body, (("retry-after", str(retry_after)),))

    def forget(self) -> None:
        """Nothing is kept."""

    def stream(self, path: str, query: Query) -> KrakenFuturesStream | None:
        """/ws/v1; what has expired is no product there."""
        alive = {name: one for name, one in self._markets.items() if not name.startswith("FF_")}
        return KrakenFuturesStream(alive) if path == "/ws/v1" else None

    def market_of(self, symbol: str) -> Market:
        """By the name of a contract."""
        return self._markets[symbol]

    def _find(self, name: str) -> tuple[Market, int]:
        """A market, and the time at which it is."""
        market, now = self._markets.get(name), self.world.clock.now()
        if market is None:
            raise Refused(404, "notFound")
        return market, min(now, epoch_ms(_EXPIRED) - 1) if name.startswith("FF_") else now

    def _executions(self, name: str, sent: dict[str, str]) -> Reply:
        """A page of what happened in [since, before), and a token for the rest."""
        market, now = self._find(name)
        tape, ascending = market.tape, sent.get("sort", "desc") == "asc"
        count = min(_integer(sent, "count", _EXECUTIONS), _EXECUTIONS)
        first = tape.next_id(_integer(sent, "since", 0) - 1)
        last = tape.next_id(min(_integer(sent, "before", now + 1) - 1, now))
        if "continuation_token" in sent:
            place = int(b64decode(sent["continuation_token"]).partition(b"/")[2])
            first, last = (place, last) if ascending else (first, place)
        begin = first if ascending else max(first, last - count)
        rows = fills(market, name, tape.from_id(begin, max(min(count, last - begin), 0), now))
        rows = rows if ascending else rows[::-1]
        page: dict[str, Any] = {"elements": [_element(row) for row in rows], "len": len(rows)}
        rest = last - begin - len(rows) if ascending else begin - first
        if rest <= 0:
            return _json(page)
        place = begin + len(rows) if ascending else begin
        token = b64encode(f"{rows[-1]['time']}/{place}".encode()).decode()
        reply = _json(page | {"continuationToken": token})
        return Reply(200, reply.body, (("next-continuation-token", token),))

    def _history(self, sent: dict[str, str]) -> Reply:
        """The hundred trades before a time, newest first; a week back."""
        name = sent.get("symbol", "").upper()
        market, now = self._find(name)
        last = now if "lastTime" not in sent else min(now, epoch_ms(sent["lastTime"]) - 1)
        rows = fills(market, name, market.tape.newest(_NEWEST, last))[::-1]
        week = now - 7 * spans.DAY_MS
        found = [
            {"time": _stamp(row["time"]), "trade_id": len(rows) - number, "price": row["price"]}
            | {"size": row["qty"], "side": row["side"], "type": row["type"], "uid": row["uid"]}
            for number, row in enumerate(rows)
            if row["time"] > week
        ]
        return _json({"result": "success", "history": found, "serverTime": _stamp(now)})

    def _book(self, sent: dict[str, str]) -> Reply:
        market, now = self._find(sent.get("symbol", "").upper())
        book, digits = market.book.at(now), market.digits
        sides = {
            side: [[ticks / 10**digits.price, lots / 10**digits.amount] for ticks, lots in levels]
            for side, levels in (("bids", book.bids), ("asks", book.asks))
        }
        time = _stamp(self.world.clock.now())
        return _json({"result": "success", "orderBook": sides, "serverTime": time})

    def _charts(self, tick_type: str, symbol: str, resolution: str, sent: dict[str, str]) -> Reply:
        if tick_type not in _TICK_TYPES or resolution not in _SPANS:
            raise Refused(400, "invalidArgument")
        market, now = self._find(symbol.upper())
        span = _SPANS[resolution]
        count = min(_integer(sent, "count", _PAGE), _PAGE)
        low = max(_integer(sent, "from", 0) * 1_000, market.first_ms)
        high = min(_integer(sent, "to", now // 1_000) * 1_000, now)
        oldest = spans.open_of(low, span)
        oldest = oldest if oldest >= _integer(sent, "from", 0) * 1_000 else oldest + span * 1_000
        if "from" not in sent:
            oldest = max(oldest, spans.open_of(high, span) - (count - 1) * span * 1_000)

        def rows() -> Rows:
            reach = min(high, oldest + (count - 1) * span * 1_000)
            return market.candles(span, oldest, reach, now)

        def encode(found: Rows) -> bytes:
            ends = oldest + len(rows()) * span * 1_000
            more = ends <= high if "from" in sent else low < oldest
            volume = tick_type == "trade"
            return json.dumps(_page(found, market, volume=volume, more=more)).encode()

        return Reply(200, Body(encode(rows())), candles=Candles(rows, encode))

    def _instruments(self) -> Reply:
        listed = [_instrument(name, market) for name, market in self._markets.items()]
        inverse = {"type": "futures_inverse", "tradeable": True, "contractSize": 1, "tickSize": 0.5}
        opened = {"openingDate": "2018-08-31T00:00:00.000Z"}
        others = [
            {"symbol": "PI_XBTUSD"} | inverse | opened,
            {"symbol": "in_xbtusd", "type": "spot index", "tradeable": False},
        ]
        head = {"result": "success", "serverTime": _stamp(self.world.clock.now())}
        return _json(head | {"instruments": [*listed, *others]})

    def _error(self, status: int, error: str) -> Reply:
        time = _stamp(self.world.clock.now())
        return _json({"result": "error", "serverTime": time, "error": error}, status)


EXCHANGE = KrakenFutures


def _name(market: Market) -> str:
    """ADABTC becomes PF_ADABTCUSD, so that no two markets share a name."""
    base = "XBT" if market.base == "BTC" else market.base
    return f"PF_{base}{'' if market.quote in ('USD', 'USDT') else market.quote}USD"


def _instrument(name: str, market: Market) -> dict[str, Any]:
    dated = name.startswith("FF_")
    found: dict[str, Any] = {
        "symbol": name,
        "type": "futures_vanilla" if dated else "flexible_futures",
        "tickSize": 10.0**-market.digits.price,
        "contractSize": 1,
        "tradeable": True,
        "contractValueTradePrecision": market.digits.amount,
        "openingDate": _stamp(market.first_ms),
        "tags": [],
        "marginLevels": [],
        "postOnly": False,
    }
    return found | ({"lastTradingTime": _EXPIRED} if dated else {})


def _element(row: dict[str, Any]) -> dict[str, Any]:
    """An execution: the maker's order stood there before, the taker's is the side."""
    side, other = ("Buy", "Sell") if row["side"] == "buy" else ("Sell", "Buy")
    price, quantity = (f"{Decimal(str(row[name])):f}" for name in ("price", "qty"))
    time = row["time"]
    common = {"tradeable": row["product_id"], "quantity": quantity, "limitPrice": price}
    common |= {"reduceOnly": False, "timestamp": time, "lastUpdateTimestamp": time}
    execution = {
        "uid": row["uid"],
        "makerOrder": {"uid": f"aaaa{row['uid'][4:]}", "direction": other, "orderType": "Post"}
        | common,
        "takerOrder": {"uid": f"bbbb{row['uid'][4:]}", "direction": side, "orderType": "IoC"}
        | common,
        "timestamp": time,
        "quantity": quantity,
        "price": price,
        "markPrice": price,
        "limitFilled": False,
        "usdValue": f"{row['price'] * row['qty']:.2f}",
    }
    event = {"Execution": {"execution": execution, "takerReducedQuantity": ""}}
    return {"uid": f"eeee{row['uid'][4:]}", "timestamp": time, "event": event}


def _page(rows: Rows, market: Market, *, volume: bool, more: bool) -> dict[str, Any]:
    """Decimals are texts; only candles of trades have a volume."""
    names = ("time", "open", "high", "low", "close", "volume")
    columns = texts(rows, market.digits, _PLACES)[:6]
    columns[5] = [text if volume else "0" for text in columns[5]]
    found = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return {"candles": found, "more_candles": more}


def _integer(sent: dict[str, str], name: str, default: int) -> int:
    text = sent.get(name, str(default))
    if not text.isdecimal():
        raise Refused(400, "invalidArgument")
    return int(text)


def _stamp(ms: int) -> str:
    return iso(ms).replace("+00:00", "Z")


def _json(content: object, status: int = 200) -> Reply:
    return Reply(status, Body(json.dumps(content, separators=(",", ":")).encode()))
