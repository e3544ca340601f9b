"""The instrument list: asked at most once a day, remembered for ever, shared by all threads."""

import errno
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from helpers import NOW, PLENTY

from dccd_core.exchanges import load
from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Banned,
    Instrument,
    Listed,
    Request,
    UnknownSymbol,
)
from dccd_core.exchanges.binance import Binance
from dccd_core.instruments import Instruments, Saved
from dccd_core.limits import Limiter
from dccd_core.models import DAY, SECOND, Symbol
from dccd_core.rest import RestClient
from dccd_core.store import files
from dccd_sandbox import Rule, Sandbox, Settings

BTC, ADA = Symbol("BTC", "USDT"), Symbol("ADA", "BTC")
NOBODY = Symbol("NO", "ONE")
MINUTE = 60 * SECOND
INFO = "/binance/api/v3/exchangeInfo"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0)) as running:
        yield running


@pytest.fixture
def client(box: Sandbox, tmp_path: Path) -> Iterator[RestClient]:
    limiter = Limiter(tmp_path / "limits", PLENTY)
    with RestClient(load("binance"), limiter, base_url=box.binance_url) as found:
        yield found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "instruments" / "binance.json"


def instruments(client: RestClient, path: Path) -> Instruments:
    """As another process, or another run, has them."""
    return Instruments(load("binance"), client, path)


def now() -> int:
    return time.time_ns() // 1_000


def asked(box: Sandbox) -> int:
    return sum(box.stats()["paths"].get(INFO, {}).values())


def test_a_pair_has_the_exchange_s_own_name(client: RestClient, path: Path) -> None:
    known = instruments(client, path)
    assert known.find(BTC, now()) == Instrument(BTC, "BTCUSDT", trading=True)
    assert known.find(ADA, now()).name == "ADABTC"


def test_the_list_is_asked_once_a_day_by_everyone_together(
    box: Sandbox, client: RestClient, path: Path
) -> None:
    today = now()
    known = instruments(client, path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: known.find(BTC, today).name, range(50)))
    assert set(found) == {"BTCUSDT"}
    instruments(client, path).find(ADA, today + DAY * SECOND // 2)
    assert asked(box) == 1
    instruments(client, path).find(ADA, today + DAY * SECOND + 1)
    assert asked(box) == 2


def test_an_unknown_pair_asks_again_at_most_every_five_minutes_and_names_what_is_near(
    box: Sandbox, client: RestClient, path: Path
) -> None:
    today = now()
    known = instruments(client, path)
    with pytest.raises(UnknownSymbol, match=r"NO/ONE: Binance spot has no such pair$"):
        known.find(NOBODY, today)
    with pytest.raises(UnknownSymbol, match=r"did you mean BTC/USDT"):
        known.find(Symbol("BTC", "USD"), today)
    assert asked(box) == 1
    with pytest.raises(UnknownSymbol):
        known.find(NOBODY, today + 6 * MINUTE)
    assert asked(box) == 2


def test_a_market_that_left_the_list_stays_known_as_not_trading(
    client: RestClient, path: Path
) -> None:
    gone = Instrument(Symbol("LUNA", "BUSD"), "LUNABUSD", trading=True)
    path.parent.mkdir()
    path.write_bytes(msgspec.json.encode(Saved(0, [gone])))
    found = instruments(client, path).find(gone.symbol, now())
    assert (found.name, found.trading) == ("LUNABUSD", False)
    saved = msgspec.json.decode(path.read_bytes(), type=Saved)
    assert {"LUNABUSD", "BTCUSDT"} <= {one.name for one in saved.instruments}


def test_yesterday_s_list_is_better_than_no_candles_today(
    box: Sandbox, client: RestClient, path: Path
) -> None:
    today = now()
    instruments(client, path).find(BTC, today)
    box.set_faults(Rule("418", path=INFO))
    assert instruments(client, path).find(BTC, today + 2 * DAY * SECOND).name == "BTCUSDT"


def test_a_list_that_cannot_be_had_is_one_error_for_all_who_ask(
    box: Sandbox, client: RestClient, path: Path
) -> None:
    box.set_faults(Rule("418", path=INFO))
    known = instruments(client, path)
    for symbol in (BTC, ADA, NOBODY):
        with pytest.raises(Banned, match="has banned this address"):
            known.find(symbol, now())
    assert asked(box) == 1
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"asked": "x"}', b"\xff\xfe"])
def test_a_damaged_list_is_asked_for_again(
    box: Sandbox, client: RestClient, path: Path, content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert instruments(client, path).find(BTC, now()).name == "BTCUSDT"
    assert asked(box) == 1


def test_a_list_that_cannot_be_saved_is_used_all_the_same(
    box: Sandbox, client: RestClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_bytes", full)
    known = instruments(client, path)
    assert known.find(BTC, now()).name == "BTCUSDT"
    assert known.find(ADA, now()).name == "ADABTC"
    assert asked(box) == 1


class InParts(Binance):
    """An exchange that lists two products apart, one of them in two parts."""

    def instruments_requests(self) -> list[Request]:
        return [Request("/api/v3/exchangeInfo", {"symbol": name}) for name in ("BTCUSDT", "ADABTC")]

    def instruments(self, answer: Answer, request: Request) -> Listed:
        rest = Request("/api/v3/exchangeInfo", {"symbol": "ETHUSDT"})
        more = rest if request.params["symbol"] == "BTCUSDT" else None
        return Listed(super().instruments(answer, request).instruments, more)


def test_a_list_in_parts_is_followed_to_its_end(
    box: Sandbox, client: RestClient, path: Path
) -> None:
    known = Instruments(InParts(), client, path)
    for symbol in (BTC, ADA, Symbol("ETH", "USDT")):
        assert known.find(symbol, now()).trading
    with pytest.raises(UnknownSymbol):
        known.find(Symbol("SOL", "USDT"), now())
    assert asked(box) == 3


class InCircles(InParts):
    """Its first part leads to itself."""

    def instruments(self, answer: Answer, request: Request) -> Listed:
        return Listed(super().instruments(answer, request).instruments, request)


def test_a_list_that_leads_back_to_itself_is_not_followed(
    box: Sandbox, client: RestClient, path: Path
) -> None:
    with pytest.raises(BadAnswer, match="the list of markets leads back to itself"):
        Instruments(InCircles(), client, path).find(BTC, now())
    assert asked(box) == 1
