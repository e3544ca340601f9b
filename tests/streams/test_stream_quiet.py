"""Markets on which nothing happens, and feeds that are mute: they look alike."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_exchange import LIMITS, Fake
from fake_server import MINUTE
from stream_lab import Lab, lab, wait

from dccd_core.exchanges.trades import Book
from dccd_streams.book import OrderBook
from dccd_streams.link import Link

BTC = "BTC-USD"
MARKETS = (BTC,)  # alone on its connection, which would be made anew


def asked(found: Lab, path: str) -> int:
    return sum(one.startswith(path) for one in found.server.asked)


def unsubscribed(found: Lab) -> int:
    return sum(said["op"] == "unsubscribe" for _, said in found.server.said)


def begins_anew(found: Lab) -> None:
    wait(lambda: unsubscribed(found) or len(found.server.connects) > 1, "nobody did anything")


def assert_left_alone(found: Lab) -> None:
    """It went on as it was."""
    assert found.status()["state"] == "live"
    assert len(found.server.connects) == 1
    assert unsubscribed(found) == found.status()["gaps"] == 0


@pytest.mark.parametrize("from_rest", [True, False])
def test_a_book_that_does_not_change_is_no_alarm(tmp_path: Path, from_rest: bool) -> None:
    exchange = Fake()
    exchange.book_from_rest = from_rest
    with lab(tmp_path, "book", markets=MARKETS, exchange=exchange, quiet_least=0.1) as found:
        found.wait_live()
        for _ in range(9):
            found.server.change(BTC)
        count = asked(found, "/book")
        wait(lambda: asked(found, "/book") > count + 3, "nobody asked whether it is quiet")
        assert_left_alone(found)
        time.sleep(1.0)
        found.server.change(BTC)
        wait(lambda: len(found.rows("book")), "the quiet second has no row")
        found.assert_books()


def test_a_book_that_has_changed_at_the_exchange_is_made_anew(tmp_path: Path) -> None:
    with lab(tmp_path, "book", markets=MARKETS) as found:
        found.wait_live()
        for _ in range(9):
            found.server.change(BTC)
        found.server.mute = {f"book:{BTC}"}
        found.server.change(BTC)
        begins_anew(found)
        found.server.mute = set()
        wait(lambda: found.server.change(BTC) or found.status()["state"] == "live")


def test_a_book_that_nobody_can_compare_is_made_anew(tmp_path: Path) -> None:
    with lab(tmp_path, "book", markets=MARKETS) as found:
        found.wait_live()
        found.server.rest_down = 403
        begins_anew(found)


def test_a_stall_that_is_mended_is_over_though_nobody_trades(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", quiet_least=0.2) as found:
        found.wait_live()

        def trade() -> None:
            for market in found.server.markets:
                found.server.trade(market, 3)

        for _ in range(9):
            trade()
        found.server.mute = {f"trades:{BTC}"}
        wait(lambda: trade() or found.status()["state"] == "silent", "no silence is told")
        found.server.mute = set()
        found.wait_trades()
        wait(lambda: found.status()["state"] == "live", "the market rests, and that is an alarm")


def test_a_connection_that_may_say_nothing_more_is_made_anew(tmp_path: Path) -> None:
    """It could not subscribe a mute feed again: it looked alive for an hour."""
    exchange = Fake()
    exchange.live_limits = replace(LIMITS, messages=3, seconds=3_600, ping=0.1)
    with lab(tmp_path, "trades", markets=MARKETS, exchange=exchange, down=1.0) as found:
        found.wait_live()
        found.server.trade(BTC, 9)
        wait(lambda: sum(said["op"] == "ping" for _, said in found.server.said) == 2)
        found.server.mute = {f"trades:{BTC}"}
        found.server.trade(BTC, 9)
        wait(lambda: len(found.server.connects) > 1, "the silence was not noticed")
        found.server.mute = set()
        wait(lambda: found.server.trade(BTC, 3) or found.status()["state"] == "live")
        found.wait_trades()
        found.assert_trades()


@pytest.mark.parametrize("markets", [(BTC, "ETH-USD"), MARKETS])
def test_a_dead_market_makes_ever_fewer_connections(
    tmp_path: Path, markets: tuple[str, ...]
) -> None:
    """Of which nobody can tell whether it is quiet, as after its end."""
    with lab(tmp_path, "trades", markets=markets, quiet_least=0.2, quiet_most=60.0) as found:
        found.wait_live()
        for name in markets:
            found.server.trade(name, 9)
        wait(lambda: found.status()["last_row"])
        found.server.mute, found.server.rest_down = {f"trades:{BTC}"}, 403
        end = time.monotonic() + 6.0
        while time.monotonic() < end:
            for name in markets[1:]:
                found.server.trade(name, 3)
            time.sleep(0.05)
        assert 2 <= len(found.server.connects) <= 6
        found.server.mute = set()
        wait(lambda: found.server.trade(BTC, 3) or found.status()["state"] == "live")


def test_books_agree_in_what_both_have() -> None:
    book = OrderBook(from_rest=True)
    bids, asks = [(9.0, 1.0), (8.0, 2.0)], [(10.0, 3.0)]
    assert not book.agrees(Book([], [], None, None)), "it is not known"
    book.start(Book(bids, asks, 1, None), 1)
    assert book.agrees(Book(bids, asks, 2, 2))
    assert book.agrees(Book(bids[:1], [*asks, (11.0, 1.0)], None, None))
    assert not book.agrees(Book([(9.0, 1.5)], asks, None, None))
    assert not book.agrees(Book(bids, [], None, None))


def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candle need not be late by three of its kind."""
    monkeypatch.setattr(Link, "limit", lambda link: 0.2 * link.patience)


def traded(found: Lab, volume: float) -> Callable[..., Any]:
    """What REST says of candles."""
    ask = found.server._ask

    def answer(path: str, query: dict[str, str]) -> Any:
        rows = ask(path, query)
        return [[*row[:5], volume] for row in rows] if path == "/candles" else rows

    return answer


@pytest.mark.parametrize("volume", [0.0, 5.0])
def test_candles_that_do_not_come_as_nobody_trades_are_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: float
) -> None:
    """Where the exchange sends none of a quiet minute; with trades in it, it should have come."""
    quickly(monkeypatch)
    exchange = Fake()
    exchange.live_gapless = False
    with lab(tmp_path, "ohlc", markets=MARKETS, exchange=exchange, step=60) as found:
        monkeypatch.setattr(found.server, "_ask", traded(found, volume))
        found.wait_live()
        found.server.candle(BTC, (time.time_ns() // 1_000 // MINUTE - 3) * MINUTE)
        wait(lambda: asked(found, "/candles"), "nobody asked whether it is quiet")
        if volume:
            begins_anew(found)
        else:
            count = asked(found, "/candles")
            wait(lambda: asked(found, "/candles") > count + 1, "nobody asked again")
            assert_left_alone(found)
