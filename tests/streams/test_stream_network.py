"""Faults of a network, made by a TCP proxy: a stall, a cut, a delay; and what /health says."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_exchange import Fake, registered
from fake_server import FakeServer
from stream_lab import FAST, STEADY, Lab, config_of, wait
from tcp_proxy import TcpProxy
from test_stream_faults import kinds, trade_for

from dccd_core.config import Config
from dccd_core.store.datastore import DataStore
from dccd_streams.manager import StreamManager
from dccd_streams.web import WebServer

BTC, ETH = "BTC-USD", "ETH-USD"


class Net(Lab):
    """A service that hears its exchange through a proxy, and asks its REST directly."""

    proxy: TcpProxy
    web: WebServer

    def health(self) -> tuple[int, str]:
        """What /health says."""
        url = f"http://127.0.0.1:{self.web.port}/health"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def assert_whole(self) -> None:
        """Every trade of both markets is there, once, and the ledger has no gap."""
        for name in (BTC, ETH):
            self.wait_trades(name)
            self.assert_trades(name)
            wait(lambda key=f"fake/trades/{name}": kinds(self, key) == [], "the ledger has a gap")


@contextmanager
def net(folder: Path, **timing: float) -> Iterator[Net]:
    with (
        registered(Fake()),
        FakeServer(BTC, ETH) as server,
        TcpProxy(server.port) as proxy,
    ):
        values = config_of(server, folder, "trades").model_dump(mode="json", exclude_none=True)
        values["exchanges"]["fake"]["ws_url"] = f"ws://127.0.0.1:{proxy.port}"
        config = Config.model_validate(values)
        manager = StreamManager(config, timing=replace(FAST, **timing))  # type: ignore[arg-type]
        found = Net(server, manager, DataStore(folder), "fake", folder)
        found.proxy, found.web = proxy, WebServer(manager, 0, "")
        manager.start()
        try:
            found.wait_live()
            assert found.health() == (200, "well\n")
            yield found
        finally:
            found.web.close()
            assert manager.stop(30)


@pytest.mark.parametrize("what", ["only heartbeats", "nothing"])
def test_a_stall_is_noticed_told_and_ended_by_a_new_connection(tmp_path: Path, what: str) -> None:
    with net(tmp_path) as found:
        trade_for(found, 20)
        before = found.proxy.connects
        if what == "nothing":
            found.proxy.stalled = True
        else:
            found.proxy.only = b'"hb"'
        trade_for(found, 3)
        told = "fake_BTC_USD_trades: silent"
        wait(lambda: told in found.health()[1], "/health does not tell of it")
        assert found.health()[0] == 503
        assert found.status()["silent_since"] is not None
        wait(lambda: found.proxy.connects > before, "nobody connected again")
        found.proxy.stalled, found.proxy.only = False, None
        wait(lambda: trade_for(found, 1) or found.health() == (200, "well\n"), "it is not well")
        found.assert_whole()


def test_cuts_lose_nothing(tmp_path: Path) -> None:
    with net(tmp_path, **STEADY) as found:
        for number in range(3):
            trade_for(found, 3)
            found.proxy.cut()
            trade_for(found, 3)
            wait(lambda seen=number: found.status()["reconnects"] > seen, "it was not noticed")
            found.wait_live()
        trade_for(found, 3)
        found.assert_whole()
        assert found.proxy.connects >= 4


def test_a_delay_is_no_fault(tmp_path: Path) -> None:
    with net(tmp_path, **STEADY) as found:
        found.proxy.delay = 0.05
        trade_for(found, 5)
        found.proxy.delay = 0.0
        found.assert_whole()
        assert found.proxy.connects == 1
        assert found.status()["reconnects"] == found.status()["gaps"] == 0


def test_an_exchange_that_is_away_is_not_well(tmp_path: Path) -> None:
    with net(tmp_path, down=0.3) as found:
        trade_for(found, 3)
        found.proxy.refuses = True
        found.proxy.cut()
        trade_for(found, 3)
        wait(lambda: found.health()[0] == 503, "/health does not tell of it")
        assert "fake_BTC_USD_trades: silent: " in found.health()[1]
        found.proxy.refuses = False
        wait(lambda: found.health() == (200, "well\n"), "it is not well")
        trade_for(found, 3)
        found.assert_whole()
