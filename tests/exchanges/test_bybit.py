"""What is special of Bybit: one name in two categories, the way to the first spot candle, and the
whole path from its sandbox to stored candles."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dccd_core.collection import open_collector
from dccd_core.config import Config
from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.bybit import Bybit
from dccd_core.history import Outcome
from dccd_core.models import DAY, SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.spans import seconds

NOW = "2026-06-01T12:34:30Z"
YEAR = ("2025-01-01", "2026-01-01")
SETTINGS = Settings(
    symbols=("BTCUSDT:BTC:USDT:2024-12-10", "NEWUSDT:NEW:USDT:2026-05-27T23:59"),
    now=NOW,
    frozen=True,
)
SAMPLES = Path(__file__).parents[3] / "shared" / "captures" / "samples"
SPOT = Instrument(Symbol("BTC", "USDT"), "spot BTCUSDT", trading=True)


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
    return Series("bybit", Channel.OHLC, Symbol.parse(pair), seconds(span))


def config_of(box: Sandbox, folder: Path, series: Series) -> Config:
    job = {"exchange": "bybit", "pairs": [str(series.symbol)], "span": series.span}
    return Config.model_validate(
        {
            "settings": {"data_path": str(folder), "timezone": "UTC"},
            "histo_jobs": [job | {"retry_delay": 0, "max_retries": 10}],
            "exchanges": {"bybit": {"rest_url": f"{box.url}/bybit"}},
        }
    )


def collect(
    box: Sandbox, folder: Path, pair: str, span: str, period: tuple[str, str]
) -> list[Outcome]:
    series = series_of(pair, span)
    with open_collector(config_of(box, folder, series), "bybit") as collector:
        return list(collector.collect(cells(series, Window(*map(micro, period)))))


def served(request: Request, listed: int, now: int) -> Answer:
    """What Bybit answers of a spot market that has traded in every minute since `listed`."""
    sent = request.params
    span = next(span for span, name in Bybit.spans.items() if name == sent["interval"])
    series = Series("bybit", Channel.OHLC, SPOT.symbol, span)
    first, last = series.floor(listed), series.floor(now)
    if "start" in sent:
        first = max(first, series.ceil(int(sent["start"]) * 1_000))
        last = min(last, series.floor(int(sent["end"]) * 1_000))
    times = range(last, first - 1, -span * SECOND)[: int(sent["limit"])]
    rows = [[str(time // 1_000), *("1",) * 6] for time in times]
    result = {"category": "spot", "symbol": "BTCUSDT", "list": rows}
    body = msgspec.json.encode({"retCode": 0, "retMsg": "OK", "result": result})
    return Answer(200, {}, body, now)


@pytest.mark.parametrize("span", [60, 300, 900, 3_600, 43_200, 86_400, 604_800])
@pytest.mark.parametrize(
    "listed",
    [
        *("2018-12-31T23:59", "2021-07-05T00:00", "2023-09-05T12:00", "2023-09-06T12:34"),
        *("2025-11-15T10:20", "2026-04-20T20:00", "2026-04-20T21:00", "2026-05-31T00:00"),
        *("2026-06-01T00:00", "2026-06-01T11:59", "2026-06-01T12:10"),
    ],
)
def test_the_first_spot_candle_is_found_in_five_steps_whatever_the_age(
    listed: str, span: int
) -> None:
    exchange, steps = Bybit(), 0
    found: int | Request | None = exchange.first_candle_request(SPOT, span)
    while isinstance(found, Request):
        found = exchange.first_candle(served(found, micro(listed), micro(NOW)), SPOT, span)
        steps += 1
    assert found is not None
    series = Series("bybit", Channel.OHLC, SPOT.symbol, span)
    # In its first hour a market counts as listed at the full hour.
    exact = micro("2026-06-01T12:00") if listed == "2026-06-01T12:10" else micro(listed)
    assert series.floor(found) == series.floor(exact)
    assert steps <= 5


def test_unknown_pairs_are_told_from_those_of_the_other_category(
    box: Sandbox, tmp_path: Path
) -> None:
    (outcome,) = collect(box, tmp_path, "BTC/USDX:PERP", "1h", ("2026-05-01", "2026-05-02"))
    assert "BTC/USDX:PERP: Bybit has no such pair; did you mean BTC/USDT:PERP" in str(outcome.error)


def test_an_answer_about_another_market_is_refused() -> None:
    linear = Instrument(Symbol("BTC", "USDT", "PERP"), "linear BTCUSDT", trading=True)
    row = '["1767225600000","1","2","0.5","1.5","10","15"]'
    body = '{{"retCode":0,"retMsg":"OK","result":{{"category":"{}","symbol":"{}","list":[{}]}}}}'

    def read(category: str, symbol: str) -> int:
        answer = Answer(200, {}, body.format(category, symbol, row).encode(), 0)
        return len(Bybit().candles(answer, linear, DAY))

    assert read("linear", "BTCUSDT") == 1
    for other in (("spot", "BTCUSDT"), ("linear", "ETHUSDT")):
        with pytest.raises(BadAnswer, match="not linear BTCUSDT"):
            read(*other)


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs the samples beside the repository")
def test_samples_of_another_project_are_read() -> None:
    exchange = Bybit()
    spot, linear = (
        Answer(200, {}, (SAMPLES / f"bybit_http_get_{name}.json").read_bytes(), 0)
        for name in ("instruments_spot", "klines_linear")
    )
    exchange.check(spot)
    found = exchange.instruments(spot, exchange.instruments_requests()[0]).instruments
    assert [str(one.symbol) for one in found] == ["BTC/USDT", "ETH/USDT"]
    market = Instrument(Symbol("BTC", "USDT", "PERP"), "linear BTCUSDT", trading=True)
    candles = exchange.candles(linear, market, 60)
    assert (candles.open[0], candles.close[0], candles.volume[0]) == (27450, 27455, 123.45)
    assert candles.quote_volume is not None
    assert candles.quote_volume[0] == 3_390_000


def test_both_bounds_are_sent_and_the_last_is_before_the_next_candle() -> None:
    for count in (1, 999, 1_000):
        window = Window(micro(YEAR[0]), micro(YEAR[0]) + count * 60 * SECOND)
        sent = Bybit().candles_request(SPOT, 60, window).params
        assert sent["limit"] == str(count)
        start, end = int(sent["start"]), int(sent["end"])
        assert (end - start) // 60_000 == count - 1
        assert end + 1 == window.end // 1_000


def test_a_window_that_ends_between_candles_loses_none() -> None:
    window = Window(micro(YEAR[0]), micro(YEAR[0]) + 150 * SECOND)
    sent = Bybit().candles_request(SPOT, 60, window).params
    assert sent["limit"] == "3"  # those of minutes 0, 1 and 2
