"""Coinbase Exchange's feed: matches, level2_batch and heartbeat, without a key.

https://docs.cdp.coinbase.com/exchange/websocket-feed/overview. From general knowledge and not
documented: the words of refusals, but for that of channels that want a key; that a request with a
product that does not exist subscribes to nothing.
"""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from dccd_sandbox.book import Change, merged
from dccd_sandbox.candles import Trades
from dccd_sandbox.clock import iso
from dccd_sandbox.feeds import BookFeed, TradeFeed
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Close, Kind, Message, Stream

CHANNELS = ("matches", "level2_batch", "heartbeat")
_KEYED = ("level2", "level3", "full")
_NO_KEY = (
    "level2, level3, and full channels now require authentication. "
    "https://docs.cloud.coinbase.com/exchange/docs/websocket-auth"
)
_BATCH_MS, _BEAT_MS = 50, 1_000
# The sequence of the full channel goes on with every order, of which there is one in each trade's.
_ORDERS = 7


def stamp(ms: int) -> str:
    """A time as Coinbase writes it, to the microsecond."""
    return iso(ms).replace("+00:00", "000Z")


def print_of(market: Market, number: int, trade: tuple[int, int, int, bool]) -> dict[str, object]:
    """A trade (time in ms, ticks, lots, whether the taker bought). The side is the maker's."""
    time, ticks, lots, buy = trade
    price, size = level_of(market, ticks, lots)
    side = "sell" if buy else "buy"
    return {"trade_id": number, "side": side, "size": size, "price": price, "time": stamp(time)}


def prints(market: Market, found: Trades) -> list[dict[str, object]]:
    """Trades in order, counted from 1."""
    columns = (found.time.tolist(), found.ticks.tolist(), found.lots.tolist(), found.buy.tolist())
    return [
        print_of(market, number, trade)
        for number, trade in enumerate(zip(*columns, strict=True), found.first_id + 1)
    ]


def level_of(market: Market, ticks: int, lots: int) -> list[str]:
    """Price and size."""
    digits = market.digits
    return [market.price(ticks, digits.price), market.amount(lots, digits.amount)]


@dataclass(slots=True)
class _Product:
    """What a connection hears of a product."""

    name: str
    market: Market
    trades: TradeFeed | None = None
    book: BookFeed | None = None
    batch: list[Change] = field(default_factory=list)
    beat: int | None = None


class Refused(Exception):
    """The reason of an error."""


class CoinbaseStream(Stream):
    """One connection. A request is answered by all that the connection is subscribed to."""

    messages = 100
    too_many = Close(1008, "Rate limit exceeded")

    def __init__(self, markets: dict[str, Market]) -> None:
        super().__init__()
        self._markets = markets
        self._products: dict[str, _Product] = {}

    def heard(self, text: str, now: int) -> list[Message]:
        """subscribe and unsubscribe: what is new begins behind the answer."""
        try:
            kind, pairs = _request(text)
            unknown = [name for _, name in pairs if name not in self._markets]
            if unknown and kind == "subscribe":
                raise Refused(f"{unknown[0]} is not a valid product")
        except Refused as error:
            return [
                _said({"type": "error", "message": "Failed to subscribe", "reason": str(error)})
            ]
        new = [pair for pair in pairs if f"{pair[0]}:{pair[1]}" not in self.topics]
        topics = {f"{channel}:{name}" for channel, name in pairs}
        if kind == "unsubscribe":
            self.topics -= topics
            self._drop(pairs)
            return [self._subscriptions()]
        self.topics |= topics
        began = [one for channel, name in new for one in self._begin(channel, name, now)]
        return [self._subscriptions(), *began]

    def refused(self, text: str, now: int) -> list[Message]:
        """An error in place of the list."""
        reason = "refused by the sandbox"
        return [_said({"type": "error", "message": "Failed to subscribe", "reason": reason})]

    def due(self, now: int) -> list[Message]:
        """What has happened since: trades, then changes of each 50 ms as one, then heartbeats."""
        return [message for product in self._products.values() for message in _due(product, now)]

    def _subscriptions(self) -> Message:
        """level2_batch is echoed as level2_50."""
        channels = []
        for channel in CHANNELS:
            topics = [topic for topic in self.topics if topic.startswith(f"{channel}:")]
            if topics:
                names = sorted(topic.partition(":")[2] for topic in topics)
                echo = "level2_50" if channel == "level2_batch" else channel
                channels.append({"name": echo, "product_ids": names, "account_ids": None})
        return _said({"type": "subscriptions", "channels": channels})

    def _begin(self, channel: str, name: str, now: int) -> Iterable[Message]:
        market = self._markets[name]
        product = self._products.setdefault(name, _Product(name, market))
        if channel == "matches":
            product.trades = TradeFeed(market, now)
            last = prints(market, market.tape.newest(1, now))
            return [_match(product, row, "last_match") for row in last]
        if channel == "level2_batch":
            product.book, product.batch = BookFeed(market, now), []
            return [_snapshot(product, product.book)]
        product.beat = now // _BEAT_MS
        return []

    def _drop(self, pairs: list[tuple[str, str]]) -> None:
        for channel, name in pairs:
            product = self._products.get(name)
            if product is None:
                continue
            if channel == "matches":
                product.trades = None
            elif channel == "level2_batch":
                product.book, product.batch = None, []
            else:
                product.beat = None


def _request(text: str) -> tuple[str, list[tuple[str, str]]]:
    """What is asked and of which (channel, product). Refused where it makes no sense."""
    try:
        content = json.loads(text)
    except ValueError:
        raise Refused("Malformed JSON") from None
    if not isinstance(content, dict) or content.get("type") not in ("subscribe", "unsubscribe"):
        raise Refused("Type has to be either subscribe or unsubscribe")
    products = content.get("product_ids", [])
    pairs = []
    for entry in content.get("channels", []):
        mine = isinstance(entry, dict)
        channel = entry.get("name") if mine else entry
        if channel in _KEYED:
            raise Refused(_NO_KEY)
        if channel not in CHANNELS:
            raise Refused(f"{channel} is not a valid channel")
        names = entry.get("product_ids", products) if mine else products
        pairs += [(str(channel), str(name)) for name in names]
    if not pairs:
        raise Refused("channels and product_ids must be provided")
    return content["type"], pairs


def _due(product: _Product, now: int) -> Iterable[Message]:
    if product.trades is not None:
        found = product.trades.due(now)
        for row in prints(product.market, found):
            yield _match(product, row, "match")
    if product.book is not None:
        product.batch += product.book.due(now)
        # a batch is sent when its time is over
        ready = [one for one in product.batch if one.time // _BATCH_MS < now // _BATCH_MS]
        product.batch = product.batch[len(ready) :]
        for batch in _batches(ready):
            yield _update(product, merged(batch))
    if product.beat is not None:
        for beat in range(product.beat + 1, now // _BEAT_MS + 1):
            yield _heartbeat(product, beat * _BEAT_MS)
            product.beat = beat


def _batches(changes: list[Change]) -> list[list[Change]]:
    found: list[list[Change]] = []
    for change in changes:
        if not found or change.time // _BATCH_MS != found[-1][0].time // _BATCH_MS:
            found.append([])
        found[-1].append(change)
    return found


def _match(product: _Product, row: dict[str, object], kind: str) -> Message:
    number = int(str(row["trade_id"]))
    orders = {
        f"{who}_order_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{who} {product.name} {number}"))
        for who in ("maker", "taker")
    }
    rest = {"product_id": product.name, "sequence": number * _ORDERS}
    content = {"type": kind} | orders | row | rest
    return Message(_text(content), Kind.TRADES, product.market.symbol)


def _snapshot(product: _Product, feed: BookFeed) -> Message:
    sides = {
        name: [level_of(product.market, *level) for level in levels]
        for name, levels in (("asks", feed.book.asks), ("bids", feed.book.bids))
    }
    content = {"type": "snapshot", "product_id": product.name} | sides
    return Message(_text(content), Kind.BOOK, product.market.symbol)


def _update(product: _Product, change: Change) -> Message:
    market = product.market
    changes = [["buy", *level_of(market, *level)] for level in change.bids]
    changes += [["sell", *level_of(market, *level)] for level in change.asks]
    content = {"type": "l2update", "product_id": product.name, "changes": changes}
    return Message(_text(content | {"time": stamp(change.time)}), Kind.BOOK, market.symbol)


def _heartbeat(product: _Product, now: int) -> Message:
    count = product.market.tape.next_id(now)
    numbers = {"last_trade_id": count, "sequence": count * _ORDERS}
    content = {"type": "heartbeat", "product_id": product.name, "time": stamp(now)} | numbers
    return Message(_text(content), Kind.BEAT, product.market.symbol)


def _text(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))


def _said(content: object) -> Message:
    return Message(_text(content))
