"""Kraken from its sandbox to stored rows: its newest candles, and those older than them, which are
built from trades and are the same."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from killed import config_text

from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges.base import Limits
from dccd_core.exchanges.kraken import Kraken
from dccd_core.history import Outcome
from dccd_core.models import Channel, Series, Symbol, Window, parse_span
from dccd_core.overlap import compare_overlap
from dccd_core.plan import cells
from dccd_core.rest import RestClient
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW = "2026-06-01T12:34:30Z"
BTC = Symbol.parse("BTC/USD")
TRADE = ["time", "trade_id", "price", "amount", "side"]
COLUMNS = ["time", "open", "high", "low", "close", "volume", "trades"]


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    # 7,200 trades a day, of which 300 share a millisecond
    symbols = ("BTCUSD:BTC:USD:2024-01-01",)
    with Sandbox(Settings(symbols, now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Kraken's budget of a request a second would make these tests wait for minutes."""
    monkeypatch.setattr(Kraken, "limits", Limits(600_000, 60, 10_000, page=720))
    monkeypatch.setattr(RestClient, "clock", lambda _: micro(NOW))
    running.reset()
    return running


def micro(text: str) -> int:
    return epoch_ms(text) * 1_000


def candles(pair: str, span: str) -> Series:
    return Series("kraken", Channel.OHLC, Symbol.parse(pair), parse_span(span))


def collect(box: Sandbox, folder: Path, wanted: tuple[str, str], *series: Series) -> list[Outcome]:
    text = config_text(folder, f"{box.url}/kraken", series)
    config, window = parse_config(text, folder / "config.yml"), Window(*map(micro, wanted))
    with open_collector(config, "kraken") as collector:
        return list(collector.collect([cell for one in series for cell in cells(one, window)]))


def assert_true(box: Sandbox, folder: Path, series: Series, wanted: tuple[str, str]) -> None:
    found = DataStore(folder).load(series)
    want = box.truth("BTCUSD", series.span, *wanted)
    assert len(want) > 0
    assert found.select(COLUMNS).equals(want.select(COLUMNS))
    assert found["quote_volume"].null_count() == len(found)


@pytest.mark.parametrize(
    ("span", "start"), [("1m", "2026-06-01T01:00"), ("1h", "2026-05-04"), ("1d", "2026-03-01")]
)
def test_the_newest_candles_are_the_truth_in_one_request(
    box: Sandbox, tmp_path: Path, span: str, start: str
) -> None:
    series = candles("BTC/USD", span)
    wanted = (start, "2026-06-01T12:00" if span == "1m" else "2026-06-01")
    outcomes = collect(box, tmp_path, wanted, series)
    assert {outcome.error for outcome in outcomes} == {None}
    assert [outcome.requests for outcome in outcomes] == [1]
    assert_true(box, tmp_path, series, wanted)
    again = collect(box, tmp_path, wanted, series)
    assert sum(outcome.requests for outcome in again) == 0


@pytest.mark.parametrize(
    ("span", "wanted"),
    [
        ("1m", ("2026-05-30T18:00", "2026-06-01T12:00")),
        ("1h", ("2026-04-29", "2026-05-06")),
        ("4h", ("2026-01-28", "2026-02-08")),
    ],
)
def test_older_candles_are_built_from_trades_and_are_the_truth(
    box: Sandbox, tmp_path: Path, span: str, wanted: tuple[str, str]
) -> None:
    series, store = candles("BTC/USD", span), DataStore(tmp_path)
    outcomes = collect(box, tmp_path, wanted, series)
    assert {outcome.error for outcome in outcomes} == {None}
    assert box.stats(last=0)["paths"]["/kraken/0/public/Trades"]["200"] > 10
    assert_true(box, tmp_path, series, wanted)
    both = compare_overlap(store, series)
    assert (both.difference, both.candles > 0) == ("", True)


def test_pages_of_one_trade_lose_none(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fills of an order share their microsecond, but Kraken tells nanoseconds apart."""
    monkeypatch.setattr(Kraken, "trades_page", 1)
    wanted = ("2026-05-30T08:00", "2026-05-30T11:00")
    truth = box.trades_truth("BTCUSD", *wanted)
    assert len(truth) > len(truth["time"].unique()) + 100
    (outcome,) = collect(box, tmp_path, wanted, Series("kraken", Channel.TRADES, BTC))
    assert outcome.error is None
    assert box.stats(last=0)["paths"]["/kraken/0/public/Trades"]["200"] > len(truth)
    assert_same_trades(tmp_path, truth, wanted)


@pytest.mark.parametrize("more", [0, 1, 7])
def test_pages_no_larger_than_what_shares_a_nanosecond_lose_none(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    """Kraken cannot be asked for a part of it: smaller pages than this could not be complete."""
    day = box.trades_truth("BTCUSD", "2026-05-29", "2026-05-30")
    time, count = day["time"].value_counts().sort("count").row(-1)
    together = count - 99
    assert together > 150
    monkeypatch.setattr(Kraken, "trades_page", together + more)
    wanted = tuple((time + timedelta(minutes=by)).isoformat() for by in (-60, 60))
    (outcome,) = collect(box, tmp_path, wanted, Series("kraken", Channel.TRADES, BTC))
    assert outcome.error is None
    truth = box.trades_truth("BTCUSD", *wanted)
    assert len(truth) > count + 200
    assert_same_trades(tmp_path, truth, wanted)


def assert_same_trades(folder: Path, truth: pl.DataFrame, wanted: tuple[str, str]) -> None:
    stored = DataStore(folder).load(Series("kraken", Channel.TRADES, BTC))
    stored = stored.filter(pl.col("time").dt.epoch("us").is_between(*map(micro, wanted), "left"))
    assert (
        stored.select(TRADE)
        .with_columns(pl.col("side").cast(pl.String))
        .equals(truth.select(TRADE))
    )


def test_days_are_built_from_trades_and_weeks_from_days(box: Sandbox, tmp_path: Path) -> None:
    """Our weeks open on Mondays, Kraken's own on Thursdays."""
    wanted = ("2024-06-17", "2024-07-08")
    days, weeks = candles("BTC/USD", "1d"), candles("BTC/USD", "1w")
    outcomes = collect(box, tmp_path, wanted, days, weeks)
    assert {outcome.error for outcome in outcomes} == {None}
    assert_true(box, tmp_path, days, wanted)
    assert_true(box, tmp_path, weeks, wanted)
    assert set(DataStore(tmp_path).load(weeks)["time"].dt.weekday()) == {1}


def test_a_refusal_is_told_in_plain_words(box: Sandbox, tmp_path: Path) -> None:
    (outcome,) = collect(box, tmp_path, ("2026-05-30", "2026-06-01"), candles("BTC/USDX", "1h"))
    assert "BTC/USDX: Kraken has no such pair; did you mean BTC/USD" in str(outcome.error)
