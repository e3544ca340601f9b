"""Promise 5: requested window minus what is stored is the work; counted at the sandbox."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers import (
    BTC_1H,
    NOW,
    PLENTY,
    assert_whole,
    at,
    collect,
    collecting,
    page_questions,
    table,
    truth,
    window,
)

from dccd_core.exchanges.base import Limits
from dccd_core.models import SECOND, WEEK, Series, Symbol, Window
from dccd_core.plan import REREAD, Cell, after_listing, cells, estimate, plan_years
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import OHLC
from dccd_sandbox import Sandbox, Settings

HOUR = 3_600 * SECOND
DOGE = replace(BTC_1H, symbol=Symbol("DOGE", "USDT"))
DOGE_LISTED = at("2021-07-05T12:00")  # the candle that holds 12:30
MARCH = window("2025-03-01", "2025-04-01")


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Iterator[Sandbox]:
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    return DataStore(tmp_path)


def get(box: Sandbox, store: DataStore, wanted: Window, series: Series = BTC_1H) -> list[Window]:
    """Collect a window; the pages that were asked for, as windows."""
    box.reset()
    outcomes = collect(box.binance_url, store.root, series, wanted, page=200)
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    step = series.span * SECOND
    starts = [int(asked["startTime"]) * 1_000 for asked in page_questions(box)]
    limits = [int(asked["limit"]) for asked in page_questions(box)]
    return sorted(Window(start, start + n * step) for start, n in zip(starts, limits, strict=True))


def test_promise_5_a_second_run_makes_no_request(box: Sandbox, store: DataStore) -> None:
    assert sum(map(BTC_1H.count, get(box, store, MARCH))) == 744
    assert get(box, store, MARCH) == []
    assert box.stats()["requests"] == 0
    assert_whole(store, BTC_1H, truth(box, BTC_1H, MARCH))


def test_promise_5_forwards_asks_for_the_new_part_and_the_newest_three_again(
    box: Sandbox, store: DataStore
) -> None:
    get(box, store, MARCH)
    april = window("2025-04-01", "2025-04-03")
    asked = get(box, store, Window(MARCH.start, april.end))
    assert asked == [Window(april.start - REREAD * HOUR, april.end)]
    assert_whole(store, BTC_1H, truth(box, BTC_1H, Window(MARCH.start, april.end)))


def test_promise_5_backwards_asks_for_the_older_part_only(box: Sandbox, store: DataStore) -> None:
    get(box, store, MARCH)
    older = window("2025-02-25", "2025-03-01")
    asked = get(box, store, Window(older.start, MARCH.end))
    assert asked == [older]
    assert_whole(store, BTC_1H, truth(box, BTC_1H, Window(older.start, MARCH.end)))


def test_promise_5_an_inner_hole_is_all_that_is_asked_for(box: Sandbox, store: DataStore) -> None:
    get(box, store, window("2025-03-01", "2025-03-10"))
    get(box, store, window("2025-03-12", "2025-04-01"))
    asked = get(box, store, MARCH)
    hole = window("2025-03-10", "2025-03-12")
    assert asked == [Window(hole.start - REREAD * HOUR, hole.end)]
    assert_whole(store, BTC_1H, truth(box, BTC_1H, MARCH))


def test_over_the_border_of_years_each_year_is_a_cell_of_its_own(
    box: Sandbox, store: DataStore
) -> None:
    wanted = window("2023-12-30", "2025-01-03")
    assert [(cell.period, cell.window) for cell in cells(BTC_1H, wanted)] == [
        ("2023", window("2023-12-30", "2024-01-01")),
        ("2024", window("2024-01-01", "2025-01-01")),
        ("2025", window("2025-01-01", "2025-01-03")),
    ]
    asked = get(box, store, wanted)
    assert len(asked) == 1 + 44 + 1
    assert sum(map(BTC_1H.count, asked)) == BTC_1H.count(wanted)
    assert_whole(store, BTC_1H, truth(box, BTC_1H, wanted))


def test_a_candle_that_was_revised_is_replaced_by_the_next_extension_and_counted(
    box: Sandbox, store: DataStore
) -> None:
    get(box, store, MARCH)
    wrong = store.load(BTC_1H).tail(5).with_columns(close=store.load(BTC_1H)["open"].tail(5) + 7)
    store.merge(BTC_1H, "2025", wrong.to_arrow().cast(OHLC), [], "test")
    wanted = Window(MARCH.start, MARCH.end + 2 * HOUR)
    (outcome,) = collect(box.binance_url, store.root, BTC_1H, wanted)
    assert (outcome.added, outcome.revised) == (2, REREAD)
    (row,) = store.inventory_rows()
    assert row.revised == 5 + REREAD
    expected = truth(box, BTC_1H, wanted)
    assert store.load(BTC_1H, MARCH.end - 3 * HOUR).equals(expected.tail(5))


def test_the_listing_is_found_once_and_remembered(box: Sandbox, store: DataStore) -> None:
    wanted = window("2019-01-01", "2021-07-20")
    asked = get(box, store, wanted, DOGE)
    assert asked[0].start == DOGE_LISTED, "nothing is asked from before the listing"
    assert store.listed(DOGE) == datetime(2021, 7, 5, 12, tzinfo=UTC)
    first = [seen for seen in box.stats()["last"] if "startTime=0" in seen["target"]]
    assert len(first) == 2, "a date that decides over years is asked for twice"
    assert_whole(store, DOGE, truth(box, DOGE, wanted))
    assert store.existing_periods(DOGE) == ["2021"]
    get(box, store, window("2019-01-01", "2021-08-01"), DOGE)
    assert not [seen for seen in box.stats()["last"] if "startTime=0" in seen["target"]]


def test_years_before_the_listing_are_known_without_a_request(
    box: Sandbox, store: DataStore
) -> None:
    wanted = window("2018-01-01", "2021-07-06")
    outcomes = collect(box.binance_url, store.root, DOGE, wanted)
    assert [outcome.cell.period for outcome in outcomes if not outcome.requests] == [
        "2018",
        "2019",
        "2020",
    ]
    assert {outcome.note for outcome in outcomes if not outcome.requests} == {
        "before listing: the first candle opens at 2021-07-05T12:00:00Z"
    }
    assert [outcome.added for outcome in outcomes if outcome.requests] == [12]
    assert [gap.kind for gap in store.gaps(DOGE, "2021-01-01", "2021-07-06")] == ["before_listing"]


def test_weeks_open_on_monday_and_belong_to_the_year_of_their_open(
    box: Sandbox, store: DataStore
) -> None:
    weekly = replace(BTC_1H, span=WEEK)
    wanted = window("2023-06-01", "2024-06-01")
    get(box, store, wanted, weekly)
    rows = store.load(weekly)
    assert set(rows["time"].dt.weekday()) == {1}
    assert rows["time"][0] == datetime(2023, 6, 5, tzinfo=UTC)
    assert_whole(store, weekly, truth(box, weekly, wanted))
    assert store.load(weekly, "2024-01-01").height == store.load(weekly).height - 30
    assert get(box, store, wanted, weekly) == []


@pytest.mark.parametrize("span", [60, 300, 14_400, 86_400])
def test_every_span_equals_the_truth(box: Sandbox, store: DataStore, span: int) -> None:
    series = replace(BTC_1H, span=span)
    days = 2 if span < 3_600 else 60
    wanted = Window(MARCH.start + 12_345 * SECOND, MARCH.start + days * 24 * HOUR + 54_321 * SECOND)
    get(box, store, wanted, series)
    assert_whole(store, series, truth(box, series, series.grid(wanted)))


@pytest.mark.parametrize("page", [1, 7, 29, 31])
def test_promise_4_no_row_is_lost_or_doubled_at_a_page_border(
    box: Sandbox, store: DataStore, page: int
) -> None:
    wanted = window("2025-03-01", "2025-03-02T06:00")
    (outcome,) = collect(box.binance_url, store.root, BTC_1H, wanted, page=page)
    assert outcome.requests == -(-30 // page)
    assert_whole(store, BTC_1H, truth(box, BTC_1H, wanted))


def test_an_empty_window_and_one_between_two_candles_are_no_work(store: DataStore) -> None:
    assert cells(BTC_1H, Window(MARCH.start, MARCH.start)) == []
    between = Window(MARCH.start + 1, MARCH.start + HOUR)
    plan = plan_years(store, [Cell(BTC_1H, "2025", between)], PLENTY)[0]
    assert (plan.missing, plan.pages, plan.problem) == ([], [], "")


def test_pages_cover_what_is_missing_exactly_once(store: DataStore) -> None:
    limits = replace(PLENTY, page=100)
    plan = plan_years(store, [Cell(BTC_1H, "2025", MARCH)], limits)[0]
    assert plan.pages[0].start == MARCH.start
    assert plan.pages[-1].end == MARCH.end
    assert all(one.end == two.start for one, two in zip(plan.pages, plan.pages[1:], strict=False))
    assert {BTC_1H.count(page) for page in plan.pages} == {100, 44}
    later = after_listing(plan, MARCH.start + 250 * HOUR + 1, limits)
    assert later.missing == [Window(MARCH.start + 250 * HOUR, MARCH.end)]
    assert len(later.pages) == 5
    assert not later.before_listing
    never = after_listing(plan, MARCH.end, limits)
    assert (never.missing, never.pages, never.before_listing) == ([], [], True)


def test_the_last_candles_of_a_year_are_read_again_as_the_new_one_begins(store: DataStore) -> None:
    years = cells(BTC_1H, window("2025-12-01", "2026-01-01T02:00"))
    new_year, hour = at("2026-01-01"), [at("2026-01-01")]
    whole = list(range(at("2025-12-01"), new_year, HOUR))
    store.merge(BTC_1H, "2025", table(whole), [window("2025-01-01", "2026-01-01")], "test")
    store.merge(BTC_1H, "2026", table(hour), [Window(new_year, new_year + HOUR)], "test")
    old, new = plan_years(store, years, PLENTY)
    assert (old.missing, old.pages) == ([], [Window(new_year - 2 * HOUR, new_year)])
    assert new.pages == [Window(new_year, new_year + 2 * HOUR)]
    assert plan_years(store, years[:1], PLENTY)[0].pages == []


def test_a_dry_plan_asks_for_no_page(box: Sandbox, store: DataStore) -> None:
    with collecting(box.binance_url, store.root) as collector:
        (plan,) = collector.plan(cells(BTC_1H, MARCH))
    assert plan.missing == [MARCH]
    assert page_questions(box) == []


@pytest.mark.parametrize(
    ("requests", "seconds"),
    [(0, 0.0), (8, 0.15), (300, 5.625), (3_300, 66.66666666666667)],
)
def test_the_estimate_is_the_slower_of_budget_and_round_trips(
    requests: int, seconds: float
) -> None:
    limits = Limits(weight=5_400, seconds=60, burst=600, page=1_000, page_weight=2)
    assert estimate(requests, limits, threads=8) == pytest.approx(seconds)


def test_a_whole_year_of_weeks_is_complete(box: Sandbox, store: DataStore) -> None:
    """The first days of a year may belong to a week of the year before."""
    weekly = replace(BTC_1H, span=WEEK)
    get(box, store, window("2024-01-01", "2026-01-01"), weekly)
    assert store.is_period_complete(weekly, "2025")
    assert not store.is_period_complete(weekly, "2026")
