"""Coinbase Exchange, market data by REST: candles, trades, book, products, time; and its feed.

https://docs.cdp.coinbase.com/exchange/introduction/welcome. From general knowledge and not
documented: the words for bounds that are no times or turned round.
"""

import json
import time
from collections.abc import Mapping
from datetime import datetime

from dccd_sandbox import spans
from dccd_sandbox.candles import CLOSE, TIME, VOLUME, Rows, empty, numbers
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.coinbase_stream import CoinbaseStream, level_of, print_of, prints, stamp
from dccd_sandbox.exchanges.base import Exchange, Query, World
from dccd_sandbox.http import Body, Candles, Reply, Request
from dccd_sandbox.limits import WeightLimit
from dccd_sandbox.market import Market
from dccd_sandbox.spans import DAY_MS
from dccd_sandbox.tape import NO_TAPE

GRANULARITIES = (60, 300, 900, 3_600, 21_600, 86_400)
_MOST, _NEWEST = 300, 350
_MOST_TRADES = 1_000
_RATE, _BURST = 10.0, 15.0
_UNPAGED = "cache-control", "public, max-age=300"


class Refused(Exception):
    """HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TokenBucket(WeightLimit):
    """Ten requests a second, fifteen at once; a limit of 0 is none."""

    def reset(self) -> None:
        """A full bucket."""
        super().reset()
        self._tokens, self._filled = _BURST, time.monotonic()

    def allows(self) -> bool:
        """Take a token if there is one. `highest` is how many were out at once."""
        now = time.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._filled) * _RATE)
        self._filled = now
        if self.limit and self._tokens < 1:
            return False
        self._tokens -= 1
        self.highest = max(self.highest, round(_BURST - self._tokens))
        return True


class Coinbase(Exchange):
    """Each market as a product BASE-QUOTE."""

    # eight a second, twenty at once
    connects = (20, 2.5)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.limit: TokenBucket = TokenBucket(world.weight_limit)
        self._products = {f"{m.base}-{m.quote}": m for m in world.markets.values()}

    def answer(self, request: Request, path: str) -> Reply:
        """A reply; errors are {"message"}."""
        if not self.limit.allows():
            return self.refusal(429, 0)
        sent = dict(request.query)
        try:
            match path.strip("/").split("/"):
                case ["products"]:
                    return _json([self._product(name) for name in self._products])
                case ["products", name, *rest]:
                    return self._of(name, rest, sent)
                case ["time"]:
                    now = self.world.clock.now()
                    return _json({"iso": stamp(now), "epoch": now / 1_000})
        except Refused as error:
            return _json({"message": str(error)}, error.status)
        return _json({"message": "NotFound"}, 404)

    def _of(self, name: str, what: list[str], sent: Mapping[str, str]) -> Reply:
        market = self._market(name)
        match what:
            case []:
                return _json(self._product(name))
            case ["candles"]:
                return self._candles(market, sent)
            case ["trades"]:
                return self._trades(market, sent)
            case ["book"]:
                return _json(_book(market, sent, self.world.clock.now()))
        raise Refused(404, "NotFound")

    def refusal(self, status: int, retry_after: int) -> Reply:
        """Too many requests; no header tells how long to wait, and no ban is documented."""
        return _json({"message": "Public rate limit exceeded"}, 429)

    def forget(self) -> None:
        """Nothing is kept."""

    def stream(self, path: str, query: Query) -> CoinbaseStream | None:
        """One address for all."""
        return CoinbaseStream(self._products) if path in ("", "/") else None

    def market_of(self, symbol: str) -> Market:
        """By the name of a product."""
        return self._products[symbol]

    def _market(self, name: str) -> Market:
        if name not in self._products:
            raise Refused(404, "NotFound")
        return self._products[name]

    def _product(self, name: str) -> dict[str, object]:
        market = self._products[name]
        ended = market.last_ms is not None and market.last_ms < self.world.clock.now() - DAY_MS
        return {
            "id": name,
            "base_currency": market.base,
            "quote_currency": market.quote,
            "quote_increment": market.price(1, market.digits.price),
            "base_increment": market.amount(1, market.digits.amount),
            "display_name": name,
            "min_market_funds": "1",
            **dict.fromkeys(("margin_enabled", "post_only", "limit_only", "cancel_only"), False),
            "status": "delisted" if ended else "online",
            "status_message": "",
            "trading_disabled": ended,
            "fx_stablecoin": False,
            "max_slippage_percentage": "0.03000000",
            "auction_mode": False,
            "high_bid_limit_percentage": "",
        }

    def _candles(self, market: Market, sent: Mapping[str, str]) -> Reply:
        text = sent.get("granularity", "")
        if text not in map(str, GRANULARITIES):
            raise Refused(400, "Unsupported granularity")
        span, now = int(text), self.world.clock.now()
        whole = "start" in sent and "end" in sent
        if whole:
            start, end = _moment(sent, "start"), _moment(sent, "end")
            if start > end:
                raise Refused(400, "start must be before end")
            if end - start > _MOST * span * 1_000:
                raise Refused(
                    400,
                    "granularity too small for the requested time range. "
                    f"Count of aggregations requested exceeds {_MOST}",
                )
        else:
            start, end = now - (_NEWEST - 1) * span * 1_000, now

        def rows() -> Rows:
            # The bar that `start` is in precedes it, and comes all the same.
            if market.source_span(span) is None:
                return empty()
            found = market.candles(span, spans.open_of(start, span), end, now)
            return found[found[:, VOLUME] > 0]

        def encode(found: Rows) -> bytes:
            return _encode(found, market)

        headers = () if whole else (_UNPAGED,)
        return Reply(200, Body(encode(rows())), headers, Candles(rows, encode))

    def _trades(self, market: Market, sent: Mapping[str, str]) -> Reply:
        limit = min(_integer(sent, "limit") or _MOST_TRADES, _MOST_TRADES)
        after, before = _integer(sent, "after"), _integer(sent, "before") or 0
        now = self.world.clock.now()
        newest = _newest(market, now)
        last = newest if after is None else min(newest, after - 1)
        first = max(before, last - limit, 0) + 1
        entries = _prints(market, first, last, now)[::-1]
        ends = (("cb-before", entries[0]), ("cb-after", entries[-1])) if entries else ()
        return _json(entries, 200, tuple((name, str(one["trade_id"])) for name, one in ends))


EXCHANGE = Coinbase


def _newest(market: Market, now: int) -> int:
    """The id of the last trade up to now. Of a market that is no tape of trades there is one trade
    for each of its candles, and the id is the number of the candle since the first."""
    if now < market.first_ms:
        return 0
    if market.tape is not NO_TAPE:
        return market.tape.next_id(now)
    last = now if market.last_ms is None else min(now, market.last_ms)
    return (last - market.first_ms) // (_shortest(market) * 1_000) + 1


def _prints(market: Market, first: int, last: int, now: int) -> list[dict[str, object]]:
    """Trades first..last, in order; Coinbase counts them from 1, the market from 0."""
    if first > last:
        return []
    if market.tape is not NO_TAPE:
        return prints(market, market.tape.from_id(first - 1, last - first + 1, now))
    step = _shortest(market) * 1_000
    start, end = (market.first_ms + (number - 1) * step for number in (first, last))
    rows = market.candles(step // 1_000, start, end, now)
    return [
        print_of(
            market,
            (row[TIME] - market.first_ms) // step + 1,
            (row[TIME], row[CLOSE], row[VOLUME], True),
        )
        for row in rows[rows[:, VOLUME] > 0].tolist()
    ]


def _book(market: Market, sent: Mapping[str, str], now: int) -> dict[str, object]:
    """Level 1 is the best of each side, level 2 all of them. Level 3 wants a key."""
    level = sent.get("level", "1")
    if level not in ("1", "2"):
        raise Refused(
            400 if level != "3" else 401, "Invalid level" if level != "3" else "Unauthorized."
        )
    book = market.book.at(now)
    book = book.top(1) if level == "1" else book
    sides = {
        name: [[*level_of(market, *level), 1 + level[1] % 5] for level in levels]
        for name, levels in (("bids", book.bids), ("asks", book.asks))
    }
    head = {"sequence": book.sequence * 7, "auction_mode": False, "auction": None}
    return sides | head | {"time": stamp(now)}


def _shortest(market: Market) -> int:
    return next(span for span in (*GRANULARITIES, spans.WEEK) if market.source_span(span))


def _encode(rows: Rows, market: Market) -> bytes:
    """Newest first: seconds, then LOW before high, and numbers without quotes."""
    opened, o, high, low, close, volume, *_ = numbers(rows, market.digits)
    seconds = [moment // 1_000 for moment in opened]
    table = list(zip(seconds, low, high, o, close, volume, strict=True))
    return json.dumps(table[::-1], separators=(",", ":")).encode()


def _moment(sent: Mapping[str, str], name: str) -> int:
    """A bound in ms, sent as ISO text or as seconds."""
    text = sent[name]
    try:
        return int(text) * 1_000 if text.isdigit() else epoch_ms(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise Refused(400, f"Invalid {name}") from None


def _integer(sent: Mapping[str, str], name: str) -> int | None:
    text = sent.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(400, f"invalid {name}")
    return int(text) if text else None


def _json(content: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(status, Body(json.dumps(content, separators=(",", ":")).encode()), headers)
