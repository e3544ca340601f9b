"""Kraken Futures as documented: charts by seconds, pages that tell of more, the list, errors."""

import pytest
from sandbox_client import NOW, Answer, Ask, ask

from dccd_sandbox import Rule, Sandbox
from dccd_sandbox.clock import epoch_ms

NOW_MS = epoch_ms(NOW)
START = epoch_ms("2026-05-01") // 1_000
MINUTE, HOUR = 60, 3_600


@pytest.fixture
def charts(box: Sandbox) -> Ask:
    def get(
        name: str = "PF_XBTUSD", resolution: str = "1h", tick_type: str = "trade", **query: object
    ) -> Answer:
        path = f"/kraken_futures/api/charts/v1/{tick_type}/{name}/{resolution}"
        return ask(box, path, None, **{key.strip("_"): value for key, value in query.items()})

    return get


def times(answer: Answer) -> list[int]:
    return [row["time"] // 1_000 for row in answer.json["candles"]]


def test_both_bounds_are_inclusive_and_rows_ascend(charts: Ask) -> None:
    answer = charts(from_=START, to=START + 3 * HOUR)
    assert times(answer) == [START + n * HOUR for n in range(4)]
    assert answer.json["more_candles"] is False
    answer = charts(from_=START + 1, to=START + 3 * HOUR - 1)
    assert times(answer) == [START + HOUR, START + 2 * HOUR]


def test_two_thousand_at_most_and_more_is_told(charts: Ask) -> None:
    full = charts(resolution="1m", from_=START, to=START + 2_000 * MINUTE)
    assert len(times(full)) == 2_000
    assert full.json["more_candles"] is True
    rest = charts(resolution="1m", from_=times(full)[-1] + MINUTE, to=START + 2_000 * MINUTE)
    assert times(rest) == [START + 2_000 * MINUTE]
    assert rest.json["more_candles"] is False
    exact = charts(resolution="1m", from_=START, to=START + 2_000 * MINUTE - 1)
    assert len(times(exact)) == 2_000
    assert exact.json["more_candles"] is False


def test_without_bounds_the_newest_with_the_running_one_last(charts: Ask) -> None:
    running = NOW_MS // 3_600_000 * HOUR
    newest = charts()
    assert times(newest)[-1] == running
    assert len(times(newest)) == 2_000
    one = charts(count=1)
    assert times(one) == [running]
    assert one.json["more_candles"] is True
    assert charts(count=1, resolution="1d").json["candles"][0]["time"] % 86_400_000 == 0


def test_a_row_is_as_documented(box: Sandbox, charts: Ask) -> None:
    (row,) = charts(from_=START, to=START).json["candles"]
    (want,) = box.truth("BTCUSDT", "1h", START * 1_000, (START + HOUR) * 1_000).rows(named=True)
    assert row["time"] == START * 1_000
    names = ("open", "high", "low", "close", "volume")
    assert all(isinstance(row[name], str) for name in names)
    assert [float(row[name]) for name in names] == [want[name] for name in names]
    (marked,) = charts(from_=START, to=START, tick_type="mark").json["candles"]
    assert marked["volume"] == "0"


def test_minutes_without_trades_are_flat(charts: Ask) -> None:
    rows = charts(resolution="1m", from_=START, to=START + 1_999 * MINUTE).json["candles"]
    quiet = [row for row in rows if float(row["volume"]) == 0]
    assert len(rows) == 2_000
    assert quiet
    assert all(row["open"] == row["high"] == row["low"] == row["close"] for row in quiet)


def test_the_first_candle_and_nothing_before_or_later(charts: Ask) -> None:
    first = charts(from_=0)
    assert times(first)[0] == epoch_ms("2019-01-01") // 1_000
    assert first.json["more_candles"] is True
    early = charts(from_=0, to=epoch_ms("2018-12-31") // 1_000)
    late = charts(from_=epoch_ms("2026-07-01") // 1_000)
    assert early.json == late.json == {"candles": [], "more_candles": False}


def test_an_expired_contract_ends(charts: Ask) -> None:
    last = charts("FF_XBTUSD_260327", count=1)
    assert times(last) == [epoch_ms("2026-03-27T15:00") // 1_000]


def test_names_are_of_any_case(charts: Ask) -> None:
    assert times(charts("pf_xbtusd", from_=START, to=START)) == [START]


@pytest.mark.parametrize(
    ("name", "resolution", "tick_type", "query", "status", "error"),
    [
        ("PF_NOPEUSD", "1h", "trade", {}, 404, "notFound"),
        ("PF_XBTUSD", "2h", "trade", {}, 400, "invalidArgument"),
        ("PF_XBTUSD", "1h", "last", {}, 400, "invalidArgument"),
        ("PF_XBTUSD", "1h", "trade", {"from_": "soon"}, 400, "invalidArgument"),
    ],
)
def test_error_bodies(
    charts: Ask,
    name: str,
    resolution: str,
    tick_type: str,
    query: dict[str, str],
    status: int,
    error: str,
) -> None:
    answer = charts(name, resolution, tick_type, **query)
    assert (answer.status, answer.json["result"]) == (status, "error")
    assert answer.json["error"] == error


def test_instruments(box: Sandbox) -> None:
    listed = ask(box, "/kraken_futures/derivatives/api/v3/instruments").json
    assert listed["result"] == "success"
    found = {market["symbol"]: market for market in listed["instruments"]}
    assert found["PF_XBTUSD"]["openingDate"] == "2019-01-01T00:00:00.000Z"
    assert found["PF_SOLUSD"]["contractSize"] == 1
    expired = found["FF_XBTUSD_260327"]
    assert expired["tradeable"] is True, "as the real one says of expired contracts"
    assert expired["lastTradingTime"] == "2026-03-27T16:00:00.000Z"
    assert found["PI_XBTUSD"]["type"] == "futures_inverse"
    assert "contractSize" not in found["in_xbtusd"]
    assert ask(box, "/kraken_futures/nothing").status == 404


def test_faults_speak_as_kraken_does(box: Sandbox, charts: Ask) -> None:
    box.set_faults(Rule("429", retry_after=7))
    refused = charts()
    assert (refused.status, refused.json["error"]) == (429, "apiLimitExceeded")
    assert refused.headers["retry-after"] == "7"
    box.set_faults(Rule("empty"))
    assert charts().json["candles"] == []
    box.set_faults(Rule("missing_hour"))
    assert len(times(charts(from_=START, to=START + 99 * HOUR))) == 99
