"""The walk through OKX's past trades, against a model of its endpoint: nothing is left out."""

import json
from dataclasses import dataclass, field

import pytest

from dccd_core.exchanges.base import Answer, Instrument, Request
from dccd_core.exchanges.okx import Okx
from dccd_core.exchanges.trades import Trade
from dccd_core.models import DAY, SECOND, Symbol

OKX = Okx()
SPOT = Instrument(Symbol("BTC", "USDT"), "BTC-USDT", trading=True)
NOW = 1_787_400_000_000  # ms
START = NOW - 60 * DAY * 1_000


@dataclass
class Model:
    """Ids and times (ms) of a market, both ascending; `late` trades come one with each request."""

    trades: list[tuple[int, int]]
    late: list[tuple[int, int]] = field(default_factory=list)
    requests: int = 0

    def answer(self, request: Request) -> Answer:
        """The newest hundred before an id or a time, newest first."""
        self.requests += 1
        assert self.requests < 500
        sent = request.params
        by, after = int(sent["type"]) - 1, int(sent["after"]) if "after" in sent else 10**18
        found = [trade for trade in self.trades if trade[by] < after][-int(sent["limit"]) :]
        rows = [
            {"tradeId": str(number), "ts": str(time), "px": "2", "sz": "3", "side": "buy"}
            for number, time in reversed(found)
        ]
        self.trades += [self.late.pop(0)] if self.late else []
        return Answer(
            200, {}, json.dumps({"code": "0", "msg": "", "data": rows}).encode(), NOW * 1_000
        )


def walk(model: Model, time: int) -> list[Trade]:
    """All that comes from a time (ms) on."""
    found: list[Trade] = []
    request: Request | None = OKX.trades_request(SPOT, time * 1_000)
    while request is not None:
        page = OKX.trades(model.answer(request), SPOT, request)
        found += page.trades
        request = page.next
    return found


def ids(trades: list[Trade]) -> list[int]:
    return [int(trade.trade_id) for trade in trades]


def every(seconds: int, count: int, first: int = 1) -> list[tuple[int, int]]:
    return [(first + n, START + n * seconds * 1_000) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 199, 200, 201, 1_000])
def test_everything_from_a_time_on_comes_once_and_in_order(count: int) -> None:
    model = Model(every(7, count, first=500))
    half = count // 2
    assert ids(walk(model, START + half * 7_000)) == list(range(500 + half, 500 + count))


@pytest.mark.parametrize("back", [1, 3_600, 30 * DAY, 400 * DAY, 57 * 366 * DAY // 2])
@pytest.mark.parametrize("count", [1, 99, 100, 101, 2_000])
def test_a_time_before_the_first_trade_gives_the_first_trades(back: int, count: int) -> None:
    model = Model(every(3, count))
    found = walk(model, START - back * 1_000)
    assert ids(found) == list(range(1, count + 1))
    assert found[0].time == START * 1_000
    assert model.requests < 50 + count // 100


def test_a_market_without_trades_ends() -> None:
    assert walk(Model([]), START) == []
    assert walk(Model(every(1, 150)), NOW + DAY * 1_000) == []


def test_hundreds_of_trades_in_one_millisecond_are_not_cut() -> None:
    burst = [(n, START + 1_000) for n in range(101, 1_201)]
    model = Model([*every(1, 1, first=100), *burst, (1_201, START + 2_000)])
    assert ids(walk(model, START + 1_000)) == list(range(101, 1_202))


@pytest.mark.parametrize("hole", [1, 50, 99, 100, 101, 1_000, 12_345])
def test_ids_with_a_hole_lose_nothing(hole: int) -> None:
    first = every(1, 250)
    later = [(number + hole + 250, time + 250_000) for number, time in every(1, 250)]
    model = Model([*first, *later])
    assert ids(walk(model, START)) == [number for number, _ in model.trades]


def test_what_comes_during_the_walk_is_taken_without_a_hole() -> None:
    late = [(1_001 + n, START + (1_000 + n) * 1_000) for n in range(40)]
    model = Model(every(1, 1_000), late)
    found = ids(walk(model, START + 5_000))
    assert found == list(range(6, found[-1] + 1))
    assert found[-1] > 1_000


def test_a_walk_goes_on_from_the_last_stored_trade_and_repeats_it() -> None:
    model = Model(every(1, 300))
    assert ids(walk(model, START + 299_000)) == [300]
    assert model.requests == 3


def test_the_reach_is_what_is_documented() -> None:
    assert OKX.reach == 89 * DAY
    assert OKX.trades_request(SPOT, 5 * SECOND).params["after"] == "5000"


@pytest.mark.parametrize("first", [1, 5_000])
def test_it_is_told_from_when_on_trades_are_served(first: int) -> None:
    """That the oldest one has a number above 1 is the only sign that older ones are gone."""
    model = Model(every(600, 300, first))
    request: Request | None = OKX.trades_request(SPOT, (START - DAY * 1_000) * 1_000)
    told = []
    while request is not None:
        page = OKX.trades(model.answer(request), SPOT, request)
        told += [] if page.served is None else [page.served]
        request = page.next
    assert told == ([] if first == 1 else [START * 1_000])
    request = OKX.trades_request(SPOT, (START + 1_000) * 1_000)
    assert OKX.trades(model.answer(request), SPOT, request).served is None
