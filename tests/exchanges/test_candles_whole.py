"""Every exchange, from its sandbox to the store: candles equal the truth row for row, whatever
happens on the way. Kraken's are built from its trades where they are older than those it serves."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import killed
import polars as pl
import pytest
from payloads import names as names_of
from payloads import payload
from sandboxed import PAIRS, ask, instruments_of, true_market

from dccd_core.collection import open_collector
from dccd_core.config import parse_config
from dccd_core.exchanges import load, load_all
from dccd_core.exchanges.base import Exchange, Instrument, Request
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.history import Outcome
from dccd_core.models import DAY, SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_core.rest import RestClient
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Rule, Sandbox, Settings
from dccd_sandbox.clock import epoch_ms

NOW = "2026-06-01T12:34:30Z"
LISTED = "2025-05-20T06:30"
SETTINGS = Settings(
    symbols=(f"BTCUSDT:BTC:USDT:{LISTED}", f"BTCUSD:BTC:USD:{LISTED}"),
    now=NOW,
    frozen=True,
    weight_limit=0,
    # Minutes without a trade are frequent: exchanges treat them differently.
    rate=0.3,
)
HOUR = 3_600
KINDS = ("429", "5xx", "cut", "truncated", "wrong")
EXCHANGES = list(load_all())


def micro(text: str) -> int:
    return epoch_ms(text) * 1_000


def window(start: str, end: str) -> Window:
    return Window(micro(start), micro(end))


@dataclass(frozen=True)
class Way:
    """An exchange and the sandbox that stands in for it."""

    box: Sandbox
    exchange: Exchange
    folder: Path

    @property
    def url(self) -> str:
        return f"{self.box.url}/{self.exchange.name}{urlsplit(self.exchange.rest_url).path}"

    def series(self, instrument: Instrument, span: int) -> Series:
        return Series(self.exchange.name, Channel.OHLC, instrument.symbol, span)

    def collect(self, series: Series, wanted: Window, retries: int = 10) -> list[Outcome]:
        """One run over the window of one series."""
        text = killed.config_text(self.folder, self.url, [series], retries)
        config = parse_config(text, self.folder / "config.yml")
        with open_collector(config, self.exchange.name) as collector:
            return list(collector.collect(cells(series, wanted)))

    def truth(self, instrument: Instrument, span: int, wanted: Window) -> pl.DataFrame:
        """What this exchange has of a market."""
        symbol, market = true_market(self.box, self.exchange, instrument)
        early = wanted.start - span * SECOND if self.exchange.opens_at_last_close else wanted.start
        found = self.box.truth(symbol, span, early // 1_000, wanted.end // 1_000, market)
        if not self.exchange.gapless:
            found = found.filter(pl.col("trades") > 0)
        if self.exchange.opens_at_last_close:
            found = found.with_columns(open=pl.col("close").shift(1).fill_null(pl.col("open")))
        return found.filter(pl.col("time").dt.epoch("us") >= wanted.start)

    def assert_whole(self, instrument: Instrument, span: int, wanted: Window) -> pl.DataFrame:
        """What is stored is the truth and nothing else, and every hole of it is explained."""
        series, store = self.series(instrument, span), DataStore(self.folder)
        stored, truth = store.load(series), self.truth(instrument, span, wanted)
        assert len(truth) > 0
        file = names_of(self.exchange.name, "candles_*")[0]
        recorded = json.loads(bytes(payload(self.exchange.name, file).expect))
        has = [value is not None for value in recorded[0]]
        names = [name for name, there in zip(stored.columns, has, strict=True) if there]
        assert stored.select(names).equals(truth.select(names))
        assert sum(stored[name].count() for name in stored.columns if name not in names) == 0
        assert store.missing_windows(series, series.grid(wanted)) == []
        return stored


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as box:
        yield box


@pytest.fixture(params=EXCHANGES)
def way(
    running: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Way]:
    """An exchange whose budget does not make a test wait, and that lives at the sandbox's time."""
    running.reset()
    exchange = load(request.param)
    limits = replace(exchange.limits, weight=1e9, burst=1e9)
    monkeypatch.setattr(type(exchange), "limits", limits)
    monkeypatch.setattr(RestClient, "clock", lambda _: micro(NOW))
    yield Way(running, load(request.param), tmp_path)
    running.reset()


def first_and_last(way: Way) -> tuple[Instrument, Instrument]:
    """Of our pairs the first and the last that an exchange lists: spot and perpetual if it can."""
    listed = instruments_of(way.box, way.exchange)
    found = [listed[Symbol.parse(pair)] for pair in PAIRS if Symbol.parse(pair) in listed]
    return found[0], found[-1]


def test_a_year_of_hours_is_the_truth_and_is_not_asked_twice(way: Way) -> None:
    instrument, _ = first_and_last(way)
    wanted = window("2025-06-01", "2026-06-01")
    outcomes = way.collect(way.series(instrument, HOUR), wanted)
    assert [outcome.error for outcome in outcomes] == [None, None]
    stored = way.assert_whole(instrument, HOUR, wanted)
    assert len(stored) > 8_600
    assert_no_request_too_many(way, instrument, HOUR, wanted)
    before = way.box.stats(last=0)["requests"]
    again = way.collect(way.series(instrument, HOUR), wanted)
    assert [(outcome.error, outcome.requests) for outcome in again] == [(None, 0), (None, 0)]
    assert way.box.stats(last=0)["requests"] == before


def test_a_month_of_minutes_is_the_truth(way: Way) -> None:
    _, instrument = first_and_last(way)
    wanted = window("2026-04-15", "2026-05-15")
    (outcome,) = way.collect(way.series(instrument, 60), wanted)
    assert outcome.error is None
    stored = way.assert_whole(instrument, 60, wanted)
    assert len(stored) > 8_000
    assert_no_request_too_many(way, instrument, 60, wanted)


def assert_no_request_too_many(way: Way, instrument: Instrument, span: int, wanted: Window) -> None:
    """The pages, and what is asked besides: the list, the beginning and the end of the market."""
    series, exchange = way.series(instrument, span), way.exchange
    needed = math.ceil(series.count(wanted) / exchange.limits.page) + 1  # it is of two years
    if exchange.candles_depth is not None:
        assert isinstance(exchange, TradesHistory)
        days = (wanted.end - wanted.start) // (DAY * SECOND) + 1
        trades = len(DataStore(way.folder).times(replace(series, channel=Channel.TRADES, span=0)))
        # A walk of some days ends where the next one begins, in the midst of a page.
        needed = math.ceil(trades / exchange.trades_page) + math.ceil(days / math.ceil(days / 8))
    assert way.box.stats(last=0)["requests"] <= needed + 16


def test_pages_of_one_candle_from_before_the_listing_on(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(way.exchange.limits, page=1)
    monkeypatch.setattr(type(way.exchange), "limits", one)
    instrument, _ = first_and_last(way)
    wanted = window("2025-05-20T03:00", "2025-05-21T03:00")
    (outcome,) = way.collect(way.series(instrument, HOUR), wanted)
    assert outcome.error is None
    assert len(way.assert_whole(instrument, HOUR, wanted)) > 15


@pytest.mark.soak
@pytest.mark.parametrize(
    ("span", "start", "end"),
    [(HOUR, "2025-06-01", "2026-06-01"), (60, "2026-04-15", "2026-05-15")],
    ids=["a year of hours", "a month of minutes"],
)
def test_pages_of_one_of_all_that_is_asked_for(
    way: Way, monkeypatch: pytest.MonkeyPatch, span: int, start: str, end: str
) -> None:
    """8,760 and 43,200 pages of one candle; of Kraken, whose candles of then are built from its
    trades, pages of one trade."""
    monkeypatch.setattr(type(way.exchange), "limits", replace(way.exchange.limits, page=1))
    by_trades = way.exchange.candles_depth is not None
    if by_trades:
        monkeypatch.setattr(type(way.exchange), "trades_page", 1)
    instrument, _ = first_and_last(way)
    wanted = window(start, end)
    outcomes = way.collect(way.series(instrument, span), wanted)
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    stored = way.assert_whole(instrument, span, wanted)
    pages = int(stored["trades"].sum()) if by_trades else len(stored)
    assert way.box.stats(last=0)["requests"] >= pages > 5_000


def test_a_window_that_begins_before_the_listing(way: Way) -> None:
    instrument, _ = first_and_last(way)
    wanted, series = window("2023-02-01", "2025-06-10"), way.series(instrument, HOUR)
    outcomes = way.collect(series, wanted)
    assert [outcome.error for outcome in outcomes] == [None, None, None]
    assert [outcome.note[:14] for outcome in outcomes[:2]] == ["before listing"] * 2
    way.assert_whole(instrument, HOUR, wanted)
    assert DataStore(way.folder).read_listing(series) is not None


def test_a_page_of_the_sandbox_can_be_spoilt(way: Way) -> None:
    """Faults that take candles away pass by, without a word, where `Reply.candles` is not set."""
    instrument, _ = first_and_last(way)
    request = way.exchange.candles_request(instrument, HOUR, window("2026-05-31", "2026-06-01"))
    clean = ask(way.box, way.exchange, request)
    assert len(way.exchange.candles(clean, instrument, HOUR)) > 12
    way.box.set_faults(Rule("empty", 1, f"/{way.exchange.name}", query=request.params))
    spoilt = ask(way.box, way.exchange, request)
    assert len(way.exchange.candles(spoilt, instrument, HOUR)) == 0


def test_faults_of_every_kind_change_nothing(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(way.exchange), "limits", replace(way.exchange.limits, page=200))
    _, instrument = first_and_last(way)
    path = f"/{way.exchange.name}"
    way.box.set_faults(
        *(Rule(kind, 0.08, path, seed=n, retry_after=0) for n, kind in enumerate(KINDS))
    )
    wanted = window("2026-03-01", "2026-03-11")
    (outcome,) = way.collect(way.series(instrument, 60), wanted)
    assert outcome.error is None
    way.assert_whole(instrument, 60, wanted)
    assert len(way.box.stats(last=0)["faults"]) >= 3


def test_an_error_in_the_middle_fails_its_part_only_and_is_made_up_for(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(way.exchange), "limits", replace(way.exchange.limits, page=24))
    instrument, _ = first_and_last(way)
    days = [f"2026-03-0{day}" for day in range(1, 8)]
    wanted, series = window(days[0], days[-1]), way.series(instrument, HOUR)
    bad = window(days[3], days[4])
    request = page_request(way.exchange, instrument, bad)
    way.box.set_faults(Rule("wrong", query=request.params))
    (outcome,) = way.collect(series, wanted, retries=2)
    assert outcome.error is not None
    assert [failed for failed, _ in outcome.failed] == [bad]
    way.box.set_faults()
    (outcome,) = way.collect(series, wanted)
    assert outcome.error is None
    assert outcome.added > 20
    way.assert_whole(instrument, HOUR, wanted)


def page_request(exchange: Exchange, instrument: Instrument, day: Window) -> Request:
    """What is asked to have a day of hours."""
    if exchange.candles_depth is None:
        return exchange.candles_request(instrument, HOUR, day)
    assert isinstance(exchange, TradesHistory)
    return exchange.trades_request(instrument, day.start)


def test_a_kill_at_a_random_moment_costs_nothing_that_was_stored(way: Way) -> None:
    instrument, _ = first_and_last(way)
    wanted = [(way.series(instrument, HOUR), window("2026-03-01", "2026-03-09"))]
    if isinstance(way.exchange, TradesHistory) and way.exchange.reach is None:
        trades = Series(way.exchange.name, Channel.TRADES, instrument.symbol)
        wanted.append((trades, window("2026-03-09", "2026-03-11")))
    arguments = (way.url, wanted, 24, micro(NOW))
    calm = way.folder / "calm"
    longest = killed.run(calm, *arguments)
    dice = killed.moments(way.exchange.name, longest)
    kills, number = 0, 0
    for _ in range(30):
        folder = way.folder / str(number)
        if killed.run_and_kill(folder, dice.uniform(0, longest), *arguments):
            kills += 1
        else:
            number += 1  # it came to its end before: begin again elsewhere
        if kills == 3:
            break
    else:
        raise AssertionError("it was never killed at work")
    killed.run(folder, *arguments)
    for series, part in wanted:
        stored = DataStore(folder).load(series)
        assert stored.equals(DataStore(calm).load(series))
        assert DataStore(folder).missing_windows(series, part) == []
    replace(way, folder=folder).assert_whole(instrument, HOUR, wanted[0][1])
