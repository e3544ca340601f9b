"""What is special of Bitfinex: its codes, its silence in quiet minutes, and the whole way."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from payloads import micro

from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Limits
from dccd_core.exchanges.bitfinex import Bitfinex
from dccd_core.history import Outcome
from dccd_core.models import Channel, Series, Symbol, Window, parse_span
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings

NOW = "2026-06-01T12:00:30Z"
CAPTURE = Path(__file__).parents[3] / "shared" / "captures" / "bitfinex.conf.jsonl"
PRICES = ["time", "open", "high", "low", "close", "volume"]
FAULTS = (
    Rule("429", 0.15, retry_after=0),
    Rule("5xx", 0.1),
    Rule("cut", 0.1),
    Rule("truncated", 0.1),
    Rule("empty", 0.1),
    Rule("wrong", 0.1),
)


def listed(spot: list[str], perpetual: list[str], names: list[list[str]]) -> list[Instrument]:
    exchange = Bitfinex()
    body = json.dumps([spot, perpetual, names]).encode()
    return exchange.instruments(
        Answer(200, {}, body, 0), exchange.instruments_requests()[0]
    ).instruments


@pytest.mark.skipif(not CAPTURE.exists(), reason="the captures are not beside this repository")
def test_the_whole_recorded_list_has_symbols_of_ours() -> None:
    answers = [json.loads(line) for line in CAPTURE.read_text().splitlines()]
    lists = {answer["url"].rsplit(":", 1)[1]: answer["msg"][0] for answer in answers[:3]}
    found = listed(lists["exchange"], lists["future"], [["UST", "USDt"], ["ORS", "ORS Group"]])
    assert len(found) == len(lists["exchange"]) + len(lists["future"]) == 328
    assert len({instrument.symbol for instrument in found}) == 328
    names = {str(instrument.symbol): instrument.name for instrument in found}
    assert names["BTC/USDT"] == "tBTCUST"
    assert names["DUSK/USD"] == "tDUSK:USD"
    assert names["BTC/USDT:PERP"] == "tBTCF0:USTF0"
    assert names["ORS/USD"] == "tORSUSD"
    assert all(Symbol.parse(name) for name in names)


def test_of_two_pairs_with_one_name_the_unmapped_code_is_taken() -> None:
    found = listed(["EDOUSD", "PNTUSD"], ["BTCF0:USTF0"], [["EDO", "PNT"]])
    assert [(str(i.symbol), i.name) for i in found] == [
        ("BTC/UST:PERP", "tBTCF0:USTF0"),
        ("PNT/USD", "tPNTUSD"),
    ]


@pytest.mark.parametrize("pair", ["BTCUSDX", "BTC", ""])
def test_a_pair_of_an_unknown_form_is_not_cut_somewhere(pair: str) -> None:
    with pytest.raises(BadAnswer, match="is not a pair"):
        listed([pair], ["BTCF0:USTF0"], [["UST", "USDt"]])


def test_a_field_that_is_added_at_the_end_of_a_row_is_no_harm() -> None:
    answer = Answer(200, {}, b"[[1787389200000,1.5,2.5,3.5,0.5,7.25,99]]", 0)
    candles = Bitfinex().candles(answer, Instrument(Symbol("BTC", "USD"), "tBTCUSD", True), 60)
    assert candles.close.tolist() == [2.5]
    assert candles.volume.tolist() == [7.25]


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    running.reset()
    _page_size(monkeypatch, 10_000)
    return running


def _page_size(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """The budget of Bitfinex would make these tests wait for minutes."""
    monkeypatch.setattr(Bitfinex, "limits", Limits(600_000, 60, 10_000, page))


def collect(
    box: Sandbox, folder: Path, pair: str, span: str, start: str, end: str
) -> tuple[list[Outcome], pl.DataFrame]:
    """What is stored of a window, and how that went."""
    job = f'{{exchange: bitfinex, pairs: ["{pair}"], span: {span}, start: 2018-01-01,'
    text = f"settings: {{data_path: {folder}}}\nhisto_jobs:\n  - {job} max_retries: 10,"
    text += " retry_delay: 0.001}\n"
    text += f"exchanges: {{bitfinex: {{rest_url: {box.url}/bitfinex/v2}}}}\n"
    config = parse_config(text, folder / "config.yml")
    series = Series("bitfinex", Channel.OHLC, Symbol.parse(pair), parse_span(span))
    window = Window(micro(start), micro(end))
    with open_collector(config, "bitfinex") as collector:
        outcomes = list(collector.collect(cells(series, window)))
    return outcomes, DataStore(folder).load(series).select(PRICES)


def truth(box: Sandbox, symbol: str, span: str, start: str, end: str) -> pl.DataFrame:
    """Bitfinex has no candle where there was no trade."""
    return box.truth(symbol, span, start, end).filter(pl.col("trades") > 0).select(PRICES)


def test_a_year_of_hours_is_one_page(box: Sandbox, tmp_path: Path) -> None:
    window = ("2025-01-01T00:00Z", "2026-01-01T00:00Z")
    outcomes, stored = collect(box, tmp_path, "BTC/USDT", "1h", *window)
    assert [outcome.error for outcome in outcomes] == [None]
    assert stored.equals(truth(box, "BTCUSDT", "1h", *window))
    # the list, the first candle twice, and the page
    assert box.stats()["requests"] == 4


def test_a_month_of_minutes_with_faults_and_quiet_minutes(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _page_size(monkeypatch, 700)
    box.set_faults(*FAULTS)
    window = ("2026-05-01T00:00Z", "2026-06-01T00:00Z")
    outcomes, stored = collect(box, tmp_path, "BTC/USDT:PERP", "1m", *window)
    assert [outcome.error for outcome in outcomes] == [None]
    wanted = truth(box, "BTCUSDT", "1m", *window)
    assert len(wanted) < 31 * 1_440, "the sandbox has no quiet minute here"
    assert stored.equals(wanted)
    assert set(box.stats()["faults"]) == {rule.kind for rule in FAULTS}
    box.reset()
    outcomes, _ = collect(box, tmp_path, "BTC/USDT:PERP", "1m", *window)
    assert [outcome.note for outcome in outcomes] == ["complete: nothing was asked"]
    assert box.stats()["requests"] == 0


def test_a_window_that_begins_before_the_listing(box: Sandbox, tmp_path: Path) -> None:
    window = ("2018-06-01T00:00Z", "2019-03-01T00:00Z")
    outcomes, stored = collect(box, tmp_path, "BTC/USDT", "1h", *window)
    assert [outcome.note[:14] for outcome in outcomes] == ["before listing", ""]
    assert stored.equals(truth(box, "BTCUSDT", "1h", *window))


@pytest.mark.parametrize("page", [1, 7])
def test_tiny_pages(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    _page_size(monkeypatch, page)
    window = ("2026-06-01T11:00Z", "2026-06-01T12:00Z")
    outcomes, stored = collect(box, tmp_path, "DOGE/USDT", "1m", *window)
    assert [outcome.error for outcome in outcomes] == [None]
    assert stored.equals(truth(box, "DOGEUSDT", "1m", *window))


def test_an_error_that_stays_fails_its_page_and_no_other(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _page_size(monkeypatch, 100)
    box.set_faults(Rule("5xx", query={"start": str(micro("2026-05-14T04:00Z") // 1_000)}))
    window = ("2026-05-10T00:00Z", "2026-05-25T00:00Z")
    outcomes, stored = collect(box, tmp_path, "BTC/USDT", "1h", *window)
    assert "2026-05-14T04:00:00Z" in str(outcomes[0].error)
    hole = (pl.col("time") >= pl.datetime(2026, 5, 14, 4, time_zone="UTC")) & (
        pl.col("time") < pl.datetime(2026, 5, 18, 8, time_zone="UTC")
    )
    whole = truth(box, "BTCUSDT", "1h", *window)
    assert stored.equals(whole.filter(~hole))
    box.reset()
    _, stored = collect(box, tmp_path, "BTC/USDT", "1h", *window)
    assert stored.equals(whole)
