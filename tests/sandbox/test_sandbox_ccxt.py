"""ccxt, which we did not write, reads the sandbox as it is: markets, candles, trades, books.

ccxt's versions after 4.5.83 do not have BitMEX. Those after 4.5.64 pin urllib3, which we need
ourselves: a client that is a test only must not hold back what users install."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import ccxt  # type: ignore[import-untyped]
import polars as pl
import pytest

from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW = "2026-06-01T12:34:30Z"
NOW_MS = epoch_ms(NOW)
# Ours, ccxt's, a pair, and what its fetch_order_book needs.
CLIENTS = [
    ("binance", "binance", "BTC/USDT", {}),
    ("binance_usdm", "binanceusdm", "BTC/USDT:USDT", {}),
    ("bybit", "bybit", "BTC/USDT", {}),
    ("okx", "okx", "BTC/USDT", {}),
    ("bitfinex", "bitfinex", "BTC/USDT", {"precision": "P0"}),
    ("bitmex", "bitmex", "BTC/USDT", {}),
    ("bitmex", "bitmex", "BTC/USDT:USDT", {}),
    ("bitmex", "bitmex", "BTC/USD:BTC", {}),
    ("coinbase", "coinbaseexchange", "BTC/USDT", {}),
    ("kraken", "kraken", "BTC/USDT", {}),
    ("kraken_futures", "krakenfutures", "BTC/USD:USD", {}),
]
AGGREGATED = {"binance", "binance_usdm"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    pairs = ("BTCUSDT:BTC:USDT:2026-05-30T06:00", "BTCUSD:BTC:USD:2026-05-30T06:00")
    with Sandbox(Settings(symbols=pairs, now=NOW, frozen=True, weight_limit=0, rate=60)) as box:
        yield box


def client(box: Sandbox, name: str, client_name: str) -> Any:
    """ccxt's client of an exchange, with the sandbox's addresses."""
    exchange = getattr(ccxt, client_name)({"enableRateLimit": False})
    # Elsewhere it needs keys or what is no market data; of BitMEX it tells the units of spot.
    exchange.has["fetchCurrencies"] = name == "bitmex"
    exchange.options["fetchMarkets"] = {"types": ["linear" if name == "binance_usdm" else "spot"]}

    def here(url: str) -> str:
        return re.sub(r"^https?://[^/]+", f"{box.url}/{name}", url)

    exchange.urls["api"] = rewritten(exchange.urls["api"], here)
    return exchange


def rewritten(urls: Any, change: Callable[[str], str]) -> Any:
    if isinstance(urls, dict):
        return {key: rewritten(value, change) for key, value in urls.items()}
    return change(urls) if isinstance(urls, str) else urls


def counted(name: str, market: Any, price: float, amount: float) -> float:
    """An amount of base units as ccxt counts it. Those of BitMEX's derivatives stay contracts: of
    an inverse one, a contract is a dollar, and there are whole ones only."""
    if name != "bitmex" or market["spot"]:
        return amount
    if market["inverse"]:
        return float(max(int(Decimal(str(price)) * Decimal(str(amount))), 1))
    return float(Decimal(str(amount)) / Decimal(str(market["contractSize"])))


def as_bitmex(market: Any, rows: pl.DataFrame) -> pl.DataFrame:
    """True candles as BitMEX has them: each opens at the last close, the volume is in contracts."""
    last = pl.col("close").shift(1).fill_null(pl.col("open"))
    columns = ("volume", "quote_volume")
    volumes = [
        float(round(quote)) if market["inverse"] else counted("bitmex", market, 1.0, volume)
        for volume, quote in zip(*(rows[column] for column in columns), strict=True)
    ]
    return rows.with_columns(open=last, volume=pl.Series(volumes, dtype=pl.Float64))


@pytest.mark.parametrize(
    ("name", "client_name", "pair", "extra"), CLIENTS, ids=[f"{one[0]} {one[2]}" for one in CLIENTS]
)
def test_ccxt_reads_what_is_true(
    sandbox: Sandbox, name: str, client_name: str, pair: str, extra: dict[str, str]
) -> None:
    exchange = client(sandbox, name, client_name)
    symbol = pair.partition(":")[0].replace("/", "")
    exchange.load_markets()
    market = exchange.market(pair)
    base, quote = pair.partition(":")[0].split("/")
    assert (market["base"], market["quote"], market["active"]) == (base, quote, True)

    trades = exchange.fetch_trades(pair, limit=50)
    start, end = trades[0]["timestamp"], NOW_MS + 1
    truth = sandbox.trades_truth(symbol, start, end, aggregate=name in AGGREGATED).tail(50)
    names = ("price", "side", "amount")
    heard = sorted((one["timestamp"], *(one[column] for column in names)) for one in trades)
    times = truth["time"].dt.epoch("ms")
    rows = zip(times, *(truth[column] for column in names), strict=True)
    amounts = partial(counted, name, market)
    real = sorted((time, price, side, amounts(price, one)) for time, price, side, one in rows)
    assert heard == real[-len(heard) :]

    book = exchange.fetch_order_book(pair, 25 if name == "bitfinex" else 20, extra)
    assert len(book["bids"]) >= 20
    true_book = sandbox.book_truth(symbol, NOW_MS, 20)
    for ours, theirs in ((book["bids"], true_book.bids), (book["asks"], true_book.asks)):
        assert [level[0] for level in ours[:20]] == [price for price, _ in theirs]
        assert [level[1] for level in ours[:20]] == [amounts(*level) for level in theirs]

    for span, since in (("1m", NOW_MS - 600_000), ("1h", NOW_MS - 8 * 3_600_000)):
        candles = exchange.fetch_ohlcv(pair, span, since=since, limit=5)
        assert len(candles) >= 4  # of Coinbase ccxt asks for less
        first = candles[0][0] - exchange.parse_timeframe(span) * 1_000
        real_ones = sandbox.truth(symbol, span, first, candles[-1][0] + 1)
        if name == "bitmex":
            real_ones = as_bitmex(market, real_ones)
        times = real_ones["time"].dt.epoch("ms")[1:]
        by_time = {
            time: list(row[1:6]) for time, row in zip(times, real_ones[1:].rows(), strict=True)
        }
        assert {one[0]: one[1:6] for one in candles if one[0] in by_time} == by_time
        assert len(by_time) >= 3  # one may be still running
