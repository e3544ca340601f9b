"""What is special of OKX: three kinds of markets under our names, volumes of contracts, the way to
the first candle, and the whole path from its sandbox to stored candles."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dccd_core.collection import open_collector
from dccd_core.config import Config
from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.okx import Okx
from dccd_core.history import Outcome
from dccd_core.models import DAY, SECOND, WEEK, Channel, Series, Symbol, Window, microseconds
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.spans import seconds

# Not long after OKX moved to its present API: of older markets the list has another time.
NOW = "2021-03-09T12:34:30Z"
SETTINGS = Settings(
    symbols=(
        "BTCUSDT:BTC:USDT:2020-02-05T03:17",
        "SOLUSDT:SOL:USDT:2021-02-02T06:10",
        "ETHUSD:ETH:USD:2020-11-10T10:05",
    ),
    now=NOW,
    frozen=True,
)
COLUMNS = ["time", "open", "high", "low", "close", "volume", "quote_volume"]
CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
INSTRUMENTS = CAPTURES / "okx.instruments.jsonl"
SAMPLE = CAPTURES / "samples" / "okx_http_get_candlesticks_full.json"
SPOT = Instrument(Symbol("BTC", "USDT"), "BTC-USDT", trading=True)
SWAP = Instrument(Symbol("BTC", "USDT", "PERP"), "BTC-USDT-SWAP", trading=True, size=0.01)
OKX = Okx()


def answer(data: list[Any]) -> Answer:
    body = json.dumps({"code": "0", "msg": "", "data": data}).encode()
    return Answer(200, {}, body, microseconds(datetime(2026, 8, 22, tzinfo=UTC)))


def rows_of(times: list[int]) -> list[list[str]]:
    """Rows, newest first, that open at these seconds."""
    cells = ["6", "7", "5", "6", "1", "6", "6", "1"]
    return [[str(time * 1_000), *cells] for time in sorted(times, reverse=True)]


# --- candles -----------------------------------------------------------------------------------


def test_a_candle_that_is_not_confirmed_is_not_read_though_its_time_is_over() -> None:
    running, closed = rows_of([0, 60])
    running[8] = "0"
    late = Answer(200, {}, answer([running, closed]).body, 600 * SECOND)
    assert OKX.candles(late, SPOT, 60).time.tolist() == [0]


def test_volume_is_in_base_units_of_spot_and_of_contracts() -> None:
    row = [
        "0",
        "102806",
        "102820.5",
        "102783.1",
        "102806.1",
        "7164.04",
        "71.6404",
        "7364701.5",
        "1",
    ]
    swap, spot = OKX.candles(answer([row]), SWAP, 60), OKX.candles(answer([row]), SPOT, 60)
    assert (swap.volume.tolist(), spot.volume.tolist()) == ([71.6404], [7164.04])
    for found in (swap, spot):
        assert found.quote_volume is not None
        assert found.quote_volume.tolist() == [7364701.5]


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs ../shared/captures")
def test_a_recorded_page_of_a_swap() -> None:
    found = OKX.candles(Answer(200, {}, SAMPLE.read_bytes(), 0), SWAP, 60)
    assert found.time.tolist() == [1747093980000000, 1747094040000000]
    assert found.open.tolist() == [102806.0, 102806.1]
    assert found.volume.tolist() == [71.6404, 10.4037]
    assert found.quote_volume is not None
    assert found.quote_volume.tolist() == [7364701.57952, 1069603.34883]


def test_a_window_that_ends_between_two_bars_asks_for_every_bar_in_it() -> None:
    monday = 1_528_070_400 * SECOND
    request = OKX.candles_request(SPOT, WEEK, Window(monday, monday + (2 * WEEK + DAY) * SECOND))
    assert request.params["limit"] == "3"
    assert request.params["before"] == str(monday // 1_000 - 1)


# --- instruments -------------------------------------------------------------------------------


@pytest.mark.skipif(not INSTRUMENTS.exists(), reason="needs ../shared/captures")
def test_every_recorded_market_has_a_name_of_its_own() -> None:
    listed: dict[str, dict[str, str]] = {}
    found: list[Instrument] = []
    for line in INSTRUMENTS.read_text().splitlines():
        record = json.loads(line)
        kind = record["url"].partition("instType=")[2]
        if record["dir"] == "http" and kind in ("SPOT", "SWAP", "FUTURES"):
            data = [entry for entry in record["msg"]["data"] if entry["instId"] not in listed]
            listed |= {entry["instId"]: entry for entry in data}
            found += OKX.instruments(answer(data), Request("", {})).instruments
    assert len(found) == len(listed) == 180
    assert len({instrument.symbol for instrument in found}) == 180
    for one in found:
        entry = listed[one.name]
        pair = entry["uly"] or f"{entry['baseCcy']}-{entry['quoteCcy']}"
        assert f"{one.symbol.base}-{one.symbol.quote}" == pair
        assert Symbol.parse(str(one.symbol)) == one.symbol
        expiry = entry["expTime"] and datetime.fromtimestamp(int(entry["expTime"]) / 1e3, UTC)
        contract = f"{expiry:%y%m%d}" if expiry else "PERP" if entry["uly"] else ""
        assert one.symbol.contract == contract


@pytest.mark.parametrize("field", ["listTime", "ctVal", "ctMult"])
def test_a_number_of_the_list_that_is_none_is_refused(field: str) -> None:
    path = Path(__file__).parent / "okx" / "instruments_swap.json"
    entry = json.loads(path.read_bytes())["body"]["data"][0] | {field: "soon"}
    with pytest.raises(BadAnswer, match="'soon' is not a number, in the entry of BTC-USDT-SWAP"):
        OKX.instruments(answer([entry]), Request("", {}))


# --- the first candle --------------------------------------------------------------------------


def bars(times: np.ndarray[Any, Any], request: Request) -> list[list[str]]:
    """What history-candles says of a market that traded at these seconds."""
    bar = request.params["bar"]
    if bar == "1Mutc":
        found = times.astype("datetime64[s]").astype("datetime64[M]").astype("datetime64[s]")
        opens = np.unique(found.astype(np.int64))
    else:
        span = {name: span for span, name in OKX.spans.items()}[bar]
        shift = 4 * DAY if span == WEEK else 0
        opens = np.unique((times - shift) // span * span + shift)
    if "after" in request.params:
        opens = opens[opens < int(request.params["after"]) // 1_000]
    return rows_of(opens[-300:].tolist())


def search(times: np.ndarray[Any, Any], span: int) -> int:
    """The seconds of the first candle that is found, within ten requests."""
    request: int | Request | None = OKX.first_candle_request(SPOT, span)
    for _ in range(10):
        assert isinstance(request, Request)
        request = OKX.first_candle(answer(bars(times, request)), SPOT, span)
        if not isinstance(request, Request):
            break
    assert isinstance(request, int)
    return request // SECOND


@pytest.mark.parametrize("span", OKX.spans)
@pytest.mark.parametrize("first", ["2018-01-31T23:59", "2017-10-01T00:00", "2020-02-29T12:34"])
def test_the_first_candle_of_each_span_is_found(span: int, first: str) -> None:
    start = int(datetime.fromisoformat(first).replace(tzinfo=UTC).timestamp())
    times = np.arange(start, start + 120 * DAY, 60)
    shift = 4 * DAY if span == WEEK else 0
    assert search(times, span) == (start - shift) // span * span + shift


def test_the_search_ends_and_is_never_too_late_where_hardly_anything_was_traded() -> None:
    rng = np.random.default_rng(7)
    for number in range(300):
        reach = (400 * DAY, 3 * DAY, 7_200)[number % 3]
        times = np.sort(1_530_000_000 + rng.integers(0, reach, 1 + number % 7) // 60 * 60)
        for span in (60, 3_600, DAY, WEEK):
            assert search(times, span) <= times[0]


def test_a_market_without_a_candle_has_no_first_one() -> None:
    assert OKX.first_candle(answer([]), SPOT, 60) is None


# --- from the sandbox to the store -------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Iterator[Sandbox]:
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def quick(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox and a client without a budget."""
    monkeypatch.setattr(Okx, "limits", replace(Okx.limits, weight=1e6, burst=1e6))
    for exchange in box._runner.app.exchanges.values():  # type: ignore[union-attr]
        monkeypatch.setattr(exchange.limit, "limit", 0)
    return box


def micro(text: str) -> int:
    return epoch_ms(text) * 1_000


def collect(
    box: Sandbox, folder: Path, pair: str, span: str, period: tuple[str, str]
) -> list[Outcome]:
    series = Series("okx", Channel.OHLC, Symbol.parse(pair), seconds(span))
    job = {"exchange": "okx", "pairs": [pair], "span": series.span}
    config = Config.model_validate(
        {
            "settings": {"data_path": str(folder), "timezone": "UTC"},
            "histo_jobs": [job | {"retry_delay": 0, "max_retries": 10}],
            "exchanges": {"okx": {"rest_url": f"{box.url}/okx"}},
        }
    )
    with open_collector(config, "okx") as collector:
        return list(collector.collect(cells(series, Window(*map(micro, period)))))


def assert_true(
    box: Sandbox, folder: Path, pair: str, span: str, period: tuple[str, str]
) -> pl.DataFrame:
    """What is stored is the truth row for row, and every hole is settled."""
    series = Series("okx", Channel.OHLC, Symbol.parse(pair), seconds(span))
    store, window = DataStore(folder), Window(*map(micro, period))
    stored = store.load(series)
    market = f"{series.symbol.base}{series.symbol.quote}"
    truth = box.truth(market, span, *period)
    assert stored.select(COLUMNS).equals(truth.select(COLUMNS))
    assert all(stored[name].null_count() == len(stored) for name in truth.columns[7:])
    assert store.missing_windows(series, series.grid(window)) == []
    return stored


def asked(box: Sandbox) -> int:
    found: dict[str, int] = box.stats(last=0)["paths"]["/okx/api/v5/market/history-candles"]
    return sum(found.values())


def test_the_budget_of_two_seconds_is_kept(box: Sandbox, tmp_path: Path) -> None:
    period = ("2021-02-10", "2021-02-15")
    (outcome,) = collect(box, tmp_path, "SOL/USDT", "1m", period)
    assert outcome.error is None
    assert asked(box) == 24
    assert set(box.stats(last=0)["paths"]["/okx/api/v5/market/history-candles"]) == {"200"}
    assert box.stats(last=0)["max_used_weight"]["okx"] <= 20


@pytest.mark.parametrize(
    ("pair", "span", "period"),
    [
        ("BTC/USDT", "1m", ("2020-02-04", "2020-02-11")),
        ("BTC/USDT", "1w", ("2020-01-01", "2021-02-15")),
        ("SOL/USDT:PERP", "1m", ("2021-01-31", "2021-03-03")),
        ("ETH/USD:PERP", "15m", ("2020-11-01", "2020-12-01")),
        ("ETH/USD:PERP.UM", "12h", ("2020-11-01", "2021-03-01")),
    ],
)
def test_from_before_the_listing_on(
    quick: Sandbox, tmp_path: Path, pair: str, span: str, period: tuple[str, str]
) -> None:
    outcomes = collect(quick, tmp_path, pair, span, period)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    assert len(assert_true(quick, tmp_path, pair, span, period)) > 30


def test_a_future_begins_with_its_own_listing(quick: Sandbox, tmp_path: Path) -> None:
    pair, period = "ETH/USD:210604", ("2020-11-10T11:00", "2021-03-01")
    outcomes = collect(quick, tmp_path, pair, "1h", period)
    assert [outcome.error for outcome in outcomes] == [None, None]
    stored = DataStore(tmp_path).load(Series("okx", Channel.OHLC, Symbol.parse(pair), 3_600))
    truth = quick.truth("ETHUSD", "1h", "2020-12-04T08:00", period[1])
    assert stored.select(COLUMNS).equals(truth.select(COLUMNS))


def test_an_unknown_pair_is_told_with_what_is_near(quick: Sandbox, tmp_path: Path) -> None:
    (outcome,) = collect(quick, tmp_path, "SOL/USDC", "1h", ("2021-02-07", "2021-02-08"))
    assert "OKX has no such pair; did you mean SOL/USDT" in str(outcome.error)
