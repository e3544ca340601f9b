"""The end of a UTC day, whatever the clock does."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from stream_lab import FAST

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.live import Subscription
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Symbol
from dccd_core.store.datastore import DataStore
from dccd_core.store.fold import fold
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import trades_table
from dccd_streams import recorder
from dccd_streams.day_end import close_days
from dccd_streams.heal_plan import Hole
from dccd_streams.recorder import Recorder
from dccd_streams.trade_feed import TradeFeed

MARKET = Instrument(Symbol("BTC", "USD"), "BTC-USD", trading=True)
SERIES = Series("fake", Channel.TRADES, MARKET.symbol)


def test_days_are_closed_once_also_when_the_clock_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, closed = [datetime(2026, 3, 1, 0, 1, tzinfo=UTC)], list[str]()

    class Clock(datetime):
        @classmethod
        def now(cls, *_: object) -> datetime:  # type: ignore[override]
            return now[0]

    monkeypatch.setattr(recorder, "datetime", Clock)
    made = Recorder(DataStore(tmp_path), FAST, list, closed.append)
    made._fold()
    assert closed == [], "no stream is there yet"
    made.ready.set()
    for moment, expected in [
        ("2026-03-01T00:01", "2026-02-27"),  # left by an earlier run
        ("2026-03-01T00:03", "2026-02-28"),  # after the time that late trades have
        ("2026-03-01T23:59", None),
        ("2031-01-01T12:00", "2030-12-31"),
        ("2026-03-01T23:59", None),  # set right again
        ("2026-03-02T00:01", None),
        ("2026-03-02T00:03", "2026-03-01"),
        ("2026-03-03T09:00", "2026-03-02"),
    ]:
        closed.clear()
        now[0] = datetime.fromisoformat(f"{moment}+00:00")
        made._fold()
        made._fold()
        assert closed == ([expected] if expected else []), moment
    made.journal.close()


def recording(journal: JournalWriter, holes: list[Hole]) -> TradeFeed:
    """A feed whose holes are noted."""
    feed = TradeFeed(
        Subscription(MARKET, Channel.TRADES),
        journal,
        lambda _, hole: holes.append(hole),
        contiguous=True,
        healable=True,
        settle=0.1,
    )
    feed.written.record = SERIES
    return feed


def store_trade(store: DataStore, journal: JournalWriter, moment: int, number: int) -> None:
    """Record one trade, and fold it into its day's file."""
    trade = Trade(moment, moment, str(number), 1.0, 1.0, True)
    journal.append_trades(SERIES, [trade])
    journal.sync()
    journal.rotate()
    assert not fold(store).failed


def test_days_that_nobody_closed_are_closed_later(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    journal = JournalWriter(store.journal)
    feed = recording(journal, [])
    days = ["2026-02-20", "2026-02-25", "2026-02-27", "2026-03-01", "2026-03-02"]
    for number, day in enumerate(days):
        noon = int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp()) * SECOND
        store_trade(store, journal, noon, 2 * number)
        store_trade(store, journal, noon + 1, 2 * number + 1)
    tails = {path.name[:10] for path in store.folder(SERIES).glob("*.tail.parquet")}
    assert tails == set(days)
    close_days(store, [(feed, SERIES)], "2026-03-01")
    tails = {path.name[:10] for path in store.folder(SERIES).glob("*.tail.parquet")}
    assert tails == {"2026-02-20", "2026-03-02"}, "more than a week ago, and not over"
    files = {path: path.stat().st_mtime_ns for path in store.folder(SERIES).glob("*.parquet")}
    close_days(store, [(feed, SERIES)], "2026-03-01")
    again = {path: path.stat().st_mtime_ns for path in store.folder(SERIES).glob("*.parquet")}
    assert again == files
    close_days(store, [], "2026-03-02")
    tails = {path.name[:10] for path in store.folder(SERIES).glob("*.tail.parquet")}
    assert tails == {"2026-02-20"}, "also what is streamed no more"
    journal.close()


def test_what_history_has_collected_is_left_to_it(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    noon = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * SECOND
    trades = [Trade(noon + n, None, str(n), 1.0, 1.0, True) for n in range(2)]
    for one in trades:
        store.merge(SERIES, "2026-03-01", trades_table([one]), [], "rest")
    files = {path.name for path in store.folder(SERIES).glob("*.parquet")}
    close_days(store, [], "2026-03-01")
    assert {path.name for path in store.folder(SERIES).glob("*.parquet")} == files
    assert len(files) == 2


def test_what_lacks_between_the_ids_of_a_day_is_fetched(tmp_path: Path) -> None:
    store, holes = DataStore(tmp_path), list[Hole]()
    journal = JournalWriter(store.journal)
    feed = recording(journal, holes)
    start = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * SECOND
    for number in (1, 2, 5, 6):
        store_trade(store, journal, start + number * SECOND, number)
    close_days(store, [(feed, SERIES)], "2026-03-01")
    assert [path.name for path in store.folder(SERIES).glob("*.parquet")] == ["2026-03-01.parquet"]
    hole = Hole(start + 2 * SECOND, start + 5 * SECOND + 1, "trades 3 to 4 are missing", "5")
    assert holes == [hole]
    journal.close()


def test_a_hole_between_ids_whose_times_step_back_begins_before_it_ends(tmp_path: Path) -> None:
    store, holes = DataStore(tmp_path), list[Hole]()
    journal = JournalWriter(store.journal)
    feed = recording(journal, holes)
    start = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * SECOND
    for second, number in ((1, 1), (5, 2), (4, 5), (6, 6)):
        store_trade(store, journal, start + second * SECOND, number)
    close_days(store, [(feed, SERIES)], "2026-03-01")
    [hole] = holes
    assert (hole.start, hole.end) == (start + 4 * SECOND, start + 5 * SECOND + 1)
    journal.close()
