"""What is special of Coinbase Exchange: the order of a row's columns, omitted intervals, the first
and last candle told by trades, and the whole path from its sandbox to stored candles."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dccd_core.collection import open_collector
from dccd_core.config import Config
from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.coinbase import Coinbase
from dccd_core.history import Outcome
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.spans import seconds

NOW = "2026-06-01T12:34:30Z"
COLUMNS = ["time", "open", "high", "low", "close", "volume"]
CAPTURE = Path(__file__).parents[3] / "shared" / "captures" / "coinbase_exchange.products.jsonl"
COINBASE = Coinbase()
BTC = Instrument(Symbol("BTC", "USD"), "BTC-USD", trading=True)


def answer(content: Any) -> Answer:
    return Answer(200, {}, json.dumps(content).encode(), epoch_ms(NOW) * 1_000)


def micro(text: str) -> int:
    return epoch_ms(text) * 1_000


# --- rows, requests, products ------------------------------------------------------------------


def test_low_comes_before_high_and_both_before_open() -> None:
    found = COINBASE.candles(
        answer([[120, 1.5, 9.5, 4.5, 3.5, 7.25], [60, 1, 9, 4, 3, 7]]), BTC, 60
    )
    assert found.time.tolist() == [60 * SECOND, 120 * SECOND]
    assert (found.low.tolist(), found.high.tolist()) == ([1.0, 1.5], [9.0, 9.5])
    assert (found.open.tolist(), found.close.tolist()) == ([4.0, 4.5], [3.0, 3.5])
    assert found.volume.tolist() == [7.0, 7.25]


@pytest.mark.parametrize(
    ("bars", "end"),
    [(300, "2026-05-01T04:59:00Z"), (2, "2026-05-01T00:01:00Z"), (1, "2026-05-01T00:01:00Z")],
)
def test_bounds_are_the_first_and_the_last_bar_and_never_the_same(bars: int, end: str) -> None:
    start = micro("2026-05-01")
    request = COINBASE.candles_request(BTC, 60, Window(start, start + bars * 60 * SECOND))
    assert request.params == {"granularity": "60", "start": "2026-05-01T00:00:00Z", "end": end}


@pytest.mark.skipif(not CAPTURE.exists(), reason="needs ../shared/captures")
def test_every_recorded_product_has_a_name_of_its_own() -> None:
    products = json.loads(CAPTURE.read_text().splitlines()[0])["msg"]
    found = COINBASE.instruments(answer(products), Request("/products")).instruments
    assert len({one.symbol for one in found}) == len(found) == len(products) == 162
    assert all(Symbol.from_slug(one.name) == one.symbol for one in found)
    assert all(one.trading for one in found)


@pytest.mark.parametrize(
    ("status", "disabled", "trading"),
    [("online", False, True), ("online", True, False), ("delisted", True, False)],
)
def test_what_is_not_online_or_is_disabled_does_not_trade(
    status: str, disabled: bool, trading: bool
) -> None:
    product = {"id": "A-B", "base_currency": "A", "quote_currency": "B"}
    product |= {"status": status, "trading_disabled": disabled}  # type: ignore[dict-item]
    (found,) = COINBASE.instruments(answer([product]), Request("/products")).instruments
    assert found.trading is trading


def test_the_time_of_a_trade_must_have_a_zone() -> None:
    trade = {"time": "2026-05-01T00:00:00", "price": "1", "size": "1"}
    with pytest.raises(BadAnswer, match="time of a trade"):
        COINBASE.first_candle(answer([trade]), BTC, 60)


def test_the_oldest_of_the_first_trades_tells_the_first_candle() -> None:
    times = ["2026-05-01T13:00:00.5Z", "2026-05-01T12:59:59.999999Z", "2026-05-01T12:59:59.999999Z"]
    trades = [{"time": time, "price": "1", "size": "1"} for time in times]
    assert COINBASE.first_candle(answer(trades), BTC, 3_600) == micro("2026-05-01T12:00")
    assert COINBASE.first_candle(answer(trades), BTC, 60) == micro("2026-05-01T12:59")
    assert COINBASE.first_candle(answer([]), BTC, 60) is None


# --- from the sandbox to the store -------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A market of a year, a young one, and one that was traded three times and delisted."""
    file = tmp_path_factory.mktemp("coinbase") / "rare.csv"
    opens = [epoch_ms(f"2026-05-{day}T06:00") for day in ("02", "09", "10")]
    file.write_text("".join(f"{opened},2.5,3.5,1.5,2,40\n" for opened in opens))
    symbols = ("BTCUSD:BTC:USD:2025-04-20T03:17", "SOLUSD:SOL:USD:2026-04-30T22:01")
    rare = (f"RAREUSD:RARE:USD:1m:{file}",)
    with Sandbox(Settings(symbols, rare, now=NOW, frozen=True)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Iterator[Sandbox]:
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def quick(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox and a client without a budget."""
    monkeypatch.setattr(Coinbase, "limits", replace(Coinbase.limits, weight=1e6, burst=1e6))
    for exchange in box._runner.app.exchanges.values():  # type: ignore[union-attr]
        monkeypatch.setattr(exchange.limit, "limit", 0)
    return box


def collect(
    box: Sandbox, folder: Path, pair: str, span: str, period: tuple[str, str]
) -> list[Outcome]:
    series = Series("coinbase", Channel.OHLC, Symbol.parse(pair), seconds(span))
    job = {"exchange": "coinbase", "pairs": [pair], "span": series.span}
    config = Config.model_validate(
        {
            "settings": {"data_path": str(folder), "timezone": "UTC"},
            "histo_jobs": [job | {"retry_delay": 0, "max_retries": 10}],
            "exchanges": {"coinbase": {"rest_url": f"{box.url}/coinbase"}},
        }
    )
    with open_collector(config, "coinbase") as collector:
        return list(collector.collect(cells(series, Window(*map(micro, period)))))


def assert_true(
    box: Sandbox, folder: Path, pair: str, span: str, period: tuple[str, str]
) -> pl.DataFrame:
    """What is stored is the truth, without intervals in which nothing was traded, and settled."""
    series = Series("coinbase", Channel.OHLC, Symbol.parse(pair), seconds(span))
    store, window = DataStore(folder), Window(*map(micro, period))
    stored = store.load(series)
    truth = box.truth(f"{series.symbol.base}{series.symbol.quote}", span, *period)
    truth = truth.filter(pl.col("volume") > 0)
    assert stored.select(COLUMNS).equals(truth.select(COLUMNS))
    assert all(stored[name].null_count() == len(stored) for name in truth.columns[6:])
    assert store.missing_windows(series, series.grid(window)) == []
    return stored


def paths(box: Sandbox, product: str, what: str) -> dict[str, int]:
    found: dict[str, int] = box.stats(last=0)["paths"][f"/coinbase/products/{product}/{what}"]
    return found


@pytest.mark.parametrize(
    ("span", "period", "rows"),
    [
        ("1m", ("2026-04-01", "2026-06-01"), 43_000),
        ("15m", ("2026-04-01", "2026-06-01T12:30"), 3_000),
        ("1d", ("2026-04-01", "2026-06-01"), 32),
    ],
)
def test_from_before_the_listing_on(
    quick: Sandbox, tmp_path: Path, span: str, period: tuple[str, str], rows: int
) -> None:
    (outcome,) = collect(quick, tmp_path, "SOL/USD", span, period)
    assert outcome.error is None
    stored = assert_true(quick, tmp_path, "SOL/USD", span, period)
    assert len(stored) >= rows
    window = Window(*map(micro, period))
    whole = Series("coinbase", Channel.OHLC, Symbol("SOL", "USD"), seconds(span)).count(window)
    assert len(stored) < whole


def test_the_budget_of_a_second_is_kept(box: Sandbox, tmp_path: Path) -> None:
    (outcome,) = collect(box, tmp_path, "SOL/USD", "1m", ("2026-05-10", "2026-05-15"))
    assert outcome.error is None
    assert paths(box, "SOL-USD", "candles") == {"200": 24}
    assert box.stats(last=0)["max_used_weight"]["coinbase"] <= 15


def test_a_delisted_market_that_was_hardly_traded(quick: Sandbox, tmp_path: Path) -> None:
    month = ("2026-05-01", "2026-06-01")
    (outcome,) = collect(quick, tmp_path, "RARE/USD", "1m", month)
    assert outcome.error is None
    assert len(assert_true(quick, tmp_path, "RARE/USD", "1m", month)) == 3
    # After the last trade nothing is asked: the nine days to it are 39 pages, of which three hold
    # a candle and the others are asked again; the newest trade is looked up in the meantime.
    found = paths(quick, "RARE-USD", "candles")["200"]
    assert 3 + 36 * 4 <= found < 3 + 36 * 4 + 8 * 4 + 16


def test_an_unknown_pair_is_told_with_what_is_near(quick: Sandbox, tmp_path: Path) -> None:
    (outcome,) = collect(quick, tmp_path, "SOL/USDX", "1h", ("2026-05-01", "2026-05-02"))
    assert "Coinbase Exchange has no such pair; did you mean SOL/USD" in str(outcome.error)
