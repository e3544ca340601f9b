"""What is special of Binance USD-M's streams: two addresses, books whose numbers leave holes, past
trades by id; and recorded traffic."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.binance_usdm import BinanceUsdm
from dccd_core.exchanges.live import BookChange, Frame, Inbox, Subscription
from dccd_core.exchanges.trades import TradesPage
from dccd_core.models import DAY, Channel, Symbol

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
recorded = pytest.mark.skipif(not CAPTURES.exists(), reason="no captures here")
BTC = Instrument(Symbol("BTC", "USDT", "PERP"), "BTCUSDT", trading=True)


def capture(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CAPTURES / name).read_text().splitlines()]


def heard(*streams: str) -> Inbox:
    """What the recorded streams of these names brought."""
    inbox = Inbox()
    frames = [
        Frame(msgspec.json.encode(one["msg"]), round(one["t"] * 1e6))
        for one in capture("binance_usdm.ws.jsonl")
        if one["dir"] == "in" and one["msg"]["stream"].split("@")[1] in streams
    ]
    BinanceUsdm().session().read_all(frames, inbox)
    assert inbox.bad == []
    return inbox


def follow(number: int, changes: list[BookChange]) -> tuple[int, int]:
    """Apply changes to a book of REST by the rule of BookChange: how many fit, how many not."""
    fit = gaps = 0
    for change in changes:
        first, last, previous = change.first or 0, change.last or 0, change.previous or 0
        if last <= number:
            continue
        if previous == number or (not fit and first <= number + 1 <= last):
            fit, number = fit + 1, last
        else:
            gaps += 1
    return fit, gaps


@recorded
def test_recorded_books_meet_their_snapshots_and_have_no_gap() -> None:
    inbox = heard("depth")
    found = {}
    for one in capture("binance_usdm.depth.jsonl"):
        name = one["url"].split("symbol=")[1].split("&")[0]
        book = BinanceUsdm().book(Answer(200, {}, msgspec.json.encode(one["msg"]), 0), BTC)
        found[name] = follow(book.sequence or 0, inbox.books[name])
    assert set(found) == set(inbox.books)
    assert all(fit > 0 and gaps == 0 for fit, gaps in found.values()), found
    assert sum(map(len, inbox.books.values())) == 230


@recorded
def test_recorded_trades_and_candles_are_read() -> None:
    inbox = heard("aggTrade", "kline_1m")
    assert sum(map(len, inbox.trades.values())) == 22
    for trades in inbox.trades.values():
        ids = [int(trade.trade_id) for trade in trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert not any(inbox.candles.values())  # twenty seconds: none was closed


def test_books_come_from_another_address_than_the_rest() -> None:
    paths = {
        channel: BinanceUsdm().live_path(Subscription(BTC, channel, 60))
        for channel in (Channel.TRADES, Channel.OHLC, Channel.BOOK)
    }
    assert paths == {
        Channel.TRADES: "/market/stream",
        Channel.OHLC: "/market/stream",
        Channel.BOOK: "/public/stream",
    }


@pytest.mark.parametrize("number", [149, 150, 156, 157, 159])
def test_a_book_of_rest_inside_or_just_before_an_event_is_met(number: int) -> None:
    """Also between pu and U: what has a number there is of another market."""
    change = BookChange(False, [], [], 0, None, first=150, last=160, previous=149)
    assert follow(number, [change]) == (1, 0)
    assert follow(148, [change]) == (0, 1)


def read(params: dict[str, str], ids: list[int]) -> TradesPage:
    body = [{"a": i, "p": "1", "q": "2", "f": i, "l": i, "T": 5, "m": True} for i in ids]
    request = Request("/fapi/v1/aggTrades", {"symbol": "BTCUSDT", "limit": "1000"} | params)
    return BinanceUsdm().trades(Answer(200, {}, json.dumps(body).encode(), 0), BTC, request)


def test_a_full_page_of_one_millisecond_continues_after_its_last_id() -> None:
    page = read({"startTime": "5"}, list(range(7, 1_007)))
    assert page.next is not None
    assert page.next.params == {"symbol": "BTCUSDT", "limit": "1000", "fromId": "1007"}
    assert page.next.weight == 20
    assert read({"fromId": "1007"}, [1_007]).next is None
    for ids in ([1_006], [1_008, 1_008], [1_009, 1_008]):
        with pytest.raises(BadAnswer, match="in order"):
            read({"fromId": "1007"}, ids)


@pytest.mark.parametrize(("depth", "weight"), [(5, 2), (50, 2), (100, 5), (500, 10), (1_000, 20)])
def test_a_book_costs_what_its_depth_costs(depth: int, weight: int) -> None:
    assert BinanceUsdm().book_request(BTC, depth).weight == weight


def test_past_trades_reach_back_less_than_a_year() -> None:
    assert BinanceUsdm.reach == 364 * DAY
