"""Bybit v5 as documented: categories, bounds, order, pages of instruments, limits, error bodies."""

from typing import Any

import pytest
from sandbox_client import NOW, Answer, ask

from dccd_sandbox import Rule, Sandbox, Settings
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.exchanges.bybit import PERPETUAL_TICKS

NOW_MS = epoch_ms(NOW)
START = epoch_ms("2026-05-01")
MINUTE = 60_000
KLINE, INSTRUMENTS = "/bybit/v5/market/kline", "/bybit/v5/market/instruments-info"
SPOT = {"category": "spot", "symbol": "BTCUSDT", "interval": "1"}


def rows(box: Sandbox, **query: object) -> list[list[str]]:
    """The rows as they come, newest first."""
    answer = ask(box, KLINE, **query)
    assert (answer.status, answer.json["retCode"], answer.json["retMsg"]) == (200, 0, "OK")
    found: list[list[str]] = answer.json["result"]["list"]
    return found


def times(found: list[list[str]]) -> list[int]:
    return [int(row[0]) for row in found]


def refused(answer: Answer) -> tuple[int, int, str]:
    return answer.status, answer.json["retCode"], answer.json["retMsg"]


def test_rows_are_newest_first_and_both_bounds_are_inclusive(box: Sandbox) -> None:
    found = rows(box, **SPOT, start=START, end=START + 5 * MINUTE)
    assert times(found) == [START + n * MINUTE for n in (5, 4, 3, 2, 1, 0)]
    found = rows(box, **SPOT, start=START + 1, end=START + 5 * MINUTE - 1)
    assert times(found) == [START + n * MINUTE for n in (4, 3, 2, 1)]


def test_a_row_is_seven_texts_in_an_envelope(box: Sandbox) -> None:
    answer = ask(box, KLINE, **SPOT, start=START, end=START).json
    assert set(answer) == {"retCode", "retMsg", "result", "retExtInfo", "time"}
    assert answer["time"] == NOW_MS
    assert (answer["result"]["category"], answer["result"]["symbol"]) == ("spot", "BTCUSDT")
    (row,) = answer["result"]["list"]
    assert [type(cell) for cell in row] == [str] * 7
    opened, high, low, close = map(float, row[1:5])
    assert low <= min(opened, close) <= max(opened, close) <= high
    assert low * float(row[5]) <= float(row[6]) <= high * float(row[5])


def test_without_bounds_the_newest_with_the_running_candle(box: Sandbox) -> None:
    found = rows(box, **SPOT)
    assert len(found) == 200
    assert times(found)[0] == NOW_MS // MINUTE * MINUTE
    assert len(rows(box, **SPOT, limit=1_000)) == 1_000


def test_of_a_range_that_is_too_long_the_newest_rows_stay(box: Sandbox) -> None:
    found = rows(box, **SPOT, start=START, end=START + 99 * MINUTE, limit=3)
    assert times(found) == [START + n * MINUTE for n in (99, 98, 97)]


@pytest.mark.parametrize(
    ("start", "end"),
    [("2018-01-01", "2018-01-01T10:00"), ("2026-06-02", "2026-06-02T10:00")],
    ids=["before listing", "in the future"],
)
def test_an_empty_range_is_an_empty_list(box: Sandbox, start: str, end: str) -> None:
    assert rows(box, **SPOT, start=epoch_ms(start), end=epoch_ms(end)) == []


def test_weeks_open_on_monday(box: Sandbox) -> None:
    found = rows(box, **SPOT | {"interval": "W"}, start=START, end=START + 14 * 86_400_000)
    assert times(found) == [epoch_ms("2026-05-11"), epoch_ms("2026-05-04")]


def test_one_name_is_another_market_in_another_category(box: Sandbox) -> None:
    spot = rows(box, **SPOT, start=START, end=START)[0]
    linear = rows(box, **SPOT | {"category": "linear"}, start=START, end=START)[0]
    default = rows(box, symbol="BTCUSDT", interval="1", start=START, end=START)[0]
    assert default == linear
    assert float(linear[1]) - float(spot[1]) == pytest.approx(PERPETUAL_TICKS / 100)
    assert (linear[0], linear[5]) == (spot[0], spot[5])


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        (SPOT | {"symbol": "NOPE"}, 10001, "Not supported symbols"),
        (SPOT | {"category": "linear", "symbol": "NOPE"}, 10001, "params error: symbol invalid"),
        (SPOT | {"category": "linear", "symbol": "ADABTC"}, 10001, "params error: symbol invalid"),
        (SPOT | {"category": "inverse"}, 10001, "params error: symbol invalid"),
        (SPOT | {"category": "forex"}, 10001, "params error: category invalid"),
        (SPOT | {"interval": "1h"}, 10001, "Invalid period!"),
        (SPOT | {"limit": "1001"}, 10001, "params error: limit invalid"),
        (SPOT | {"limit": "0"}, 10001, "params error: limit invalid"),
        (SPOT | {"start": "soon"}, 10001, "params error: start invalid"),
        (SPOT | {"start": 2, "end": 1}, 10001, "params error: start time is after end time"),
    ],
)
def test_errors_come_with_http_200(
    box: Sandbox, query: dict[str, str], code: int, words: str
) -> None:
    answer = ask(box, KLINE, **query)
    assert refused(answer) == (200, code, words)
    assert answer.json["result"] == {}


def listed(box: Sandbox, **query: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(box, INSTRUMENTS, **query).json["result"]["list"]
    return found


def test_spot_is_listed_whole_and_without_dates(box: Sandbox) -> None:
    found = listed(box, category="spot", limit=1)
    assert {item["symbol"] for item in found} >= {"BTCUSDT", "ADABTC", "N0001USDT"}
    assert all("launchTime" not in item and item["status"] == "Trading" for item in found)
    assert "nextPageCursor" not in ask(box, INSTRUMENTS, category="spot").json["result"]


def test_linear_is_listed_in_pages(box: Sandbox) -> None:
    whole = listed(box, category="linear")
    assert {item["symbol"] for item in whole} == {
        *("BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT", "N0000USDT", "N0001USDT")
    }
    sol = next(item for item in whole if item["symbol"] == "SOLUSDT")
    assert sol["launchTime"] == str(epoch_ms("2020-08-11T06:00"))
    assert (sol["contractType"], sol["deliveryTime"]) == ("LinearPerpetual", "0")
    pages, cursor = [], ""
    while cursor or not pages:
        more = {"cursor": cursor} if cursor else {}
        result = ask(box, INSTRUMENTS, category="linear", limit=4, **more).json["result"]
        pages.append(result["list"])
        cursor = result["nextPageCursor"]
    assert [len(page) for page in pages] == [4, 2]
    assert [item for page in pages for item in page] == whole
    assert listed(box, category="linear", status="Closed") == []
    assert refused(ask(box, INSTRUMENTS, category="linear", cursor="x"))[1] == 10001
    assert refused(ask(box, INSTRUMENTS))[1] == 10001


def test_time_and_unknown_routes(box: Sandbox) -> None:
    assert ask(box, "/bybit/v5/market/time").json["result"]["timeSecond"] == str(NOW_MS // 1_000)
    assert refused(ask(box, "/bybit/v5/market/nothing"))[:2] == (404, 10017)


def test_too_many_requests_of_an_address_are_http_403_for_ten_minutes() -> None:
    with Sandbox(Settings(weight_limit=50, now=NOW, frozen=True)) as box:
        answers = [ask(box, KLINE, **SPOT, limit=1) for _ in range(8)]
        assert [answer.status for answer in answers] == [200] * 5 + [403] * 3
        assert answers[-1].body == b"access too frequent"
        box.reset()
        assert ask(box, KLINE, **SPOT, limit=1).status == 200


def test_faults_are_in_bybits_own_words(box: Sandbox) -> None:
    box.set_faults(Rule("429", retry_after=2))
    answer = ask(box, KLINE, **SPOT)
    assert refused(answer) == (200, 10006, "Too many visits!")
    assert answer.headers["x-bapi-limit-reset-timestamp"] == str(NOW_MS + 2_000)
    box.set_faults(Rule("empty"))
    assert rows(box, **SPOT) == []
    box.set_faults(Rule("missing_hour"))
    assert len(rows(box, **SPOT | {"interval": "60"})) == 199


def test_what_has_ended_is_a_closed_contract_and_no_spot_pair(tmp_path: Any) -> None:
    path = tmp_path / "candles.csv"
    lines = [f"{START + n * MINUTE},1.5,1.6,1.4,1.5,10" for n in range(3)]
    path.write_text("\n".join(lines) + "\n")
    with Sandbox(Settings(symbols=(), candles=(f"OLDUSDT:OLD:USDT:1m:{path}",), now=NOW)) as box:
        assert listed(box, category="spot") == listed(box, category="linear") == []
        (old,) = listed(box, category="linear", status="Closed")
        assert (old["launchTime"], old["deliveryTime"]) == (str(START), str(START + 2 * MINUTE))
