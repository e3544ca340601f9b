"""A candle that was built follows what its source says afterwards."""

import time
from dataclasses import replace
from pathlib import Path

from helpers import BTC_1H, table

from dccd_core.derived import Deriver
from dccd_core.models import DAY, SECOND, Window
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore

DAILY = replace(BTC_1H, exchange="kraken", span=DAY)
WEEKLY = replace(DAILY, span=7 * DAY)


def test_a_revision_of_the_newest_source_candle_is_built_again(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    end = WEEKLY.floor(time.time_ns() // 1_000)
    window = Window(end - 21 * DAY * SECOND, end)
    for period, part in DAILY.periods(window):
        times = range(part.start, part.end, DAY * SECOND)
        store.merge(DAILY, period, table(list(times), lambda _: 100.0), [part], "rest")
    store.write_listing(DAILY, window.start)
    asked = cells(WEEKLY, window)
    assert sum(one.added for one in Deriver(store).collect(asked)) == 3
    assert [one.revised for one in Deriver(store).collect(asked)] == [0] * len(asked)
    last = end - DAY * SECOND
    store.merge(DAILY, DAILY.period(last), table([last], lambda _: 130.0), [], "rest")
    assert sum(one.revised for one in Deriver(store).collect(asked)) == 1
    assert store.load(WEEKLY)["close"].to_list() == [100.0, 100.0, 130.0]
