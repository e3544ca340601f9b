"""The sandbox's files of each exchange are its markets' truth; and what its faults do to them."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from archives.host import Host, opened, sorted_out
from helpers import COLUMNS, at, window

from dccd_core.archives import archive as archive_module
from dccd_core.archives.base import Part, Refused
from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges.base import Instrument
from dccd_core.intervals import union
from dccd_core.models import Channel, Series, Symbol, Window, microseconds
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings

NOW = "2026-09-20T12:34:30Z"
SETTINGS = Settings(
    symbols=("BTCUSDT:BTC:USDT:2025-12-20", "BTCUSD:BTC:USD:2026-01-10T05:30"),
    now=NOW,
    frozen=True,
    rate=1.0,
)
USDT, USD, PERP = Symbol("BTC", "USDT"), Symbol("BTC", "USD"), Symbol("BTC", "USDT", "PERP")
TRADES = ("trade_id", "price", "amount", "side")
DAYS = ("2026-03-04T09:00", "2026-03-06")


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as box:
        yield box


@pytest.fixture(autouse=True)
def clean(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(archive_module, "_now", lambda: at(NOW))
    yield
    box.reset()


def fetched(
    box: Sandbox, private: Path, series: Series, market: Instrument, wanted: Window
) -> tuple[list[Part], list[Refused]]:
    host = Host({}, url=f"{box.url}/archives/{series.exchange}")
    with opened(series.exchange, private, host) as archive:
        return sorted_out(archive.fetch(series, market, [wanted]))


def frame(parts: list[Part]) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(pa.concat_tables([part.rows for part in parts])))


@pytest.mark.parametrize(
    ("exchange", "symbol", "name", "size"),
    [
        ("binance", USDT, "BTCUSDT", 1.0),
        ("bybit", PERP, "linear BTCUSDT", 1.0),
        ("okx", USDT, "BTC-USDT", 1.0),
        ("okx", PERP, "BTC-USDT-SWAP", 0.01),
        ("bitmex", PERP, "XBTUSDT", 1e-6),
    ],
)
def test_trades_are_the_truth(
    box: Sandbox, tmp_path: Path, exchange: str, symbol: Symbol, name: str, size: float
) -> None:
    series = Series(exchange, Channel.TRADES, symbol)
    market = Instrument(symbol, name, True, size=size)
    wanted = window(*DAYS)
    parts, refused = fetched(box, tmp_path, series, market, wanted)
    assert refused == []
    truth = box.trades_truth(name, *DAYS, exchange)
    found = frame(parts)
    if exchange == "bitmex":  # its ids are the market's, in words of its own
        ids = found["trade_id"].str.slice(24).map_elements(lambda x: str(int(x, 16)), pl.String)
        found = found.with_columns(ids.alias("trade_id"))
    assert found.height > 1_000
    assert found["time"].to_list() == truth["time"].to_list()
    for column in TRADES:
        assert found[column].cast(truth[column].dtype).to_list() == truth[column].to_list()
    # what comes after the last trade of all is asked by REST where it has it and ids are contiguous
    last = at(DAYS[1]) if exchange != "binance" else microseconds(found["time"][-1])
    assert union(w for part in parts for w in part.covered) == [Window(wanted.start, last)]


def test_bybit_spot_is_the_truth_but_for_its_ids(box: Sandbox, tmp_path: Path) -> None:
    series = Series("bybit", Channel.TRADES, USDT)
    market = Instrument(USDT, "spot BTCUSDT", True)
    parts, refused = fetched(box, tmp_path, series, market, window(*DAYS))
    assert refused == []
    found, truth = frame(parts), box.trades_truth("spot BTCUSDT", *DAYS, "bybit")
    for column in ("price", "amount"):
        assert found[column].to_list() == truth[column].to_list()
    assert found["trade_id"].n_unique() == found.height


@pytest.mark.parametrize(
    ("span", "start", "end"),
    [(3_600, "2026-01-10T05:00", "2026-07-01"), (60, "2026-04-01", "2026-07-01")],
)
def test_kraken_is_the_truth_with_its_empty_candles(
    box: Sandbox, tmp_path: Path, span: int, start: str, end: str
) -> None:
    series = Series("kraken", Channel.OHLC, USD, span)
    market = Instrument(USD, "XBTUSD", True)
    asked = window("2025-01-01" if span > 60 else "2026-04-01", "2026-09-01")
    parts, refused = fetched(box, tmp_path, series, market, asked)
    assert refused == []
    covered = [w for part in parts for w in part.covered]
    truth = box.truth("BTCUSD", span, start, end)
    found = frame(parts)
    # what is before the first trade of a quarter and after its last one is not known
    first, last = covered[0].start, covered[-1].end
    inside = truth.filter(pl.col("time").dt.timestamp("us").is_between(first, last, closed="left"))
    assert inside.height > truth.height - 20
    assert found.select(COLUMNS[:6]).equals(inside.select(COLUMNS[:6]))
    assert found["trades"].to_list() == inside["trades"].to_list()
    if span == 60:
        assert (found["trades"] == 0).sum() > 1_000


@pytest.mark.parametrize("kind", ["wrong_checksum", "truncated", "wrong", "5xx", "cut"])
def test_with_any_fault_rest_takes_over(
    box: Sandbox, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dccd_core.archives.download.DELAY", 0.01)
    box.set_faults(Rule(kind, path="/archives/"))
    config = parse_config(
        "settings: {data_path: ./data, timezone: UTC}\n"
        "histo_jobs: [{exchange: binance, span: 1m, pairs: [BTC/USDT], retry_delay: 0}]\n"
        f"exchanges: {{binance: {{rest_url: {box.binance_url}, "
        f"archive_url: {box.url}/archives/binance}}}}\n",
        tmp_path / "config.yml",
    )
    series = config.series()[0]
    with open_collector(config, "binance") as collector:
        (outcome,) = collector.collect(cells(series, window("2026-03-01", "2026-03-08")))
    assert outcome.failed == []
    assert "BTCUSDT-1m-2026-03" in outcome.note
    found = DataStore(config.settings.data_path).load(series)
    assert found.equals(box.truth("BTCUSDT", 60, "2026-03-01", "2026-03-08").select(COLUMNS))
    assert box.stats()["paths"]["/binance/api/v3/klines"]["200"] >= 11


def test_files_are_used_by_a_collector_and_a_second_run_asks_nothing(
    box: Sandbox, tmp_path: Path
) -> None:
    config = parse_config(
        "settings: {data_path: ./data, timezone: UTC}\n"
        "histo_jobs: [{exchange: binance, span: 1m, pairs: [BTC/USDT]}]\n"
        f"exchanges: {{binance: {{rest_url: {box.binance_url}, "
        f"archive_url: {box.url}/archives/binance}}}}\n",
        tmp_path / "config.yml",
    )
    series = config.series()[0]
    wanted = cells(series, window("2026-01-01", "2026-04-01"))
    with open_collector(config, "binance") as collector:
        (outcome,) = collector.collect(wanted)
        (again,) = collector.collect(wanted)
    assert (outcome.failed, outcome.added) == ([], 90 * 1_440)
    assert outcome.note == "129,600 rows from published files"
    assert again.note == "complete: nothing was asked"
    paths = box.stats()["paths"]
    assert sum(paths["/binance/api/v3/klines"].values()) == 2  # when it was listed
    assert len([path for path in paths if path.startswith("/archives/")]) == 3
    found = DataStore(config.settings.data_path).load(series)
    assert found.equals(box.truth("BTCUSDT", 60, "2026-01-01", "2026-04-01").select(COLUMNS))


def test_archives_false_asks_for_no_file(box: Sandbox, tmp_path: Path) -> None:
    config = parse_config(
        "settings: {data_path: ./data, timezone: UTC}\n"
        "histo_jobs: [{exchange: binance, span: 1m, pairs: [BTC/USDT]}]\n"
        f"exchanges: {{binance: {{rest_url: {box.binance_url}, archives: false, "
        f"archive_url: {box.url}/archives/binance}}}}\n",
        tmp_path / "config.yml",
    )
    with open_collector(config, "binance") as collector:
        (outcome,) = collector.collect(
            cells(config.series()[0], window("2026-03-01", "2026-03-05"))
        )
    assert outcome.added == 4 * 1_440
    assert not [path for path in box.stats()["paths"] if path.startswith("/archives/")]
