"""The life of a task: what keeps it from beginning, or from going on after a reload, ends."""

import errno
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_exchange import Fake, registered
from stream_lab import STEADY, Lab, config_of, lab, wait

from dccd_core import instruments
from dccd_core.config import Config
from dccd_core.config_sections import StreamJob
from dccd_core.exchanges.base import Answer, Banned, Blocked, ExchangeError, Instrument, Unavailable
from dccd_core.exchanges.trades import Book, Trade
from dccd_core.instruments import Instruments
from dccd_core.limits import Limiter
from dccd_core.models import DAY, SECOND, Series, Symbol, Window
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import trades_table
from dccd_streams import __main__, markets, roster
from dccd_streams.__main__ import Service
from dccd_streams.connection import Connection
from dccd_streams.resume import Left, read_left

BTC = "BTC-USD"
TRADES = Series.parse(f"fake/trades/{BTC}")
FULL = OSError(errno.ENOSPC, "No space left on device")


def job(**more: Any) -> StreamJob:
    """A job of one pair."""
    values = {"exchange": "fake", "pairs": ["BTC/USD"], "channels": ["trades"]} | more
    return StreamJob.model_validate(values)


def connections(found: Lab) -> list[Connection]:
    """Those of the one exchange."""
    roster = found.manager._roster
    assert roster is not None
    return roster._venues["fake"].connections()


@pytest.mark.parametrize("damage", ["half", "zeros", "empty"])
def test_a_damaged_file_keeps_nothing_from_being_recorded(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with lab(tmp_path, "trades", markets=(BTC,)) as found:
        found.wait_live()
        found.server.trade(BTC, 30)
        found.wait_trades()
        assert found.manager.stop()
        [path] = found.store.folder(TRADES).glob("*.parquet")
        content, size = path.read_bytes(), path.stat().st_size
        damaged = {"half": content[: size // 2], "zeros": bytes(size), "empty": b""}[damage]
        path.write_bytes(damaged)
        found.manager.start()
        found.wait_live()
        assert str(path) in caplog.text
        assert path.read_bytes() == damaged, "it is for the next fold to put it aside"
        found.server.trade(BTC, 5)
        wait(lambda: found.status()["rows"] >= 5, "nothing is recorded")


def test_what_a_damaged_file_had_counts_as_not_there(tmp_path: Path) -> None:
    store, days = DataStore(tmp_path), [DAY * SECOND * n for n in (20_000, 20_001, 20_002)]
    for day in days:
        rows = trades_table([Trade(day + 7, day + 7, str(day), 1.0, 1.0, True)])
        store.merge(TRADES, TRADES.period(day), rows, [Window(day, day + 9)], "stream")
    whole = read_left(store, TRADES, DAY)
    assert whole.end == days[2] + 9
    last, first = (store.folder(TRADES) / f"{TRADES.period(day)}.parquet" for day in days[::-2])
    first.write_bytes(b"")
    assert read_left(store, TRADES, DAY) == whole
    last.write_bytes(b"")
    assert read_left(store, TRADES, DAY) == Left(days[1] + 9, [])


def test_an_output_that_cannot_begin_is_tried_again_and_the_others_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def read(store: DataStore, series: Series, reach_back: float) -> Left:
        if series == TRADES:
            tried.append(series)
            if len(tried) < 4:
                raise FULL
        return read_left(store, series, reach_back)

    monkeypatch.setattr(roster, "read_left", read)
    with lab(tmp_path, "trades", "book", markets=(BTC,), quarantine=0.3) as found:
        wait(lambda: found.server.subscribed(f"book:{BTC}"))
        # it is not told for a moment while it is tried again
        wait(lambda: found.status()["problem"] == f"{TRADES}: {FULL}", "it is not told")
        wait(lambda: found.server.subscribed(f"trades:{BTC}"), "it is not tried again")
        found.wait_live()
        assert found.status()["problem"] is None
        found.server.trade(BTC, 5)
        found.wait_trades()
        found.assert_trades()
        assert len(tried) == 4
        assert found.server.subscribed(f"book:{BTC}") == 1


def test_a_task_that_cannot_begin_on_a_full_disk_begins_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Instrument:
        raise FULL

    with lab(tmp_path, markets=(BTC,), quarantine=0.3) as found:
        with monkeypatch.context() as patch:
            patch.setattr(Instruments, "find", full)
            found.manager.reload(config_of(found.server, tmp_path, "trades"))
            wait(lambda: found.status()["problem"] == str(FULL), "it is not told")
        found.wait_live()
        assert found.status()["problem"] is None
        found.server.trade(BTC, 5)
        found.wait_trades()


@pytest.mark.parametrize(
    ("status", "patience"), [(403, "_REFUSED_RETRY"), (503, "_RETRY")], ids=["refused", "down"]
)
def test_a_list_of_markets_that_cannot_be_had_is_asked_for_once_for_all_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, patience: str
) -> None:
    monkeypatch.setattr(instruments, "Retries", lambda: Retries(1))
    names = tuple(f"A{n}-USD" for n in range(30))
    with lab(tmp_path, markets=names) as found:
        monkeypatch.setattr(roster, "_RETRY", 0.05)  # many who ask meanwhile
        monkeypatch.setattr(markets, "_RETRY", 0.0)
        monkeypatch.setattr(markets, "_REFUSED_RETRY", 0.0)
        monkeypatch.setattr(markets, patience, 3.0)
        found.server.rest_down = status
        found.manager.reload(config_of(found.server, tmp_path, "trades"))
        wait(lambda: all(one["problem"] for one in found.manager.status()), "it is not told")
        time.sleep(0.3)
        assert found.server.asked == ["/instruments"]
        found.server.rest_down = None
        found.wait_live()
        assert found.server.asked == ["/instruments"] * 2


def test_a_market_that_is_not_there_keeps_no_other_from_beginning(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC,)) as found:
        found.wait_live()
        for number in range(5):
            pair = f"NO{number}/USD"
            found.manager.start_one(job(pairs=[pair]), pair, ["trades"])
        wait(lambda: [one["state"] for one in found.manager.status()][1:] == ["put_aside"] * 5)
        found.manager.start_one(job(), "BTC/USD", ["book"])
        wait(lambda: found.manager.status()[-1]["state"] == "live")
        assert found.server.asked.count("/instruments") == 1


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Unavailable("down"), 30.0),
        (Blocked("refused"), 600.0),
        (Banned("banned", 7_200.0), 3_600.0),
        (Banned("banned", 60.0), 60.0),
        (Banned("banned"), 600.0),
    ],
)
def test_how_long_a_failure_is_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ExchangeError, seconds: float
) -> None:
    asked, now = [], 0.0

    def fail(*_: object) -> Instrument:
        asked.append(1)
        raise error

    monkeypatch.setattr(Instruments, "_load", fail)
    clock = SimpleNamespace(monotonic=lambda: now, time_ns=time.time_ns)
    monkeypatch.setattr(markets, "time", clock)
    found = markets.Markets(Fake(), cast(RestClient, None), tmp_path / "list", 3_600.0)
    for moment, times in ((0.0, 1), (1.0, 1), (seconds - 1, 1), (seconds + 1, 2)):
        now = moment
        with pytest.raises(type(error)):
            found.find(Symbol("BTC", "USD"))
        assert len(asked) == times


def other_settings(config: Config) -> Config:
    """The same with other settings of the exchange."""
    fake = config.exchanges["fake"].model_copy(update={"requests": 0.9})
    return config.model_copy(update={"exchanges": {"fake": fake}})


@pytest.mark.parametrize("channel", ["ohlc", "book"])
def test_other_settings_of_an_exchange_restart_what_was_started_at_run_time_too(
    tmp_path: Path, channel: str
) -> None:
    """A feed of its own, or one that it shares with a configured task."""
    with lab(tmp_path, "trades", markets=(BTC,)) as found:
        found.wait_live()
        own = found.manager.start_one(job(time_step=1), "BTC/USD", [channel])
        found.wait_live()
        touched = found.manager.reload(other_settings(found.manager.config))
        assert touched == ["fake_BTC_USD_trades", own] == found.manager.running_keys()
        found.wait_live()
        wait(lambda: found.server.open == 1, "the old connection stays")
        assert found.server.subscribed(f"trades:{BTC}") == 1
        found.server.trade(BTC, 5)
        found.wait_trades()
        found.assert_trades()


def test_other_settings_of_an_exchange_without_a_configured_task_hold_too(tmp_path: Path) -> None:
    with lab(tmp_path, markets=(BTC,)) as found:
        own = found.manager.start_one(job(), "BTC/USD", ["trades"])
        found.wait_live()
        assert found.manager.reload(other_settings(found.manager.config)) == [own]
        wait(lambda: len(found.server.connects) == 2 and found.server.open == 1)
        found.wait_live()
        assert found.manager.reload(found.manager.config) == []


def test_a_connection_is_not_given_up_for_one_that_cannot_be_made(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC,), overlap=0.1, **STEADY) as found:
        found.wait_live()
        found.server.handshake = 503
        for _ in range(20):
            found.server.trade(BTC)
            found.server.say('{"k": "bye"}')  # it is told again and again, as some are
            time.sleep(0.05)
        assert found.server.open == 1
        assert found.status()["state"] == "live"
        assert len(connections(found)) == 2
        found.server.handshake = None
        wait(lambda: len(found.server.connects) == 2 and found.server.open == 1, "it stays")
        found.server.trade(BTC)
        found.wait_trades()
        found.assert_trades()
        assert found.status()["reconnects"] == found.status()["gaps"] == 0


def test_a_connection_that_the_server_closes_leaves_its_feeds_to_the_next(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC,), overlap=0.1, **STEADY) as found:
        found.wait_live()
        found.server.trade(BTC)
        found.server.handshake = 503
        found.server.say('{"k": "bye"}')
        wait(lambda: len(connections(found)) == 2, "no successor")
        time.sleep(0.3)
        found.server.cut()
        wait(lambda: len(connections(found)) == 1, "the old one goes on")
        found.server.trade(BTC)
        found.server.handshake = None
        found.wait_live()
        found.server.trade(BTC)
        found.wait_trades()
        found.assert_trades()
        assert found.status()["reconnects"] == 1


def test_a_book_that_cannot_be_fetched_whatever_the_reason_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, came, fails = Fake.book, list[Answer](), list[OSError]()

    def read(self: Fake, answer: Answer, instrument: Instrument) -> Book:
        came.append(answer)
        if fails:
            raise fails.pop()
        return book(self, answer, instrument)

    monkeypatch.setattr(Fake, "book", read)
    fake = Fake()
    fake.book_from_rest, fake.checksum_depth = True, 0  # type: ignore[misc]
    with lab(tmp_path, "book", markets=(BTC,), exchange=fake) as found:
        wait(lambda: came)
        found.wait_live()
        found.server.edit = without_whole
        fails.append(FULL)
        found.server.markets[BTC].change()  # is not sent: the book breaks with the next

        def again() -> bool:
            found.server.change(BTC)
            return not fails and str(found.status()["state"]) == "live"

        wait(again, "the book does not come")


def two_exchanges(found: Lab, other: Fake) -> Config:
    """The configuration of a lab, with one exchange more."""
    more = config_of(found.server, found.folder, "trades", name=other.name)
    both = config_of(found.server, found.folder, "trades")
    jobs = [*more.stream_jobs, *both.stream_jobs]
    return both.model_copy(
        update={"stream_jobs": jobs, "exchanges": both.exchanges | more.exchanges}
    )


def test_a_reload_goes_on_where_the_budget_of_an_exchange_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others begin at once, and that one when there is room."""
    other, update = Fake(), Limiter._update
    other.name = "other"  # type: ignore[misc]

    def full(self: Limiter, change: Any) -> Any:
        if "other" in self._path.name:
            raise FULL
        return update(self, change)

    with registered(other), lab(tmp_path, markets=(BTC,), quarantine=0.5) as found:
        service = Service(found.manager, found.manager.config)
        both = two_exchanges(found, other)
        monkeypatch.setattr(__main__, "load_config", lambda _: both)
        with monkeypatch.context() as patch:
            patch.setattr(Limiter, "_update", full)
            service._reload()
            assert found.manager.problem is None
            wait(lambda: found.manager.status()[1]["state"] == "live", "the other does not begin")
            assert "No space left" in str(found.manager.status()[0]["problem"])
        found.wait_live()
        assert [one["problem"] for one in found.manager.status()] == [None, None]


def test_a_task_that_waits_for_room_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FULL

    with lab(tmp_path, markets=(BTC,), quarantine=0.2) as found:
        with monkeypatch.context() as patch:
            patch.setattr(Limiter, "_update", full)
            key = found.manager.start_one(job(), "BTC/USD", ["trades"])
            assert found.manager.stop_one(key)
        time.sleep(0.4)
        assert found.manager.running_keys() == []
        assert found.server.open == 0


def test_a_reload_that_fails_ends_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FULL

    with lab(tmp_path, "trades", markets=(BTC,)) as found:
        service = Service(found.manager, found.manager.config)
        monkeypatch.setattr(__main__, "load_config", lambda _: found.manager.config)
        with monkeypatch.context() as patch:
            patch.setattr(roster.Roster, "reload", full)
            service._reload()
        assert "No space left" in str(found.manager.problem)
        found.wait_live()
        service._reload()
        assert found.manager.problem is None


def test_what_cannot_be_attached_at_all_is_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: roster.Roster, name: str) -> None:
        raise ValueError("it has no live channels")

    with lab(tmp_path, markets=(BTC,)) as found:
        monkeypatch.setattr(roster.Roster, "_venue", refuse)
        with pytest.raises(ValueError, match="no live channels"):
            found.manager.start_one(job(), "BTC/USD", ["trades"])
        assert found.manager.running_keys() == []


def without_whole(topic: str, texts: list[str]) -> list[str]:
    """Books from REST have no snapshots and no checksums."""
    said = [json.loads(text) for text in texts]
    return [json.dumps(one | {"sum": None}) for one in said if not one["snapshot"]]
