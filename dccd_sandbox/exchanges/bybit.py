"""Bybit v5, market data: spot and linear. https://bybit-exchange.github.io/docs/v5/intro

Texts of refusals other than of symbols, and which rows a range of more than `limit` keeps, are not
documented. Here start alone gives the oldest rows, and the newest stay of a range that is too long.
"""

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

from dccd_sandbox.bybit_entries import contract_entry, pair_entry
from dccd_sandbox.bybit_streams import BybitStream, deals, levels
from dccd_sandbox.candles import Rows, texts
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import Verdict, WeightLimit
from dccd_sandbox.market import Market, Window
from dccd_sandbox.raised import RaisedMarket
from dccd_sandbox.stream import Stream

PERPETUAL_TICKS = 3
"""A linear contract trades as its spot pair does, at prices so much higher."""
INTERVALS = {
    **{str(minutes): minutes * 60 for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": 86_400,
    "W": 604_800,
    "M": 2_592_000,
}
_CATEGORIES = ("spot", "linear", "inverse", "option")
_STATUSES = ("PreLaunch", "Trading", "Delivering", "Closed")
_WINDOW, _BAN = 5.0, 600.0
_LIMITS = {
    "kline": (200, 1_000), "instruments": (500, 1_000), "spot trades": (60, 60),
    "linear trades": (500, 1_000), "spot book": (1, 1_000), "linear book": (25, 1_000),
}  # fmt: skip


class Refused(Exception):
    """HTTP 200 with a retCode that is not 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class AddressLimit(WeightLimit):
    """600 requests in any 5 seconds (a tenth of `limit`, which is for a minute; 0: unlimited), then
    HTTP 403 for ten minutes. On real time."""

    def reset(self) -> None:
        """Forget requests and bans."""
        self.highest = 0
        self._times: deque[float] = deque()
        self._until = 0.0

    def use(self, weight: int) -> Verdict:
        """Count a request and judge it."""
        now = time.monotonic()
        while self._times and self._times[0] <= now - _WINDOW:
            self._times.popleft()
        if now < self._until:
            return Verdict(403, len(self._times), int(self._until - now) + 1)
        self._times.extend([now] * weight)
        used = len(self._times)
        self.highest = max(self.highest, used)
        if self.limit and used > max(1, self.limit // 10):
            self._until = now + _BAN
            return Verdict(403, used, int(_BAN))
        return Verdict(200, used, 0)


class Bybit(Exchange):
    """kline, recent-trade, orderbook, instruments-info, time, and the public streams."""

    connects = (500, 300.0)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.limit = AddressLimit(world.weight_limit)
        self._markets = {"spot": dict(world.markets), "linear": _linear(world.markets.values())}
        self._routes: dict[str, Callable[[dict[str, str]], Reply]] = {
            "/v5/market/kline": self._kline,
            "/v5/market/recent-trade": self._trades,
            "/v5/market/orderbook": self._book,
            "/v5/market/instruments-info": self._instruments,
            "/v5/market/time": self._time,
        }

    def answer(self, request: Request, path: str) -> Reply:
        """The reply; a refusal is HTTP 200 with a retCode."""
        verdict = self.limit.use(1)
        if verdict.status != 200:
            return self.refusal(418, verdict.retry_after)
        route = self._routes.get(path)
        if route is None:
            return Reply(404, self._body(10017, "Route not found.", {}), weight=1)
        try:
            reply = route(dict(request.query))
        except Refused as error:
            reply = Reply(200, self._body(error.code, str(error), {}))
        return Reply(reply.status, reply.body, reply.headers, reply.candles, weight=1)

    def refusal(self, status: int, retry_after: int) -> Reply:
        """429: too many visits, in HTTP 200 with the time of the reset; 418: HTTP 403."""
        if status == 418:
            return Reply(403, Body(b"access too frequent", "text/plain"))
        reset = self.world.clock.now() + retry_after * 1_000
        headers = (
            ("X-Bapi-Limit", "50"),
            ("X-Bapi-Limit-Status", "0"),
            ("X-Bapi-Limit-Reset-Timestamp", str(reset)),
        )
        return Reply(200, self._body(10006, "Too many visits!", {}), headers)

    def forget(self) -> None:
        """Nothing is kept."""

    def stream(self, path: str, query: Query) -> Stream | None:
        """/v5/public/spot and /v5/public/linear."""
        category = path.removeprefix("/v5/public/")
        found = self._markets.get(category) if category != path else None
        return BybitStream(category, found.get, INTERVALS) if found is not None else None

    def market_of(self, symbol: str) -> Market:
        """Of BTCUSDT or spot BTCUSDT the pair, of linear BTCUSDT the contract."""
        category, _, name = symbol.rpartition(" ")
        return self._markets[category or "spot"][name]

    def _body(self, code: int, message: str, result: object) -> Body:
        content = {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}}
        return Body(json.dumps(content | {"time": self.world.clock.now()}).encode())

    def _time(self, sent: dict[str, str]) -> Reply:
        now = self.world.clock.now()
        second = {"timeSecond": str(now // 1_000), "timeNano": str(now * 1_000_000)}
        return Reply(200, self._body(0, "OK", second))

    def _kline(self, sent: dict[str, str]) -> Reply:
        category, market = self._market(sent)
        window = self._window(sent, market)

        def rows() -> Rows:
            return market.page(window)

        def encode(page: Rows) -> bytes:
            columns = texts(page, market.digits)[:7]
            lines = [list(map(str, row)) for row in zip(*columns, strict=True)]
            result = {"category": category, "symbol": sent["symbol"], "list": lines[::-1]}
            return self._body(0, "OK", result).plain

        return Reply(200, Body(encode(rows())), candles=Candles(rows, encode))

    def _trades(self, sent: dict[str, str]) -> Reply:
        """The newest, newest first."""
        category, market = self._market(sent)
        limit = _limit(sent, f"{category} trades")
        found = deals(market.tape.newest(limit, self.world.clock.now()), market)
        rows = [
            {"execId": one["id"], "symbol": sent["symbol"], "price": one["price"]}
            | {"size": one["size"], "side": one["side"], "time": str(one["time"])}
            | {"isBlockTrade": False, "isRPITrade": False, "seq": str(one["seq"])}
            for one in found
        ]
        return Reply(200, self._body(0, "OK", {"category": category, "list": rows[::-1]}))

    def _book(self, sent: dict[str, str]) -> Reply:
        category, market = self._market(sent)
        limit, now = _limit(sent, f"{category} book"), self.world.clock.now()
        book = market.book.at(now).top(limit)
        sides = {"b": levels(book.bids, market), "a": levels(book.asks, market)}
        numbers = {"ts": now, "u": book.sequence, "seq": book.sequence, "cts": book.time}
        return Reply(200, self._body(0, "OK", {"s": sent["symbol"]} | sides | numbers))

    def _window(self, sent: dict[str, str], market: Market) -> Window:
        span = INTERVALS.get(sent.get("interval", ""))
        if span is None or market.source_span(span) is None:
            raise Refused(10001, "Invalid period!")
        start, end, limit = _integer(sent, "start"), _integer(sent, "end"), _limit(sent, "kline")
        now = self.world.clock.now()
        if start is None or end is None:
            return Window(span, start, end, limit, now)
        if start > end:
            raise Refused(10001, "params error: start time is after end time")
        # The newest of the range: as if it ended there, and began no earlier than its start.
        newest = market.page(Window(span, None, end, limit, now))
        first = int(newest[0, 0]) if len(newest) else end
        return Window(span, max(start, first), end, limit, now)

    def _market(self, sent: dict[str, str]) -> tuple[str, Market]:
        category = _category(sent, "linear")
        found = self._markets.get(category, {}).get(sent.get("symbol", ""))
        if found is None:
            text = "Not supported symbols" if category == "spot" else "params error: symbol invalid"
            raise Refused(10001, text)
        return category, found

    def _instruments(self, sent: dict[str, str]) -> Reply:
        category = _category(sent, "")
        status = sent.get("status", "Trading")
        if status not in _STATUSES:
            raise Refused(10001, "params error: status invalid")
        describe = pair_entry if category == "spot" else contract_entry
        listed = [
            describe(name, market) for name, market in self._markets.get(category, {}).items()
        ]
        listed = [item for item in listed if item["status"] == status]
        if "symbol" in sent:
            listed = [item for item in listed if item["symbol"] == sent["symbol"]]
            if not listed and category != "spot":
                raise Refused(10001, "params error: symbol invalid")
        if category == "spot":
            return Reply(200, self._body(0, "OK", {"category": category, "list": listed}))
        page, cursor = _page(listed, sent.get("cursor", ""), _limit(sent, "instruments"))
        result = {"category": category, "list": page, "nextPageCursor": cursor}
        return Reply(200, self._body(0, "OK", result))


EXCHANGE = Bybit


def _linear(pairs: Iterable[Market]) -> dict[str, Market]:
    """Pairs in USDT and USDC have a perpetual."""
    found: dict[str, Market] = {}
    for pair in pairs:
        name = {"USDT": pair.symbol, "USDC": f"{pair.base}PERP"}.get(pair.quote)
        if name is not None:
            found[name] = RaisedMarket((name, pair.base, pair.quote), pair, PERPETUAL_TICKS)
    return found


def _page(
    listed: list[dict[str, Any]], cursor: str, limit: int
) -> tuple[list[dict[str, Any]], str]:
    """The entries after the one that a cursor names, and the cursor of the next page. It comes
    percent-encoded, and is understood as it came and decoded."""
    start = 0
    if cursor:
        match = re.fullmatch("first=(.+)&last=(.+)", unquote(cursor))
        names = [item["symbol"] for item in listed]
        if match is None or match[2] not in names:
            raise Refused(10001, "params error: cursor invalid")
        start = names.index(match[2]) + 1
    page = listed[start : start + limit]
    if start + limit >= len(listed):
        return page, ""
    return page, quote(f"first={page[0]['symbol']}&last={page[-1]['symbol']}", safe="")


def _category(sent: dict[str, str], default: str) -> str:
    category = sent.get("category", default)
    if category not in _CATEGORIES:
        raise Refused(10001, "params error: category invalid")
    return category


def _integer(sent: dict[str, str], name: str) -> int | None:
    text = sent.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise Refused(10001, f"params error: {name} invalid")
    return int(text)


def _limit(sent: dict[str, str], path: str) -> int:
    default, most = _LIMITS[path]
    limit = _integer(sent, "limit")
    if limit is None:
        return default
    if not 1 <= limit <= most:
        raise Refused(10001, "params error: limit invalid")
    return limit
