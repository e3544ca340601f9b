"""OKX v5 as documented: bounds, order, bars, contracts, lists, limits, error bodies."""

from collections.abc import Iterator

import pytest
from sandbox_client import NOW, Answer, ask

from dccd_sandbox import Rule, Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW_MS = epoch_ms(NOW)
START = epoch_ms("2026-05-01")
MINUTE, HOUR = 60_000, 3_600_000
DAY = 24 * HOUR
CANDLES, HISTORY = "/okx/api/v5/market/candles", "/okx/api/v5/market/history-candles"
INSTRUMENTS = "/okx/api/v5/public/instruments"
SOL = {"instId": "SOL-USDT"}


@pytest.fixture(scope="module")
def dollars() -> Iterator[Sandbox]:
    """A market in dollars, whose contracts are inverse."""
    symbols = ("ETHUSD:ETH:USD:2026-01-05T10:05",)
    with Sandbox(Settings(symbols, now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


def rows(box: Sandbox, path: str = HISTORY, **query: object) -> list[list[str]]:
    """The rows as they come, newest first."""
    answer = ask(box, path, **(SOL | query))
    assert (answer.status, answer.json["code"], answer.json["msg"]) == (200, "0", "")
    found: list[list[str]] = answer.json["data"]
    return found


def times(found: list[list[str]]) -> list[int]:
    return [int(row[0]) for row in found]


def listed(box: Sandbox, kind: str) -> dict[str, dict[str, str]]:
    return {one["instId"]: one for one in ask(box, INSTRUMENTS, instType=kind).json["data"]}


def refused(answer: Answer) -> tuple[int, str, str]:
    assert answer.json["data"] == []
    return answer.status, answer.json["code"], answer.json["msg"]


def test_rows_are_newest_first_and_both_bounds_are_exclusive(box: Sandbox) -> None:
    found = rows(box, before=START, after=START + 5 * MINUTE)
    assert times(found) == [START + n * MINUTE for n in (4, 3, 2, 1)]
    found = rows(box, before=START - 1, after=START + 5 * MINUTE + 1)
    assert times(found) == [START + n * MINUTE for n in (5, 4, 3, 2, 1, 0)]


def test_a_row_is_nine_texts(box: Sandbox) -> None:
    (row,) = rows(box, before=START - 1, after=START + 1)
    assert [type(cell) for cell in row] == [str] * 9
    opened, high, low, close, base, in_quote, quote = map(float, row[1:8])
    assert low <= min(opened, close) <= max(opened, close) <= high
    assert low * base <= quote <= high * base
    assert (in_quote, row[8]) == (quote, "1")


def test_before_alone_gives_the_newest_and_after_alone_what_is_older(box: Sandbox) -> None:
    assert times(rows(box, before=START, limit=2)) == [
        NOW_MS // MINUTE * MINUTE - MINUTE * n for n in (1, 2)
    ]
    assert times(rows(box, after=START, limit=2)) == [START - MINUTE, START - 2 * MINUTE]
    found = rows(box, before=START - 1, after=START + 9 * MINUTE, limit=2)
    assert times(found) == [START + 8 * MINUTE, START + 7 * MINUTE]


def test_limit_is_100_and_300_at_most(box: Sandbox) -> None:
    for path in (HISTORY, CANDLES):
        assert len(rows(box, path)) == 100
        assert len(rows(box, path, limit=300)) == 300
        assert len(rows(box, path, limit=301)) == 300


def test_only_candles_has_the_running_one_and_only_the_newest_1440(box: Sandbox) -> None:
    opened = NOW_MS // MINUTE * MINUTE
    newest = rows(box, CANDLES, limit=2)
    assert [(int(row[0]), row[8]) for row in newest] == [(opened, "0"), (opened - MINUTE, "1")]
    assert times(rows(box, limit=1)) == [opened - MINUTE]
    oldest = opened - 1_439 * MINUTE
    assert times(rows(box, CANDLES, after=oldest + 2 * MINUTE)) == [oldest + MINUTE, oldest]
    assert rows(box, CANDLES, after=oldest) == []
    assert len(rows(box, after=oldest)) == 100


@pytest.mark.parametrize(
    ("bar", "opened"),
    [
        ("4H", "2026-06-01T08:00"), ("6H", "2026-06-01T04:00"), ("6Hutc", "2026-06-01T06:00"),
        ("1D", "2026-05-30T16:00"), ("1Dutc", "2026-05-31"), ("1W", "2026-05-24T16:00"),
        ("1Wutc", "2026-05-25"), ("1M", "2026-04-30T16:00"), ("1Mutc", "2026-05-01"),
    ],
)  # fmt: skip
def test_long_bars_open_by_the_clock_of_hong_kong_unless_they_say_utc(
    dollars: Sandbox, bar: str, opened: str
) -> None:
    (row,) = rows(dollars, instId="ETH-USD", bar=bar, limit=1)
    assert (int(row[0]), row[8]) == (epoch_ms(opened), "1")


def test_history_begins_with_the_listing(dollars: Sandbox) -> None:
    start, cash = epoch_ms("2026-01-05T10:05"), {"instId": "ETH-USD", "limit": 300}
    found = rows(dollars, **cash, after=start + 200 * MINUTE)
    assert times(found) == [start + n * MINUTE for n in reversed(range(200))]
    assert rows(dollars, **cash, after=start) == []
    months = rows(dollars, **cash, bar="1Mutc")
    assert times(months)[-1] == epoch_ms("2026-01-01")
    assert len(months) == 5


def test_a_minute_without_a_trade_is_flat_at_the_last_close(dollars: Sandbox) -> None:
    cash, end = {"instId": "ETH-USD", "limit": 300}, START + 1_500 * MINUTE
    pages = [rows(dollars, **cash, after=end - n * 300 * MINUTE) for n in range(5)]
    found = [row for page in pages for row in page]
    assert len(found) == 1_500
    quiet = [n for n, row in enumerate(found[:-1]) if float(row[5]) == 0]
    assert quiet
    for n in quiet:
        assert found[n][1:5] == [found[n + 1][4]] * 4


def test_a_linear_contract_is_counted_in_contracts_and_in_base(box: Sandbox) -> None:
    window = {"before": START - 1, "after": START + 60 * MINUTE}
    swap = rows(box, instId="SOL-USDT-SWAP", **window)
    value = float(listed(box, "SWAP")["SOL-USDT-SWAP"]["ctVal"])
    assert len(swap) == 60
    for contract, cash in zip(swap, rows(box, **window), strict=True):
        assert contract[:5] == cash[:5]
        assert float(contract[5]) * value == pytest.approx(float(cash[5]))
        assert (contract[6], contract[7]) == (cash[5], cash[7])


def test_an_inverse_contract_is_a_hundred_dollars(dollars: Sandbox) -> None:
    window = {"before": START - 1, "after": START + 60 * MINUTE}
    swap = rows(dollars, instId="ETH-USD-SWAP", **window)
    margined = rows(dollars, instId="ETH-USD_UM-SWAP", **window)
    cash = rows(dollars, instId="ETH-USD", **window)
    for contract, other, row in zip(swap, margined, cash, strict=True):
        assert float(contract[5]) * 100 == pytest.approx(float(row[7]))
        assert contract[6:] == other[6:] == [row[5], row[7], "1"]
    entry = listed(dollars, "SWAP")["ETH-USD-SWAP"]
    assert (entry["ctType"], entry["ctVal"], entry["ctValCcy"]) == ("inverse", "100", "USD")
    assert (entry["uly"], entry["instFamily"], entry["settleCcy"]) == ("ETH-USD", "ETH-USD", "ETH")
    entry = listed(dollars, "SWAP")["ETH-USD_UM-SWAP"]
    assert (entry["ctType"], entry["uly"], entry["instFamily"]) == (
        "linear",
        "ETH-USD",
        "ETH-USD_UM",
    )
    assert entry["settleCcy"] == "USD"


def test_instruments_of_cash(box: Sandbox) -> None:
    found = listed(box, "SPOT")
    ada = found["ADA-BTC"]
    assert (ada["baseCcy"], ada["quoteCcy"], ada["uly"], ada["state"]) == ("ADA", "BTC", "", "live")
    assert (ada["tickSz"], ada["lotSz"], ada["ctVal"]) == ("0.00000001", "1", "")
    # BTC-USDT is older than the API's third version, which gave it another time.
    assert found["BTC-USDT"]["listTime"] == "1548133413000"
    assert found["SOL-USDT"]["listTime"] == str(epoch_ms("2020-08-11T06:00"))
    (one,) = ask(box, INSTRUMENTS, instType="SPOT", instId="SOL-USDT").json["data"]
    assert one == found["SOL-USDT"]


def test_instruments_that_are_contracts(box: Sandbox) -> None:
    swaps = listed(box, "SWAP")
    assert "ADA-BTC-SWAP" not in swaps
    assert (swaps["BTC-USDT-SWAP"]["listTime"], swaps["BTC-USDT-SWAP"]["expTime"]) == (
        "1611916828000",
        "",
    )
    soon = swaps["SOON-USDT-SWAP"]
    assert {key for key, value in soon.items() if value} == {"instId", "instType", "state"}
    assert soon["state"] == "preopen"
    future = listed(box, "FUTURES")["SOL-USDT-260828"]
    assert int(future["expTime"]) == epoch_ms("2026-08-28T08:00")
    assert int(future["listTime"]) == epoch_ms("2026-02-27T08:00")
    assert listed(box, "OPTION") == {}


def test_a_future_lives_from_its_listing_to_its_end(box: Sandbox) -> None:
    query = {"instId": "SOL-USDT-260828", "bar": "1H"}
    start = epoch_ms("2026-02-27T08:00")
    assert times(rows(box, **query, after=start + 2 * HOUR)) == [start + HOUR, start]
    box.set_clock("2026-08-28T07:59:59Z", frozen=True)
    assert "SOL-USDT-260828" not in listed(box, "FUTURES")
    assert refused(ask(box, HISTORY, **query))[1] == "51001"


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        (HISTORY, {"instId": "SOL-USDC"}, (200, "51001")),
        (CANDLES, {"instId": "SOLUSDT"}, (200, "51001")),
        (HISTORY, SOL | {"bar": "1h"}, (400, "51000")),
        (HISTORY, SOL | {"after": "soon"}, (400, "51000")),
        (HISTORY, {}, (400, "50014")),
        (INSTRUMENTS, {}, (400, "50014")),
        (INSTRUMENTS, {"instType": "CASH"}, (400, "51000")),
        (INSTRUMENTS, {"instType": "SPOT", "instId": "SOL-USDC"}, (200, "51001")),
        ("/okx/api/v5/nothing", {}, (404, "404")),
    ],
)
def test_error_bodies(
    box: Sandbox, path: str, query: dict[str, str], expected: tuple[int, str]
) -> None:
    assert refused(ask(box, path, **query))[:2] == expected


def test_twenty_requests_in_two_seconds_for_each_path() -> None:
    with Sandbox(Settings(now=NOW, frozen=True)) as box:
        box.truth("SOLUSDT", "1m", START, START + DAY)
        answers = [ask(box, HISTORY, **SOL, limit=1, after=START) for _ in range(25)]
        statuses = [answer.status for answer in answers]
        assert statuses == [200] * 20 + [429] * 5
        assert refused(answers[-1]) == (429, "50011", "Too Many Requests")
        assert "retry-after" not in answers[-1].headers
        assert ask(box, CANDLES, **SOL, limit=1).status == 200
        assert box.stats()["max_used_weight"]["okx"] == 20
        box.reset()
        assert ask(box, HISTORY, **SOL, limit=1).status == 200


def test_faults_speak_its_language(box: Sandbox) -> None:
    box.set_faults(Rule("429", count=1))
    assert refused(ask(box, HISTORY, **SOL))[:2] == (429, "50011")
    box.set_faults(Rule("empty"))
    assert rows(box, after=START) == []
    box.set_faults(Rule("missing_hour"))
    assert len(rows(box, after=START, limit=120)) == 60


def test_truth_is_what_the_pages_hold(box: Sandbox) -> None:
    found = rows(box, bar="1H", before=START - 1, after=START + 100 * HOUR, limit=100)[::-1]
    truth = box.truth("SOLUSDT", "1h", START, START + 100 * HOUR)
    expected = truth.with_columns(truth["time"].dt.epoch("ms")).rows()
    assert [(int(row[0]), *map(float, (*row[1:6], row[7]))) for row in found] == [
        row[:7] for row in expected
    ]
