"""ccxt reads the trades and books of our Coinbase and Kraken Futures as the truth has them. It has
no BitMEX any more."""

from collections.abc import Iterator
from typing import Any

import ccxt  # type: ignore[import-untyped]
import polars as pl
import pytest
from sandbox_client import NOW

from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

START = epoch_ms(NOW) - 600_000


@pytest.fixture(scope="module")
def dollars() -> Iterator[Sandbox]:
    symbols = ("BTCUSD:BTC:USD:2026-05-03T03:17",)
    with Sandbox(Settings(symbols, now=NOW, frozen=True, weight_limit=0, rate=60)) as box:
        yield box


def told(trades: list[dict[str, Any]]) -> list[tuple[int, float, float, str]]:
    """Those since START, in their order."""
    rows = [(one["timestamp"], one["price"], one["amount"], one["side"]) for one in trades]
    return [row for row in rows if row[0] >= START]


def truth(frame: pl.DataFrame) -> list[tuple[int, float, float, str]]:
    times = frame["time"].dt.epoch("ms").to_list()
    columns = (frame[name].to_list() for name in ("price", "amount", "side"))
    return list(zip(times, *columns, strict=True))


def assert_true(box: Sandbox, exchange: Any, symbol: str) -> None:
    trades = exchange.fetch_trades(symbol, since=START, limit=1_000)
    assert told(trades) == truth(box.trades_truth("BTCUSD", START, NOW))
    book, real = exchange.fetch_order_book(symbol), box.book_truth("BTCUSD", NOW)
    for side, levels in ((book["bids"], real.bids), (book["asks"], real.asks)):
        assert [(level[0], level[1]) for level in side] == levels


def test_coinbase(dollars: Sandbox) -> None:
    exchange = ccxt.coinbaseexchange({"enableRateLimit": False})
    exchange.has["fetchCurrencies"] = False
    exchange.urls["api"]["public"] = f"{dollars.url}/coinbase"
    assert_true(dollars, exchange, "BTC/USD")


def test_kraken_futures(dollars: Sandbox) -> None:
    exchange = ccxt.krakenfutures({"enableRateLimit": False})
    real, ours = "https://futures.kraken.com", f"{dollars.url}/kraken_futures"
    for name, url in exchange.urls["api"].items():
        exchange.urls["api"][name] = url.replace(real, ours)
    assert_true(dollars, exchange, "BTC/USD:USD")
