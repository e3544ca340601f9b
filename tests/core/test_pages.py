"""One page against what an exchange may answer, as bytes of Binance's protocol, in any order.

Promises 1 (nothing is invented), 2 (an error is no empty page) and 3 (closed candles only).
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import (
    BTC_1H,
    NOW,
    Paged,
    assert_whole,
    at,
    collect,
    page_questions,
    truth,
    window,
)

from dccd_core.exchanges.base import Answer, BadAnswer, Exchange, Instrument, Request
from dccd_core.models import SECOND, Symbol, Window
from dccd_core.pages import AGREEMENTS, ASKS, Asked, Page, fetch_page
from dccd_core.rest import Retries
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings

HOUR = 3_600 * SECOND
START = at("2024-01-01")
NAMED = Instrument(Symbol("BTC", "USDT"), "BTCUSDT", trading=True)
LATER = START + 1_000 * HOUR
WHOLE = Window(START, START + 6 * HOUR)
Wire = bytes | list[int]


def row(n: float, close: float = 1.0, length: int = 3_600) -> list[object]:
    opened = round(START + n * HOUR) // 1_000
    numbers = [str(close)] * 4 + ["5.0"]
    return [opened, *numbers, opened + length * 1_000 - 1, "5.0", 3, "1.0", "1.0", "0"]


class Gappy(Paged):
    """An exchange that has no candle for an interval without trades."""

    gapless = False


class Script:
    """Answers one after the other, the last one for ever: hours that are there, or bytes."""

    def __init__(self, *answers: Wire, now: int = LATER) -> None:
        self.answers, self.now, self.asks = list(answers), now, 0

    def __call__(self, request: Request, parse: Callable[[Answer], Asked]) -> Asked:
        answer = self.answers[min(self.asks, len(self.answers) - 1)]
        self.asks += 1
        body = (
            answer if isinstance(answer, bytes) else json.dumps([row(n) for n in answer]).encode()
        )
        return parse(Answer(200, {}, body, self.now))


def fetch(script: Script, wanted: Window = WHOLE, exchange: Exchange | None = None) -> Page:
    return fetch_page(script, exchange or Paged(1_000), NAMED, BTC_1H, wanted)


def hours(page: Page) -> list[int]:
    return [(time - START) // HOUR for time in page.candles.time.tolist()]


def test_a_whole_page_is_asked_for_once() -> None:
    script = Script([0, 1, 2, 3, 4, 5])
    page = fetch(script)
    assert hours(page) == [0, 1, 2, 3, 4, 5]
    assert (page.covered, page.asks, script.asks) == ([WHOLE], 1, 1)


def test_promise_3_the_running_candle_is_dropped_and_not_covered() -> None:
    script = Script([0, 1, 2, 3], now=START + 3 * HOUR + HOUR // 2)
    page = fetch(script)
    assert hours(page) == [0, 1, 2]
    assert page.covered == [Window(START, START + 3 * HOUR)]


def test_a_candle_is_closed_at_the_moment_at_which_the_next_opens() -> None:
    for now, closed in ((START + 3 * HOUR - 1, 2), (START + 3 * HOUR, 3)):
        assert hours(fetch(Script([0, 1, 2, 3], now=now))) == list(range(closed))


def test_a_late_newest_candle_is_not_taken_for_absent() -> None:
    """It closed a minute ago and is not published: asked for again by the next run."""
    script = Script([0, 1], now=START + 3 * HOUR + 60 * SECOND)
    page = fetch(script)
    assert hours(page) == [0, 1]
    assert page.covered == [Window(START, START + 2 * HOUR)]
    assert script.asks == 1


@pytest.mark.parametrize("later", [1, 23])
def test_an_exchange_that_is_behind_is_not_believed_for_a_day(later: int) -> None:
    """It gives the same answer all the while: the next run asks again, and this one only once."""
    script = Script([0, 1], now=START + (3 + later) * HOUR)
    page = fetch(script)
    assert hours(page) == [0, 1]
    assert (page.covered, script.asks) == ([Window(START, START + 2 * HOUR)], 1)


def test_a_candle_that_is_absent_a_day_after_its_close_is_confirmed_by_asking_again() -> None:
    script = Script([0, 1], now=START + (24 + 3) * HOUR)
    page = fetch(script)
    assert hours(page) == [0, 1]
    assert page.covered == [Window(START, START + 3 * HOUR)], "the last ones may still come"
    assert script.asks == 1 + AGREEMENTS


def test_a_hole_with_later_candles_after_it_is_settled_at_once() -> None:
    script = Script([0, 3], now=START + 4 * HOUR)
    page = fetch(script)
    assert (hours(page), page.covered) == ([0, 3], [Window(START, START + 4 * HOUR)])
    assert script.asks == 1 + AGREEMENTS


def test_a_hole_on_a_gapless_exchange_is_asked_again_until_the_answers_agree() -> None:
    script = Script([0, 1, 4, 5])
    page = fetch(script)
    assert hours(page) == [0, 1, 4, 5]
    assert (page.covered, page.asks) == ([WHOLE], 1 + AGREEMENTS)


def test_a_hole_that_was_a_mistake_is_filled_by_the_next_answer() -> None:
    script = Script([0, 1, 4, 5], [0, 1, 2, 3, 4, 5])
    assert hours(fetch(script)) == [0, 1, 2, 3, 4, 5]
    assert script.asks == 2


def test_answers_with_different_holes_are_joined_and_agreement_begins_again() -> None:
    script = Script([0, 1, 2], [4], [3], [0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    page = fetch(script)
    assert hours(page) == [0, 1, 2, 3, 4]
    assert script.asks == 3 + AGREEMENTS


class Capped:
    """Answers what is asked for, of the hours that there are, but at most so many of them."""

    def __init__(self, there: list[int], most: int, newest: bool) -> None:
        self.there, self.most, self.newest, self.asks = there, most, newest, 0

    def __call__(self, request: Request, parse: Callable[[Answer], Asked]) -> Asked:
        self.asks += 1
        first = (int(request.params["startTime"]) * 1_000 - START) // HOUR
        inside = [n for n in self.there if first <= n < first + int(request.params["limit"])]
        some = inside[-self.most :] if self.newest else inside[: self.most]
        return parse(Answer(200, {}, json.dumps([row(n) for n in some]).encode(), LATER))


@pytest.mark.parametrize("newest", [False, True], ids=["oldest first", "newest first"])
def test_a_page_that_is_shorter_than_it_used_to_be_is_no_hole(newest: bool) -> None:
    """An exchange lowers its maximum: the same page again would be as short."""
    script = Capped(list(range(6)), 2, newest)
    page = fetch_page(script, Paged(1_000), NAMED, BTC_1H, WHOLE)
    assert (hours(page), page.covered, page.asks) == (list(range(6)), [WHOLE], 3)
    script = Capped([0, 1, 4, 5], 3, newest)
    page = fetch_page(script, Paged(1_000), NAMED, BTC_1H, WHOLE)
    assert hours(page) == [0, 1, 4, 5]


def test_promise_2_an_empty_page_in_error_is_never_an_answer_by_itself() -> None:
    script = Script([], [], [0, 1, 2, 3, 4, 5])
    assert hours(fetch(script)) == [0, 1, 2, 3, 4, 5]


def test_answers_that_never_agree_are_an_error_that_names_the_window() -> None:
    script = Script(*[[n] for n in range(ASKS + 3)])
    with pytest.raises(BadAnswer, match=rf"{ASKS} answers about .* contradict each other"):
        fetch(script, Window(START, START + 30 * HOUR))
    assert script.asks == ASKS


def test_where_quiet_intervals_are_omitted_a_hole_is_an_ordinary_answer() -> None:
    script = Script([0, 1, 4, 5])
    page = fetch(script, exchange=Gappy(1_000))
    assert (hours(page), page.covered, script.asks) == ([0, 1, 4, 5], [WHOLE], 1)


def test_where_quiet_intervals_are_omitted_a_long_stretch_of_nothing_is_asked_again() -> None:
    wanted = Window(START, START + 100 * HOUR)
    script = Script([], list(range(0, 100, 3)))
    assert hours(fetch(script, wanted, Gappy(1_000))) == list(range(0, 100, 3))
    assert script.asks == 2
    confirmed = Script([])
    assert fetch(confirmed, wanted, Gappy(1_000)).covered == [wanted]
    assert confirmed.asks == 1 + AGREEMENTS


def test_candles_outside_of_the_window_are_neither_stored_nor_covered() -> None:
    inner = Window(START + 2 * HOUR, START + 4 * HOUR)
    page = fetch(Script([0, 1, 2, 3, 4, 5]), inner)
    assert (hours(page), page.covered) == ([2, 3], [inner])


def test_later_candles_than_the_window_prove_that_it_is_empty() -> None:
    page = fetch(Script([50, 51]))
    assert (hours(page), page.covered) == ([], [WHOLE])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (json.dumps([row(0), row(0.5)]), "does not open on the"),
        (json.dumps([row(0.25)]), "does not open on the"),
        (json.dumps([row(1), row(0)]), "not in order"),
        (json.dumps([row(0), row(0)]), "not in order"),
        (json.dumps([row(0), row(1, length=60)]), "not 3600 s long"),
        (json.dumps([row(0, length=60)]), "not 3600 s long"),
        (json.dumps([row(-9_000)]), "answers with a candle of 2022-"),
        (json.dumps([row(0), row(1_002)]), "a candle of 2024-02-"),
        (json.dumps([row(-24 * 365 * 20)]), "a candle of 2004-"),
        (json.dumps([row(0)[:-1]]), "11 numbers in rows of 12"),
        (json.dumps([row(0, close=float("nan"))]), "unreadable answer"),
        (json.dumps([[*row(0)[:4], None, *row(0)[5:]]]), "unreadable answer"),
        ('{"code":-1000,"msg":"busy"}', "rows of numbers were expected"),
        ("null", "rows of numbers were expected"),
        ("", "rows of numbers were expected"),
        ("<html>maintenance</html>", "rows of numbers were expected"),
    ],
)
def test_promise_1_what_is_no_page_of_candles_is_refused_as_a_whole(
    body: str, message: str
) -> None:
    with pytest.raises(BadAnswer, match=message):
        fetch(Script(body.encode()))


def test_a_week_that_does_not_open_on_monday_is_refused() -> None:
    weekly = replace(BTC_1H, span=604_800)
    wanted = Window(START, START + 14 * 24 * HOUR)
    monday = json.dumps([row(0, length=604_800), row(168, length=604_800)]).encode()
    thursday = json.dumps([row(72, length=604_800)]).encode()
    page = fetch_page(Script(monday), Paged(1_000), NAMED, weekly, wanted)
    assert hours(page) == [0, 168]
    with pytest.raises(BadAnswer, match="does not open on the"):
        fetch_page(Script(thursday), Paged(1_000), NAMED, weekly, wanted)


def test_all_faults_in_turn_on_one_page(tmp_path: Path) -> None:
    """Each kind spoils the answer once; the last one is only slow, and only it is stored."""
    kinds = ["429", "5xx", "cut", "truncated", "wrong", "empty", "missing_hour", "slow"]
    wanted = window("2025-03-01", "2025-03-20")
    path = "/binance/api/v3/klines"
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as box:
        collect(box.binance_url, tmp_path, BTC_1H, window("2025-01-01", "2025-01-02"))
        box.reset()
        box.set_faults(
            *(Rule(kind, path=path, count=1, retry_after=0, seconds=0.01) for kind in kinds)
        )
        patient = Retries(len(kinds) + 2, 0.0)
        (outcome,) = collect(box.binance_url, tmp_path, BTC_1H, wanted, retries=patient)
        assert outcome.error is None
        assert set(box.stats()["faults"]) == set(kinds)
        assert len(page_questions(box)) == len(kinds), "the slow answer is the right one"
        found = DataStore(tmp_path).load(BTC_1H, "2025-03-01")
        assert found.equals(truth(box, BTC_1H, wanted))


def test_a_market_with_real_holes_is_as_the_exchange_has_it(tmp_path: Path) -> None:
    lines = [f"{(START + n * HOUR) // 1_000},1,2,0.5,1.5,{n}" for n in range(200) if n % 50 > 6]
    path = tmp_path / "holes.csv"
    path.write_text("time,open,high,low,close,volume\n" + "\n".join(lines) + "\n")
    words = (f"BTCUSDT:BTC:USDT:1h:{path}",)
    wanted = Window(START, START + 200 * HOUR)
    with Sandbox(Settings(symbols=(), candles=words, weight_limit=0)) as box:
        data = tmp_path / "data"
        assert [o.error for o in collect(box.binance_url, data, BTC_1H, wanted, page=30)] == [None]
        assert_whole(DataStore(data), BTC_1H, truth(box, BTC_1H, wanted))
        assert [gap.candles for gap in DataStore(data).gaps(BTC_1H)] == [7, 7, 7]
