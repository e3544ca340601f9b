"""Markets that an exchange changes while a service runs."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fake_exchange import Fake, FakeSession, checksum
from stream_lab import lab, wait

from dccd_core.exchanges.base import Answer, Instrument, Listed, Request
from dccd_core.exchanges.live import Session
from dccd_core.exchanges.trades import Levels

BTC, ETH = "BTC-USD", "ETH-USD"


class Digits(Fake):
    """Checksums are made of prices with as many digits as the list of markets says, now."""

    digits = 1
    size = 1.0

    def instruments(self, answer: Answer, request: Request) -> Listed:
        listed = super().instruments(answer, request).instruments
        first, *others = [replace(one, price_digits=1) for one in listed]
        return Listed([replace(first, price_digits=self.digits, size=self.size), *others])

    def session(self) -> Session:
        return DigitsSession(self)


class DigitsSession(FakeSession):
    def __init__(self, exchange: Digits) -> None:
        super().__init__()
        self._exchange = exchange

    def checksum(self, instrument: Instrument, bids: Levels, asks: Levels) -> int:
        stale = instrument.name == BTC and instrument.price_digits != self._exchange.digits
        return checksum(bids, asks) + stale


def topics(said: Sequence[tuple[int, dict[str, object]]], op: str) -> list[object]:
    return [one["args"] for _, one in said if one["op"] == op]


def test_a_book_whose_market_has_other_digits_now_comes_back(tmp_path: Path) -> None:
    """Its checksums were wrong for ever."""
    exchange = Digits()
    with lab(tmp_path, "book", exchange=exchange, quarantine=0.5, acknowledge=0.2) as found:
        found.wait_live()
        for name in (BTC, ETH):
            found.server.change(name, 5)
        exchange.digits = 2
        found.server.change(BTC)
        wait(lambda: found.status()["state"] != "live", "nobody noticed")
        wait(lambda: found.server.change(BTC) or found.status()["state"] == "live")
        assert found.status(ETH)["reconnects"] == found.status(ETH)["gaps"] == 0
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            found.server.change(BTC)
            time.sleep(0.05)
        assert found.status()["state"] == "live"
        found.assert_books()


def test_a_market_of_another_size_is_begun_anew_and_others_are_left_alone(tmp_path: Path) -> None:
    """Once a day; its trades of the time between are fetched."""
    exchange = Digits()
    with lab(tmp_path, "trades", exchange=exchange, quarantine=0.3, acknowledge=0.3) as found:
        found.wait_live()
        for name in (BTC, ETH):
            found.server.trade(name, 9)
        found.wait_trades()
        exchange.size = 10.0
        time.sleep(1.0)
        assert not topics(found.server.said, "unsubscribe"), "it asks once a day"
        (tmp_path / ".dccd" / "instruments" / "fake.json").unlink()
        wait(lambda: topics(found.server.said, "unsubscribe"), "nobody noticed")
        assert topics(found.server.said, "unsubscribe") == [[f"trades:{BTC}"]]
        found.server.trade(BTC, 9)
        wait(lambda: found.server.trade(BTC, 3) or found.status()["state"] == "live")
        found.wait_trades()
        found.assert_trades()
        assert found.status(ETH)["reconnects"] == 0
        time.sleep(1.0)
        assert len(topics(found.server.said, "unsubscribe")) == 1
