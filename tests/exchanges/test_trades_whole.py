"""Every exchange that keeps its past trades, against its sandbox: no trade is lost or doubled."""

from collections.abc import Iterator

import polars as pl
import pytest
from sandboxed import ask, instrument_of, true_market

from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import Exchange, Instrument, Request
from dccd_core.exchanges.trades import Trade, TradesHistory
from dccd_core.models import DAY, SECOND
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW = "2026-06-01T00:20:00Z"
SETTINGS = Settings(
    symbols=("BTCUSDT:BTC:USDT:2026-05-30T06:00", "BTCUSD:BTC:USD:2026-05-30T06:00"),
    now=NOW,
    frozen=True,
    rate=60,
    weight_limit=0,
)
AGGREGATED = {"binance_usdm"}
"""Whose trades are those that the fills of an order make together."""
HISTORIES = [
    name
    for name, exchange in load_all().items()
    # Of the newest trades only there is one page, and nothing to lose at its border.
    if isinstance(exchange, TradesHistory) and (exchange.reach is None or exchange.reach >= DAY)
]


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as sandbox:
        yield sandbox


def truth(box: Sandbox, exchange: Exchange, instrument: Instrument) -> pl.DataFrame:
    """All trades of that market."""
    symbol, market = true_market(box, exchange, instrument)
    whole = exchange.name in AGGREGATED
    return box.trades_truth(symbol, 0, epoch_ms(NOW) + 1, market, aggregate=whole)


def walked(
    box: Sandbox, history: TradesHistory, instrument: Instrument, start: int, stop: int
) -> list[Trade]:
    """Trades from a time on, page by page until one is at `stop` or there are no more."""
    assert isinstance(history, Exchange)
    found: dict[str, Trade] = {}
    request: Request | None = history.trades_request(instrument, start)
    for _ in range(2_000):
        if request is None:
            break
        page = history.trades(ask(box, history, request), instrument, request)
        for trade in page.trades:
            assert found.setdefault(trade.trade_id, trade) == trade
        request = page.next
        if page.trades and page.trades[-1].time >= stop:
            break
    else:
        raise AssertionError("it never ends")
    return sorted(one for one in found.values() if start <= one.time < stop)


def rows(trades: list[Trade]) -> list[tuple[int, float, bool]]:
    return sorted((one.time, one.price, one.buy) for one in trades)


def wanted(frame: pl.DataFrame, start: int, stop: int) -> list[tuple[int, float, bool]]:
    times = frame["time"].dt.epoch("us").to_list()
    sides = [side == "buy" for side in frame["side"]]
    found = zip(times, frame["price"].to_list(), sides, strict=True)
    return sorted(one for one in found if start <= one[0] < stop)


def crowded(frame: pl.DataFrame) -> tuple[int, int]:
    """Number of the first trade in the fullest millisecond that is not the last day's, how many."""
    counts = frame.with_row_index().group_by("time").agg(pl.col("index").min(), pl.len())
    first, count = counts.sort("len", "index", descending=True).row(0)[1:]
    return int(first), int(count)


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("before", [0, 150, 850, -1])
def test_a_page_border_in_a_millisecond_of_hundreds_loses_nothing(
    box: Sandbox, name: str, before: int
) -> None:
    history = load_all()[name]
    assert isinstance(history, TradesHistory)
    instrument = instrument_of(box, history)
    frame = truth(box, history, instrument)
    first, count = crowded(frame)
    assert count >= 200
    # So many trades before it that the first page ends amid them, or each page somewhere else.
    before = history.trades_page - count // 2 if before < 0 else before
    times = frame["time"].dt.epoch("us").to_list()
    start, stop = times[max(first - before, 0)], times[first + count + 100]
    found = walked(box, history, instrument, start, stop)
    assert rows(found) == wanted(frame, start, stop)
    if history.contiguous:
        ids = sorted(int(one.trade_id) for one in found)
        assert ids == list(range(ids[0], ids[0] + len(ids)))


@pytest.mark.parametrize("name", HISTORIES)
def test_amounts_are_in_base_units(box: Sandbox, name: str) -> None:
    history = load_all()[name]
    assert isinstance(history, TradesHistory)
    instrument = instrument_of(box, history)
    stop = epoch_ms("2026-06-01T00:02:00Z") * 1_000
    start = stop - 4 * 60 * SECOND
    found = walked(box, history, instrument, start, stop)
    times = pl.col("time").dt.epoch("us")
    inside = truth(box, history, instrument).filter(times.is_between(start, stop - 1))
    assert len(found) == len(inside) > 50
    # Contracts are whole: what a market of coins has is rounded to one.
    whole = instrument.size / found[0].price if instrument.inverse else instrument.size
    amounts = sorted(one.amount for one in found)
    for amount, real in zip(amounts, sorted(inside["amount"].to_list()), strict=True):
        assert amount == pytest.approx(real, rel=1e-9, abs=0 if whole == 1 else whole)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_walk_from_before_the_listing_begins_with_the_first_trade(
    box: Sandbox, name: str
) -> None:
    history = load_all()[name]
    assert isinstance(history, TradesHistory)
    instrument = instrument_of(box, history)
    first = epoch_ms("2026-05-30T06:00:00Z") * 1_000
    start, stop = first - DAY * SECOND, first + 3 * 60 * SECOND
    found = walked(box, history, instrument, start, stop)
    assert rows(found) == wanted(truth(box, history, instrument), start, stop)
    assert len(found) > 50
