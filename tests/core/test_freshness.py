"""How old data may be: from spans, schedules and rates; what is quiet is not stale."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers import BTC_1H, at, table, window

from dccd_core.config import Config
from dccd_core.config_sections import StreamJob
from dccd_core.cron import latest_tick, longest_pause
from dccd_core.freshness import (
    GRACE,
    LEAST,
    State,
    age_of,
    history_limits,
    judge_age,
    live_limit,
)
from dccd_core.models import DAY, SECOND, Channel, Series
from dccd_core.observations import Observer
from dccd_core.store.datastore import DataStore

NOW = at("2026-06-01T12:00Z") / SECOND
HOUR = 3_600
TRADES = Series.parse("binance/trades/BTC-USDT")


def hours_ago(hours: float) -> int:
    return int((NOW - hours * HOUR) * SECOND)


@pytest.mark.parametrize(
    ("cron", "seconds"),
    [
        ("* * * * *", 60),
        ("*/15 * * * *", 900),
        ("5 * * * *", HOUR),
        ("0 */4 * * *", 4 * HOUR),
        ("0 3 * * *", DAY),
        ("0,30 9-17 * * *", DAY - int(8.5 * HOUR)),
        ("0 0 * * 1", 7 * DAY),
        ("0 0 * * mon-fri", 3 * DAY),
        ("0 0 * * 7", 7 * DAY),
        ("0 0 1 * *", 31 * DAY),
        ("0 0 1 * mon", 7 * DAY),
        ("0 0 29 2 *", 4 * 365 * DAY + DAY),
    ],
)
def test_the_longest_pause_of_a_cron_text(cron: str, seconds: int) -> None:
    assert longest_pause(cron) == seconds


@pytest.mark.parametrize(
    ("cron", "found"),
    [
        ("0 7 * * *", "2026-11-22T07:00+00:00"),
        ("30 12 * * *", "2026-11-21T12:30+00:00"),
        ("0 0 1 * *", "2026-11-01T00:00+00:00"),
        ("* * * * *", "2026-11-22T12:00+00:00"),
        ("0 0 29 2 *", "2024-02-29T00:00+00:00"),
    ],
)
def test_the_latest_tick(cron: str, found: str) -> None:
    now = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)  # a Sunday
    assert latest_tick(cron, now) == datetime.fromisoformat(found)


def config_of(data: Path, **more: object) -> Config:
    jobs = [{"exchange": "binance", "pairs": ["BTC/USDT"], "span": "1h"}]
    return Config.model_validate({"settings": {"data_path": str(data)}, "histo_jobs": jobs, **more})


def test_a_limit_comes_from_span_and_schedule(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    hourly = history_limits(config, {BTC_1H: "0 * * * *"})
    assert hourly == {BTC_1H: 2 * HOUR + GRACE}
    daily = history_limits(config, {BTC_1H: "0 3 * * *"})
    assert daily == {BTC_1H: DAY + HOUR + GRACE}
    assert history_limits(config, {BTC_1H: "off"}) == {BTC_1H: None}


def test_a_series_that_is_live_too_is_judged_as_live(tmp_path: Path) -> None:
    stream = {"exchange": "binance", "pairs": ["BTC/USDT"], "channels": ["trades"]}
    config = config_of(tmp_path, stream_jobs=[stream])
    assert history_limits(config, {TRADES: "5 * * * *"}) == {}


def test_age_is_that_of_the_newest_closed_candle() -> None:
    assert age_of(BTC_1H, hours_ago(3), NOW) == 2 * HOUR
    assert age_of(TRADES, hours_ago(3), NOW) == 3 * HOUR
    assert age_of(TRADES, hours_ago(-1), NOW) == 0.0, "an exchange's clock may be ahead"
    assert age_of(TRADES, None, NOW) is None


@pytest.mark.parametrize(
    ("last", "asked", "limit", "state"),
    [
        (2.0, None, 2.0 * HOUR, State.FRESH),
        (3.0, None, 2.0 * HOUR, State.FRESH),
        (3.1, None, 2.0 * HOUR, State.STALE),
        (3.1, 2.5, 2.0 * HOUR, State.STALE),
        (3.1, 1.9, 2.0 * HOUR, State.QUIET),
        (9_000.0, 0.5, 2.0 * HOUR, State.QUIET),
        (9_000.0, None, None, State.UNLIMITED),
    ],
)
def test_stale_and_quiet_are_told_apart(
    last: float, asked: float | None, limit: float | None, state: State
) -> None:
    known = None if asked is None else hours_ago(asked)
    assert judge_age(BTC_1H, hours_ago(last), known, limit, NOW).state is state


def test_nothing_stored_is_not_stale() -> None:
    assert judge_age(BTC_1H, None, None, 60.0, NOW).state is State.EMPTY


def test_a_stream_is_measured_by_its_own_rate() -> None:
    live = replace(BTC_1H, channel=Channel.LIVE_OHLC, span=60)
    book = Series.parse("binance/book/BTC-USDT")
    job = StreamJob.model_validate(
        {"exchange": "binance", "pairs": ["BTC/USDT"], "channels": ["trades"]}
    )
    own = job.model_copy(update={"stale_after": 300})
    assert live_limit(TRADES, own, 10, 10.0) == 300.0, "what the file says goes before"
    assert live_limit(book, own, 0, 0.0) == 300.0
    assert live_limit(TRADES, job, 100_000, 86_400.0) == LEAST, "a busy market"
    assert live_limit(TRADES, job, 1_440, 86_400.0) == 6_000.0, "a trade a minute"
    assert live_limit(TRADES, job, 60, 86_400.0) is None, "a trade in half an hour may pause long"
    assert live_limit(TRADES, job, 10, 10.0) is None, "too few to say"
    assert live_limit(book, job, 0, 0.0) == LEAST + 120
    assert live_limit(live, job, 1_440, 86_400.0) == 6_120.0


def test_a_delisted_pair_is_quiet_by_the_ledger(tmp_path: Path) -> None:
    store, config = DataStore(tmp_path), config_of(tmp_path)
    observer = Observer(config, {BTC_1H: "0 * * * *"})
    rows = table([at("2026-05-01T00:00Z"), at("2026-05-01T01:00Z")])
    store.merge(BTC_1H, "2026", rows, [window("2026-05-01", "2026-05-01T02:00Z")], "rest")
    [found] = observer.freshness(NOW)
    assert (found.state, found.age) == (State.STALE, NOW - at("2026-05-01T02:00Z") / SECOND)
    asked = [window("2026-05-01T02:00Z", "2026-06-01T11:00Z")]
    store.merge(BTC_1H, "2026", rows.slice(0, 0), asked, "rest")
    [found] = observer.freshness(NOW)
    assert found.state is State.QUIET
    assert observer.conditions([found], NOW) == []


def test_an_old_backfill_makes_nothing_fresh(tmp_path: Path) -> None:
    store, config = DataStore(tmp_path), config_of(tmp_path)
    asked = [window("2015-05-01", "2015-05-01T02:00Z")]
    store.merge(BTC_1H, "2015", table([at("2015-05-01")]), asked, "rest")
    observer = Observer(config, {BTC_1H: "0 * * * *"})
    [found] = observer.freshness(NOW)
    assert found.state is State.STALE
    [condition] = observer.conditions([found], NOW)
    assert condition.key == "stale: binance/ohlc/1h/BTC-USDT"
    assert "4049 d" in condition.text
