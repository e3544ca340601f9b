"""What is special of BitMEX: buckets by their end, four kinds of contracts."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from payloads import micro

from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges.base import Answer, Instrument, Limits
from dccd_core.exchanges.bitmex import Bitmex
from dccd_core.history import Outcome
from dccd_core.models import Channel, Series, Symbol, Window, parse_span
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Sandbox, Settings

NOW = "2026-06-01T12:00:30Z"
CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
LIST, BINS = CAPTURES / "bitmex.instruments.jsonl", "samples/bitmex_http_get_trade_bins.json"
beside = pytest.mark.skipif(not LIST.exists(), reason="the captures are not beside this repository")
COLUMNS = ["time", "open", "high", "low", "close", "volume", "quote_volume", "trades"]
SYMBOLS = ("BTCUSDT:BTC:USDT:2019-01-01", "BTCUSD:BTC:USD:2019-01-01", "ADABTC:ADA:BTC:2020-03-15")
BTC = Instrument(Symbol("BTC", "USD", "PERP"), "XBTUSD", trading=True)


@beside
def test_the_whole_recorded_list_has_symbols_of_ours() -> None:
    exchange = Bitmex()
    body = json.dumps(json.loads(LIST.read_text().splitlines()[0])["msg"]).encode()
    listed = exchange.instruments(Answer(200, {}, body, 0), exchange.instruments_requests()[0])
    assert listed.next is None
    assert len({instrument.symbol for instrument in listed.instruments}) == 34
    names = {str(instrument.symbol): instrument.name for instrument in listed.instruments}
    assert names["BTC/USD:PERP"] == "XBTUSD"
    assert names["BTC/EUR:210924"] == "XBTEURU21"
    assert names["ETH/BTC:210924"] == "ETHU21"


@beside
def test_recorded_bins_are_shifted_to_their_open_and_counted_in_bitcoin() -> None:
    answer = Answer(200, {}, (CAPTURES / BINS).read_bytes(), 0)
    candles = Bitmex().candles(answer, BTC, 60)
    assert candles.time.tolist()[0] == micro("2024-11-25T10:29:00Z")
    assert candles.volume.tolist()[0] == 1.520475
    assert candles.quote_volume is not None
    assert candles.quote_volume.tolist()[0] == 150_000.0


def test_a_full_part_of_the_list_has_another_behind_it() -> None:
    exchange = Bitmex()
    market: dict[str, str | bool | None] = {
        "typ": "MRCXXX",
        "state": "Unlisted",
        "underlying": "XBT",
        "quoteCurrency": "USD",
        "isInverse": False,
        "isQuanto": False,
    }
    many: list[dict[str, str | bool | None]] = [
        market | {"symbol": f".I{n}", "expiry": None} for n in range(500)
    ]
    (first,) = exchange.instruments_requests()
    part = exchange.instruments(Answer(200, {}, json.dumps(many).encode(), 0), first)
    assert part.next is not None
    assert part.next.params["start"] == "500"
    rest = Answer(200, {}, json.dumps(many[:1]).encode(), 0)
    assert exchange.instruments(rest, part.next).next is None


def test_buckets_before_the_first_trade_are_no_candles() -> None:
    none = {"open": None, "high": None, "low": None, "close": None, "trades": 0}
    row = none | {"timestamp": "2026-01-01T00:01:00.000Z", "homeNotional": 0, "foreignNotional": 0}
    row |= {"symbol": "XBTUSD"}
    assert len(Bitmex().candles(Answer(200, {}, json.dumps([row]).encode(), 0), BTC, 60)) == 0


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(symbols=SYMBOLS, now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    running.reset()
    _page_size(monkeypatch, 1_000)
    return running


def _page_size(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """The budget of BitMEX would make these tests wait for minutes."""
    monkeypatch.setattr(Bitmex, "limits", Limits(600_000, 60, 10_000, page))


def collect(
    box: Sandbox, folder: Path, pair: str, span: str, start: str, end: str
) -> tuple[list[Outcome], pl.DataFrame]:
    """What is stored of a window, and how that went."""
    job = f'{{exchange: bitmex, pairs: ["{pair}"], span: {span}, start: 2018-01-01,'
    text = f"settings: {{data_path: {folder}}}\nhisto_jobs:\n  - {job} max_retries: 10,"
    text += " retry_delay: 0.001}\n"
    text += f"exchanges: {{bitmex: {{rest_url: {box.url}/bitmex/api/v1}}}}\n"
    config = parse_config(text, folder / "config.yml")
    series = Series("bitmex", Channel.OHLC, Symbol.parse(pair), parse_span(span))
    with open_collector(config, "bitmex") as collector:
        outcomes = list(collector.collect(cells(series, Window(micro(start), micro(end)))))
    return outcomes, DataStore(folder).load(series).select(COLUMNS)


def truth(box: Sandbox, symbol: str, span: str, start: str, end: str) -> pl.DataFrame:
    """A bucket of BitMEX opens where the one before closed; the first one at its first trade."""
    early = (micro(start) - parse_span(span) * 1_000_000) // 1_000
    found = box.truth(symbol, span, early, end).with_columns(
        open=pl.col("close").shift(1).fill_null(pl.col("open"))
    )
    return found.filter(pl.col("time").dt.epoch("us") >= micro(start)).select(COLUMNS)


@pytest.mark.parametrize("pair", ["BTC/USDT:PERP", "BTC/USD:PERP", "BTC/USDT", "ADA/BTC:260925"])
def test_a_month_of_hours_of_every_kind_of_contract(
    box: Sandbox, tmp_path: Path, pair: str
) -> None:
    window = ("2025-03-01T00:00Z", "2025-04-01T00:00Z")
    outcomes, stored = collect(box, tmp_path, pair, "1h", *window)
    assert [outcome.error for outcome in outcomes] == [None]
    symbol = Symbol.parse(pair)
    assert stored.equals(truth(box, f"{symbol.base}{symbol.quote}", "1h", *window))
