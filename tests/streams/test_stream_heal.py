"""What REST has to show before a hole of the stream's trades is closed."""

import time
from pathlib import Path
from typing import Any

import polars as pl
from fake_exchange import Fake
from stream_lab import Lab, lab, wait

from dccd_core.models import SECOND, Channel, Series, Symbol, Window

BTC = "BTC-USD"
SERIES = Series("fake", Channel.TRADES, Symbol("BTC", "USD"))


def lagging(found: Lab, seconds: float) -> None:
    """REST knows only trades that are older."""
    ask = found.server._ask

    def answer(path: str, query: dict[str, str]) -> Any:
        rows = ask(path, query)
        latest = time.time_ns() // 1_000 - int(seconds * SECOND)
        return [row for row in rows if row[1] < latest] if path == "/trades" else rows

    found.server._ask = answer  # type: ignore[method-assign]


def reconnect(found: Lab) -> None:
    """Trades happen while nobody is connected, and then go on."""
    found.server.cut()
    wait(lambda: not found.server.open)
    found.server.trade(BTC, 9)
    wait(lambda: found.server.subscribed(f"trades:{BTC}"))
    for _ in range(10):
        found.server.trade(BTC, 3)
        time.sleep(0.02)


def not_lost(found: Lab) -> int:
    """How many trades are called covered and are not there."""
    covered = found.store.covered(SERIES, Window(0, 1 << 60))  # first: rows precede it
    stored = set(found.rows("trades")["trade_id"].cast(pl.Int64))
    truth = found.server.markets[BTC].trades
    return sum(
        number not in stored and any(w.start <= moment < w.end for w in covered)
        for number, moment, *_ in truth
    )


def unnumbered() -> Fake:
    exchange = Fake()
    exchange.contiguous = False
    return exchange


def test_rest_that_lags_closes_no_hole_before_it_shows_its_end(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC,), exchange=unnumbered()) as found:
        lagging(found, 1.5)
        found.wait_live()
        for _ in range(5):
            found.server.trade(BTC, 3)
        wait(lambda: len(found.rows("trades")))
        reconnect(found)
        time.sleep(1.0)
        assert not_lost(found) == 0
        found.wait_trades()
        found.assert_trades()
        wait(lambda: found.store.lost(SERIES, Window(0, 1 << 60)) == [], "it is lost for ever")


def test_rest_that_never_shows_it_makes_a_loss(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", markets=(BTC,), exchange=unnumbered(), heal_tries=3) as found:
        lagging(found, 1_000)
        found.wait_live()
        for _ in range(5):
            found.server.trade(BTC, 3)
        wait(lambda: len(found.rows("trades")))
        reconnect(found)
        why = "the server cut the connection; REST does not know the newest yet, 3 times"
        wait(lambda: any(one.cause == why for one in found.store.lost(SERIES)), "it is not told")
        assert not_lost(found) == 0
