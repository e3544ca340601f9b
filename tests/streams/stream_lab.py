"""A service on the fake exchange, and the truth to hold what it stored against."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from fake_exchange import Fake, registered
from fake_server import FakeServer

from dccd_core.config import Config
from dccd_core.exchanges.base import Exchange
from dccd_core.store.datastore import DataStore
from dccd_streams.manager import StreamManager
from dccd_streams.timing import Timing

FAST = Timing(
    tick=0.02,
    acknowledge=0.4,
    quiet_least=0.5,
    quiet_most=2.0,
    settle=0.1,
    backoff_first=0.02,
    backoff_most=0.3,
    overlap=3.0,
    heal_first=0.1,
    mark=0.1,
    status=0.05,
)
PATIENT = 60.0
"""Seconds that something may take on a slow machine."""
STEADY: dict[str, Any] = {"quiet_least": 60.0, "quiet_most": 60.0, "acknowledge": 60.0}
"""Timing of a service that takes no pause for silence, where a busy machine may make one."""


def wait(
    what: Callable[[], object],
    why: str | Callable[[], str] = "it did not happen",
    seconds: float = PATIENT,
) -> None:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, why if isinstance(why, str) else why()
        time.sleep(0.01)


def config_of(
    server: FakeServer, data: Path, *channels: str, name: str = "fake", step: int = 1
) -> Config:
    """All markets of a server, in one job."""
    pairs = [market.replace("-", "/") for market in server.markets]
    job = {"exchange": name, "pairs": pairs, "channels": list(channels), "time_step": step}
    urls = {
        "rest_url": f"http://127.0.0.1:{server.port}",
        "ws_url": f"ws://127.0.0.1:{server.port}",
    }
    return Config.model_validate(
        {
            "settings": {"data_path": str(data)},
            "histo_jobs": [{"exchange": name, "pairs": pairs, "span": 60}],
            "stream_jobs": [job] if channels else [],
            "exchanges": {name: urls},
        }
    )


@dataclass
class Lab:
    """A running service. `store` reads what is stored, with the journal."""

    server: FakeServer
    manager: StreamManager
    store: DataStore
    name: str
    folder: Path
    extra: dict[str, Any] = field(default_factory=dict)

    def status(self, market: str = "BTC-USD") -> dict[str, Any]:
        """Of the task of a market."""
        pair = market.replace("-", "/")
        return next(one for one in self.manager.status() if one["pair"] == pair)  # type: ignore[return-value]

    def wait_live(self) -> None:
        """Until every task is live."""
        wait(
            lambda: all(one["state"] == "live" for one in self.manager.status()),
            "the tasks are not live",
        )

    def rows(self, channel: str, market: str = "BTC-USD") -> pl.DataFrame:
        """What is stored of a channel."""
        return self.store.load(f"{self.name}/{channel}/{market}")

    def wait_trades(self, market: str = "BTC-USD", count: int | None = None) -> None:
        """Until all trades that ever happened are stored, from the first stored one on."""
        trades = self.server.markets[market].trades

        def complete() -> bool:
            stored = self.rows("trades", market)["trade_id"].cast(pl.Int64)
            return len(stored) > 0 and len(stored) == len(trades) - int(stored.min()) + 1  # type: ignore[arg-type]

        wait(complete, f"not all of {len(trades)} trades of {market} arrived")

    def assert_trades(self, market: str = "BTC-USD") -> None:
        """What is stored equals the truth row for row, from the first stored trade on."""
        stored = self.rows("trades", market)
        first = int(stored["trade_id"][0])
        truth = self.server.markets[market].trades[first - 1 :]
        found = stored.select(
            pl.col("trade_id").cast(pl.Int64),
            pl.col("time").to_physical(),
            "price",
            "amount",
            pl.col("side").cast(pl.String) == "buy",
        )
        assert found.rows() == truth[: len(found)]
        assert len(found) == len(truth)

    def assert_books(self, market: str = "BTC-USD", least: int = 1) -> None:
        """Each valid row is what the book was then; those that are not have no levels."""
        rows = self.rows("book", market)
        truth = self.server.markets[market]
        for row in rows.filter("valid").iter_rows(named=True):
            moment = int(row["time"].timestamp() * 1e6 + 0.5)
            bids = list(zip(row["bid_price"], row["bid_amount"], strict=True))
            asks = list(zip(row["ask_price"], row["ask_amount"], strict=True))
            true_bids, true_asks = truth.state_at(moment)
            assert (bids, asks) == (true_bids[:20], true_asks[:20]), row["time"]
        for row in rows.filter(~pl.col("valid")).iter_rows(named=True):
            assert row["bid_price"] == row["ask_price"] == []
        assert len(rows.filter("valid")) >= least


@contextmanager
def lab(
    folder: Path,
    *channels: str,
    markets: tuple[str, ...] = ("BTC-USD", "ETH-USD"),
    exchange: Exchange | None = None,
    step: int = 1,
    **timing: float,
) -> Iterator[Lab]:
    """A server, and a service that records these channels of all its markets; stopped after."""
    exchange = exchange or Fake()
    with registered(exchange), FakeServer(*markets) as server:
        config = config_of(server, folder, *channels, name=exchange.name, step=step)
        manager = StreamManager(config, timing=replace(FAST, **timing))  # type: ignore[arg-type]
        found = Lab(server, manager, DataStore(folder), exchange.name, folder)
        manager.start()
        try:
            if channels:
                wait(lambda: server.open, "nobody connected")
            yield found
        finally:
            assert manager.stop(30)
