"""Every exchange that keeps its past trades, against its sandbox: no trade is lost or doubled, and
they are those of its stream. And its order book by REST."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import killed
import polars as pl
import pytest
from sandboxed import Ear, ask, instrument_of, true_market

from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import Exchange, Instrument, Request
from dccd_core.exchanges.live import Live, Subscription
from dccd_core.exchanges.trades import Depth, Trade, TradesHistory
from dccd_core.models import DAY, SECOND, Channel, Series, Window
from dccd_core.plan import cells
from dccd_core.rest import RestClient
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings
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


BOOKS = [name for name, exchange in load_all().items() if isinstance(exchange, Depth)]
STREAMS = [
    name
    for name, exchange in load_all().items()
    if isinstance(exchange, TradesHistory) and Channel.TRADES in exchange.channels
]
KINDS = ("429", "5xx", "cut", "truncated", "wrong")


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as sandbox:
        yield sandbox


@pytest.fixture
def box(running: Sandbox) -> Iterator[Sandbox]:
    running.reset()
    running.set_clock(NOW, frozen=True)
    yield running
    running.reset()


@cache
def truth(box: Sandbox, exchange: Exchange, instrument: Instrument) -> pl.DataFrame:
    """All trades of that market until the sandbox's first moment."""
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
    times = pl.col("time").dt.epoch("us")
    inside = frame.filter(times >= start, times < stop)
    return sorted(inside.select(times, "price", pl.col("side") == "buy").rows())


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


@pytest.mark.parametrize("name", HISTORIES)
def test_stored_days_are_the_truth_whatever_faults_there_are(
    box: Sandbox, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = load_all()[name]
    instrument = instrument_of(box, exchange)
    limits = replace(exchange.limits, weight=1e9, burst=1e9)
    monkeypatch.setattr(type(exchange), "limits", limits)
    monkeypatch.setattr(RestClient, "clock", lambda _: epoch_ms(NOW) * 1_000)
    rules = (Rule(kind, 0.06, f"/{name}", seed=n, retry_after=0) for n, kind in enumerate(KINDS))
    box.set_faults(*rules)
    series = Series(name, Channel.TRADES, instrument.symbol)
    start, stop = (epoch_ms(f"2026-05-{day}") * 1_000 for day in ("30T22:00", "31T01:00"))
    url = f"{box.url}/{name}{urlsplit(exchange.rest_url).path}"
    config = parse_config(killed.config_text(tmp_path, url, [series]), tmp_path / "config.yml")
    with open_collector(config, name) as collector:
        outcomes = list(collector.collect(cells(series, Window(start, stop))))
        assert [outcome.error for outcome in outcomes] == [None, None]
        again = list(collector.collect(cells(series, Window(start, stop))))
    assert [outcome.requests for outcome in again] == [0, 0]
    store = DataStore(tmp_path)
    stored = store.load(series)
    found = wanted(stored.with_columns(pl.col("side").cast(pl.String)), start, stop)
    assert found == wanted(truth(box, exchange, instrument), start, stop)
    assert stored["trade_id"].is_unique().all()
    assert [store.missing_windows(series, one.cell.window) for one in outcomes] == [[], []]


@pytest.mark.parametrize("name", STREAMS)
def test_past_trades_are_those_of_the_stream(box: Sandbox, name: str) -> None:
    """Else those that a stream has missed would be stored twice."""
    exchange = load_all()[name]
    assert isinstance(exchange, Live)
    instrument = instrument_of(box, exchange)
    with Ear(box, exchange, [Subscription(instrument, Channel.TRADES)]) as ear:
        stop = (ear.advance(40_000) + 1) * 1_000
    heard = {one.trade_id: one for one in ear.inbox.trades[instrument.name]}
    start = epoch_ms(NOW) * 1_000 + 1
    past = walked(box, exchange, instrument, start, stop)  # type: ignore[arg-type]
    assert len(past) > 20
    assert [one._replace(received=None) for one in past] == [
        heard[one.trade_id]._replace(received=None) for one in past
    ]


@pytest.mark.parametrize("name", BOOKS)
def test_a_book_by_rest_is_the_truth(box: Sandbox, name: str) -> None:
    exchange = load_all()[name]
    assert isinstance(exchange, Depth)
    instrument = instrument_of(box, exchange)
    symbol, market = true_market(box, exchange, instrument)
    for depth in exchange.depths:
        request = exchange.book_request(instrument, depth)
        book = exchange.book(ask(box, exchange, request), instrument)
        real = box.book_truth(symbol, NOW, depth, market)
        assert min(len(book.bids), len(book.asks)) > 0
        for ours, theirs in ((book.bids, real.bids), (book.asks, real.asks)):
            assert [price for price, _ in ours] == [price for price, _ in theirs]
            # Contracts are whole: what a market of coins has is rounded to one.
            whole = instrument.size / ours[0][0] if instrument.inverse else instrument.size
            assert [amount for _, amount in ours] == pytest.approx(
                [amount for _, amount in theirs], rel=1e-9, abs=0 if whole == 1 else whole
            )
