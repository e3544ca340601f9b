"""BitMEX v1, market data by REST: trade/bucketed, instrument, instrument/active.

https://www.bitmex.com/api/explorer/. From general knowledge and not documented: both bounds are
inclusive, an unknown symbol has no buckets, the texts of the errors.
"""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from dccd_sandbox import spans
from dccd_sandbox.candles import CLOSE, OPEN, Rows, empty, numbers, times
from dccd_sandbox.clock import epoch_ms, iso
from dccd_sandbox.exchanges.base import Exchange, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market

BINS = {"1m": 60, "5m": 300, "1h": 3_600, "1d": 86_400}
_DEFAULT_COUNT, _MAX_COUNT = 100, 1_000
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


@dataclass(frozen=True, slots=True)
class Contract:
    """A market as BitMEX has it: `typ` is its CFI code."""

    symbol: str
    typ: str
    market: Market


class Bitmex(Exchange):
    """USDT markets are a linear perpetual and spot, USD ones inverse, the rest dated futures."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.limit: TokenBucket = TokenBucket(world.weight_limit)
        found = [each for market in world.markets.values() for each in _contracts(market)]
        self._contracts = {contract.symbol: contract for contract in found}

    def answer(self, request: Request, path: str) -> Reply:
        """A reply with the state of the token bucket in its headers."""
        left, wait = self.limit.take()
        if wait:
            return self.refusal(429, wait)
        sent = dict(request.query)
        try:
            match path:
                case "/api/v1/trade/bucketed":
                    reply = self._bucketed(sent)
                case "/api/v1/instrument":
                    reply = self._instruments(sent)
                case "/api/v1/instrument/active":
                    reply = _json([_instrument(each) for each in self._contracts.values()])
                case _:
                    reply = _error(404, "Not Found")
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
            found = _buckets(market, span, oldest, newest, now)
            return found[::-1][offset:wanted] if newest_first else found[offset:wanted]

        def encode(found: Rows) -> bytes:
            return json.dumps(_objects(found, contract, step)).encode()

        return Reply(200, Body(encode(rows())), candles=Candles(rows, encode))


EXCHANGE = Bitmex


def _contracts(market: Market) -> list[Contract]:
    base = "XBT" if market.base == "BTC" else market.base
    match market.quote:
        case "USDT":
            perpetual = Contract(f"{base}USDT", "FFWCSX", market)
            return [perpetual, Contract(f"{base}_USDT", "IFXXXP", market)]
        case "BTC":
            return [Contract(f"{base}U26", "FFCCSX", market)]
    return [Contract(f"{base}{market.quote}", "FFWCSX", market)]


def _buckets(market: Market, span: int, oldest: int, newest: int, now: int) -> Rows:
    """Candles that open in [oldest, newest], each with the close before it as its open."""
    if newest < oldest:
        return empty()
    rows = market.candles(span, oldest - span * 1_000, newest, now).copy()
    if len(rows):
        rows[1:, OPEN] = rows[:-1, CLOSE].copy()
    return rows[int(np.searchsorted(times(rows), oldest)) :]


def _objects(rows: Rows, contract: Contract, step: int) -> list[dict[str, Any]]:
    """Buckets as objects, stamped with their END; numbers of contracts depend on the market."""
    inverse, spot = contract.market.quote == "USD", contract.typ == "IFXXXP"
    units = 10**contract.market.digits.amount
    found = []
    for opened, open_, high, low, close, amount, quote, count, _, _ in zip(
        *numbers(rows, contract.market.digits), strict=True
    ):
        volume = round(quote) if inverse else round(amount * units)
        prices = {"open": open_, "high": high, "low": low, "close": close}
        found.append(
            {"timestamp": _stamp(opened + step), "symbol": contract.symbol}
            | prices
            | {"trades": count, "volume": volume, "vwap": quote / amount if amount else None}
            | {"lastSize": None if count == 0 else volume // count}
            | {"turnover": round(quote * 1e6) if not inverse or spot else round(amount * 1e8)}
            | {"homeNotional": amount, "foreignNotional": quote}
        )
    return found


def _instrument(contract: Contract) -> dict[str, Any]:
    market, dated = contract.market, contract.typ == "FFCCSX"
    base, quote = ("XBT" if code == "BTC" else code for code in (market.base, market.quote))
    inverse, spot = quote == "USD", contract.typ == "IFXXXP"
    units = 10**market.digits.amount
    listing = _stamp(market.first_ms + _LISTED_LATER)
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
        "underlyingToPositionMultiplier": None if inverse else units,
        "underlyingToSettleMultiplier": -100_000_000 if inverse else None,
        "isQuanto": False,
        "isInverse": inverse,
        "makerFee": 0.0002,
        "takerFee": 0.00075,
        "timestamp": _EXPIRY,
    }


def _index() -> dict[str, Any]:
    """An index: it is in the list and cannot be traded."""
    names = {"symbol": ".BXBT", "rootSymbol": "XBT", "state": "Unlisted", "typ": "MRCXXX"}
    codes = {"underlying": "XBT", "quoteCurrency": "USD", "settlCurrency": ""}
    nothing = {"listing": None, "expiry": None, "isInverse": False, "isQuanto": False}
    return names | codes | nothing


def _stamp(ms: int) -> str:
    return iso(ms).replace("+00:00", "Z")


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
