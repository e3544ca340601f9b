"""The order book of this moment, of every exchange, against the sandbox's truth."""

from contextlib import suppress
from pathlib import Path

import pytest

from dccd_core.config import Config, parse_config
from dccd_core.exchanges import load, load_all
from dccd_core.exchanges.base import UnknownSymbol
from dccd_core.exchanges.trades import Book, Depth
from dccd_core.snapshot import order_book
from dccd_sandbox import Sandbox, Settings

SYMBOLS = ("BTCUSDT:BTC:USDT:2024-01-01", "BTCUSD:BTC:USD:2024-01-01")
PAIRS = ("BTC/USDT", "BTC/USD", "BTC/USDT:PERP", "BTC/USD:PERP")


def configured(box: Sandbox, folder: Path, exchange: str) -> Config:
    base = load(exchange).rest_url.split("/", 3)[3:]
    url = "/".join([f"{box.url}/{exchange}", *base])
    text = (
        "settings: {data_path: data, timezone: UTC}\n"
        f"histo_jobs: [{{exchange: {exchange}, span: 1h, pairs: [{', '.join(PAIRS)}]}}]\n"
        f"exchanges: {{{exchange}: {{rest_url: {url}}}}}\n"
    )
    return parse_config(text, folder / "config.yml")


def first_book(config: Config, exchange: str) -> Book:
    """Of the first of our pairs that the exchange lists."""
    for pair in PAIRS:
        with suppress(UnknownSymbol):
            return order_book(config, exchange, pair, depth=7)
    raise AssertionError(f"{exchange} lists none of {PAIRS}")


@pytest.mark.parametrize("name", [n for n, one in load_all().items() if isinstance(one, Depth)])
def test_the_best_levels_are_best_first_and_do_not_cross(name: str, tmp_path: Path) -> None:
    with Sandbox(Settings(symbols=SYMBOLS)) as box:
        book = first_book(configured(box, tmp_path, name), name)
    bids, asks = [price for price, _ in book.bids], [price for price, _ in book.asks]
    assert len(bids) == len(asks) == 7
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert all(amount > 0 for _, amount in [*book.bids, *book.asks])


def test_what_cannot_be_asked_is_said_plainly(tmp_path: Path) -> None:
    with Sandbox(Settings()) as box:
        config = configured(box, tmp_path, "binance")
        with pytest.raises(ValueError, match="'binanse' is no exchange; there are: binance"):
            order_book(config, "binanse", "BTC/USDT")
        with pytest.raises(ValueError, match="depth 0"):
            order_book(config, "binance", "BTC/USDT", depth=0)
        with pytest.raises(UnknownSymbol, match="BTC/USDX"):
            order_book(config, "binance", "BTC/USDX")
