"""What is special of Binance USD-M: dated contracts, weights by page length, no trust in
onboardDate, and the whole path from its sandbox to stored candles."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from dccd_core.collection import open_collector
from dccd_core.config import Config
from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.binance_usdm import BinanceUsdm
from dccd_core.history import Outcome
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings
from dccd_sandbox.candles import NAMES, numbers
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.exchanges.binance_usdm import Dated
from dccd_sandbox.market import Market
from dccd_sandbox.settings import markets
from dccd_sandbox.spans import seconds

NOW = "2026-06-01T12:34:30Z"
YEAR = ("2025-01-01", "2026-01-01")
KLINES = "/binance_usdm/fapi/v1/klines"
SETTINGS = Settings(
    symbols=("BTCUSDT:BTC:USDT:2024-12-10", "NEWUSDT:NEW:USDT:2026-05-27T23:59"),
    now=NOW,
    frozen=True,
)
MARKETS = markets(SETTINGS)
BTC = Instrument(Symbol("BTC", "USDT", "PERP"), "BTCUSDT", trading=True)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Iterator[Sandbox]:
    running.reset()
    yield running
    running.reset()


def micro(text: str) -> int:
    return epoch_ms(text) * 1_000


def series_of(pair: str, span: str) -> Series:
    return Series("binance_usdm", Channel.OHLC, Symbol.parse(pair), seconds(span))


def collect(
    box: Sandbox, folder: Path, pair: str, span: str, period: tuple[str, str]
) -> list[Outcome]:
    job = {"exchange": "binance_usdm", "pairs": [pair], "span": span}
    config = Config.model_validate(
        {
            "settings": {"data_path": str(folder), "timezone": "UTC"},
            "histo_jobs": [job | {"retry_delay": 0, "max_retries": 10}],
            "exchanges": {"binance_usdm": {"rest_url": f"{box.url}/binance_usdm"}},
        }
    )
    with open_collector(config, "binance_usdm") as collector:
        window = Window(*map(micro, period))
        return list(collector.collect(cells(series_of(pair, span), window)))


def market_of(pair: str) -> Market:
    symbol = Symbol.parse(pair)
    market = MARKETS[symbol.base + symbol.quote]
    if symbol.contract == "PERP":
        return market
    return Dated(market, date.fromisoformat(f"20{symbol.contract}"))


def assert_equal_to_truth(folder: Path, pair: str, span: str, period: tuple[str, str]) -> None:
    market = market_of(pair)
    rows = market.closed(seconds(span), *map(epoch_ms, period), epoch_ms(NOW))
    found = DataStore(folder).load(series_of(pair, span))
    truth = pl.DataFrame(numbers(rows, market.digits), schema=dict.fromkeys(NAMES), strict=False)
    truth = truth.with_columns((pl.col("time") * 1_000).cast(pl.Datetime("us", "UTC")))
    assert len(found) > 0
    assert found.select(NAMES).equals(truth)


@pytest.mark.parametrize(
    ("pair", "listed"),
    [("NEW/USDT:PERP", "2026-05-27T23:59"), ("BTC/USDT:260925", "2026-03-27T08:00")],
)
def test_a_window_that_begins_before_listing(
    box: Sandbox, tmp_path: Path, pair: str, listed: str
) -> None:
    period = ("2025-06-01", "2026-06-01T12:25:10")
    outcomes = collect(box, tmp_path, pair, "5m", period)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert outcomes[0].note.startswith("before listing")
    assert_equal_to_truth(tmp_path, pair, "5m", period)
    assert DataStore(tmp_path).gaps(series_of(pair, "5m")) == []
    # The sandbox's onboardDate is a day late, as that of the first contracts is by weeks.
    assert DataStore(tmp_path).read_listing(series_of(pair, "5m")) == micro(listed) // (
        300 * SECOND
    ) * (300 * SECOND)


def test_an_error_in_the_middle_fails_what_follows_and_is_made_up_for(
    box: Sandbox, tmp_path: Path
) -> None:
    period = ("2026-04-01", "2026-04-04")
    start = str(epoch_ms("2026-04-01") + 4 * 499 * 60_000)
    box.set_faults(Rule("418", path=KLINES, query={"startTime": start}, count=1))
    (outcome,) = collect(box, tmp_path, "BTC/USDT:PERP", "1m", period)
    assert "banned" in (outcome.error or "")
    box.reset()
    for file in (tmp_path / ".dccd" / "limits").iterdir():
        file.unlink()  # the ban is over
    (outcome,) = collect(box, tmp_path, "BTC/USDT:PERP", "1m", period)
    assert outcome.error is None
    assert_equal_to_truth(tmp_path, "BTC/USDT:PERP", "1m", period)


def test_an_expired_contract_is_kept_but_not_asked_beyond_its_end(
    box: Sandbox, tmp_path: Path
) -> None:
    pair = "BTC/USDT:260626"
    collect(box, tmp_path, pair, "1h", ("2026-05-01", "2026-06-01"))
    box.set_clock("2026-08-01T12:00:30Z", frozen=True)
    try:
        (outcome,) = collect(box, tmp_path, pair, "1h", ("2026-05-01", "2026-08-01"))
        found = DataStore(tmp_path).load(series_of(pair, "1h"))
    finally:
        box.set_clock(NOW, frozen=True)
    assert outcome.error is None
    assert found["time"].dt.epoch("ms").to_list()[-1] == epoch_ms("2026-06-26T07:00")


def test_unknown_contracts_are_told_with_their_neighbours(box: Sandbox, tmp_path: Path) -> None:
    (outcome,) = collect(box, tmp_path, "BTC/USDT:260627", "1h", ("2026-05-01", "2026-05-02"))
    assert "BTC/USDT:260627: Binance USD-M futures has no such pair; did you mean" in str(
        outcome.error
    )


@pytest.mark.parametrize(
    ("count", "weight"),
    [(1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1_000, 5), (1_001, 10), (1_500, 10)],
)
def test_a_request_costs_what_its_page_costs(count: int, weight: int) -> None:
    window = Window(micro(YEAR[0]), micro(YEAR[0]) + count * 60 * SECOND)
    request = BinanceUsdm().candles_request(BTC, 60, window)
    assert (request.params["limit"], request.weight) == (str(count), weight)


def test_no_page_gets_more_candles_for_its_weight_than_ours() -> None:
    exchange, ours = BinanceUsdm(), BinanceUsdm.limits

    def weight(count: int) -> float:
        window = Window(micro(YEAR[0]), micro(YEAR[0]) + count * 60 * SECOND)
        return exchange.candles_request(BTC, 60, window).weight

    assert weight(ours.page) == ours.page_weight
    best = max(range(100, 1_501), key=lambda count: count / weight(count))
    assert best == ours.page


def test_a_window_that_ends_between_candles_loses_none() -> None:
    window = Window(micro(YEAR[0]), micro(YEAR[0]) + 150 * SECOND)
    assert BinanceUsdm().candles_request(BTC, 60, window).params["limit"] == "3"
