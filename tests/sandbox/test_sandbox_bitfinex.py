"""Bitfinex v2 as documented: bounds, order, limits, quiet intervals, error bodies."""

import json
from decimal import Decimal

import polars as pl
import pytest
from sandbox_client import NOW, Answer, Ask, ask

from dccd_sandbox import Rule, Sandbox, Settings
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.exchanges.bitfinex import number

NOW_MS = epoch_ms(NOW)
START = epoch_ms("2026-05-01")
MINUTE, HOUR = 60_000, 3_600_000


@pytest.fixture
def candles(box: Sandbox) -> Ask:
    def get(key: str = "trade:1h:tBTCUST", section: str = "hist", **query: object) -> Answer:
        return ask(box, f"/bitfinex/v2/candles/{key}/{section}", None, **query)

    return get


def times(answer: Answer) -> list[int]:
    return [row[0] for row in answer.json]


def test_newest_first_unless_sorted_and_a_hundred_by_default(candles: Ask) -> None:
    newest = times(candles())
    assert newest == [NOW_MS // HOUR * HOUR - n * HOUR for n in range(100)]
    assert times(candles(start=START, sort=1)) == [START + n * HOUR for n in range(100)]
    kept = times(candles(start=START, end=START + 9 * HOUR, limit=3))
    assert kept == [START + n * HOUR for n in (9, 8, 7)]


def test_both_bounds_are_inclusive(candles: Ask) -> None:
    asked = {"start": START, "end": START + 3 * HOUR, "sort": 1}
    assert times(candles(**asked)) == [START + n * HOUR for n in range(4)]
    asked = {"start": START + 1, "end": START + 3 * HOUR - 1, "sort": 1}
    assert times(candles(**asked)) == [START + HOUR, START + 2 * HOUR]


def test_ten_thousand_rows_at_most(candles: Ask) -> None:
    minutes = "trade:1m:tBTCUST"
    assert len(candles(minutes, start=START - 400 * HOUR, limit=10_000, sort=1).json) == 10_000
    assert candles(minutes, limit=10_001).json == ["error", 10_020, "limit: invalid"]


def test_a_row_is_time_open_close_high_low_volume(box: Sandbox, candles: Ask) -> None:
    (row,) = json.loads(candles(start=START, limit=1, sort=1).body, parse_float=Decimal)
    (want,) = box.truth("BTCUSDT", "1h", START, START + HOUR).rows(named=True)
    names = ("open", "close", "high", "low", "volume")
    assert row[0] == START
    assert [float(cell) for cell in row[1:]] == [want[name] for name in names]
    assert not any(str(cell).endswith("0") for cell in row[1:] if isinstance(cell, Decimal))


def test_numbers_are_written_as_javascript_does() -> None:
    cells = ["9131.00", "0.00002000", "0.00000010", "120", "0.00"]
    assert [*map(number, cells)] == ["9131", "0.00002", "1e-7", "120", "0"]


def test_minutes_without_trades_are_absent_and_do_not_count(box: Sandbox, candles: Ask) -> None:
    end = START + 3_000 * MINUTE
    truth = box.truth("BTCUSDT", "1m", START, end)
    traded = (truth.filter(pl.col("trades") > 0)["time"].dt.epoch("ms")).to_list()
    assert 0 < len(traded) < len(truth)
    minutes = {"key": "trade:1m:tBTCUST", "start": START, "end": end - 1}
    assert times(candles(**minutes, limit=10_000, sort=1)) == traded
    assert times(candles(**minutes, limit=2_000, sort=1)) == traded[:2_000]
    assert times(candles(**minutes, limit=2_000)) == traded[:-2_001:-1]


def test_before_the_listing_and_after_now_there_is_nothing(candles: Ask) -> None:
    early, late = epoch_ms("2018-01-01"), epoch_ms("2026-07-01")
    for start in (early, late):
        answer = candles(start=start, end=start + 24 * HOUR, sort=1)
        assert (answer.status, answer.json) == (200, [])
    assert times(candles(sort=1, limit=1)) == [epoch_ms("2019-01-01")]


def test_last_is_one_row_and_no_list_of_rows(candles: Ask) -> None:
    row = candles(section="last").json
    assert row == candles(limit=1).json[0]
    assert row[0] == NOW_MS // HOUR * HOUR


def test_spot_and_perpetual_have_names_of_their_own(box: Sandbox) -> None:
    keys = "pub:list:pair:exchange,pub:list:pair:futures,pub:map:currency:sym"
    spot, perpetual, names = ask(box, f"/bitfinex/v2/conf/{keys}").json
    assert {"BTCUST", "ADABTC", "DOGE:UST", "N0001:UST"} <= set(spot)
    assert {"BTCF0:USTF0", "ADAF0:BTCF0"} <= set(perpetual)
    assert ["UST", "USDt"] in names
    (infos,) = ask(box, "/bitfinex/v2/conf/pub:info:pair").json
    assert [pair for pair, _ in infos] == spot
    assert ask(box, "/bitfinex/v2/platform/status").json == [1]


@pytest.mark.parametrize(
    ("key", "query", "text"),
    [
        ("trade:1h:tNOPE", {}, "symbol: invalid"),
        ("trade:1h:BTCUST", {}, "symbol: invalid"),
        ("trade:1h:tbtcust", {}, "symbol: invalid"),
        ("trade:2h:tBTCUST", {}, "time_interval: invalid"),
        ("funding:1h:fUSD", {}, "key: invalid"),
        ("trade:1h:tBTCUST", {"limit": "0"}, "limit: invalid"),
        ("trade:1h:tBTCUST", {"start": "soon"}, "start: invalid"),
    ],
)
def test_error_bodies(candles: Ask, key: str, query: dict[str, str], text: str) -> None:
    answer = candles(key, **query)
    assert (answer.status, answer.json) == (500, ["error", 10_020, text])


def test_unknown_paths_and_lists(box: Sandbox) -> None:
    assert ask(box, "/bitfinex/v2/nothing").status == 404
    assert ask(box, "/bitfinex/v2/conf/pub:list:nothing").json[0] == "error"


def test_the_thirty_first_request_of_a_minute_closes_the_endpoint() -> None:
    path = "/bitfinex/v2/candles/trade:1h:tBTCUST/hist"
    with Sandbox(Settings(now=NOW, frozen=True)) as box:
        answers = [ask(box, path, limit=1) for _ in range(32)]
        assert [answer.status for answer in answers] == [200] * 30 + [429] * 2
        assert answers[30].json == ["error", 11_010, "ratelimit: error"]
        assert "retry-after" not in answers[30].headers
        assert ask(box, "/bitfinex/v2/platform/status").status == 200
        assert box.stats()["max_used_weight"]["bitfinex"] == 32
        box.reset()
        assert ask(box, path, limit=1).status == 200


def test_faults_speak_as_bitfinex_does(box: Sandbox, candles: Ask) -> None:
    box.set_faults(Rule("429", retry_after=7))
    refused = candles()
    assert (refused.status, refused.json) == (429, {"error": "ERR_RATE_LIMIT"})
    assert refused.headers["retry-after"] == "7"
    box.set_faults(Rule("empty"))
    assert candles().json == []
    box.set_faults(Rule("missing_hour"))
    assert len(candles("trade:1m:tBTCUST", start=START, sort=1).json) < 100
