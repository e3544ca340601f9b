"""What is special of Kraken Futures: sizes, pages cut short, listing dates; the whole way."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from payloads import micro

from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Limits
from dccd_core.exchanges.kraken_futures import KrakenFutures
from dccd_core.history import Outcome
from dccd_core.models import Channel, Series, Symbol, Window, parse_span
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Sandbox, Settings

NOW = "2026-06-01T12:00:30Z"
COLUMNS = ["time", "open", "high", "low", "close", "volume"]


def listed(*markets: dict[str, object]) -> list[Instrument]:
    exchange = KrakenFutures()
    body = json.dumps({"result": "success", "instruments": markets}).encode()
    answer = Answer(200, {}, body, micro(NOW))
    return exchange.instruments(answer, exchange.instruments_requests()[0]).instruments


def market(symbol: str, **more: object) -> dict[str, object]:
    return {"symbol": symbol, "type": "flexible_futures", "tradeable": True} | more


def test_a_contract_without_a_size_is_refused() -> None:
    with pytest.raises(BadAnswer, match="PF_XBTUSD has no contract size"):
        listed(market("PF_XBTUSD"))


def test_names_are_read_in_any_case_and_a_listing_may_be_unknown() -> None:
    (found,) = listed(market("pf_ethusd", contractSize=2))
    assert (str(found.symbol), found.name, found.listed, found.size) == (
        "ETH/USD:PERP",
        "pf_ethusd",
        None,
        2.0,
    )


def test_what_is_tradeable_and_over_does_not_trade() -> None:
    dated = market("FF_XBTUSD_260601", contractSize=1)
    (over,) = listed(dated | {"lastTradingTime": "2026-06-01T12:00:30Z"})
    (open_,) = listed(dated | {"lastTradingTime": "2026-06-01T12:00:31Z"})
    assert (over.trading, open_.trading) == (False, True)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    running.reset()
    _page_size(monkeypatch, 2_000)
    return running


def _page_size(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """The budget of Kraken Futures would make these tests wait for minutes."""
    monkeypatch.setattr(KrakenFutures, "limits", Limits(600_000, 60, 10_000, page))


def collect(
    box: Sandbox, folder: Path, pair: str, span: str, start: str, end: str
) -> tuple[list[Outcome], pl.DataFrame]:
    """What is stored of a window, and how that went."""
    job = f'{{exchange: kraken_futures, pairs: ["{pair}"], span: {span}, start: 2018-01-01,'
    text = f"settings: {{data_path: {folder}}}\nhisto_jobs:\n  - {job} max_retries: 10,"
    text += " retry_delay: 0.001}\n"
    text += f"exchanges: {{kraken_futures: {{rest_url: {box.url}/kraken_futures}}}}\n"
    config = parse_config(text, folder / "config.yml")
    series = Series("kraken_futures", Channel.OHLC, Symbol.parse(pair), parse_span(span))
    with open_collector(config, "kraken_futures") as collector:
        outcomes = list(collector.collect(cells(series, Window(micro(start), micro(end)))))
    return outcomes, DataStore(folder).load(series).select(COLUMNS)


def truth(box: Sandbox, symbol: str, span: str, start: str, end: str) -> pl.DataFrame:
    return box.truth(symbol, span, start, end).select(COLUMNS)


def test_a_contract_that_is_over_ends_with_its_last_candle(box: Sandbox, tmp_path: Path) -> None:
    window = ("2026-03-01T00:00Z", "2026-05-01T00:00Z")
    outcomes, stored = collect(box, tmp_path, "BTC/USD:260327", "1h", *window)
    assert [outcome.error for outcome in outcomes] == [None]
    assert stored.equals(truth(box, "BTCUSDT", "1h", window[0], "2026-03-27T16:00Z"))


def test_a_page_longer_than_the_server_gives_is_no_hole(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _page_size(monkeypatch, 2_500)
    window = ("2026-01-01T00:00Z", "2026-05-01T00:00Z")
    outcomes, stored = collect(box, tmp_path, "BTC/USD:PERP", "1h", *window)
    assert "2000 candles, and more in the same range" in str(outcomes[0].error)
    assert len(stored) == 120 * 24 - 2_500
