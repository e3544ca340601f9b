"""Binance spot as documented: bounds, order, limits, weights, error bodies."""

import http.client
from itertools import pairwise

import pytest
from sandbox_client import NOW, Ask, ask

from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW_MS = epoch_ms(NOW)
START = epoch_ms("2026-05-01")
MINUTE = 60_000
BTC = {"symbol": "BTCUSDT", "interval": "1m"}


def times(rows: list[list[int]]) -> list[int]:
    return [row[0] for row in rows]


def test_both_bounds_are_inclusive_and_rows_ascend(klines: Ask) -> None:
    rows = klines(**BTC, startTime=START, endTime=START + 5 * MINUTE).json
    assert times(rows) == [START + n * MINUTE for n in range(6)]
    rows = klines(**BTC, startTime=START + 1, endTime=START + 5 * MINUTE - 1).json
    assert times(rows) == [START + n * MINUTE for n in range(1, 5)]


def test_a_row_is_as_documented(klines: Ask) -> None:
    (row,) = klines(**BTC, startTime=START, limit=1).json
    kinds = [int, str, str, str, str, str, int, str, int, str, str, str]
    assert [type(cell) for cell in row] == kinds
    assert row[6] == START + MINUTE - 1
    assert row[11] == "0"
    assert all(len(row[n].partition(".")[2]) == 8 for n in (1, 2, 3, 4, 5, 7, 9, 10))
    assert float(row[9]) <= float(row[5])
    assert float(row[10]) <= float(row[7])
    assert float(row[3]) <= min(float(row[1]), float(row[4]))
    assert max(float(row[1]), float(row[4])) <= float(row[2])


def test_start_only_gives_the_oldest_end_only_the_newest(klines: Ask) -> None:
    assert times(klines(**BTC, startTime=START, limit=3).json) == [
        START + n * MINUTE for n in range(3)
    ]
    assert times(klines(**BTC, endTime=START, limit=3).json) == [
        START - n * MINUTE for n in (2, 1, 0)
    ]


def test_both_bounds_and_a_limit_count_from_the_start(klines: Ask) -> None:
    rows = klines(**BTC, startTime=START, endTime=START + 99 * MINUTE, limit=2).json
    assert times(rows) == [START, START + MINUTE]


def test_no_bounds_give_the_newest_with_the_running_candle_last(klines: Ask) -> None:
    rows = klines(**BTC).json
    assert len(rows) == 500
    assert rows[-1][0] == NOW_MS // MINUTE * MINUTE
    assert rows[-1][6] > NOW_MS > rows[-2][6]


def test_limits_default_500_at_most_1000(klines: Ask) -> None:
    assert len(klines(**BTC, startTime=START).json) == 500
    assert len(klines(**BTC, startTime=START, limit=1_000).json) == 1_000
    assert len(klines(**BTC, startTime=START, limit=5_000).json) == 1_000


def test_pages_join_without_loss(klines: Ask) -> None:
    whole = klines(**BTC, startTime=START, limit=700).json
    parts: list[list[int]] = []
    while len(parts) < 700:
        after = parts[-1][0] + 1 if parts else START
        parts += klines(**BTC, startTime=after, limit=70).json
    assert parts == whole


def test_listing_is_the_first_row_from_zero(klines: Ask) -> None:
    sol = {"symbol": "SOLUSDT", "startTime": 0, "limit": 1}
    assert times(klines(**sol, interval="1m").json) == [epoch_ms("2020-08-11T06:00")]
    assert times(klines(**sol, interval="1d").json) == [epoch_ms("2020-08-11")]
    assert times(klines(**sol, interval="1w").json) == [epoch_ms("2020-08-10")]


@pytest.mark.parametrize(
    ("start", "end"),
    [("2018-01-01", "2018-12-31"), ("2026-06-02", "2026-06-03"), ("2026-05-02", "2026-05-01")],
    ids=["before listing", "in the future", "turned round"],
)
def test_empty_ranges_are_empty_lists(klines: Ask, start: str, end: str) -> None:
    answer = klines(**BTC, startTime=epoch_ms(start), endTime=epoch_ms(end))
    assert (answer.status, answer.json) == (200, [])


def test_microseconds_in_and_out(klines: Ask) -> None:
    millis = klines(**BTC, startTime=START, endTime=START + MINUTE).json
    assert klines(**BTC, startTime=START * 1_000, endTime=(START + MINUTE) * 1_000).json == millis
    late = klines(**BTC, startTime=START * 1_000 + 1, endTime=(START + MINUTE) * 1_000).json
    assert late == millis[1:]
    micro = klines({"X-MBX-TIME-UNIT": "MICROSECOND"}, **BTC, startTime=START, limit=1).json
    assert micro[0][0] == START * 1_000
    assert micro[0][6] == (START + MINUTE) * 1_000 - 1
    assert micro[0][1:6] == millis[0][1:6]


def test_time_zone_shifts_the_day(klines: Ask) -> None:
    day = {"symbol": "BTCUSDT", "interval": "1d", "startTime": START, "limit": 1}
    assert times(klines(**day).json) == [START]
    assert times(klines(**day, timeZone="8").json) == [START + 16 * 3_600_000]
    assert times(klines(**day, timeZone="-3:30").json) == [START + 3 * 3_600_000 + 30 * MINUTE]
    assert klines(**day, timeZone="15").json["code"] == -1130


def test_week_opens_on_monday_and_month_on_the_first(klines: Ask) -> None:
    rows = klines(symbol="BTCUSDT", interval="1w", startTime=START, limit=2).json
    assert times(rows) == [epoch_ms("2026-05-04"), epoch_ms("2026-05-11")]
    rows = klines(symbol="BTCUSDT", interval="1M", endTime=NOW_MS, limit=2).json
    assert times(rows) == [epoch_ms("2026-05-01"), epoch_ms("2026-06-01")]
    assert rows[0][6] == epoch_ms("2026-06-01") - 1


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ({"symbol": "NOPE", "interval": "1m"}, -1121, "Invalid symbol."),
        ({"symbol": "BTCUSDT", "interval": "1y"}, -1120, "Invalid interval."),
        ({"symbol": "BTCUSDT", "interval": "1H"}, -1120, "Invalid interval."),
        ({"symbol": "btcusdt", "interval": "1m"}, -1100, "'symbol'"),
        ({"symbol": "BTC/USDT", "interval": "1m"}, -1100, "'symbol'"),
        (BTC | {"startTime": "-5"}, -1100, "'startTime'"),
        (BTC | {"endTime": "soon"}, -1100, "'endTime'"),
        (BTC | {"limit": "1.5"}, -1100, "'limit'"),
        ({"interval": "1m"}, -1102, "'symbol'"),
        ({"symbol": "BTCUSDT"}, -1102, "'interval'"),
        (BTC | {"limit": "0"}, -1130, "'limit'"),
        ({"symbol": "", "interval": "1m"}, -1105, "'symbol'"),
        (BTC | {"start": "1"}, -1104, "read '2' parameter(s) but was sent '3'"),
    ],
)
def test_error_bodies(klines: Ask, query: dict[str, str], code: int, words: str) -> None:
    answer = klines(**query)
    assert answer.status == 400
    assert answer.json["code"] == code
    assert words in answer.json["msg"]
    assert set(answer.json) == {"code", "msg"}


def test_exchange_info(box: Sandbox) -> None:
    path = "/binance/api/v3/exchangeInfo"
    info = ask(box, path).json
    ada = next(item for item in info["symbols"] if item["symbol"] == "ADABTC")
    assert (ada["baseAsset"], ada["quoteAsset"], ada["status"]) == ("ADA", "BTC", "TRADING")
    filters = {item["filterType"]: item for item in ada["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.00000001"
    assert filters["LOT_SIZE"]["stepSize"] == "1.00000000"
    assert info["rateLimits"][0] == {
        "rateLimitType": "REQUEST_WEIGHT",
        "interval": "MINUTE",
        "intervalNum": 1,
        "limit": 6_000,
    }
    one = ask(box, path, symbol="ADABTC").json["symbols"]
    two = ask(box, path, symbols='["ADABTC","SOLUSDT"]').json["symbols"]
    assert [item["symbol"] for item in one + two] == ["ADABTC", "ADABTC", "SOLUSDT"]
    assert ask(box, path, symbol="NOPE").json["code"] == -1121
    assert ask(box, path, symbols="ADABTC").json["code"] == -1100


def test_ping_time_and_unknown_paths(box: Sandbox) -> None:
    assert ask(box, "/binance/api/v3/ping").json == {}
    answer = ask(box, "/binance/api/v3/time")
    assert answer.json == {"serverTime": NOW_MS}
    assert answer.headers["date"] == "Mon, 01 Jun 2026 12:34:30 GMT"
    assert ask(box, "/binance/api/v3/nothing").status == 404
    assert ask(box, "/nobody/api").status == 404


def test_numbered_pairs_are_listed_and_served(box: Sandbox) -> None:
    info = ask(box, "/binance/api/v3/exchangeInfo", symbol="N0001USDT").json["symbols"][0]
    assert (info["baseAsset"], info["quoteAsset"]) == ("N0001", "USDT")
    query = {"symbol": "N0001USDT", "interval": "1h", "startTime": START, "limit": 3}
    rows = ask(box, "/binance/api/v3/klines", **query).json
    assert times(rows) == [START + n * 3_600_000 for n in range(3)]


def test_weights_are_counted_and_told() -> None:
    asked = (
        *(("klines", BTC), ("exchangeInfo", {}), ("ping", {}), ("klines", {})),
        *(("aggTrades", {"symbol": "BTCUSDT"}), ("depth", {"symbol": "BTCUSDT", "limit": 5_000})),
    )
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=100_000)) as box:
        used = [
            int(ask(box, f"/binance/api/v3/{path}", **query).headers["x-mbx-used-weight-1m"])
            for path, query in asked
        ]
        assert box.stats()["weight"] == 25 + 4 + 250
    # A minute may have begun in between, and with it a new count.
    steps = [after - before for before, after in pairwise([0, *used])]
    wanted = (2, 20, 1, 2, 4, 250)
    assert all(step == want for step, want in zip(steps, wanted, strict=True) if step > 0)
    assert sum(step > 0 for step in steps) >= 5


def test_without_a_limit_no_used_weight_adds_up(box: Sandbox) -> None:
    for _ in range(3):
        answer = ask(box, "/binance/api/v3/exchangeInfo")
        assert answer.headers["x-mbx-used-weight-1m"] == "20"


def test_too_much_weight_is_refused_and_who_goes_on_is_banned() -> None:
    with Sandbox(Settings(weight_limit=10, now=NOW, frozen=True)) as box:
        path = "/binance/api/v3/klines"
        answers = [ask(box, path, **BTC, limit=1) for _ in range(50)]
        statuses = [answer.status for answer in answers]
        assert statuses == sorted(statuses, key=(200, 429, 418).index) or statuses.count(200) > 5
        first = {status: answers[statuses.index(status)] for status in (200, 429, 418)}
        assert first[429].json["code"] == first[418].json["code"] == -1003
        assert 1 <= int(first[429].headers["retry-after"]) <= 60
        assert int(first[418].headers["retry-after"]) == 120
        assert "banned until" in first[418].json["msg"]
        assert answers[-1].status == 418
        assert box.stats()["max_used_weight"]["binance"] > 10
        box.reset()
        assert ask(box, path, **BTC, limit=1).status == 200


def test_a_page_is_not_kept_when_the_clock_moves(box: Sandbox) -> None:
    path, query = "/binance/api/v3/klines", BTC | {"startTime": NOW_MS - 600_000}
    before = ask(box, path, **query).json
    box.set_clock("2026-06-01T12:40:00Z", frozen=True)
    after = ask(box, path, **query).json
    assert after[: len(before) - 1] == before[:-1]
    assert len(after) == len(before) + 6
    box.set_clock("2026-06-01T12:30:00Z", frozen=True)
    assert times(ask(box, path, **query).json)[-1] == epoch_ms("2026-06-01T12:30")


def test_truth_is_what_the_pages_hold(box: Sandbox, klines: Ask) -> None:
    for label in ("1m", "1h", "1d"):
        rows = klines(symbol="ETHUSDT", interval=label, startTime=START, limit=200).json
        closed = [row for row in rows if row[6] < NOW_MS]
        end = closed[-1][6] + 1
        truth = box.truth("ETHUSDT", label, START, end)
        want = [
            (row[0], *map(float, row[1:6]), float(row[7]), row[8], float(row[9]), float(row[10]))
            for row in closed
        ]
        got = truth.with_columns(truth["time"].dt.epoch("ms")).rows()
        assert got == want


def test_only_get(box: Sandbox) -> None:
    connection = http.client.HTTPConnection(box.host, box.port, timeout=20)
    connection.request("POST", "/binance/api/v3/klines", b"{}")
    assert connection.getresponse().status == 405
    connection.close()
