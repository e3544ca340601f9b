"""The days of a stream: each is told of when it has news, once it is over for good, and once."""

from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from helpers import at, window

from dccd_core.exchanges.live import LiveCandle
from dccd_core.exchanges.trades import Trade
from dccd_core.live_check import compare_live
from dccd_core.live_days import EVERY, SETTLED, Memory, count_up, news, streams_of
from dccd_core.models import SECOND, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import Loss, candles_table, live_candles_table, trades_table
from dccd_core.stream_status import ServiceStatus, StreamStatus

BTC = Series.parse("binance/trades/BTC-USDT")
DAY1, DAY2 = "2026-05-01", "2026-05-02"
NOON = at("2026-05-01T12:00Z") / SECOND
MIDNIGHT = at(DAY2) / SECOND


def add(store: DataStore, text: str, number: int, lost: tuple[Loss, ...] = ()) -> None:
    """One trade, and that its minute is whole."""
    start = at(text)
    trade = Trade(start, start + 1, str(number), 10.0, 1.0, True)
    covered = [Window(start, start + 60 * SECOND)]
    store.merge(BTC, BTC.period(start), trades_table([trade]), covered, "stream", lost)


def told(store: DataStore, memory: Memory, now: float) -> list[tuple[str, int, bool]]:
    return [(day.day, day.rows, day.final) for day in news(store, BTC, memory, now)]


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    found = DataStore(tmp_path)
    add(found, "2026-05-01T10:00Z", 1)
    return found


def test_the_open_day_is_told_of_at_most_once_an_hour(store: DataStore) -> None:
    memory = Memory()
    assert told(store, memory, NOON) == [(DAY1, 1, False)]
    add(store, "2026-05-01T10:01Z", 2)
    assert told(store, memory, NOON + EVERY - 1) == []
    assert told(store, memory, NOON + EVERY) == [(DAY1, 2, False)]
    assert told(store, memory, NOON + 9 * EVERY) == [], "nothing is new"


def test_a_day_is_closed_once(store: DataStore) -> None:
    memory = Memory()
    told(store, memory, NOON)
    assert told(store, memory, MIDNIGHT + SETTLED - 1) == [], "it is not settled yet"
    assert told(store, memory, MIDNIGHT + SETTLED + 1) == [(DAY1, 1, True)]
    assert told(store, memory, MIDNIGHT + SETTLED + 99) == []
    add(store, "2026-05-01T23:59:59Z", 3)
    assert told(store, memory, MIDNIGHT + 3_600) == [(DAY1, 2, True)], "a healed row is news"


def test_nothing_is_lost_while_nobody_listens(store: DataStore) -> None:
    memory = Memory()
    told(store, memory, NOON)
    for n, day in enumerate((DAY2, "2026-05-03", "2026-05-04", "2026-05-05", "2026-05-06")):
        add(store, f"{day}T01:00Z", 10 + n)
    now = at("2026-05-06T12:00Z") / SECOND
    caught_up = told(store, memory, now)
    assert [day for day, _, _ in caught_up] == [
        DAY1, DAY2, "2026-05-03", "2026-05-04", "2026-05-05", "2026-05-06",
    ]  # fmt: skip
    assert [final for _, _, final in caught_up] == [True] * 5 + [False]
    assert told(store, memory, now + EVERY) == []
    assert len(memory.days) == 3, "the memory does not grow"


def test_what_is_given_out_is_remembered_whatever_becomes_of_the_rest(store: DataStore) -> None:
    add(store, "2026-05-02T01:00Z", 2)
    memory = Memory()
    days = news(store, BTC, memory, at("2026-05-03T12:00Z") / SECOND)
    assert next(days).day == DAY1
    kept = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)
    assert told(store, kept, at("2026-05-03T12:01Z") / SECOND) == [(DAY2, 1, True)]


def test_gaps_and_losses_of_a_day_are_counted(store: DataStore) -> None:
    add(
        store,
        "2026-05-01T11:00Z",
        5,
        (Loss(at("2026-05-01T10:30Z"), at("2026-05-01T10:40Z"), "cut"),),
    )
    [day] = news(store, BTC, Memory(), NOON)
    assert (day.gaps, day.lost, day.rows) == (1, 1, 2)
    assert (day.first, day.last) == (at("2026-05-01T10:00Z"), at("2026-05-01T11:00Z"))
    assert day.bytes > 100


def test_an_unreadable_day_keeps_the_others(store: DataStore) -> None:
    add(store, "2026-05-02T01:00Z", 2)
    [path] = store.folder(BTC).glob("2026-05-01*.parquet")
    path.write_bytes(b"no parquet")
    assert told(store, Memory(), at("2026-05-03T12:00Z") / SECOND) == [(DAY2, 1, True)]


def status(started: float, reconnects: int, healed: int) -> tuple[ServiceStatus, StreamStatus]:
    one = StreamStatus(
        key="k", exchange="binance", pair="BTC/USDT", channels=["trades"], time_step=60,
        running=True, state="live", reconnects=reconnects, healed=healed, series=[str(BTC)],
    )  # fmt: skip
    return ServiceStatus(pid=1, host="h", started=started, written=started, streams=[one]), one


def test_counters_of_the_service_become_those_of_a_day() -> None:
    memory = Memory()
    count_up(memory, *status(1.0, 3, 100), DAY1)
    count_up(memory, *status(1.0, 5, 150), DAY1)
    count_up(memory, *status(9.0, 1, 7), DAY1)  # the service was restarted
    count_up(memory, *status(9.0, 2, 7), DAY2)
    assert [(one.reconnects, one.healed) for one in memory.days.values()] == [(6, 157), (1, 0)]


def test_the_service_that_wrote_last_speaks_for_a_series() -> None:
    old, new = status(1.0, 1, 0)[0], status(2.0, 2, 0)[0]
    assert streams_of([new, old])[str(BTC)][0] is new


# --- live candles beside those of REST -----------------------------------------------------------

LIVE, OWN = Series.parse("binance/live_ohlc/1m/BTC-USDT"), Series.parse("binance/ohlc/1m/BTC-USDT")
NOW = datetime.fromisoformat("2026-05-01T12:00Z")


def compared(
    tmp_path: Path, live: dict[str, float], own: dict[str, float], until: str = "10:03"
) -> str:
    """The difference of candles with these volumes by minute, where both cover from 10:00 on."""
    import numpy as np

    from dccd_core.exchanges.base import Candles

    store = DataStore(tmp_path)
    whole = window("2026-05-01T10:00Z", "2026-05-01T10:03Z")
    rows = [
        LiveCandle(at(f"2026-05-01T{minute}Z"), 1.0, 1.0, 1.0, 1.0, v, None, None, None, None, 0)
        for minute, v in live.items()
    ]
    ends = [window("2026-05-01T10:00Z", f"2026-05-01T{until}Z")]
    store.merge(LIVE, "2026-05-01", live_candles_table(rows), ends, "stream")
    times = np.array([at(f"2026-05-01T{minute}Z") for minute in own], dtype=np.int64)
    ones, volumes = np.ones(len(own)), np.array([*own.values()], dtype=np.float64)
    candles = Candles(times, ones, ones, ones, ones, volumes)
    store.merge(OWN, "2026", candles_table(candles), [whole], "rest")
    return compare_live(store, LIVE, NOW).difference


def test_equal_candles_are_equal(tmp_path: Path) -> None:
    same = {"10:00": 0.1 + 0.2, "10:01": 2.0, "10:02": 3.0}
    assert compared(tmp_path, same, same) == ""


def test_the_last_digit_of_volume_is_a_difference(tmp_path: Path) -> None:
    found = compared(tmp_path, {"10:00": 0.1 + 0.2}, {"10:00": 0.3})
    assert found == "2026-05-01T10:00:00Z: volume 0.30000000000000004, the exchange has 0.3"


def test_a_hole_is_found(tmp_path: Path) -> None:
    found = compared(
        tmp_path, {"10:00": 1.0, "10:02": 1.0}, {"10:00": 1.0, "10:01": 5.0, "10:02": 1.0}
    )
    assert found == "2026-05-01T10:01:00Z: the stream has none"


def test_empty_candles_and_times_that_only_one_knows_do_not_count(tmp_path: Path) -> None:
    own = {"10:00": 1.0, "10:01": 0.0, "10:02": 9.0}
    assert compared(tmp_path, {"10:00": 1.0}, own, until="10:02") == ""
