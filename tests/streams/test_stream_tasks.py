"""The life of a task: what keeps it from beginning, or from going on after a reload, ends."""

import errno
from pathlib import Path

import pytest
from stream_lab import config_of, lab, wait

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.trades import Trade
from dccd_core.instruments import Instruments
from dccd_core.models import DAY, SECOND, Series, Window
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import trades_table
from dccd_streams import roster
from dccd_streams.resume import Left, read_left

BTC = "BTC-USD"
TRADES = Series.parse(f"fake/trades/{BTC}")
FULL = OSError(errno.ENOSPC, "No space left on device")


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
        assert found.status()["problem"] == f"{TRADES}: {FULL}"
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
