"""Binance USD-M as documented: contracts, bounds, weights, limits, error bodies."""

from datetime import date
from typing import Any

import pytest
from sandbox_client import NOW, ask

from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.dated import DATED_TICKS, quarter_day

NOW_MS = epoch_ms(NOW)
START = epoch_ms("2026-05-01")
MINUTE, HOUR = 60_000, 3_600_000
KLINES, INFO = "/binance_usdm/fapi/v1/klines", "/binance_usdm/fapi/v1/exchangeInfo"
BTC = {"symbol": "BTCUSDT", "interval": "1m"}


def rows(box: Sandbox, **query: object) -> list[list[Any]]:
    answer = ask(box, KLINES, **query)
    assert answer.status == 200, answer.body
    found: list[list[Any]] = answer.json
    return found


def times(found: list[list[Any]]) -> list[int]:
    return [row[0] for row in found]


def test_rows_ascend_and_both_bounds_are_inclusive(box: Sandbox) -> None:
    found = rows(box, **BTC, startTime=START, endTime=START + 5 * MINUTE)
    assert times(found) == [START + n * MINUTE for n in range(6)]
    found = rows(box, **BTC, startTime=START + 1, endTime=START + 5 * MINUTE - 1)
    assert times(found) == [START + n * MINUTE for n in range(1, 5)]
    assert times(rows(box, **BTC, startTime=START, limit=2)) == [START, START + MINUTE]
    assert times(rows(box, **BTC, endTime=START, limit=2)) == [START - MINUTE, START]


def test_a_row_is_as_documented(box: Sandbox) -> None:
    (row,) = rows(box, **BTC, startTime=START, limit=1)
    kinds = [int, str, str, str, str, str, int, str, int, str, str, str]
    assert [type(cell) for cell in row] == kinds
    assert row[6] == START + MINUTE - 1
    assert row[11] == "0"
    assert float(row[9]) <= float(row[5])


def test_default_500_at_most_1500_the_running_one_last(box: Sandbox) -> None:
    found = rows(box, **BTC)
    assert len(found) == 500
    assert found[-1][6] > NOW_MS > found[-2][6]
    assert len(rows(box, **BTC, startTime=START, limit=1_500)) == 1_500


def test_the_first_candle_is_before_the_onboard_date(box: Sandbox) -> None:
    info = ask(box, INFO).json
    btc = next(item for item in info["symbols"] if item["symbol"] == "BTCUSDT")
    (first,) = rows(box, **BTC | {"interval": "1h"}, startTime=0, limit=1)
    assert first[0] == epoch_ms("2019-01-01") < btc["onboardDate"]


def test_exchange_info_has_perpetuals_and_two_quarters(box: Sandbox) -> None:
    info = ask(box, INFO).json
    found = {item["symbol"]: item for item in info["symbols"]}
    assert {name for name in found if "_" in name} == {
        *("BTCUSDT_260626", "BTCUSDT_260925", "ETHUSDT_260626", "ETHUSDT_260925")
    }
    perpetual, dated = found["BTCUSDT"], found["BTCUSDT_260925"]
    assert (perpetual["pair"], perpetual["contractType"]) == ("BTCUSDT", "PERPETUAL")
    assert perpetual["deliveryDate"] == epoch_ms("2100-12-25T08:00")
    assert (dated["pair"], dated["contractType"]) == ("BTCUSDT", "NEXT_QUARTER")
    assert dated["deliveryDate"] == epoch_ms("2026-09-25T08:00")
    assert info["rateLimits"][0]["limit"] == 2_400


@pytest.mark.parametrize(
    ("day", "want"),
    [
        (date(2026, 1, 1), date(2026, 3, 27)),
        (date(2026, 3, 27), date(2026, 3, 27)),
        (date(2026, 3, 28), date(2026, 6, 26)),
        (date(2026, 12, 26), date(2027, 3, 26)),
    ],
)
def test_quarters_end_on_their_last_friday(day: date, want: date) -> None:
    assert quarter_day(day) == want


def test_a_dated_contract_lives_between_two_quarter_days(box: Sandbox) -> None:
    old = {"symbol": "BTCUSDT_260327", "interval": "1h"}
    first = rows(box, **old, startTime=0, limit=2)
    assert times(first) == [epoch_ms("2025-09-26T08:00"), epoch_ms("2025-09-26T09:00")]
    assert times(rows(box, **old, limit=1)) == [epoch_ms("2026-03-27T07:00")]
    (day,) = rows(box, **old | {"interval": "1d"}, limit=1)
    hours = rows(box, **old, startTime=epoch_ms("2026-03-27"))
    assert len(hours) == 8
    assert float(day[5]) == pytest.approx(sum(float(hour[5]) for hour in hours))
    (dated,), (perpetual,) = (
        rows(box, symbol=name, interval="1h", startTime=START, limit=1)
        for name in ("BTCUSDT_260626", "BTCUSDT")
    )
    assert float(dated[1]) - float(perpetual[1]) == pytest.approx(DATED_TICKS / 100)
    assert dated[5] == perpetual[5]


def test_the_running_quarter_goes_at_eight_of_its_last_day(box: Sandbox) -> None:
    def listed() -> set[str]:
        return {s["symbol"] for s in ask(box, INFO).json["symbols"] if "BTCUSDT_" in s["symbol"]}

    box.set_clock("2026-06-26T07:59:59Z", frozen=True)
    assert listed() == {"BTCUSDT_260626", "BTCUSDT_260925"}
    box.set_clock("2026-06-26T08:00:00Z", frozen=True)
    assert listed() == {"BTCUSDT_260925", "BTCUSDT_261225"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"symbol": "NOPE", "interval": "1m"}, -1121),
        ({"symbol": "BTCUSDT_260627", "interval": "1m"}, -1121),  # a Saturday
        ({"symbol": "BTCUSDT_261225", "interval": "1m"}, -1121),  # not listed yet
        ({"symbol": "BTCUSDT_269999", "interval": "1m"}, -1121),
        ({"symbol": "SOLUSDT_260626", "interval": "1m"}, -1121),
        ({"symbol": "BTCUSDT", "interval": "1s"}, -1120),
        (BTC | {"limit": "1501"}, -1130),
        (BTC | {"limit": "0"}, -1130),
        (BTC | {"startTime": "2", "endTime": "1"}, -1023),
        (BTC | {"startTime": "-5"}, -1100),
        ({"interval": "1m"}, -1102),
        (BTC | {"start": "1"}, -1104),
    ],
)
def test_error_bodies(box: Sandbox, query: dict[str, str], code: int) -> None:
    answer = ask(box, KLINES, **query)
    assert (answer.status, answer.json["code"]) == (400, code)
    assert set(answer.json) == {"code", "msg"}


@pytest.mark.parametrize(
    ("limit", "weight"),
    [(1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1_000, 5), (1_001, 10), (None, 5)],
)
def test_weight_by_limit(box: Sandbox, limit: int | None, weight: int) -> None:
    ask(box, KLINES, **BTC, **({"limit": limit} if limit else {}))
    assert box.stats()["weight"] == weight


def test_ping_time_and_unknown_paths(box: Sandbox) -> None:
    assert ask(box, "/binance_usdm/fapi/v1/ping").json == {}
    assert ask(box, "/binance_usdm/fapi/v1/time").json == {"serverTime": NOW_MS}
    assert ask(box, "/binance_usdm/fapi/v1/nothing").status == 404


def test_too_much_weight_is_refused_and_who_goes_on_is_banned() -> None:
    # 25 of the settings' minute of 6,000 are 10 of the 2,400 here.
    with Sandbox(Settings(weight_limit=25, now=NOW, frozen=True)) as box:
        answers = [ask(box, KLINES, **BTC, limit=1) for _ in range(50)]
        statuses = [answer.status for answer in answers]
        first = {status: answers[statuses.index(status)] for status in (200, 429, 418)}
        assert statuses.count(200) >= 10
        assert first[429].json["code"] == first[418].json["code"] == -1003
        assert 1 <= int(first[429].headers["retry-after"]) <= 60
        assert "banned until" in first[418].json["msg"]
        assert answers[-1].status == 418
