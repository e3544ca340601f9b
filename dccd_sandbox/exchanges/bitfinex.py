"""Bitfinex v2, market data: candles, trades, books, conf, platform status, and the streams.

https://docs.bitfinex.com/reference/rest-public-candles. From general knowledge and not documented:
both bounds are inclusive, an unknown path or conf key is a parameter error, a refusal lasts 60 s.
"""

import json
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from dccd_sandbox import spans
from dccd_sandbox.bitfinex_streams import LENGTHS, BitfinexStream, deals, levels, number
from dccd_sandbox.candles import COUNT, VOLUME, Rows, empty, texts
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Stream

TIME_FRAMES = {
    "1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1h", "3h": "3h", "6h": "6h",
    "12h": "12h", "1D": "1d", "1W": "1w", "1M": "1M",
}  # fmt: skip
_SPANS = {label: spans.seconds(ours) for label, ours in TIME_FRAMES.items()}
_DEFAULT_LIMIT, _MAX_LIMIT = 100, 10_000
_DEFAULT_TRADES = 125
_A_MINUTE = {"candles": 30, "conf": 90, "platform": 30, "trades": 15, "book": 240}
_CLOSED = 60.0
# Bitfinex's own codes, and as it writes the world's names for them.
_NAMES = {"UST": "USDt", "UDC": "USDC", "DSH": "DASH", "IOT": "IOTA", "ALG": "ALGO", "ATO": "ATOM"}
_CODES = {name.upper(): code for code, name in _NAMES.items()}


class Refused(Exception):
    """HTTP 500 with ["error", 10020, text]."""


class EndpointLimit(WeightLimit):
    """So many requests a minute and endpoint; who asks for more finds it closed for a minute."""

    def reset(self) -> None:
        """Forget all requests."""
        super().reset()
        self._asked: dict[str, list[float]] = defaultdict(list)
        self._closed: dict[str, float] = {}

    def refuses(self, endpoint: str) -> bool:
        """Count a request to an endpoint; whether it is too much."""
        now = time.time()
        asked = [moment for moment in self._asked[endpoint] if moment > now - 60] + [now]
        self._asked[endpoint] = asked
        self.highest = max(self.highest, len(asked))
        if not self.limit:
            return False
        if len(asked) > _A_MINUTE[endpoint]:
            self._closed[endpoint] = max(self._closed.get(endpoint, 0.0), now + _CLOSED)
        return self._closed.get(endpoint, 0.0) > now


@dataclass(frozen=True, slots=True)
class Question:
    """A candles request: times in ms, both inclusive."""

    market: Market
    span: int
    start: int
    end: int
    limit: int
    ascending: bool
    now: int


class Bitfinex(Exchange):
    """Each market is a spot pair and a perpetual with the same trades."""

    connects = (20, 60.0)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.limit: EndpointLimit = EndpointLimit(world.weight_limit)
        self._spot = {_pair(m.base, m.quote, ""): m for m in world.markets.values()}
        self._perpetual = {_pair(m.base, m.quote, "F0"): m for m in world.markets.values()}
        self._markets = {f"t{pair}": m for pair, m in (self._spot | self._perpetual).items()}

    def answer(self, request: Request, path: str) -> Reply:
        """A reply; errors are arrays with HTTP 500."""
        match path.strip("/").split("/"):
            case ["v2", "candles", key, section] if section in ("hist", "last"):
                endpoint = "candles"
            case ["v2", "trades" | "book" as endpoint, key, section]:
                pass
            case ["v2", "conf", key]:
                endpoint, section = "conf", ""
            case ["v2", "platform", "status"]:
                endpoint, key, section = "platform", "", ""
            case _:
                return _json(["error", 10_020, "path: invalid"], 404)
        if self.limit.refuses(endpoint):
            return _json(["error", 11_010, "ratelimit: error"], 429)
        try:
            if endpoint in ("candles", "trades", "book"):
                ask = {"candles": self._candles, "trades": self._trades, "book": self._book}
                return ask[endpoint](key, section, dict(request.query))
            return _json([1] if endpoint == "platform" else [*map(self._conf, key.split(","))])
        except Refused as error:
            return _json(["error", 10_020, str(error)], 500)

    def refusal(self, status: int, retry_after: int) -> Reply:
        """429 either way; Retry-After is from Cloudflare, which stands before the exchange."""
        headers = (("retry-after", str(retry_after)),)
        return Reply(429, Body(b'{"error":"ERR_RATE_LIMIT"}'), headers)

    def forget(self) -> None:
        """Nothing is kept."""

    def stream(self, path: str, query: Query) -> Stream | None:
        """One kind of connection for all channels."""
        return BitfinexStream(self._markets.get, _SPANS) if path == "/ws/2" else None

    def market_of(self, symbol: str) -> Market:
        """The market of tBTCUSD."""
        return self._markets[symbol]

    def _trades(self, symbol: str, section: str, sent: dict[str, str]) -> Reply:
        """The newest of a range, newest first, or its oldest with sort=1."""
        market = self._market(symbol)
        if section != "hist":
            raise Refused("section: invalid")
        now = self.world.clock.now()
        limit = _limited(sent, _DEFAULT_TRADES)
        start, end = _integer(sent, "start", 0), min(_integer(sent, "end", now), now)
        first, stop = market.tape.next_id(start - 1), market.tape.next_id(end)
        if _integer(sent, "sort", -1) == 1:
            return Reply(200, Body(_list(deals(market.tape.from_id(first, limit, end), market))))
        first = max(first, stop - limit)
        found = market.tape.from_id(first, max(stop - first, 0), end)
        return Reply(200, Body(_list(deals(found, market)[::-1])))

    def _book(self, symbol: str, precision: str, sent: dict[str, str]) -> Reply:
        market = self._market(symbol)
        length = _integer(sent, "len", 25)
        if precision != "P0" or length not in LENGTHS:
            raise Refused("len: invalid" if precision == "P0" else "precision: invalid")
        book = market.book.at(self.world.clock.now()).top(length)
        return Reply(200, Body(_list(levels(book, market))))

    def _market(self, symbol: str) -> Market:
        market = self._markets.get(symbol)
        if market is None:
            raise Refused("symbol: invalid")
        return market

    def _candles(self, key: str, section: str, sent: dict[str, str]) -> Reply:
        question = self._question(key, sent)
        last = section == "last"

        def encode(rows: Rows) -> bytes:
            lines = _lines(rows, question)
            return (lines[0] if lines else "[]").encode() if last else _list(lines)

        def rows() -> Rows:
            return _traded(question, 1 if last else question.limit)

        return Reply(200, Body(encode(rows())), candles=Candles(rows, encode))

    def _question(self, key: str, sent: dict[str, str]) -> Question:
        kind, _, rest = key.partition(":")
        frame, _, symbol = rest.partition(":")
        if kind != "trade":
            raise Refused("key: invalid")
        if frame not in _SPANS:
            raise Refused("time_interval: invalid")
        market = self._market(symbol)
        if market.source_span(_SPANS[frame]) is None:
            raise Refused("symbol: invalid")
        now = self.world.clock.now()
        limit = _limited(sent, _DEFAULT_LIMIT)
        start, end = _integer(sent, "start", 0), _integer(sent, "end", now)
        ascending = _integer(sent, "sort", -1) == 1
        return Question(market, _SPANS[frame], start, end, limit, ascending, now)

    def _conf(self, key: str) -> object:
        match key:
            case "pub:list:pair:exchange":
                return list(self._spot)
            case "pub:list:pair:futures":
                return list(self._perpetual)
            case "pub:info:pair":
                return [[pair, _info(market)] for pair, market in self._spot.items()]
            case "pub:info:pair:futures":
                return [[pair, _info(market)] for pair, market in self._perpetual.items()]
            case "pub:list:pair:securities" | "pub:list:pair:margin":
                return []
            case "pub:map:currency:sym":
                return [*_NAMES.items(), ("USTF0", "USDt0")]
        raise Refused("conf: invalid")


EXCHANGE = Bitfinex


def _pair(base: str, quote: str, suffix: str) -> str:
    """BTCUSD of two codes of three characters, else DOGE:USD, BTCF0:USTF0."""
    codes = [_CODES.get(name, name) + suffix for name in (base, quote)]
    return ("" if all(len(code) == 3 for code in codes) else ":").join(codes)


def _info(market: Market) -> list[object]:
    """Order sizes are at places 3 and 4, margins at 8 and 9."""
    smallest = str(10.0**-market.digits.amount)
    return [None, None, None, smallest, "100000.0", None, None, None, 0.2, 0.1, None, None]


def _traded(question: Question, limit: int) -> Rows:
    """Candles with trades, ascending: the oldest `limit` of the range, or the newest."""
    market, span = question.market, question.span
    low = max(question.start, spans.open_of(market.first_ms, span))
    high = min(question.end, question.now)
    reach = max(limit, 50) * span * 1_000
    parts: list[Rows] = []
    count = 0
    while low <= high and count < limit:
        bounds = (
            (low, min(high, low + reach)) if question.ascending else (max(low, high - reach), high)
        )
        rows = market.candles(span, *bounds, question.now)
        rows = rows[(rows[:, COUNT] > 0) | (rows[:, VOLUME] > 0)]
        count += len(rows)
        if question.ascending:
            parts.append(rows)
            low = bounds[1] + 1
        else:
            parts.insert(0, rows)
            high = bounds[0] - 1
    whole = np.concatenate(parts) if parts else empty()
    return whole[:limit] if question.ascending else whole[-limit:]


def _lines(rows: Rows, question: Question) -> list[str]:
    """Time, open, close, high, low, volume as JSON numbers without zeros at their ends."""
    opened, *decimals = texts(rows, question.market.digits)[:6]
    columns = (map(number, column) for column in decimals)
    lines = [
        f"[{time},{open_},{close},{high},{low},{volume}]"
        for time, open_, high, low, close, volume in zip(opened, *columns, strict=True)
    ]
    return lines if question.ascending else lines[::-1]


def _list(lines: list[str]) -> bytes:
    return f"[{','.join(lines)}]".encode()


def _limited(sent: dict[str, str], default: int) -> int:
    limit = _integer(sent, "limit", default)
    if not 0 < limit <= _MAX_LIMIT:
        raise Refused("limit: invalid")
    return limit


def _integer(sent: dict[str, str], name: str, default: int) -> int:
    text = sent.get(name, str(default))
    if not text.removeprefix("-").isdecimal():
        raise Refused(f"{name}: invalid")
    return int(text)


def _json(content: object, status: int = 200) -> Reply:
    return Reply(status, Body(json.dumps(content, separators=(",", ":")).encode()))
