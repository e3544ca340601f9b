"""BitMEX v1 as documented: buckets by their end, bounds, order, lists, tokens, error bodies."""

from collections.abc import Iterator

import pytest
from sandbox_client import NOW, Answer, Ask, ask

from dccd_sandbox import Rule, Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW_MS = epoch_ms(NOW)
START = epoch_ms("2026-05-01")
HOUR = 3_600_000
PATH = "/bitmex/api/v1/trade/bucketed"
SYMBOLS = ("BTCUSDT:BTC:USDT:2019-01-01", "BTCUSD:BTC:USD:2019-01-01", "ADABTC:ADA:BTC:2020-03-15")


@pytest.fixture(scope="module")
def mex() -> Iterator[Sandbox]:
    with Sandbox(Settings(symbols=SYMBOLS, now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture
def bins(mex: Sandbox) -> Ask:
    mex.reset()

    def get(**query: object) -> Answer:
        return ask(mex, PATH, None, **({"symbol": "XBTUSDT", "binSize": "1h"} | query))

    return get


def ends(answer: Answer) -> list[str]:
    return [row["timestamp"] for row in answer.json]


def test_the_timestamp_is_the_end_and_both_bounds_are_inclusive(bins: Ask) -> None:
    asked = {"startTime": "2026-05-01T00:00:00.000Z", "endTime": "2026-05-01T02:00:00.000Z"}
    assert ends(bins(**asked)) == [f"2026-05-01T0{n}:00:00.000Z" for n in range(3)]
    asked = {"startTime": "2026-05-01T00:00:00.001Z", "endTime": "2026-05-01T01:59:59.999Z"}
    assert ends(bins(**asked)) == ["2026-05-01T01:00:00.000Z"]
    assert ends(bins(startTime="2026-05-01", count=1)) == ["2026-05-01T00:00:00.000Z"]


def test_a_bucket_opens_where_the_one_before_closed(mex: Sandbox, bins: Ask) -> None:
    rows = bins(startTime="2026-05-01T01:00:00.000Z", count=50).json
    truth = mex.truth("BTCUSDT", "1h", START, START + 50 * HOUR).rows(named=True)
    assert [row["close"] for row in rows] == [row["close"] for row in truth]
    assert [row["open"] for row in rows[1:]] == [row["close"] for row in rows[:-1]]
    assert [row["open"] for row in rows[1:]] != [row["open"] for row in truth[1:]]
    assert [row["homeNotional"] for row in rows] == [row["volume"] for row in truth]
    assert [row["foreignNotional"] for row in rows] == [row["quote_volume"] for row in truth]


def test_volume_is_in_contracts(bins: Ask) -> None:
    (linear,) = bins(startTime="2026-05-01", count=1).json
    assert linear["volume"] == round(linear["homeNotional"] * 10**5)
    (spot,) = bins(symbol="XBT_USDT", startTime="2026-05-01", count=1).json
    assert spot["volume"] == round(spot["homeNotional"] * 10**8), "satoshi"
    (inverse,) = bins(symbol="XBTUSD", startTime="2026-05-01", count=1).json
    assert inverse["volume"] == round(inverse["foreignNotional"])
    assert inverse["turnover"] == round(inverse["homeNotional"] * 10**8)


def test_minutes_without_trades_are_flat(bins: Ask) -> None:
    rows = bins(binSize="1m", startTime="2026-05-01", count=1_000).json
    quiet = [row for row in rows if row["trades"] == 0]
    assert len(rows) == 1_000
    assert quiet
    for row in quiet:
        assert row["open"] == row["high"] == row["low"] == row["close"]
        assert (row["volume"], row["vwap"], row["lastSize"]) == (0, None, None)


def test_the_running_bucket_is_there_only_if_asked_for(bins: Ask) -> None:
    closed = "2026-06-01T12:00:00.000Z"
    assert ends(bins(reverse="true", count=1)) == [closed]
    both = ends(bins(reverse="true", count=2, partial="true"))
    assert both == ["2026-06-01T13:00:00.000Z", closed]


def test_reverse_count_and_start(bins: Ask) -> None:
    newest = ends(bins(reverse="true"))
    assert len(newest) == 100
    assert newest == sorted(newest, reverse=True)
    assert ends(bins(reverse="true", start=10, count=5)) == newest[10:15]
    asked = {"startTime": "2026-05-01", "count": 20}
    assert ends(bins(**asked))[5:] == ends(bins(startTime="2026-05-01", start=5, count=15))
    assert len(bins(startTime="2026-01-01", count=1_000).json) == 1_000


def test_the_first_bucket_and_nothing_before_or_later(bins: Ask) -> None:
    assert ends(bins(startTime="2014-01-01", count=1)) == ["2019-01-01T01:00:00.000Z"]
    assert bins(startTime="2014-01-01", endTime="2018-01-01").json == []
    assert bins(startTime="2026-07-01").json == []
    assert bins(symbol="NOPE").json == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"binSize": "2h"}, "'binSize'"),
        ({"count": "1001"}, "Maximum result count is 1000"),
        ({"count": "many"}, "'count'"),
        ({"startTime": "soon"}, "'startTime'"),
    ],
)
def test_error_bodies(bins: Ask, query: dict[str, str], words: str) -> None:
    answer = bins(**query)
    assert answer.status == 400
    assert answer.json["error"]["name"] == "HTTPError"
    assert words in answer.json["error"]["message"]


def test_instruments_come_in_parts_with_indices_among_them(mex: Sandbox) -> None:
    path = "/bitmex/api/v1/instrument"
    listed = ask(mex, path, None, count=500).json
    kinds = {market["symbol"]: market["typ"] for market in listed}
    assert kinds == {
        "XBTUSDT": "FFWCSX",
        "XBT_USDT": "IFXXXP",
        "XBTUSD": "FFWCSX",
        "ADAU26": "FFCCSX",
        ".BXBT": "MRCXXX",
    }
    assert ask(mex, path, None, count=2, start=1).json == listed[1:3]
    assert ask(mex, path, None, count=501).status == 400
    assert ask(mex, f"{path}/active").json == listed[:4]
    assert listed[0]["listing"] > "2019-06"
    assert ask(mex, "/bitmex/api/v1/nothing").status == 404


def test_a_unit_of_spot_is_that_of_its_coin(mex: Sandbox) -> None:
    listed = ask(mex, "/bitmex/api/v1/instrument", None, count=500).json
    units = {market["symbol"]: market.get("underlyingToPositionMultiplier") for market in listed}
    assert (units["XBTUSDT"], units["XBT_USDT"], units["XBTUSD"]) == (10**5, 10**8, None)
    coins = {coin["currency"]: coin for coin in ask(mex, "/bitmex/api/v1/wallet/assets").json}
    assert {name: (coin["asset"], coin["scale"]) for name, coin in coins.items()} == {
        "XBt": ("XBT", 8),
        "USDt": ("USDT", 6),
        "ADa": ("ADA", 8),
    }


def test_thirty_tokens_and_then_a_wait() -> None:
    with Sandbox(Settings(symbols=SYMBOLS, now=NOW, frozen=True)) as box:
        answers = [ask(box, PATH, None, symbol="XBTUSD", count=1) for _ in range(40)]
        statuses = [answer.status for answer in answers]
        assert 30 <= statuses.count(200) <= 35, "one more every two seconds"
        refused = answers[statuses.index(429)]
        assert refused.headers["retry-after"] in ("1", "2", "3")
        assert refused.json["error"]["name"] == "HTTPError"
        assert (answers[0].headers["x-ratelimit-limit"]) == "30"
        assert (answers[0].headers["x-ratelimit-remaining"]) == "29"
        assert box.stats()["max_used_weight"]["bitmex"] == 30
        box.reset()
        assert ask(box, PATH, None, symbol="XBTUSD", count=1).status == 200


def test_faults_speak_as_bitmex_does(mex: Sandbox, bins: Ask) -> None:
    mex.set_faults(Rule("429", retry_after=7))
    refused = bins()
    assert (refused.status, refused.headers["retry-after"]) == (429, "7")
    mex.set_faults(Rule("empty"))
    assert bins().json == []
    mex.set_faults(Rule("missing_hour"))
    assert len(bins(startTime="2026-05-01").json) == 99
    mex.reset()
