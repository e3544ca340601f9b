"""What is wrong of services and streams, as their status tells it."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dccd_core.config import Config
from dccd_core.incidents import Kind, State, step
from dccd_core.models import SECOND, Series
from dccd_core.observations import Observer, config_condition, disk_condition
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import Loss, empty_table
from dccd_core.stream_status import ServiceStatus, StreamStatus, write_status

NOW = 1_780_000_000.0
KEY = "binance_BTC_USDT_trades_book"
SERIES = ["binance/trades/BTC-USDT", "binance/book/BTC-USDT"]


def observer(data: Path, channels: tuple[str, ...] = ("trades", "book")) -> Observer:
    job = {"exchange": "binance", "pairs": ["BTC/USDT"], "channels": list(channels)}
    config = Config.model_validate({"settings": {"data_path": str(data)}, "stream_jobs": [job]})
    return Observer(config, {})


def service(data: Path, *streams: StreamStatus, **more: Any) -> None:
    found = {"pid": 1, "host": "here", "started": NOW - 9_999, "written": NOW - 1} | more
    write_status(data, ServiceStatus(streams=list(streams), **found))


def stream(state: str, **more: Any) -> StreamStatus:
    known: dict[str, Any] = {
        "key": KEY,
        "exchange": "binance",
        "pair": "BTC/USDT",
        "channels": ["trades", "book"],
        "time_step": 60,
        "running": True,
        "last_row": NOW - 5,
        "last_message": NOW - 5,
        "series": SERIES,
    }
    return StreamStatus(state=state, **known | more)


def wrong(data: Path, **options: Any) -> list[tuple[str, str, float]]:
    looking = observer(data, **options)
    found = looking.conditions(looking.freshness(NOW), NOW)
    return [(one.kind, one.subject, one.patience) for one in found]


def test_a_live_stream_is_well(tmp_path: Path) -> None:
    service(tmp_path, stream("live"))
    assert wrong(tmp_path) == []


@pytest.mark.parametrize(
    ("state", "patience"),
    [("put_aside", 120.0), ("silent", 120.0), ("connecting", 180.0), ("synchronising", 180.0)],
)
def test_a_sick_stream_is_one_condition(tmp_path: Path, state: str, patience: float) -> None:
    service(tmp_path, stream(state, last_row=NOW - 9_000, silent_since=NOW - 9_000))
    assert wrong(tmp_path) == [(Kind.STREAM, KEY, patience)], "and not stale besides"


def test_silence_of_trades_alone_may_be_a_quiet_market(tmp_path: Path) -> None:
    only: dict[str, Any] = {"channels": ["trades"], "series": SERIES[:1]}
    service(tmp_path, stream("silent", silent_since=NOW - 900, last_row=NOW - 900, **only))
    assert wrong(tmp_path, channels=("trades",)) == [], "it has no known rate"
    service(tmp_path, stream("silent", silent_since=NOW - 900, last_row=None, **only))
    assert wrong(tmp_path, channels=("trades",)) == [(Kind.STREAM, KEY, 120.0)], "never a trade"


def test_a_service_that_is_gone_is_one_condition(tmp_path: Path) -> None:
    assert wrong(tmp_path) == [(Kind.SERVICE, "stream service", 60.0)]
    service(tmp_path, stream("live", last_row=NOW - 9_000), written=NOW - 3_600)
    assert wrong(tmp_path) == [(Kind.SERVICE, "stream service", 60.0)], "its series explain it"
    looking = observer(tmp_path)
    [found] = looking.conditions(looking.freshness(NOW), NOW)
    assert "its last sign is 1 h old" in found.text


def test_nothing_is_said_of_streams_while_no_service_runs(tmp_path: Path) -> None:
    looking, state = observer(tmp_path), State()
    service(tmp_path, stream("put_aside"))
    found = looking.freshness(NOW)
    for now in (NOW - 120, NOW):
        step(state, looking.conditions(found, NOW), {Kind.STREAM}, now)
    assert looking.unknown(state, found, NOW) == set()
    assert looking.unknown(state, found, NOW + 60) == {f"stream: {KEY}"}


def test_a_problem_of_the_whole_service(tmp_path: Path) -> None:
    service(tmp_path, stream("live"), problem="the journal cannot be written: No space left")
    assert wrong(tmp_path) == [(Kind.SERVICE, "stream service", 60.0)]


def test_a_config_file_that_the_service_cannot_use_is_no_trouble_of_the_service(
    tmp_path: Path,
) -> None:
    service(tmp_path, stream("live"), problem="the config file is not used: config.yml:3: no")
    found = observer(tmp_path).conditions([], NOW)
    assert [(one.kind, one.text) for one in found] == [(Kind.CONFIG, "config.yml:3: no")]
    assert found[0].key == config_condition("of Dagster's code").key, "told once"


def test_a_stale_book_of_a_live_stream_is_told(tmp_path: Path) -> None:
    service(tmp_path, stream("live", last_row=NOW - 1_000))
    assert wrong(tmp_path) == [(Kind.STALE, "binance/book/BTC-USDT", 600.0)]


def test_whoever_writes_a_limit_hears_of_it_soon(tmp_path: Path) -> None:
    service(tmp_path, stream("live", last_row=NOW - 100))
    assert wrong(tmp_path) == []
    config = observer(tmp_path).config
    [job] = config.stream_jobs
    stated = config.model_copy(
        update={"stream_jobs": (job.model_copy(update={"stale_after": 60}),)}
    )
    found = Observer(stated, {})
    conditions = found.conditions(found.freshness(NOW), NOW)
    assert {(one.kind, one.patience) for one in conditions} == {(Kind.STALE, 60.0)}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("total", "free", "was_low", "low"),
    [
        (100, 6.1, False, False),
        (100, 4.9, False, True),
        (100, 5.5, True, True),
        (100, 6.1, True, False),
        (20, 1.1, False, False),
        (20, 0.9, False, True),
    ],
)
def test_a_disk_is_low_until_there_is_clearly_room(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    total: int,
    free: float,
    was_low: bool,
    low: bool,
) -> None:
    usage = Usage(total * 10**9, 0, int(free * 10**9))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert (disk_condition(tmp_path, was_low) is not None) is low


def lose(data: Path, key: str, *lengths: float, apart: float = 10.0) -> None:
    """Losses before NOW, of so many seconds each, with a pause between them."""
    series, store = Series.parse(key), DataStore(data)
    start, losses = NOW - 3_600, []
    for length in lengths:
        losses.append(Loss(int(start * SECOND), int((start + length) * SECOND), "cut"))
        start += length + apart
    day = series.period(losses[0].start)
    store.merge(series, day, empty_table(series.channel), [], "stream", losses)


def test_what_was_lost_is_told_also_after_a_restart_of_the_service(tmp_path: Path) -> None:
    lose(tmp_path, SERIES[0], 1.0)
    service(tmp_path, stream("live", lost=0), started=NOW - 5)
    assert wrong(tmp_path) == [(Kind.GAP, SERIES[0], 600.0)]
    later = observer(tmp_path).conditions([], NOW + 86_400)
    assert Kind.GAP not in {one.kind for one in later}, "it is a day old"


@pytest.mark.parametrize("series", [SERIES[1], "binance/book_deltas/BTC-USDT"])
def test_of_books_a_gap_is_told_from_a_minute_on(series: str, tmp_path: Path) -> None:
    service(tmp_path, stream("live", series=[SERIES[0], series]))
    channels = ("trades", series.split("/")[1])
    lose(tmp_path, series, 1.0, 59.0, 40.0)
    assert wrong(tmp_path, channels=channels) == []
    lose(tmp_path, series, 30.0, 30.0, apart=0.0)
    assert wrong(tmp_path, channels=channels) == [(Kind.GAP, series, 600.0)]
