"""ccxt, which we did not write, reads the sandbox as it is: markets, candles, trades, books.

BitMEX is not in ccxt any more. The last version that has it among those tried, 4.5.40, read it once
by hand: markets, trades, books and candles were the truth."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import ccxt  # type: ignore[import-untyped]
import pytest

from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW = "2026-06-01T12:34:30Z"
NOW_MS = epoch_ms(NOW)
# Ours, ccxt's, its pair, and what its fetch_order_book needs.
CLIENTS = {
    "binance": ("binance", "BTC/USDT", {}),
    "binance_usdm": ("binanceusdm", "BTC/USDT:USDT", {}),
    "bybit": ("bybit", "BTC/USDT", {}),
    "okx": ("okx", "BTC/USDT", {}),
    "bitfinex": ("bitfinex", "BTC/USDT", {"precision": "P0"}),
    "coinbase": ("coinbaseexchange", "BTC/USDT", {}),
    "kraken": ("kraken", "BTC/USDT", {}),
    "kraken_futures": ("krakenfutures", "BTC/USD:USD", {}),
}
AGGREGATED = {"binance", "binance_usdm"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    pairs = ("BTCUSDT:BTC:USDT:2026-05-30T06:00", "BTCUSD:BTC:USD:2026-05-30T06:00")
    with Sandbox(Settings(symbols=pairs, now=NOW, frozen=True, weight_limit=0, rate=60)) as box:
        yield box


def client(box: Sandbox, name: str) -> Any:
    """ccxt's client of an exchange, with the sandbox's addresses."""
    exchange = getattr(ccxt, CLIENTS[name][0])({"enableRateLimit": False})
    exchange.has["fetchCurrencies"] = False
    exchange.options["fetchMarkets"] = {"types": ["linear" if name == "binance_usdm" else "spot"]}

    def here(url: str) -> str:
        return re.sub(r"^https?://[^/]+", f"{box.url}/{name}", url)

    exchange.urls["api"] = rewritten(exchange.urls["api"], here)
    return exchange


def rewritten(urls: Any, change: Callable[[str], str]) -> Any:
    if isinstance(urls, dict):
        return {key: rewritten(value, change) for key, value in urls.items()}
    return change(urls) if isinstance(urls, str) else urls


@pytest.mark.parametrize("name", list(CLIENTS))
def test_ccxt_reads_what_is_true(sandbox: Sandbox, name: str) -> None:
    exchange, (_, pair, extra) = client(sandbox, name), CLIENTS[name]
    symbol = pair.partition(":")[0].replace("/", "")
    exchange.load_markets()
    market = exchange.market(pair)
    base, quote = pair.partition(":")[0].split("/")
    assert (market["base"], market["quote"], market["active"]) == (base, quote, True)

    trades = exchange.fetch_trades(pair, limit=50)
    start, end = trades[0]["timestamp"], NOW_MS + 1
    truth = sandbox.trades_truth(symbol, start, end, aggregate=name in AGGREGATED).tail(50)
    names = ("price", "side", "amount")
    heard = sorted((one["timestamp"], *(one[name] for name in names)) for one in trades)
    times = truth["time"].dt.epoch("ms")
    real = sorted(zip(times, *(truth[name] for name in names), strict=True))
    assert heard == real[-len(heard) :]

    book = exchange.fetch_order_book(pair, 25 if name == "bitfinex" else 20, extra)
    assert len(book["bids"]) >= 20
    true_book = sandbox.book_truth(symbol, NOW_MS, 20)
    for ours, theirs in ((book["bids"], true_book.bids), (book["asks"], true_book.asks)):
        assert [level[0] for level in ours[:20]] == [price for price, _ in theirs]
        assert [level[1] for level in ours[:20]] == [amount for _, amount in theirs]

    for span, since in (("1m", NOW_MS - 600_000), ("1h", NOW_MS - 8 * 3_600_000)):
        candles = exchange.fetch_ohlcv(pair, span, since=since, limit=5)
        assert len(candles) >= 4  # of Coinbase ccxt asks for less
        rows = sandbox.truth(symbol, span, candles[0][0], candles[-1][0] + 1)
        times = rows["time"].dt.epoch("ms")
        by_time = {time: list(row[1:6]) for time, row in zip(times, rows.rows(), strict=True)}
        assert {one[0]: one[1:6] for one in candles if one[0] in by_time} == by_time
        assert len(by_time) >= 3  # one may be still running
