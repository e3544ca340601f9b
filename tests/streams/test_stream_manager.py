"""StreamManager as others embed it: starting, stopping, what is left behind, what it tells."""

import errno
import os
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_exchange import Fake, registered
from fake_server import FakeServer
from stream_lab import FAST, STEADY, config_of, lab, wait

from dccd_core.config_sections import StreamJob
from dccd_core.exchanges.live import Frame
from dccd_core.health import HealthMonitor
from dccd_core.models import Channel
from dccd_core.store.files import Appender
from dccd_core.store.journal import JournalWriter
from dccd_core.stream_status import read_statuses
from dccd_streams import recorder
from dccd_streams.instance import AlreadyRunning, Shard
from dccd_streams.links import Links
from dccd_streams.manager import StreamManager
from dccd_streams.web import ailments

BTC = "BTC-USD"


def job(**more: Any) -> StreamJob:
    """A job of one pair."""
    values = {"exchange": "fake", "pairs": ["BTC/USD"], "channels": ["trades"]} | more
    return StreamJob.model_validate(values)


def ours() -> list[str]:
    """The threads of services."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("stream-", "rest-", "http-"))]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_a_thousand_starts_and_stops_leave_nothing_behind(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC, "ETH-USD")) as found:
        found.wait_live()
        found.manager.stop_one("fake_BTC_USD_trades")
        wait(lambda: not found.server.subscribed(f"trades:{BTC}"))
        threads, files = len(ours()), open_files()
        for _ in range(1_000):
            key = found.manager.start_one(job(), "BTC/USD", ["trades"])
            assert key in found.manager.running_keys()
            assert found.manager.stop_one(key)
            assert key not in found.manager.running_keys()
        wait(lambda: not found.server.subscribed(f"trades:{BTC}"))
        assert len(ours()) <= threads + 3, ours()  # of the workers some are started when needed
        assert open_files() <= files + 3
        assert found.server.open == 1
        assert found.status("ETH-USD")["reconnects"] == 0
        key = found.manager.start_one(job(), "BTC/USD", ["trades"])
        wait(lambda: found.server.subscribed(f"trades:{BTC}"))
        found.server.trade(BTC, 5)
        found.wait_trades()
        found.assert_trades()
    assert ours() == []


def test_stop_and_start_again(tmp_path: Path) -> None:
    day = datetime.now(UTC).date()
    with lab(tmp_path, "trades", "book") as found:
        for _ in range(3):
            found.wait_live()
            found.server.trade(BTC, 5)
            found.server.change(BTC, 5)
            found.wait_trades()
            if datetime.now(UTC).date() == day:  # those of before the restart too
                assert found.status()["rows_today"] >= len(found.rows("trades"))
            assert found.manager.stop()
            assert ours() == []
            assert found.manager.running_keys() == []
            found.manager.start()
            found.manager.start()  # once more does nothing
        assert len(found.manager.running_keys()) == 2


def test_a_new_task_of_the_same_key_writes_at_once(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", "book", markets=(BTC,)) as found:
        [key] = found.manager.running_keys()
        for _ in range(10):
            found.wait_live()
            found.server.trade(BTC, 4)
            found.wait_trades()
            assert found.manager.stop_one(key)
            assert not found.manager.stop_one(key)
            again = job(channels=["trades", "book"], time_step=1)
            assert found.manager.start_one(again, "BTC/USD", again.channels) == key
        found.wait_live()
        found.server.trade(BTC, 4)
        found.wait_trades()
        found.assert_trades()


def test_two_tasks_that_name_one_series_write_it_once(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC,)) as found:
        found.wait_live()
        both = job(channels=["trades", "book"], time_step=1)
        key = found.manager.start_one(both, "BTC/USD", both.channels)
        wait(lambda: found.manager.status()[-1]["state"] == "live")
        found.server.trade(BTC, 4)
        found.wait_trades()
        assert found.manager.stop_one("fake_BTC_USD_trades")
        found.server.trade(BTC, 4)
        found.wait_trades()
        found.assert_trades()
        assert found.manager.running_keys() == [key]
        assert found.server.subscribed(f"trades:{BTC}") == 1


def test_trades_that_are_started_again_beside_their_candles_lack_nothing(tmp_path: Path) -> None:
    fake = Fake()
    fake.live_spans = frozenset()  # candles are built from the trades
    with lab(tmp_path, "trades", markets=(BTC,), exchange=fake, **STEADY) as found:
        found.wait_live()
        candles = job(channels=["ohlc"], time_step=1)
        beside = found.manager.start_one(candles, "BTC/USD", candles.channels)
        wait(lambda: all(one["state"] == "live" for one in found.manager.status()))
        found.server.trade(BTC, 9)
        found.wait_trades()
        wait(lambda: found.store.covered(f"fake/trades/{BTC}"))
        assert found.manager.stop_one("fake_BTC_USD_trades")
        for _ in range(20):
            found.server.trade(BTC, 3)
            time.sleep(0.01)
        found.manager.start_one(job(), "BTC/USD", ["trades"])
        wait(lambda: len(found.manager.running_keys()) == 2)
        found.wait_live()
        found.server.trade(BTC, 9)
        found.wait_trades()
        found.assert_trades()
        assert beside in found.manager.running_keys()
        assert len(found.server.connects) == 1
        assert found.server.subscribed(f"trades:{BTC}") == 1


def test_start_one_with_other_settings_than_what_runs_is_refused(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", "book", markets=(BTC,)) as found:
        [key] = found.manager.running_keys()
        [runs] = found.manager.config.stream_jobs
        for other in ({"depth": runs.depth + 1}, {"time_step": runs.time_step + 1}):
            with pytest.raises(ValueError, match=rf"{key} runs with time_step .*: stop it first"):
                found.manager.start_one(runs.model_copy(update=other), "BTC/USD", runs.channels)
        other = job(depth=runs.depth + 1)  # a depth says nothing about trades
        found.manager.start_one(job(), "BTC/USD", ["trades"])
        assert found.manager.start_one(other, "BTC/USD", ["trades"]) == "fake_BTC_USD_trades"


def test_start_one_before_start_is_refused(tmp_path: Path) -> None:
    with registered(Fake()), FakeServer(BTC) as server:
        manager = StreamManager(config_of(server, tmp_path, "trades"), timing=FAST)
        with pytest.raises(RuntimeError, match="not started"):
            manager.start_one(job(), "BTC/USD", ["trades"])
        assert manager.stop()
        assert manager.stop_one("x") is False


def test_status_has_a_dict_for_each_task(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", "book") as found:
        found.wait_live()
        found.server.trade(BTC, 5)
        found.wait_trades()
        [status, _] = found.manager.status()
        assert status["key"] == "fake_BTC_USD_trades_book"
        assert (status["exchange"], status["pair"]) == ("fake", "BTC/USD")
        assert (status["channels"], status["time_step"]) == (["trades", "book"], 1)
        assert status["running"] is True
        assert status["rows_today"] >= 5
        assert abs(time.time() - status["last_message"]) < 60
        assert abs(time.time() - status["last_row"]) < 60
        assert 0 <= status["lag"] < 60
        assert status["series"] == ["fake/trades/BTC-USD", "fake/book/BTC-USD"]
        # a config that was read anew shows what was added meanwhile
        server = found.server
        fresh = config_of(server, tmp_path, "trades", "book", step=1)
        added = fresh.model_copy(
            update={"stream_jobs": (*fresh.stream_jobs, job(channels=["ohlc"]))}
        )
        found.manager.stop_one("fake_ETH_USD_trades_book")
        states = {one["key"]: one["state"] for one in found.manager.status(added)}
        assert states["fake_ETH_USD_trades_book"] == "stopped"
        assert states["fake_BTC_USD_ohlc"] == "stopped"
        wait(lambda: read_statuses(tmp_path), "no status file")
        [service] = read_statuses(tmp_path)
        assert service.pid == os.getpid()
        assert service.alive(time.time())


def test_health_records_each_series(tmp_path: Path) -> None:
    health = HealthMonitor(tmp_path)
    with registered(Fake()), FakeServer(BTC) as server:
        slow = replace(FAST, fold=900.0)  # the first record does not wait for the second
        manager = StreamManager(config_of(server, tmp_path, "trades"), health, timing=slow)
        manager.start()
        try:
            wait(lambda: "fake/trades/BTC-USD" in health.get_metrics(), "no record")
            assert health.get_metrics()["fake/trades/BTC-USD"].consecutive_errors == 0
        finally:
            assert manager.stop(30)


def test_a_second_one_on_the_same_path_is_refused(tmp_path: Path) -> None:
    with lab(tmp_path, "trades") as found:
        other = StreamManager(found.manager.config, timing=FAST)
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()} on "):
            other.start()
        shard = StreamManager(found.manager.config, shard=Shard(1, 2), timing=FAST)
        with pytest.raises(AlreadyRunning):
            shard.start()
        assert found.manager.running_keys()


def test_reload_touches_only_what_changed(tmp_path: Path) -> None:
    with lab(tmp_path, "trades") as found:
        found.wait_live()
        config = config_of(found.server, tmp_path, "trades")
        assert found.manager.reload(config) == []
        [one] = config.stream_jobs
        less = one.model_copy(update={"pairs": ("ETH/USD",)})
        more = job(channels=["book"], time_step=2)
        changed = config.model_copy(update={"stream_jobs": (less, more)})
        touched = found.manager.reload(changed)
        assert touched == ["fake_BTC_USD_trades", "fake_BTC_USD_book"]
        wait(lambda: not found.server.subscribed(f"trades:{BTC}"))
        found.wait_live()
        assert found.manager.running_keys() == ["fake_ETH_USD_trades", "fake_BTC_USD_book"]
        assert len(found.server.connects) == 1
        elsewhere = config.settings.model_copy(update={"data_path": tmp_path / "other"})
        with pytest.raises(ValueError, match="restart"):
            found.manager.reload(config.model_copy(update={"settings": elsewhere}))


def test_changes_that_are_added_beside_a_book_are_of_the_whole_one(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", "book", markets=(BTC,), **STEADY) as found:
        found.wait_live()
        found.server.trade(BTC, 4)
        [both] = found.manager.config.stream_jobs
        changes = job(channels=["book_deltas"])
        more = found.manager.config.model_copy(update={"stream_jobs": (both, changes)})
        assert found.manager.reload(more) == ["fake_BTC_USD_book_deltas"]

        def whole() -> bool:
            found.server.change(BTC)
            states = {str(one["state"]) for one in found.manager.status()}
            return states == {"live"} and len(found.rows("book_deltas")) > 0

        wait(whole, "no changes")
        roster = found.manager._roster
        assert roster is not None
        depths = [feed.subscription.depth for feed in roster.feeds() if feed.name.endswith("book")]
        assert depths == [0]
        before = len(found.rows("book"))
        wait(lambda: found.server.change(BTC) or len(found.rows("book")) > before + 1, "no rows")
        found.server.trade(BTC, 4)
        found.wait_trades()
        found.assert_trades()
        found.assert_books()
        assert len(found.server.connects) == 1
        [first, _] = found.manager.status()
        assert first["reconnects"] == 0
        assert first["lost"] in (0, 1)  # what passed between two books, if the first had begun
        assert found.server.subscribed(f"book:{BTC}") == 1


def test_a_full_disk_is_told_and_what_was_missed_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MOST_PENDING", 20_000)
    monkeypatch.setattr(recorder, "_RETRY", 0.1)
    full = threading.Event()
    sync = JournalWriter.sync

    def maybe(self: JournalWriter) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return sync(self)

    monkeypatch.setattr(JournalWriter, "sync", maybe)
    with lab(tmp_path, "trades", markets=(BTC,)) as found:
        found.wait_live()
        found.server.trade(BTC, 5)
        found.wait_trades()
        full.set()
        wait(lambda: found.manager.service_status().problem, "nothing is told")
        assert "No space left" in str(found.manager.service_status().problem)
        wait(lambda: found.server.trade(BTC, 99) or not found.server.open, "it still receives")
        most = found.manager.service_status().pending_bytes
        found.server.trade(BTC, 500)
        assert found.manager.service_status().pending_bytes <= most + 20_000
        full.clear()
        found.wait_live()
        found.server.trade(BTC, 5)
        found.wait_trades()
        found.assert_trades()
        assert found.manager.service_status().problem is None


def test_a_dead_thread_of_the_service_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lab(tmp_path, "trades") as found:
        assert not found.manager.failed

        def fail(self: object) -> None:
            raise MemoryError

        monkeypatch.setattr(recorder.Recorder, "_sync", fail)
        wait(lambda: found.manager.failed, "nobody noticed")
        monkeypatch.undo()


def test_a_connection_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is stuck notices no silence: somebody else must."""
    go_on = threading.Event()
    with lab(tmp_path, "trades", markets=(BTC,), down=0.5) as found:
        found.wait_live()
        take = Links.take

        def stuck(self: Links, frames: list[Frame]) -> str | None:
            go_on.wait(60)
            return take(self, frames)

        monkeypatch.setattr(Links, "take", stuck)
        wait(lambda: ailments(found.manager.service_status()), "nothing is told")
        assert "fake-1 hangs" in ailments(found.manager.service_status())[0]
        assert found.status()["state"] == "live"
        monkeypatch.undo()
        go_on.set()
        wait(lambda: not ailments(found.manager.service_status()), "it is told for ever")


def test_shards_take_each_pair_once() -> None:
    pairs = [f"X{i}/USD" for i in range(500)]
    shards = [Shard.parse(f"{i}/8") for i in range(1, 9)]
    taken = [[pair for pair in pairs if shard.has("fake", pair)] for shard in shards]
    assert sorted(pair for part in taken for pair in part) == sorted(pairs)
    assert all(30 <= len(part) <= 100 for part in taken)
    for wrong in ("0/8", "9/8", "8", "a/b", "-1/2"):
        with pytest.raises(ValueError, match="write 2/8"):
            Shard.parse(wrong)


def test_channels_may_be_words(tmp_path: Path) -> None:
    with lab(tmp_path, markets=(BTC,)) as found:
        key = found.manager.start_one(job(), "BTC/USD", ["trades", Channel.BOOK])
        assert key == "fake_BTC_USD_trades_book"
        wait(lambda: found.manager.status()[-1]["state"] == "live")


def test_a_disk_that_hangs_does_not_hold_up_who_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, stuck, append = threading.Event(), threading.Event(), Appender.append

    def hang(file: Appender, content: bytes) -> None:
        stuck.set()
        go_on.wait(60)
        append(file, content)

    with lab(tmp_path, "trades", markets=(BTC,)) as found:
        found.wait_live()
        monkeypatch.setattr(Appender, "append", hang)
        found.server.trade(BTC, 5)
        assert stuck.wait(60)
        began = time.monotonic()
        assert not found.manager.stop(1)
        assert time.monotonic() - began < 30
        go_on.set()
        wait(lambda: not ours(), lambda: str(ours()))
        assert len(found.rows("trades")) == 5


def test_who_waits_for_a_name_server_has_nothing_to_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, waits = threading.Event(), threading.Event()

    def resolve(*_: object, **__: object) -> object:
        waits.set()
        go_on.wait(60)
        raise OSError("no answer")

    with lab(tmp_path, "trades", markets=(BTC,)) as found:
        found.wait_live()
        found.server.trade(BTC, 5)
        found.wait_trades()
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        found.server.cut()
        assert waits.wait(60)
        assert found.manager.stop(5), "all that came is on disk"
        assert [name for name in ours() if name.startswith("stream-fake")] == ["stream-fake-1"]
        go_on.set()
        wait(lambda: not ours(), lambda: str(ours()))


def test_a_connection_that_hangs_does_not_take_the_time_of_other_exchanges(tmp_path: Path) -> None:
    """All are told to end before one is waited for: else theirs is cut off at the deadline."""
    go_on, stuck, other = threading.Event(), threading.Event(), Fake()
    other.name = "other"
    with lab(tmp_path, "trades", markets=(BTC,)) as found, registered(other):
        found.wait_live()
        config, roster = found.manager.config, found.manager._roster
        assert roster is not None
        config.exchanges["other"] = config.exchanges["fake"]
        found.manager.start_one(job(exchange="other"), "BTC/USD", ["trades"])
        found.wait_live()
        roster._reader.close()  # else what hangs in it would hold up both
        hanging, well = (roster._venues[name].connections()[0] for name in ("fake", "other"))

        def hang() -> None:
            stuck.set()
            go_on.wait(60)

        hanging.post(hang)
        assert stuck.wait(60)
        stopping = threading.Thread(target=found.manager.stop, args=(60,))
        stopping.start()
        wait(lambda: not well.thread.is_alive())
        assert hanging.thread.is_alive()
        go_on.set()
        stopping.join(60)
