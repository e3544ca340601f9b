"""The walk through past trades: against an exchange in memory that knows what it has."""

import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pytest
from helpers import at, window
from memory_exchange import Client, Memory, market, sequence

from dccd_core import trades_history, trades_walk
from dccd_core.exchanges.base import (
    Answer,
    Blocked,
    Exchange,
    Instrument,
    Request,
    Unavailable,
)
from dccd_core.exchanges.trades import Trade, TradesPage
from dccd_core.history import Outcome, Progress
from dccd_core.models import DAY, SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_core.store.datastore import DataStore
from dccd_core.trades_history import TradesCollector

BTC = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
ETH = replace(BTC, symbol=Symbol("ETH", "USDT"))
NOW = at("2025-06-10T12:00")
WANTED = window("2025-06-01", "2025-06-08")


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    return DataStore(tmp_path)


def collect(
    store: DataStore,
    exchange: Exchange,
    wanted: Window = WANTED,
    series: Series = BTC,
    client: Client | None = None,
    **options: Any,
) -> list[Outcome]:
    collector = TradesCollector(exchange, client or Client(NOW), store, **options)  # type: ignore[arg-type]
    return sorted(collector.collect(cells(series, wanted)), key=lambda one: one.cell)


def truth(trades: list[Trade], wanted: Window) -> list[tuple[int, str, float, float, bool]]:
    return sequence([t for t in trades if wanted.start <= t.time < wanted.end])


def stored(store: DataStore, series: Series = BTC) -> list[tuple[int, str, float, float, bool]]:
    rows = store.load(series)
    times = rows["time"].dt.timestamp("us").to_list()
    assert times == sorted(times)
    buys = (rows["side"].cast(pl.String) == "buy").to_list()
    return sorted(zip(times, rows["trade_id"], rows["price"], rows["amount"], buys, strict=True))


@pytest.mark.parametrize("page", [1, 7, 100, 5_000])
def test_a_week_equals_the_truth_whatever_the_page(
    page: int, store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "trades_page", page)
    every = 600 if page == 1 else 60
    trades = market("2025-05-20", "2025-06-10T11:00", every)
    client = Client(NOW)
    outcomes = collect(store, Memory(BTC=trades), client=client)
    assert [outcome.cell.period for outcome in outcomes] == [f"2025-06-0{n}" for n in range(1, 8)]
    assert [(outcome.error, outcome.note) for outcome in outcomes] == [(None, "")] * 7
    assert stored(store) == truth(trades, WANTED)
    assert store.missing_windows(BTC, WANTED) == []
    needed = -(-len(truth(trades, WANTED)) // page)
    assert sum(outcome.requests for outcome in outcomes) <= client.pages() <= needed + 2 * 8 + 2
    again = Client(NOW)
    quiet = collect(store, Memory(BTC=trades), client=again)
    assert again.asked == []
    assert {outcome.note for outcome in quiet} == {"complete: nothing was asked"}


def test_pages_that_overlap_store_each_trade_once(store: DataStore) -> None:
    trades = market("2025-05-20", "2025-06-10T11:00", 60)

    class Overlapping(Memory):
        def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
            page = super().trades(answer, instrument, request)
            first = int(request.params["from"])
            return replace(
                page, trades=[*self.markets["BTC"][max(0, first - 40) : first], *page.trades]
            )

    outcomes = collect(store, Overlapping(BTC=trades))
    assert stored(store) == truth(trades, WANTED)
    assert sum(outcome.added for outcome in outcomes) == len(truth(trades, WANTED))


def test_the_running_day_stays_open_and_goes_on_where_it_ended(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trades = market("2025-06-08", "2025-06-10T11:59:50", 60)
    wanted = Window(at("2025-06-09"), NOW)
    collect(store, Memory(BTC=trades), wanted)
    assert stored(store) == truth(trades, wanted)
    [left] = store.missing_windows(BTC, wanted)
    assert left == Window(NOW - trades_walk.PUBLISHED, NOW)
    later = NOW + 3_600 * SECOND
    more = [
        *trades,
        *(
            Trade(NOW + n * 10 * SECOND, None, str(len(trades) + n + 1), 1.0, 1.0, True)
            for n in range(300)
        ),
    ]
    client = Client(later)
    collect(store, Memory(BTC=more), Window(wanted.start, later), client=client)
    assert stored(store) == truth(more, Window(wanted.start, later))
    # the ten minutes without a trade at the end are not what its ten seconds let expect
    assert client.pages() <= 3 + trades_walk.AGREEMENTS
    assert client.asked[0].path == "/trades", "neither the listing nor the list is asked again"


def test_what_the_exchange_does_not_serve_any_more_stays_missing_and_is_told(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "reach", 89 * DAY)
    trades = market("2025-05-30", "2025-06-10", 300)
    exchange = Memory(BTC=trades)
    served = next(t.time for t in trades if t.time > at("2025-06-04T10:00"))

    def gone(request: Request, page: TradesPage) -> TradesPage:
        kept = [trade for trade in page.trades if trade.time >= served]
        return TradesPage(kept, page.next, served=served)

    exchange.breaks = gone
    outcomes = collect(store, exchange)
    told = [outcome.error for outcome in outcomes if outcome.error]
    assert len(told) == 4
    assert all("not served any more" in text for text in told)
    assert store.missing_windows(BTC, WANTED) == [Window(WANTED.start, served)]
    assert stored(store) == truth(trades, Window(served, WANTED.end))


class Short(Memory):
    """Tells by the length of a page alone that it is the newest; `most` is what really comes."""

    most = 100

    def trades_request(self, instrument: Instrument, time: int) -> Request:
        return Request("/trades", {"symbol": instrument.name, "since": str(time)})

    def trades(self, answer: Answer, instrument: Instrument, request: Request) -> TradesPage:
        since = int(request.params["since"])
        later = [t for t in self.markets[instrument.name] if t.time >= since][: self.most]
        onward = self.trades_request(instrument, later[-1].time) if later else None
        full = len(later) >= self.trades_page
        return self.breaks(
            request, TradesPage(later, *((onward, None) if full else (None, onward)))
        )


@pytest.mark.parametrize("most", [60, 99])
def test_pages_shorter_than_they_used_to_be_are_not_the_newest(
    most: int, store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange lowers its maximum: everything after the first page was confirmed empty."""
    monkeypatch.setattr(Short, "most", most)
    trades = [
        t._replace(time=t.time + n) for n, t in enumerate(market("2025-05-30", "2025-06-10", 300))
    ]
    client = Client(NOW)
    outcomes = collect(store, Short(BTC=trades), client=client)
    assert [outcome.error for outcome in outcomes] == [None] * 7
    assert stored(store) == truth(trades, WANTED)
    assert client.pages() <= len(truth(trades, WANTED)) / (most - 1) + 2 * 8 + 4


def test_a_page_that_is_cut_short_each_time_it_is_asked_for_is_gone_on_from(
    store: DataStore,
) -> None:
    trades = [
        t._replace(time=t.time + n) for n, t in enumerate(market("2025-05-30", "2025-06-10", 300))
    ]
    exchange = Short(BTC=trades)
    spoilt = exchange.trades_request(Instrument(BTC.symbol, "BTC", True), WANTED.start)

    def cut(request: Request, page: TradesPage) -> TradesPage:
        if request != spoilt:
            return page
        onward = exchange.trades_request(Instrument(BTC.symbol, "BTC", True), page.trades[9].time)
        return TradesPage(page.trades[:10], None, onward)

    exchange.breaks = cut
    collect(store, exchange)
    assert stored(store) == truth(trades, WANTED)


def test_what_was_before_the_first_trade_costs_nothing(store: DataStore) -> None:
    trades = market("2025-06-05", "2025-06-10", 600)
    client = Client(NOW)
    outcomes = collect(store, Memory(BTC=trades), window("2011-01-01", "2025-06-08"), client=client)
    assert stored(store) == truth(trades, WANTED)
    assert store.listed(BTC) == store.load(BTC)["time"][0]
    assert client.pages() < 20
    early = [outcome for outcome in outcomes if outcome.cell.period < "2025-06-05"]
    assert {outcome.note.split(":")[0] for outcome in early} == {"before listing"}
    assert len(list(store.folder(BTC).glob("*.parquet"))) <= 6


def test_a_quiet_market_is_one_page_over_many_days(store: DataStore) -> None:
    trades = [
        Trade(at("2025-01-01") + n * 36 * 3_600 * SECOND, None, str(n), 1.0, 1.0, True)
        for n in range(1, 100)
    ]
    client = Client(NOW)
    wanted = window("2025-01-02", "2025-05-02")
    collect(store, Memory(BTC=trades), wanted, client=client)
    assert stored(store) == truth(trades, wanted)
    assert store.missing_windows(BTC, wanted) == []
    assert client.pages() <= 2 + 8


def test_that_nothing_came_any_more_is_believed_when_said_three_times(store: DataStore) -> None:
    trades = market("2025-05-20", "2025-06-03", 60)
    exchange = Memory(BTC=trades)
    lies = iter([True, False, True])

    def cut(request: Request, page: TradesPage) -> TradesPage:
        short = page.next is not None and next(lies, False)
        return TradesPage(page.trades[:5], None) if short else page

    exchange.breaks = cut
    outcomes = collect(store, exchange)
    assert [outcome.error for outcome in outcomes] == [None] * 7
    assert stored(store) == truth(trades, WANTED)
    assert store.missing_windows(BTC, WANTED) == []


HOUR = Window(NOW - 3_600 * SECOND, NOW)


@pytest.mark.parametrize("kept", [0, 10])
@pytest.mark.parametrize("every", [5, 120])
def test_one_empty_or_cut_answer_about_the_last_hour_is_not_believed(
    store: DataStore, kept: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "contiguous", False)
    monkeypatch.setattr(Memory, "trades_page", 1_000)
    trades = [
        Trade(t, None, str(n), 1.0, 1.0, True)
        for n, t in enumerate(range(HOUR.start - 60 * SECOND, NOW, every * SECOND))
    ]
    store.write_listing(BTC, trades[0].time)
    exchange, spoiled = Memory(BTC=trades), iter([True])

    def spoil(_: Request, page: TradesPage) -> TradesPage:
        return TradesPage(page.trades[:kept], None) if next(spoiled, False) else page

    exchange.breaks = spoil
    [outcome] = collect(store, exchange, HOUR)
    assert outcome.error is None
    assert stored(store) == truth(trades, HOUR)


@pytest.mark.parametrize(
    ("minutes", "pages"),
    [([], 3), ([5], 3), ([1, 12, 20, 31, 44, 52], 1), ([1, 12, 20, 31], 3)],
)
def test_a_quiet_hour_is_believed_after_three_requests_and_a_usual_pause_at_once(
    store: DataStore, minutes: list[int], pages: int
) -> None:
    times = [NOW - 2 * DAY * SECOND, *(HOUR.start + n * 60 * SECOND for n in minutes)]
    trades = [Trade(t, None, str(n), 1.0, 1.0, True) for n, t in enumerate(times)]
    store.write_listing(BTC, trades[0].time)
    client = Client(NOW)
    [outcome] = collect(store, Memory(BTC=trades), HOUR, client=client)
    assert (outcome.error, outcome.added, client.pages()) == (None, len(minutes), pages)
    assert store.missing_windows(BTC, HOUR) == [Window(NOW - trades_walk.PUBLISHED, NOW)]


def test_a_hole_in_the_ids_is_asked_for_again_and_told_if_it_stays(store: DataStore) -> None:
    trades = market("2025-05-20", "2025-06-10", 60)
    exchange = Memory(BTC=trades)
    gone = {
        trade.trade_id
        for trade in trades
        if at("2025-06-03T10:00") < trade.time < at("2025-06-03T10:30")
    }
    gone |= {
        trade.trade_id
        for trade in trades
        if at("2025-06-04T10:00") < trade.time < at("2025-06-04T10:20")
    }
    forever = {one for one in gone if int(one) % 2}
    told = 0

    def lose(_: Request, page: TradesPage) -> TradesPage:
        nonlocal told
        told += 1
        hidden = gone if told < 120 else forever
        return replace(page, trades=[t for t in page.trades if t.trade_id not in hidden])

    exchange.breaks = lose
    outcomes = collect(store, exchange)
    assert [outcome.error for outcome in outcomes] == [None] * 7
    notes = {outcome.cell.period: outcome.note for outcome in outcomes if outcome.note}
    assert set(notes) == {"2025-06-03", "2025-06-04"}
    assert "trades are missing: ids" in notes["2025-06-03"]
    left = [row for row in truth(trades, WANTED) if row[1] not in gone]
    assert set(left) <= set(stored(store)) < set(truth(trades, WANTED))


def test_an_error_names_the_rest_of_its_stretch_and_a_second_run_fetches_it(
    store: DataStore,
) -> None:
    trades = market("2025-05-20", "2025-06-10", 60)
    client = Client(NOW, error=lambda n: Unavailable("down") if n == 30 else None)
    outcomes = collect(store, Memory(BTC=trades), client=client)
    failed = [window for outcome in outcomes for window, why in outcome.failed if why == "down"]
    assert len(failed) == 1
    assert store.missing_windows(BTC, WANTED) == failed
    assert sum(outcome.error is not None for outcome in outcomes) == 1
    rest = Client(NOW)
    collect(store, Memory(BTC=trades), client=rest)
    assert stored(store) == truth(trades, WANTED)
    assert rest.pages() <= 20


def test_a_refused_address_is_asked_a_few_times_only(store: DataStore) -> None:
    client = Client(NOW, error=lambda _: Blocked("HTTP 451"))
    outcomes = collect(store, Memory(BTC=market("2025-05-20", "2025-06-10", 60)), client=client)
    assert client.requests == 1
    assert all("HTTP 451" in str(outcome.error) for outcome in outcomes)
    assert store.existing_periods(BTC) == []


def test_an_unknown_pair_is_told_and_others_go_on(store: DataStore) -> None:
    trades = market("2025-05-20", "2025-06-10", 600)
    collector = TradesCollector(Memory(BTC=trades), Client(NOW), store)  # type: ignore[arg-type]
    outcomes = list(collector.collect([*cells(ETH, WANTED), *cells(BTC, WANTED)]))
    assert {o.error is None for o in outcomes if o.cell.series == BTC} == {True}
    wrong = [str(o.error) for o in outcomes if o.cell.series == ETH]
    assert len(wrong) == 7
    assert all("has no such pair" in error for error in wrong)


def test_cancel_keeps_what_is_there_and_progress_adds_up(store: DataStore) -> None:
    trades = market("2025-05-20", "2025-06-10", 60)
    cancel, told = Event(), []

    def look(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 25:
            cancel.set()

    outcomes = collect(store, Memory(BTC=trades), progress=look, cancel=cancel)
    assert any("cancelled" in str(outcome.error) for outcome in outcomes)
    kept = stored(store)
    assert len(kept) >= 20 * 100
    assert set(kept) < set(truth(trades, WANTED))
    assert told[-1].rows == len(kept)
    assert told[-1].cancelled
    assert told[-1].ended
    assert told[-1].done < told[-1].total, "what was not walked is not done"
    told.clear()
    collect(store, Memory(BTC=trades), progress=told.append)
    assert stored(store) == truth(trades, WANTED)
    assert told[-1].done == told[-1].total
    assert (told[-1].failed, told[-1].cancelled) == (0, False)
    assert [p.done for p in told] == sorted(p.done for p in told)


def test_closing_the_iterator_stores_the_pages_that_are_there(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trades_history, "FLUSH_SECONDS", 1e9)
    collector = TradesCollector(
        Memory(BTC=market("2025-05-20", "2025-06-10", 60)), Client(NOW), store
    )  # type: ignore[arg-type]
    outcomes = collector.collect(cells(BTC, WANTED))
    first = next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert first.error is None
    covered = sum(w.end - w.start for w in store.covered(BTC))
    assert covered > first.cell.window.end - first.cell.window.start


def test_pages_without_news_end(store: DataStore) -> None:
    exchange = Memory(BTC=market("2025-05-20", "2025-06-10", 60))
    turn = [0]

    def circle(request: Request, page: TradesPage) -> TradesPage:
        turn[0] += 1
        return TradesPage([], replace(request, weight=1.0 + turn[0]))

    collect(store, exchange, window("2025-06-01", "2025-06-01T01:00"))
    exchange.breaks = circle
    [outcome] = collect(store, exchange, window("2025-06-01", "2025-06-02"))
    assert "none of them new" in str(outcome.error)


def test_times_that_cannot_be_true_are_refused(store: DataStore) -> None:
    exchange = Memory(BTC=market("2025-05-20", "2025-06-10", 600))
    late = Trade(int(time.time() * 1e6) + DAY * SECOND, None, "x", 1.0, 1.0, True)
    exchange.breaks = lambda _, page: replace(page, trades=[*page.trades, late])
    outcomes = collect(store, exchange)
    assert all("a trade of" in str(outcome.error) for outcome in outcomes)
    assert store.existing_periods(BTC) == []


def test_what_the_exchange_does_not_reach_is_told_and_not_asked(
    store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "reach", 5 * DAY)
    trades = market("2025-05-20", "2025-06-10", 600)
    outcomes = collect(store, Memory(BTC=trades))
    assert stored(store) == truth(trades, Window(at("2025-06-05T12:00"), WANTED.end))
    assert store.read_listing(BTC) is None
    assert [outcome.error for outcome in outcomes] == [None] * 7
    assert outcomes[0].note == "only published files have it: trades are served for 5d"


def test_how_many_requests_is_known_from_stored_days(store: DataStore) -> None:
    exchange = Memory(BTC=market("2025-05-20", "2025-06-10", 60))
    collector = TradesCollector(exchange, Client(NOW), store)  # type: ignore[arg-type]
    assert {plan.others for plan in collector.plan(cells(BTC, WANTED))} == {None}
    collect(store, exchange, window("2025-06-01", "2025-06-03"))
    left = collector.plan(cells(BTC, WANTED))
    assert sum(plan.others or 0 for plan in left) == pytest.approx(5 * 14.4, rel=0.1)
    assert left[0].others == 0.0


def test_exchanges_without_past_trades_are_refused(store: DataStore) -> None:
    class Quiet(Exchange):
        pass

    Quiet.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    Quiet.title = "Quiet"
    Quiet.name = "quiet"
    with pytest.raises(TypeError, match="Quiet serves no past trades"):
        TradesCollector(Quiet(), Client(NOW), store)  # type: ignore[abstract, arg-type]
