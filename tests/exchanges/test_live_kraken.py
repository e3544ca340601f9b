"""What is special of Kraken's stream: checksums, acknowledgements per market, candles that nothing
closes but the next one. The recorded traffic is of version 1, whose checksums are the same."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from dccd_core.exchanges.base import Answer, Instrument, Request
from dccd_core.exchanges.kraken import Kraken
from dccd_core.exchanges.live import Frame, Inbox, Subscription
from dccd_core.models import Channel, Symbol

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
recorded = pytest.mark.skipif(not CAPTURES.exists(), reason="no captures here")
BTC = Instrument(Symbol("BTC", "USD"), "XBTUSD", True, price_digits=1, amount_digits=8)
ETH = Instrument(Symbol("ETH", "USD"), "ETHUSD", True, price_digits=2, amount_digits=8)
MATIC = Instrument(Symbol("MATIC", "USD"), "MATICUSD", True, price_digits=4, amount_digits=8)


def capture(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CAPTURES / name).read_text().splitlines()]


def recorded_markets() -> dict[str, Instrument]:
    """The markets of the capture by their names in version 1; it is from before `status`."""
    body = next(one["msg"] for one in capture("kraken.assetpairs.jsonl") if one["dir"] == "http")
    names = {pair.get("wsname"): pair["altname"] for pair in body["result"].values()}
    for pair in body["result"].values():
        pair["status"] = "online"
    answer = Answer(200, {}, msgspec.json.encode(body), 0)
    Kraken().check(answer)
    listed = Kraken().instruments(answer, Request("/")).instruments
    markets = {market.name: market for market in listed}
    return {name: markets[alt] for name, alt in names.items() if alt in markets}


def books() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for one in capture("kraken.ws_v1.jsonl"):
        if one["dir"] == "in" and isinstance(one["msg"], list) and "book" in one["msg"][-2]:
            yield one["msg"][-1], one["msg"][1:-2]


def changed(side: dict[float, float], levels: list[list[str]]) -> None:
    for price, amount, *_ in levels:
        side[float(price)] = float(amount)
        if not float(amount):
            del side[float(price)]


def cut(side: dict[float, float], *, best_first: bool) -> list[tuple[float, float]]:
    best = sorted(side.items(), reverse=best_first)[:1_000]
    side.clear()
    side.update(best)
    return best


@recorded
def test_checksums_of_recorded_books_are_matched() -> None:
    markets, session = recorded_markets(), Kraken().session()
    sides: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
    matched = 0
    digits: dict[str, int] = {}
    for name, parts in books():
        for part in parts:
            if "as" in part or "bs" in part:
                sides[name] = ({}, {})
            for keys, side in zip(("ab", "bb"), ((1, 0)), strict=True):
                for key in (keys[0], keys[0] + "s"):
                    changed(sides[name][side], part.get(key, []))
                    # version 1 prints more decimals than the pair has, always as many
                    for price, *_ in part.get(key, []):
                        digits[name] = len(price.partition(".")[2])
        bids, asks = (cut(side, best_first=not i) for i, side in enumerate(sides[name]))
        given = next((part["c"] for part in parts if "c" in part), None)
        if given is not None:
            market = replace(markets[name], price_digits=digits[name])
            assert session.checksum(market, bids, asks) == int(given)
            matched += 1
    assert matched == 404


@recorded
def test_every_recorded_market_has_a_symbol_of_its_own() -> None:
    markets = recorded_markets()
    assert len(markets) == 293
    assert len({market.symbol for market in markets.values()}) == 293
    assert markets["XBT/USD"].symbol == Symbol("BTC", "USD")
    assert markets["XDG/EUR"].symbol == Symbol("DOGE", "EUR")
    assert markets["XTZ/XBT"].symbol == Symbol("XTZ", "BTC")
    assert (markets["XBT/USD"].price_digits, markets["XBT/USD"].amount_digits) == (1, 8)


def book(kind: str, symbol: str, bids: str, checksum: int = 7) -> Frame:
    text = (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],'
        f'"asks":[],"checksum":{checksum},"timestamp":"2026-05-27T12:00:00.440295Z"}}]}}'
    )
    return Frame(text.encode(), 1)


def heard(*frames: Frame, feeds: tuple[Subscription, ...]) -> Inbox:
    session, inbox = Kraken().session(), Inbox()
    session.subscribe(feeds)
    session.read_all(frames, inbox)
    return inbox


def test_the_documented_book_has_the_documented_checksum() -> None:
    """https://docs.kraken.com/api/docs/guides/spot-ws-book-v2"""
    prices = [45285.2, 45286.4, 45286.6, 45289.6, 45290.2, 45291.8, 45294.7, 45296.1, 45297.5]
    amounts = [0.001, 1.54571953, 1.54571109, 1.54560911, 0.1589066, 1.54553491, 0.04454749]
    asks = list(zip([*prices, 45299.5], [*amounts, 0.3538, 0.09945542, 0.18772827], strict=True))
    prices = [45283.5, 45283.4, 45282.1, 45281.0, 45280.3, 45279.0, 45277.6, 45277.5, 45277.3]
    amounts = [0.1, 1.54582015, 0.1, 0.1, 1.54592586, 0.0799, 0.03310103, 0.3, 1.54602737]
    bids = list(zip([*prices, 45276.6], [*amounts, 0.15445238], strict=True))
    assert Kraken().session().checksum(BTC, bids, asks) == 3_310_070_434


def test_a_checksum_is_of_all_decimals_without_leading_zeros() -> None:
    bids, asks = [(0.5, 1.25), (0.4999, 30927.68066226)], [(0.501, 0.00000001)]
    text = b"50101500012500000049993092768066226"
    assert Kraken().session().checksum(MATIC, bids, asks) == crc32(text)
    assert Kraken().session().checksum(MATIC, bids, [*asks, *[(9.0, 1.0)] * 20]) == (
        Kraken().session().checksum(MATIC, bids, [*asks, *[(9.0, 1.0)] * 9])
    )


def test_a_number_that_no_float_holds_ends_the_checksums_of_its_market_only() -> None:
    feeds = tuple(Subscription(one, Channel.BOOK, depth=10) for one in (BTC, ETH))
    frames = [
        book("snapshot", "BTC/USD", '{"price":1.0,"qty":1.0}'),
        book("snapshot", "ETH/USD", '{"price":1.0,"qty":12345678901.12345678}'),
        book("update", "ETH/USD", '{"price":2.0,"qty":1}'),
        book("update", "BTC/USD", '{"price":2.0,"qty":1}'),
    ]
    inbox = heard(*frames, feeds=feeds)
    assert [change.checksum for change in inbox.books["XBTUSD"]] == [7, 7]
    assert [change.checksum for change in inbox.books["ETHUSD"]] == [None, None]


@pytest.mark.parametrize(
    ("wanted", "depth"), [(1, 10), (10, 10), (11, 25), (999, 1_000), (0, 1_000), (5_000, 1_000)]
)
def test_the_smallest_depth_that_is_deep_enough_is_asked_for(wanted: int, depth: int) -> None:
    (message,) = Kraken().session().subscribe([Subscription(BTC, Channel.BOOK, depth=wanted)])
    assert json.loads(message)["params"]["depth"] == depth


def bar(minute: int, volume: float, trades: int = 1) -> Frame:
    text = (
        f'{{"channel":"ohlc","type":"update","data":[{{"symbol":"BTC/USD","open":1.0,"high":1.0,'
        f'"low":1.0,"close":1.0,"trades":{trades},"volume":{volume},"vwap":1.0,"interval":1,'
        f'"interval_begin":"2026-05-27T12:{minute:02}:00.000000000Z"}}]}}'
    )
    return Frame(text.encode(), minute)


def test_a_candle_is_closed_by_a_later_one_of_its_own_market_and_span() -> None:
    feeds = (Subscription(BTC, Channel.OHLC, 60), Subscription(BTC, Channel.OHLC, 300))
    inbox = heard(bar(0, 1.0), bar(0, 2.0, 2), bar(3, 4.0), bar(3, 5.0, 2), feeds=feeds)
    assert [(row.volume, row.trades) for row in inbox.candles["XBTUSD", 60]] == [(2.0, 2)]
    inbox = heard(bar(0, 1.0), bar(1, 4.0), bar(0, 3.0, 9), bar(2, 1.0), feeds=feeds)
    assert [row.volume for row in inbox.candles["XBTUSD", 60]] == [1.0, 3.0, 4.0]


def test_a_feed_that_begins_anew_closes_no_candle_that_it_left_unfinished() -> None:
    """One that was stopped while others kept the connection, and started again a day later."""
    feed = Subscription(BTC, Channel.OHLC, 60)
    session, inbox = Kraken().session(), Inbox()
    session.subscribe([feed])
    session.read_all([bar(0, 1.0), bar(1, 2.0)], inbox)
    session.unsubscribe([feed])
    session.subscribe([feed])
    session.read_all([bar(30, 3.0), bar(31, 4.0)], inbox)
    assert [row.volume for row in inbox.candles["XBTUSD", 60]] == [1.0, 3.0]


def test_a_second_acknowledgement_accepts_nothing_else() -> None:
    feeds = (Subscription(BTC, Channel.TRADES), Subscription(ETH, Channel.TRADES))
    told = Frame(
        b'{"method":"subscribe","req_id":1,"result":{"channel":"trade","symbol":"BTC/USD"},'
        b'"success":true}',
        1,
    )
    inbox = heard(told, told, feeds=feeds)
    assert inbox.accepted == [feeds[0]]
    assert inbox.bad == []


def test_the_end_of_a_feed_is_no_acceptance_and_the_feed_may_begin_anew() -> None:
    feed = Subscription(BTC, Channel.TRADES)
    session, inbox = Kraken().session(), Inbox()
    ack = '{{"method":"{}","req_id":{},"result":{{"symbol":"BTC/USD"}},"success":true}}'
    session.subscribe([feed])
    session.unsubscribe([feed])
    session.subscribe([feed])
    frames = [("subscribe", 1), ("unsubscribe", 2), ("subscribe", 3)]
    session.read_all([Frame(ack.format(*one).encode(), 1) for one in frames], inbox)
    assert inbox.accepted == [feed, feed]
