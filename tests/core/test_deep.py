"""Candles older than those that the exchange serves: built from its trades, and the same."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers import assert_sound, at
from memory_exchange import Client, Memory, market

from dccd_core import collectors, deep
from dccd_core.build import build_candles
from dccd_core.collectors import ExchangeCollector
from dccd_core.derived import stored_candles
from dccd_core.exchanges.base import (
    Answer,
    Candles,
    Instrument,
    Request,
    Unavailable,
)
from dccd_core.exchanges.trades import Trade
from dccd_core.history import Collector, Outcome
from dccd_core.models import DAY, SECOND, Channel, Series, Symbol, Window
from dccd_core.overlap import compare_overlap
from dccd_core.pages import columns
from dccd_core.plan import cells
from dccd_core.rest import Retries
from dccd_core.store.datastore import DataStore
from dccd_core.trades_history import TradesCollector

NOW = at("2025-06-10T12:00:30")
BTC_1H = Series("kraken", Channel.OHLC, Symbol("BTC", "USDT"), 3_600)
TRADES = Series("kraken", Channel.TRADES, Symbol("BTC", "USDT"))
EXTRA = frozenset({"trades"})


class Newest(Memory):
    """Serves its newest 48 candles, flat where nothing was traded, and all trades."""

    name = "kraken"
    title = "Newest"
    candles_depth = 48
    fills_empty = True
    candle_columns = EXTRA
    opens_at_last_close = False
    gapless = True
    spoil: ClassVar[Callable[[Candles], Candles]] = staticmethod(lambda candles: candles)

    def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
        return Request("/candles", {"symbol": instrument.name})

    def first_candle_request(self, instrument: Instrument, span: int) -> Request:
        return Request("/first", {"symbol": instrument.name})

    def first_candle(self, answer: Answer, instrument: Instrument, span: int) -> int:
        size = span * SECOND
        return self.markets[instrument.name][0].time // size * size

    def last_candle_request(self, instrument: Instrument, span: int) -> Request:
        return Request("/candles", {"symbol": instrument.name})

    def candles(self, answer: Answer, instrument: Instrument, span: int) -> Candles:
        size = span * SECOND
        end = (NOW // size + 1) * size
        start = end - (self.candles_depth or 0) * size
        whole = truth(self.markets[instrument.name], span, end)
        first = int(np.searchsorted(whole.time, start))
        return type(self).spoil(Candles(*(c if c is None else c[first:] for c in columns(whole))))


def truth(trades: list[Trade], span: int, end: int) -> Candles:
    """All candles of a market up to a time, as the exchange has them."""
    times, _, _, prices, amounts, buys = zip(*trades, strict=True)
    made = build_candles(
        *map(np.array, (times, prices, amounts, buys)),
        span=span,
        window=Window(replace(BTC_1H, span=span).floor(times[0]), end),
        previous_close=None,
        fill_empty=True,
    )
    return deep.as_served(made, EXTRA)


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    return DataStore(tmp_path)


@pytest.fixture(autouse=True)
def margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "MARGIN", 4)


def collector(
    store: DataStore, exchange: Newest, client: Client, fetched: Any = lambda _: None
) -> ExchangeCollector:
    def retries(_: Series) -> Retries:
        return Retries(1, 0.0)

    candles = Collector(exchange, client, store, retries=retries)  # type: ignore[arg-type]
    trades = TradesCollector(exchange, client, store, retries=retries)  # type: ignore[arg-type]
    return ExchangeCollector(candles, trades, store, None, fetched)


def collect(
    store: DataStore,
    exchange: Newest,
    start: str,
    *spans: int,
    client: Client | None = None,
    fetched: Any = lambda _: None,
) -> list[Outcome]:
    todo = []
    for span in spans:
        series = replace(BTC_1H, span=span)
        todo += cells(series, Window(at(start), series.floor(NOW)))
    return list(collector(store, exchange, client or Client(NOW), fetched).collect(todo))


def assert_equal(store: DataStore, trades: list[Trade], start: str, span: int) -> None:
    series = replace(BTC_1H, span=span)
    wanted = Window(at(start), series.floor(NOW))
    whole = truth(trades, span, wanted.end)
    first = int(np.searchsorted(whole.time, series.ceil(wanted.start)))
    found = stored_candles(store, series, Window(0, wanted.end))
    assert len(found)
    for one, two in zip(columns(found), columns(whole), strict=True):
        if two is None:
            assert one is None
        else:
            assert one.tolist() == two[first:].tolist()


@pytest.mark.parametrize("span", [900, 3_600, 4 * 3_600, DAY, 7 * DAY])
@pytest.mark.parametrize("every", [150, 20_000], ids=["busy", "quiet"])
def test_a_year_that_begins_before_the_listing_equals_the_truth(
    span: int, every: float, store: DataStore
) -> None:
    trades = market("2025-04-20T06:00", "2025-06-10T12:00:20", every)
    spans = [span] if span < 7 * DAY else [DAY, span]
    outcomes = collect(store, Newest(BTC=trades), "2024-05-01", *spans)
    assert [outcome.error for outcome in outcomes] == [None] * 2 * len(spans)
    assert_equal(store, trades, "2024-05-01", span)
    assert compare_overlap(store, replace(BTC_1H, span=spans[0])).difference == ""
    assert_sound(store.root / "kraken" / "ohlc")
    assert store.load(TRADES)["trade_id"].is_unique().all()


def test_spans_share_the_trades_and_a_second_run_asks_for_nothing_old(store: DataStore) -> None:
    trades = market("2025-05-01", "2025-06-10T12:00:20", 100)
    one, two = Client(NOW), Client(NOW)
    told: list[Outcome] = []
    collect(store, Newest(BTC=trades), "2025-01-01", 3_600, client=one, fetched=told.append)
    assert one.pages() <= len(trades) / 100 + 2 * 8 + 4
    assert {outcome.cell.series for outcome in told} == {TRADES}
    assert sum(outcome.added for outcome in told) == store.load(TRADES).height
    collect(store, Newest(BTC=trades), "2025-01-01", 900, 3_600, client=two)
    assert two.pages() <= 30, "only what was not needed by the longer span"
    for span in (900, 3_600):
        assert_equal(store, trades, "2025-01-01", span)
    again = Client(NOW)
    collect(store, Newest(BTC=trades), "2025-01-01", 900, 3_600, client=again)
    assert again.pages() == 0


def test_what_has_left_the_newest_candles_before_their_page_was_asked_is_built_from_trades(
    store: DataStore,
) -> None:
    """A queue, or a laptop that slept: ten hours pass between the plan and the page."""
    trades = market("2025-05-01", "2025-06-10T12:00:20", 600)
    late = 10 * 3_600 * SECOND

    class Late(Newest):
        def candles_request(self, instrument: Instrument, span: int, window: Window) -> Request:
            client.now = NOW
            return super().candles_request(instrument, span, window)

    client = Client(NOW - late)
    first, last = at("2025-06-01"), BTC_1H.floor(NOW - late)
    exchange = Late(BTC=trades)
    [outcome] = collector(store, exchange, client).collect(cells(BTC_1H, Window(first, last)))
    assert outcome.error is None
    assert store.gaps(BTC_1H, first, last) == []
    whole = truth(trades, 3_600, last)
    found = stored_candles(store, BTC_1H, Window(first, last))
    assert found.close.tolist() == whole.close[-len(found) :].tolist()
    assert len(found) == BTC_1H.count(Window(first, last))


def test_weeks_are_built_from_days_in_the_same_run(store: DataStore) -> None:
    trades = market("2025-03-01", "2025-06-10T12:00:20", 1_000)
    outcomes = collect(store, Newest(BTC=trades), "2025-01-01", 14 * DAY, DAY)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert_equal(store, trades, "2025-01-01", DAY)
    assert_equal(store, trades, "2025-01-01", 14 * DAY)


def test_an_interruption_is_resumed_and_told(store: DataStore) -> None:
    trades = market("2025-05-01", "2025-06-10T12:00:20", 100)
    client = Client(NOW, error=lambda n: Unavailable("down") if n == 150 else None)
    [outcome] = collect(store, Newest(BTC=trades), "2025-01-01", 3_600, client=client)
    assert "trades: down" in str(outcome.error)
    known = stored_candles(store, BTC_1H, Window(0, NOW))
    whole = truth(trades, 3_600, BTC_1H.floor(NOW))
    assert 0 < len(known) < len(whole)
    assert set(known.time.tolist()) < set(whole.time.tolist())
    rest = Client(NOW)
    [again] = collect(store, Newest(BTC=trades), "2025-01-01", 3_600, client=rest)
    assert again.error is None
    assert rest.pages() < 220
    assert_equal(store, trades, "2025-01-01", 3_600)


def test_a_start_inside_a_quiet_time_knows_the_price_before_it(store: DataStore) -> None:
    early = market("2025-02-20", "2025-03-01", 1_000)
    late = market("2025-03-20", "2025-06-10T12:00:20", 1_000, seed=2)
    trades = [t._replace(trade_id=str(n)) for n, t in enumerate([*early, *late], 1)]
    collect(store, Newest(BTC=trades), "2025-03-10", 3_600)
    assert_equal(store, trades, "2025-03-10", 3_600)


def test_the_overlap_names_the_first_difference(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trades = market("2025-05-01", "2025-06-10T12:00:20", 100)
    monkeypatch.setattr(
        Newest, "spoil", staticmethod(lambda c: replace(c, volume=c.volume + 0.00000001))
    )
    collect(store, Newest(BTC=trades), "2025-01-01", 3_600)
    found = compare_overlap(store, BTC_1H)
    assert found.candles > 4
    assert "volume" in found.difference
    assert "from trades" in found.difference


def test_trades_that_are_there_already_are_not_asked_for(store: DataStore) -> None:
    trades = market("2025-05-01", "2025-06-10T12:00:20", 100)
    todo = cells(TRADES, Window(at("2025-05-01"), at("2025-06-10")))
    client = Client(NOW)
    outcomes = list(collector(store, Newest(BTC=trades), client).collect(todo))
    assert [outcome.error for outcome in outcomes] == [None] * len(todo)
    again = Client(NOW)
    collect(store, Newest(BTC=trades), "2025-01-01", 3_600, client=again)
    assert again.pages() == 0
    assert_equal(store, trades, "2025-01-01", 3_600)


def test_a_plan_counts_shared_trades_once(store: DataStore) -> None:
    trades = market("2025-05-01", "2025-06-10T12:00:20", 100)
    exchange = Newest(BTC=trades)
    wanted = Window(at("2025-05-01"), BTC_1H.floor(NOW))
    hours, quarters = cells(BTC_1H, wanted), cells(replace(BTC_1H, span=900), wanted)
    [unknown] = collector(store, exchange, Client(NOW)).plan(hours)
    assert unknown.others is None
    todo = cells(TRADES, Window(at("2025-05-01"), at("2025-05-03")))
    list(collector(store, exchange, Client(NOW)).collect(todo))
    first, second = collector(store, exchange, Client(NOW)).plan([*hours, *quarters])
    assert first.others == pytest.approx(36 * 8.64, rel=0.1)
    assert second.others == pytest.approx(2 * 8.64, abs=9)
    assert len(first.pages) == 1


def test_a_sample_tells_about_how_many_pages_of_trades_there_are(store: DataStore) -> None:
    trades = market("2025-05-01", "2025-06-10T12:00:20", 100)
    client = Client(NOW)
    todo = cells(BTC_1H, Window(at("2025-05-01"), BTC_1H.floor(NOW)))
    [plan] = collector(store, Newest(BTC=trades), client).plan(todo, sample=True)
    before = client.pages()
    list(collector(store, Newest(BTC=trades), client).collect(todo))
    assert plan.others == pytest.approx(client.pages() - before, rel=0.2)
    assert before <= 8, "what tells it costs little"


def test_a_sample_that_cannot_be_had_is_no_error(store: DataStore) -> None:
    trades = market("2025-05-01", "2025-06-10T12:00:20", 100)
    client = Client(NOW, error=lambda n: Unavailable("down") if n > 4 else None)
    todo = cells(BTC_1H, Window(at("2025-05-01"), BTC_1H.floor(NOW)))
    [plan] = collector(store, Newest(BTC=trades), client).plan(todo, sample=True)
    assert (plan.problem, plan.others) == ("", None)


def test_an_unknown_pair_is_an_error_of_its_cells(store: DataStore) -> None:
    wrong = replace(BTC_1H, symbol=Symbol("BTX", "USDT"))
    todo = cells(wrong, Window(at("2024-03-01"), BTC_1H.floor(NOW)))
    exchange = Newest(BTC=market("2025-03-01", "2025-06-10", 900))
    outcomes = list(collector(store, exchange, Client(NOW)).collect(todo))
    assert len(outcomes) == 2
    assert all("has no such pair; did you mean BTC/USDT" in str(o.error) for o in outcomes)
    assert collectors.kind_of(wrong) is collectors.Kind.CANDLES
