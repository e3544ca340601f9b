"""Coinbase Exchange as documented: rows, bounds, omitted intervals, trades, products, limits."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_client import NOW, Answer, ask

from dccd_sandbox import Rule, Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW_S = epoch_ms(NOW) // 1_000
START = epoch_ms("2026-05-01") // 1_000
MINUTE, HOUR = 60, 3_600
PRODUCTS = "/coinbase/products"
SOL = f"{PRODUCTS}/SOL-USDT"
Row = list[float]


def rows(box: Sandbox, path: str = SOL, granularity: int = MINUTE, **query: object) -> list[Row]:
    """The rows as they come, newest first."""
    answer = ask(box, f"{path}/candles", granularity=granularity, **query)
    assert answer.status == 200
    found: list[Row] = answer.json
    return found


def traded(box: Sandbox, start: int, end: int) -> list[int]:
    """Seconds of the minutes from start to before end in which something was traded."""
    truth = box.truth("SOLUSDT", "1m", start * 1_000, end * 1_000)
    kept = truth.filter(truth["volume"] > 0)
    return (kept["time"].dt.epoch("s")).to_list()


def refused(answer: Answer) -> tuple[int, str]:
    assert set(answer.json) == {"message"}
    return answer.status, answer.json["message"]


def test_rows_are_newest_first_and_both_bounds_are_inclusive(box: Sandbox) -> None:
    found = rows(box, start=START, end=START + 300 * MINUTE)
    assert [row[0] for row in found] == traded(box, START, START + 301 * MINUTE)[::-1]
    assert (found[0][0], found[-1][0]) == (START + 300 * MINUTE, START)


def test_bounds_are_iso_texts_or_seconds_and_the_bar_of_the_start_comes(box: Sandbox) -> None:
    wanted = rows(box, start=START, end=START + 5 * MINUTE)
    texts = {"start": "2026-05-01T00:00:00Z", "end": "2026-05-01T00:05:00.000Z"}
    assert rows(box, **texts) == wanted
    assert rows(box, start=START + 30, end=START + 5 * MINUTE + 59) == wanted


def test_a_row_is_six_numbers_with_low_before_high_before_open(box: Sandbox) -> None:
    found = rows(box, granularity=HOUR, start=START, end=START + 20 * HOUR)
    assert len(found) == 21
    for opened, low, high, first, last, volume in found:
        assert isinstance(opened, int)
        assert low <= min(first, last) <= max(first, last) <= high
        assert low < high
        assert volume > 0


def test_minutes_without_a_trade_are_left_out(box: Sandbox) -> None:
    found = rows(box, start=START, end=START + 300 * MINUTE)
    assert 250 < len(found) < 301


def test_without_both_bounds_the_newest_350_with_the_running_candle(box: Sandbox) -> None:
    found = rows(box)
    assert rows(box, start=START) == rows(box, end=START) == found
    assert found[0][0] >= NOW_S // MINUTE * MINUTE - 5 * MINUTE
    assert found[-1][0] >= NOW_S - 350 * MINUTE
    assert 300 < len(found) <= 350
    answer = ask(box, f"{SOL}/candles", granularity=MINUTE)
    assert answer.headers["cache-control"] == "public, max-age=300"


def test_empty_ranges_are_empty_lists(box: Sandbox) -> None:
    listed = epoch_ms("2020-08-11T06:00") // 1_000
    assert rows(box, start=listed - HOUR, end=listed - MINUTE) == []
    assert rows(box, start=NOW_S + HOUR, end=NOW_S + 2 * HOUR) == []
    assert rows(box, start=listed, end=listed + MINUTE)[-1][0] == listed


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        (f"{SOL}/candles", {"granularity": 120}, (400, "Unsupported granularity")),
        (f"{SOL}/candles", {}, (400, "Unsupported granularity")),
        (f"{SOL}/candles", {"granularity": 60, "start": "soon", "end": 5}, (400, "Invalid start")),
        (
            f"{SOL}/candles",
            {"granularity": 60, "start": START, "end": START + 300 * MINUTE + 1},
            (
                400,
                "granularity too small for the requested time range. "
                "Count of aggregations requested exceeds 300",
            ),
        ),
        (
            f"{SOL}/candles",
            {"granularity": 60, "start": START + 60, "end": START},
            (400, "start must be before end"),
        ),
        (f"{PRODUCTS}/SOL-EUR/candles", {"granularity": 60}, (404, "NotFound")),
        (f"{PRODUCTS}/SOL-EUR/trades", {}, (404, "NotFound")),
        (f"{PRODUCTS}/SOL-EUR", {}, (404, "NotFound")),
        (f"{SOL}/trades", {"after": "x"}, (400, "invalid after")),
        ("/coinbase/nothing", {}, (404, "NotFound")),
    ],
)
def test_error_bodies(
    box: Sandbox, path: str, query: dict[str, object], expected: tuple[int, str]
) -> None:
    assert refused(ask(box, path, **query)) == expected


def test_products(box: Sandbox) -> None:
    found = {one["id"]: one for one in ask(box, PRODUCTS).json}
    ada = found["ADA-BTC"]
    assert (ada["base_currency"], ada["quote_currency"]) == ("ADA", "BTC")
    assert (ada["status"], ada["trading_disabled"]) == ("online", False)
    assert (ada["quote_increment"], ada["base_increment"]) == ("0.00000001", "1")
    assert ask(box, f"{PRODUCTS}/ADA-BTC").json == ada


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Sandbox]:
    """A market that was traded in two minutes of May and no more."""
    file = tmp_path / "old.csv"
    file.write_text("".join(f"{START + n * MINUTE},2,3,1,2.5,40\n" for n in (0, 2)))
    settings = Settings((), (f"OLDUSD:OLD:USD:1m:{file}",), now=NOW, frozen=True, weight_limit=0)
    with Sandbox(settings) as box:
        yield box


def test_a_market_that_has_ended_is_delisted_and_still_served(ended: Sandbox) -> None:
    (product,) = ask(ended, PRODUCTS).json
    assert (product["status"], product["trading_disabled"]) == ("delisted", True)
    old = f"{PRODUCTS}/OLD-USD"
    assert rows(ended, old, start=START, end=START + HOUR) == [
        [START + 120, 1, 3, 2, 2.5, 40],
        [START, 1, 3, 2, 2.5, 40],
    ]
    assert rows(ended, old) == []
    newest, oldest = ask(ended, f"{old}/trades").json
    assert (newest["time"], oldest["time"]) == (
        "2026-05-01T00:02:00.000000Z",
        "2026-05-01T00:00:00.000000Z",
    )
    assert ask(ended, f"{old}/trades", limit=1).json == [newest]


def test_trades_are_newest_first_with_cursors_and_the_side_of_the_maker(box: Sandbox) -> None:
    answer = ask(box, f"{SOL}/trades", limit=5)
    ids = [one["trade_id"] for one in answer.json]
    assert ids == list(range(ids[0], ids[0] - 5, -1))
    assert (answer.headers["cb-before"], answer.headers["cb-after"]) == (str(ids[0]), str(ids[4]))
    older = ask(box, f"{SOL}/trades", limit=3, after=ids[4]).json
    assert [one["trade_id"] for one in older] == [ids[4] - n for n in (1, 2, 3)]
    # `before` does not page: it bounds the newest ones.
    assert ask(box, f"{SOL}/trades", limit=2, before=ids[4]).json == answer.json[:2]
    assert len(ask(box, f"{SOL}/trades", limit=5_000).json) == 1_000
    assert {one["side"] for one in ask(box, f"{SOL}/trades").json} == {"buy", "sell"}


def test_the_first_trade_has_id_1_and_opens_the_first_candle(box: Sandbox) -> None:
    found = ask(box, f"{SOL}/trades", after=1_001).json
    assert [one["trade_id"] for one in found] == list(range(1_000, 0, -1))
    first = found[-1]
    assert first["time"] == "2020-08-11T06:00:00.000000Z"
    listed = epoch_ms("2020-08-11T06:00") // 1_000
    (candle,) = rows(box, start=listed, end=listed + 1)
    minute = [one for one in found if one["time"] < "2020-08-11T06:01"]
    assert candle[1] == min(float(one["price"]) for one in minute)
    assert candle[2] == max(float(one["price"]) for one in minute)
    assert (candle[3], candle[4]) == (float(first["price"]), float(minute[0]["price"]))
    assert candle[5] == pytest.approx(sum(float(one["size"]) for one in minute))
    assert ask(box, f"{SOL}/trades", after=1).json == []


def test_fifteen_requests_at_once_and_ten_a_second() -> None:
    with Sandbox(Settings(now=NOW, frozen=True)) as box:
        answers = [ask(box, PRODUCTS) for _ in range(40)]
        statuses = [answer.status for answer in answers]
        assert statuses[:15] == [200] * 15
        assert 429 in statuses
        refusal = answers[statuses.index(429)]
        assert refused(refusal) == (429, "Public rate limit exceeded")
        assert "retry-after" not in refusal.headers
        assert box.stats()["max_used_weight"]["coinbase"] == 15
        box.reset()
        assert ask(box, PRODUCTS).status == 200


def test_faults_speak_its_language(box: Sandbox) -> None:
    box.set_faults(Rule("429", count=1))
    assert refused(ask(box, f"{SOL}/candles", granularity=60))[0] == 429
    box.set_faults(Rule("empty"))
    assert rows(box, start=START, end=START + HOUR) == []


def test_numbered_pairs_have_candles_and_trades(box: Sandbox) -> None:
    path = f"{PRODUCTS}/N0001-USDT"
    found = rows(box, path, start=START, end=START + 60 * MINUTE)
    assert len(found) > 40
    oldest = ask(box, f"{path}/trades", after=1_001).json[-1]
    assert oldest["time"].startswith("2023-01-01T00:0")


def test_time(box: Sandbox) -> None:
    expected = {"iso": "2026-06-01T12:34:30.000000Z", "epoch": float(NOW_S)}
    assert ask(box, "/coinbase/time").json == expected


def test_truth_is_what_the_pages_hold(box: Sandbox) -> None:
    found = rows(box, start=START, end=START + 300 * MINUTE)[::-1]
    truth = box.truth("SOLUSDT", "1m", START * 1_000, (START + 301 * MINUTE) * 1_000)
    truth = truth.filter(truth["volume"] > 0)
    expected = truth.with_columns(truth["time"].dt.epoch("s")).rows()
    assert [(t, o, h, low, c, v) for t, low, h, o, c, v in found] == [row[:6] for row in expected]
