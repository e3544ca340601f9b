"""BitMEX v1, market data by REST (trade, trade/bucketed, orderBook/L2, instrument,
instrument/active, wallet/assets) and the stream.

https://www.bitmex.com/api/explorer/. From general knowledge and not documented: both bounds are
inclusive, an unknown symbol has no buckets, trades and levels, the texts of the errors.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dccd_sandbox import spans
from dccd_sandbox.bitmex_stream import BitmexStream
from dccd_sandbox.bitmex_tables import (
    BINS,
    SPOT,
    SPOT_DIGITS,
    Contract,
    bins,
    buckets,
    contracts,
    levels,
    stamp,
    trades,
)
from dccd_sandbox.candles import Rows
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market

_DEFAULT_COUNT, _MAX_COUNT, _DEFAULT_DEPTH = 100, 1_000, 25
_MAX_MARKETS = 500
# Where buckets begin if nobody says a startTime.
_DEFAULT_START = epoch_ms("2017-01-01")
# `listing` is later than the first bucket, as that of XBTUSD is.
_LISTED_LATER = 230 * spans.DAY_MS
_EXPIRY = "2026-09-25T12:00:00.000Z"
_TOKENS, _A_SECOND = 30, 0.5


class Refused(Exception):
    """HTTP 400 with an error body."""


class TokenBucket(WeightLimit):
    """30 tokens, one more every two seconds; who finds it empty waits. Without a limit: full."""

    def reset(self) -> None:
        """Full again."""
        super().reset()
        self._tokens = float(_TOKENS)
        self._seen = time.time()

    def take(self) -> tuple[int, int]:
        """Take a token: how many are left, and in how many seconds there is one if none was."""
        now = time.time()
        self._tokens = min(self._tokens + (now - self._seen) * _A_SECOND, _TOKENS)
        self._seen = now
        if not self.limit:
            return _TOKENS - 1, 0
        if self._tokens < 1:
            return 0, int((1 - self._tokens) / _A_SECOND) + 1
        self._tokens -= 1
        self.highest = max(self.highest, _TOKENS - int(self._tokens))
        return int(self._tokens), 0


class Bitmex(Exchange):
    """USDT markets are a linear perpetual and spot, USD ones inverse, the rest dated futures."""

    connects = (60, 3_600.0)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.limit: TokenBucket = TokenBucket(world.weight_limit)
        self._routes: dict[str, Callable[[dict[str, str]], Reply]] = {
            "/api/v1/trade": self._trades,
            "/api/v1/trade/bucketed": self._bucketed,
            "/api/v1/orderBook/L2": self._book,
            "/api/v1/instrument": self._instruments,
            "/api/v1/instrument/active": self._active,
            "/api/v1/wallet/assets": self._assets,
        }
        self._contracts = {one.symbol: one for one in contracts(world.markets.values())}

    def answer(self, request: Request, path: str) -> Reply:
        """A reply with the state of the token bucket in its headers."""
        left, wait = self.limit.take()
        if wait:
            return self.refusal(429, wait)
        route = self._routes.get(path)
        try:
            reply = _error(404, "Not Found") if route is None else route(dict(request.query))
        except Refused as error:
            reply = _error(400, str(error))
        return Reply(reply.status, reply.body, _headers(left), reply.candles)

    def refusal(self, status: int, retry_after: int) -> Reply:
        """429 either way, with Retry-After in seconds."""
        text = f"Rate limit exceeded, retry in {retry_after} seconds."
        headers = (("retry-after", str(retry_after)), *_headers(0))
        return Reply(429, _error(429, text).body, headers)

    def forget(self) -> None:
        """Nothing is kept."""

    def stream(self, path: str, query: Query) -> BitmexStream | None:
        """/realtime, with ?subscribe=topic,topic."""
        if path != "/realtime":
            return None
        topics = [topic for topic in dict(query).get("subscribe", "").split(",") if topic]
        return BitmexStream(self._contracts, topics)

    def market_of(self, symbol: str) -> Market:
        """By BitMEX's own symbol."""
        return self._contracts[symbol].market

    def _trades(self, sent: dict[str, str]) -> Reply:
        count, offset = _integer(sent, "count", _DEFAULT_COUNT), _integer(sent, "start", 0)
        if not 0 < count <= _MAX_COUNT:
            raise Refused(f"Maximum result count is {_MAX_COUNT}.")
        contract = self._contracts.get(sent.get("symbol", ""))
        if contract is None:
            return _json([])
        tape, now = contract.market.tape, self.world.clock.now()
        high = min(_moment(sent, "endTime", now), now)
        first = tape.next_id(_moment(sent, "startTime", 0) - 1)
        if sent.get("reverse", "false").lower() == "true":
            last = tape.next_id(high) - offset
            begin = max(first, last - count)
            return _json(trades(contract, tape.from_id(begin, max(last - begin, 0), high))[::-1])
        return _json(trades(contract, tape.from_id(first + offset, count, high)))

    def _book(self, sent: dict[str, str]) -> Reply:
        """A depth of 0 is all levels."""
        depth = _integer(sent, "depth", _DEFAULT_DEPTH)
        contract = self._contracts.get(sent.get("symbol", ""))
        if contract is None:
            return _json([])
        book = contract.market.book.at(self.world.clock.now())
        return _json(levels(contract, book.top(depth) if depth else book))

    def _active(self, sent: dict[str, str]) -> Reply:
        return _json([_instrument(each) for each in self._contracts.values()])

    def _assets(self, sent: dict[str, str]) -> Reply:
        """What clients turn the sizes of spot into amounts by."""
        found = {"USDT": _asset("USDT", 6)}
        for contract in self._contracts.values():
            code = _code(contract.market.base)
            found.setdefault(code, _asset(code, max(contract.digits, SPOT_DIGITS)))
        return _json(list(found.values()))

    def _instruments(self, sent: dict[str, str]) -> Reply:
        count, start = _integer(sent, "count", _DEFAULT_COUNT), _integer(sent, "start", 0)
        if count > _MAX_MARKETS:
            raise Refused(f"Maximum result count is {_MAX_MARKETS}.")
        listed = [*map(_instrument, self._contracts.values()), _index()]
        return _json(listed[start : start + count])

    def _bucketed(self, sent: dict[str, str]) -> Reply:
        span = BINS.get(sent.get("binSize", "1m"))
        if span is None:
            raise Refused(f"'binSize' must be one of [{', '.join(BINS)}]")
        count, offset = _integer(sent, "count", _DEFAULT_COUNT), _integer(sent, "start", 0)
        if not 0 < count <= _MAX_COUNT:
            raise Refused(f"Maximum result count is {_MAX_COUNT}.")
        contract = self._contracts.get(sent.get("symbol", ""))
        if contract is None:
            return _json([])
        newest_first = sent.get("reverse", "false").lower() == "true"
        low = _moment(sent, "startTime", 0 if newest_first else _DEFAULT_START)
        high = _moment(sent, "endTime", epoch_ms("2100-01-01"))
        now = self.world.clock.now()
        if sent.get("partial", "false").lower() != "true":
            high = min(high, now)
        market, step = contract.market, span * 1_000

        def rows() -> Rows:
            wanted = offset + count
            oldest = max(low - step, spans.open_of(market.first_ms, span))
            newest = min(high - step, now)
            if newest_first:
                oldest = max(oldest, newest - wanted * step)
            else:
                newest = min(newest, oldest + wanted * step)
            found = buckets(market, span, oldest, newest, now)
            return found[::-1][offset:wanted] if newest_first else found[offset:wanted]

        def encode(found: Rows) -> bytes:
            return json.dumps(bins(found, contract, step)).encode()

        return Reply(200, Body(encode(rows())), candles=Candles(rows, encode))


EXCHANGE = Bitmex


def _instrument(contract: Contract) -> dict[str, Any]:
    market, dated = contract.market, contract.typ == "FFCCSX"
    base, quote = _code(market.base), _code(market.quote)
    inverse, spot = contract.is_inverse, contract.typ == SPOT
    listing = stamp(market.first_ms + _LISTED_LATER)
    return {
        "symbol": contract.symbol,
        "rootSymbol": base,
        "state": "Open",
        "typ": contract.typ,
        "listing": listing,
        "front": listing,
        "expiry": _EXPIRY if dated else None,
        "positionCurrency": "USD" if inverse else base,
        "underlying": base,
        "quoteCurrency": quote,
        "maxOrderQty": 10_000_000,
        "maxPrice": 1_000_000,
        "lotSize": 1,
        "tickSize": 10.0**-market.digits.price,
        "multiplier": -100_000_000 if inverse else 1,
        "settlCurrency": "" if spot else "XBt" if inverse or dated else "USDt",
        "underlyingToPositionMultiplier": None if inverse else 10**contract.digits,
        "underlyingToSettleMultiplier": -100_000_000 if inverse else None,
        "isQuanto": False,
        "isInverse": inverse,
        "makerFee": 0.0002,
        "takerFee": 0.00075,
        "timestamp": _EXPIRY,
    }


def _code(name: str) -> str:
    return "XBT" if name == "BTC" else name


def _asset(code: str, scale: int) -> dict[str, Any]:
    """A coin: its unit, which BitMEX writes with a small last letter, has `scale` decimals."""
    unit = f"{code[:-1]}{code[-1].lower()}"
    names = {"asset": code, "currency": unit, "majorCurrency": code, "name": code}
    state = {"currencyType": "Crypto", "scale": scale, "enabled": True, "isMarginCurrency": True}
    return names | state | {"networks": []}


def _index() -> dict[str, Any]:
    """An index: it is in the list and cannot be traded."""
    names = {"symbol": ".BXBT", "rootSymbol": "XBT", "state": "Unlisted", "typ": "MRCXXX"}
    codes = {"underlying": "XBT", "quoteCurrency": "USD", "settlCurrency": ""}
    nothing = {"listing": None, "expiry": None, "isInverse": False, "isQuanto": False}
    return names | codes | nothing


def _moment(sent: dict[str, str], name: str, default: int) -> int:
    if name not in sent:
        return default
    try:
        moment = datetime.fromisoformat(sent[name])
    except ValueError:
        raise Refused(f"'{name}' is not a valid date") from None
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000)


def _integer(sent: dict[str, str], name: str, default: int) -> int:
    text = sent.get(name, str(default))
    if not text.isdecimal():
        raise Refused(f"'{name}' must be a positive integer")
    return int(text)


def _headers(left: int) -> tuple[tuple[str, str], ...]:
    full = int(time.time() + (_TOKENS - left) / _A_SECOND)
    return (
        ("x-ratelimit-limit", str(_TOKENS)),
        ("x-ratelimit-remaining", str(left)),
        ("x-ratelimit-reset", str(full)),
    )


def _error(status: int, text: str) -> Reply:
    return _json({"error": {"message": text, "name": "HTTPError"}}, status)


def _json(content: object, status: int = 200) -> Reply:
    return Reply(status, Body(json.dumps(content, separators=(",", ":")).encode()))
