"""Kraken spot by REST: Time, SystemStatus, Assets, AssetPairs, OHLC, Trades, Depth.

https://docs.kraken.com/api/docs/rest-api. From general knowledge, not documented: `since` is
exclusive, few trades share a nanosecond, a request a second means twelve in ten seconds, weeks and
fortnights open as many days after 1970 began as they are long (669 weeks, seen in 2026: Thursdays).
"""

import json
import time
from collections import defaultdict
from dataclasses import dataclass

from dccd_sandbox import spans
from dccd_sandbox.candles import Rows, Trades, decimal, texts
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import HTML, Body, Candles, Reply, Request
from dccd_sandbox.kraken_streams import KrakenStream
from dccd_sandbox.kraken_topics import wire_name
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market, Window
from dccd_sandbox.stream import Stream

MINUTES = (1, 5, 15, 30, 60, 240, 1_440, 10_080, 21_600)
_NEWEST = 720
_MOST_TRADES, _MOST_LEVELS = 1_000, 500
_MOST, _SECONDS = 12, 10.0
_NANOSECONDS = 10**18
"""From here on `since` is in nanoseconds, below it in seconds."""
_APART = 100  # so many trades of a millisecond are a nanosecond apart, the rest shares the last
_AMOUNT_PLACES, _BOOK_PLACES = 8, 5
_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_OLD = {"XBT", "XDG", "ETH", "LTC", "XRP", "XMR", "ETC", "ZEC", "REP", "XLM", "MLN"}
_FIAT = {"USD", "EUR", "GBP", "CAD", "JPY", "AUD"}


class Refused(Exception):
    """HTTP 200 with {"error": [text]}."""


class PublicLimit(WeightLimit):
    """Requests of the last seconds, of each endpoint and pair where Kraken counts so."""

    def reset(self) -> None:
        """Forget all requests."""
        super().reset()
        self._asked: dict[str, list[float]] = defaultdict(list)

    def refuses(self, key: str) -> bool:
        """Count a request; whether it is too much."""
        now = time.time()
        asked = [moment for moment in self._asked[key] if moment > now - _SECONDS] + [now]
        self._asked[key] = asked
        self.highest = max(self.highest, len(asked))
        return bool(self.limit) and len(asked) > _MOST


@dataclass(frozen=True, slots=True)
class Pair:
    """A market by Kraken's names: canonical, of requests, of version 1 of the WebSocket."""

    market: Market
    base: str
    quote: str

    @property
    def altname(self) -> str:
        """XBTUSD."""
        return self.base + self.quote

    @property
    def canonical(self) -> str:
        """XXBTZUSD where both codes are of the first years, else as the altname."""
        assets = (asset(self.base), asset(self.quote))
        old = all(name != code for name, code in zip(assets, (self.base, self.quote), strict=True))
        return "".join(assets) if old else self.altname

    @property
    def names(self) -> set[str]:
        """All that requests may call it."""
        return {self.altname, self.canonical, f"{self.base}/{self.quote}", wire_name(self.market)}


class Kraken(Exchange):
    """The markets of the sandbox as Kraken would list them."""

    connects = (150, 600.0)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.limit: PublicLimit = PublicLimit(world.weight_limit)
        self._pairs = [Pair(m, code(m.base), code(m.quote)) for m in world.markets.values()]
        self._by_name = {name: pair for pair in self._pairs for name in pair.names}

    def answer(self, request: Request, path: str) -> Reply:
        """A reply; errors are lists with HTTP 200."""
        method = path.removeprefix("/0/public/")
        sent = dict(request.query)
        try:
            known = method in ("OHLC", "Trades", "Depth", "AssetPairs", "Assets", "Time")
            if path == method or not (known or method == "SystemStatus"):
                raise Refused("EGeneral:Unknown method")
            counted = f"{method} {sent.get('pair')}" if method in ("OHLC", "Trades") else ""
            if self.limit.refuses(counted):
                raise Refused("EGeneral:Too many requests")
            return self._result(method, sent)
        except Refused as error:
            return _json({"error": [str(error)]})

    def refusal(self, status: int, retry_after: int) -> Reply:
        """Cloudflare's, which stands before the exchange."""
        headers = (("retry-after", str(retry_after)),)
        return Reply(429, Body(b"error code: 1015", HTML), headers)

    def stream(self, path: str, query: Query) -> Stream | None:
        """Version 2."""
        return KrakenStream(self.world.markets.values()) if path == "/v2" else None

    def forget(self) -> None:
        """Nothing is kept."""

    def _result(self, method: str, sent: dict[str, str]) -> Reply:
        now = self.world.clock.now()
        match method:
            case "OHLC":
                return self._ohlc(self._pair(sent), sent, now)
            case "Trades":
                return _result(_trades(self._pair(sent), sent, now))
            case "Depth":
                return _result(_depth(self._pair(sent), sent, now))
            case "AssetPairs":
                return _result({pair.canonical: _listed(pair) for pair in self._pairs})
            case "Assets":
                codes = sorted({one for pair in self._pairs for one in (pair.base, pair.quote)})
                return _result({asset(one): _asset(one) for one in codes})
            case "Time":
                return _result({"unixtime": now // 1_000, "rfc1123": ""})
        return _result({"status": "online", "timestamp": f"{now // 1_000}"})

    def _pair(self, sent: dict[str, str]) -> Pair:
        if "pair" not in sent:
            raise Refused("EGeneral:Invalid arguments")
        if sent["pair"] not in self._by_name:
            raise Refused("EQuery:Unknown asset pair")
        return self._by_name[sent["pair"]]

    def _ohlc(self, pair: Pair, sent: dict[str, str], now: int) -> Reply:
        minutes, since = _integer(sent, "interval", 1), _integer(sent, "since", -1) * 1_000
        span = minutes * 60
        # the sandbox's weeks open on Mondays, Kraken's on Thursdays
        shift = 4 * spans.DAY_MS if span == spans.WEEK else 0
        if minutes not in MINUTES or pair.market.source_span(span, shift) is None:
            raise Refused("EGeneral:Invalid arguments:interval")
        newest = pair.market.page(Window(span, None, None, _NEWEST, now, shift))

        def rows() -> Rows:
            later = newest[newest[:, 0] > since]
            return later if len(later) else newest[-1:]  # the running one is always there

        def encode(shown: Rows) -> bytes:
            last = int(newest[-2, 0]) // 1_000 if len(newest) > 1 else 0
            lines = ",".join(_lines(shown, pair.market))
            return (
                f'{{"error":[],"result":{{"{pair.canonical}":[{lines}],"last":{last}}}}}'.encode()
            )

        return Reply(200, Body(encode(rows())), candles=Candles(rows, encode))


EXCHANGE = Kraken


def code(name: str) -> str:
    """BTC is XBT here."""
    return _NAMES.get(name, name)


def asset(code: str) -> str:
    """XXBT, ZUSD; newer ones have no letter before."""
    return f"X{code}" if code in _OLD else f"Z{code}" if code in _FIAT else code


def _lines(rows: Rows, market: Market) -> list[str]:
    """Time in seconds, open, high, low, close, average price, volume, trades."""
    opened, *prices = texts(rows, market.digits)[:5]
    lines = []
    for index, (begin, *columns) in enumerate(zip(opened, *prices, strict=True)):
        lots, quote, count = (int(value) for value in rows[index, 5:8])
        # the average is in ticks as prices are
        average = decimal(round(quote / lots), market.digits.price) if lots else "0.0"
        texted = [*columns, average, market.amount(lots, _AMOUNT_PLACES)]
        lines.append(f"[{begin // 1_000},{','.join(map(json.dumps, texted))},{count}]")
    return lines


def _trades(pair: Pair, sent: dict[str, str], now: int) -> dict[str, object]:
    limit, market = _integer(sent, "count", _MOST_TRADES), pair.market
    if not 1 <= limit <= _MOST_TRADES:
        raise Refused("EGeneral:Invalid arguments:count")
    if "since" in sent:
        since = _integer(sent, "since", 0)
        nanoseconds = since if since >= _NANOSECONDS else since * 10**9
        first = _after(market, nanoseconds) if nanoseconds else 0
        found = market.tape.from_id(first, limit, now)
    else:
        nanoseconds, found = 0, market.tape.newest(limit, now)
    last = _moment(market, found) if len(found) else nanoseconds
    return {pair.canonical: _rows(found, market), "last": str(last)}


def _moment(market: Market, trades: Trades) -> int:
    """When the last of some trades was, in nanoseconds: the times in rows have fewer digits."""
    number, time = trades.first_id + len(trades) - 1, int(trades.time[-1])
    return time * 10**6 + min(number - market.tape.next_id(time - 1), _APART - 1)


def _after(market: Market, nanoseconds: int) -> int:
    """Number of the first trade later than a moment."""
    time, rest = divmod(nanoseconds, 10**6)
    stop = market.tape.next_id(time)
    return stop if rest >= _APART - 1 else min(market.tape.next_id(time - 1) + rest + 1, stop)


def _rows(trades: Trades, market: Market) -> list[list[object]]:
    columns = (trades.time, trades.ticks, trades.lots, trades.buy)
    return [
        [
            market.price(ticks, max(_BOOK_PLACES, market.digits.price)),
            market.amount(lots, _AMOUNT_PLACES),
            moment / 1_000,
            "b" if buy else "s",
            "m" if number % 3 else "l",
            "",
            number,
        ]
        for number, (moment, ticks, lots, buy) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), trades.first_id
        )
    ]


def _depth(pair: Pair, sent: dict[str, str], now: int) -> dict[str, object]:
    limit, market = _integer(sent, "count", 100), pair.market
    if not 1 <= limit <= _MOST_LEVELS:
        raise Refused("EGeneral:Invalid arguments:count")
    book, places = market.book.at(now).top(limit), max(_BOOK_PLACES, market.digits.price)

    def side(levels: list[tuple[int, int]]) -> list[list[object]]:
        return [
            [market.price(ticks, places), market.amount(lots), book.time // 1_000]
            for ticks, lots in levels
        ]

    return {pair.canonical: {"asks": side(book.asks), "bids": side(book.bids)}}


def _listed(pair: Pair) -> dict[str, object]:
    return {
        "altname": pair.altname,
        "wsname": f"{pair.base}/{pair.quote}",
        "aclass_base": "currency",
        "base": asset(pair.base),
        "aclass_quote": "currency",
        "quote": asset(pair.quote),
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": pair.market.digits.price,
        "lot_decimals": _AMOUNT_PLACES,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": decimal(1, pair.market.digits.price),
        "status": "online",
    }


def _asset(code: str) -> dict[str, object]:
    digits = 4 if code in _FIAT else 10
    return {"aclass": "currency", "altname": code, "decimals": digits, "display_decimals": 5}


def _integer(sent: dict[str, str], name: str, default: int) -> int:
    text = sent.get(name, str(default))
    if not text.removeprefix("-").isdecimal():
        raise Refused(f"EGeneral:Invalid arguments:{name}")
    return int(text)


def _result(content: object) -> Reply:
    return _json({"error": [], "result": content})


def _json(content: object) -> Reply:
    return Reply(200, Body(json.dumps(content, separators=(",", ":")).encode()))
