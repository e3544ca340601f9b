"""A service on every exchange of the sandbox at once, and what it stored held against the truth."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path

import polars as pl
import pytest
from stream_lab import wait

from dccd_core.config import Config
from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import Exchange, Instrument
from dccd_core.exchanges.live import Live
from dccd_core.exchanges.trades import Levels
from dccd_core.intervals import clip, subtract
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.books import replay
from dccd_core.store.datastore import DataStore
from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.truth import BookTruth
from dccd_streams.manager import StreamManager
from dccd_streams.timing import Timing

sys.path.insert(0, str(Path(__file__).parents[1] / "exchanges"))
from sandboxed import instrument_of, true_market

STREAMS = {name: one for name, one in load_all().items() if isinstance(one, Live)}
AGGREGATED = {"binance_usdm"}
"""Whose trades are those that the fills of an order make together."""
GATHERED = 100 * 1_000
"""Microseconds for which exchanges gather changes of a book: a message tells of the time when it
was sent, so that a row may lack what happened since the message before it."""
UNDATED = {"bitfinex"}
"""Whose books have no time: rows are of the time of receipt, which is not the sandbox's."""
SPEED = 10
AHEAD = 60_000
"""Milliseconds of the market's time, in which a request arrives as a rule and a candle closes."""
LONG = 60.0
"""Seconds that all exchanges at once may take, on a slow machine."""
SHORT = 10.0
USUAL = Timing()
QUICK = Timing(
    tick=0.05,
    acknowledge=1.0,
    quiet_least=2.0,  # well above `settle`, also where a machine is slow
    quiet_most=5.0,
    settle=0.6,
    backoff_first=0.05,
    backoff_most=0.5,
    overlap=5.0,
    heal_first=0.2,
    heal_most=1.0,
    mark=0.2,
    status=0.5,
)
PATIENT = replace(
    QUICK,
    acknowledge=USUAL.acknowledge,
    quiet_least=USUAL.quiet_least,
    quiet_most=USUAL.quiet_most,
)
"""Where nothing is silent but a busy machine."""


@contextmanager
def sandbox(speed: float = SPEED) -> Iterator[Sandbox]:
    """All exchanges with their markets, in a process of its own, ahead of real time."""
    settings = Settings(
        symbols=("BTCUSDT:BTC:USDT:2026-05-30T06:00", "BTCUSD:BTC:USD:2026-05-30T06:00"),
        speed=speed,
        rate=200,
        weight_limit=0,
    )
    with Sandbox(settings, process=True) as box:
        yield box


DEPTH = 20
Sides = tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class Place:
    """One exchange of the sandbox, and its market that is recorded."""

    box: Sandbox
    store: DataStore
    exchange: Exchange

    @cached_property
    def instrument(self) -> Instrument:
        return instrument_of(self.box, self.exchange)

    @cached_property
    def market(self) -> tuple[str, str]:
        return true_market(self.box, self.exchange, self.instrument)

    def series(self, channel: Channel) -> Series:
        span = 60 if channel is Channel.LIVE_OHLC else 0
        return Series(self.exchange.name, channel, self.instrument.symbol, span)

    @property
    def jobs(self) -> list[dict[str, object]]:
        pair = {"exchange": self.exchange.name, "pairs": [str(self.instrument.symbol)]}
        return [
            pair | {"channels": ["trades", "ohlc"], "time_step": 60},
            pair | {"channels": ["book", "book_deltas"], "time_step": 1},
        ]

    # --- trades ----------------------------------------------------------------------------------

    def trades(self, start: int, end: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What is stored of a window, and the truth, in one order and without ids."""
        stored = self.store.load(self.series(Channel.TRADES), start, end)
        assert stored["trade_id"].n_unique() == len(stored), "trades are doubled"
        aggregate = self.exchange.name in AGGREGATED
        symbol, market = self.market
        truth = self.box.trades_truth(
            symbol, start // 1_000, -(-end // 1_000), market, aggregate=aggregate
        )
        truth = truth.filter(pl.col("time").to_physical().is_between(start, end, "left"))
        columns = ["time", "price", pl.col("side").cast(pl.String), "amount"]
        found = [
            one.select(columns).sort("time", "price", "side", "amount") for one in (stored, truth)
        ]
        return found[0], found[1]

    def assert_trades(self, start: int, end: int) -> None:
        """What the ledger calls whole equals the truth row for row; the rest is told as lost.

        Up to the last trade: what is quiet after it may go on.
        """
        series, end = self.series(Channel.TRADES), self.last_trade(start, end)
        whole = clip(self.store.covered(series), Window(start, end))
        for window in whole:
            stored, truth = self.trades(*window)
            assert stored.drop("amount").equals(truth.drop("amount")), self.difference(window)
            self.assert_near(stored["amount"].to_list(), truth["amount"].to_list(), stored)
        for window in subtract([Window(start, end)], whole):
            told = [loss for loss in self.store.lost(series, window) if loss.cause]
            holes = subtract([window], [Window(loss.start, loss.end) for loss in told])
            assert holes == [], f"{series}: neither whole nor lost: {holes}"
            stored, truth = self.trades(*window)
            assert len(stored.join(truth, ["time", "price", "side"], how="anti")) == 0

    def last_trade(self, start: int, end: int) -> int:
        symbol, market = self.market
        truth = self.box.trades_truth(symbol, start // 1_000, end // 1_000 + 1, market)
        return int(truth["time"].to_physical()[-1])

    def last_change(self) -> int:
        times = self.store.load(self.series(Channel.BOOK_DELTAS))["time"]
        return int(times.to_physical()[-1])

    def difference(self, window: Window) -> str:
        """For people."""
        stored, truth = self.trades(*window)
        keys = ["time", "price", "side"]
        lacks, extra = (
            truth.join(stored, keys, how="anti"),
            stored.join(truth, keys, how="anti"),
        )
        return (
            f"{self.exchange.name} {window}: {len(stored)} of {len(truth)} trades;"
            f" lacks {lacks}, has besides {extra}; lost: "
            f"{self.store.lost(self.series(Channel.TRADES))}"
        )

    def lost_seconds(self, channel: Channel, start: int, end: int) -> float:
        losses = self.store.lost(self.series(channel), Window(start, end))
        return sum(loss.end - loss.start for loss in losses) / SECOND

    def assert_near(
        self, found: Sequence[float], true: Sequence[float], prices: pl.DataFrame
    ) -> None:
        """Contracts are whole: what a market of coins has is rounded to one."""
        whole = self.whole(prices["price"][0]) if len(prices) else 0.0
        assert found == pytest.approx(true, rel=1e-9, abs=whole)

    def whole(self, price: float) -> float:
        size = self.instrument.size / price if self.instrument.inverse else self.instrument.size
        return 0.0 if size == 1 else size

    # --- candles ---------------------------------------------------------------------------------

    def candles(self, start: int, end: int) -> int:
        """Each stored candle is the truth, none is missing that is not told; how many there are."""
        series = self.series(Channel.LIVE_OHLC)
        stored = self.store.load(series, start, end)
        symbol, market = self.market
        truth = self.box.truth(symbol, "1m", start // 1_000, -(-end // 1_000), market)
        rows = {row["time"]: row for row in truth.iter_rows(named=True)}
        for candle in stored.iter_rows(named=True):
            row = rows[candle["time"]]
            names = ["high", "low", "close"]
            if self.exchange.name != "bitmex":  # its candle opens where the one before ended
                names.append("open")
            assert [candle[n] for n in names] == [row[n] for n in names], (series, candle, row)
            whole = self.whole(candle["close"]) * (row["trades"] + 1)
            assert candle["volume"] == pytest.approx(row["volume"], rel=1e-9, abs=whole)
        whole_minutes = clip(self.store.covered(series), Window(start, end))
        have = set(stored["time"])
        for moment in rows:
            micro = int(moment.timestamp()) * SECOND
            if clip(whole_minutes, Window(micro, micro + 60 * SECOND)) and rows[moment]["trades"]:
                assert moment in have, f"{series}: {moment} is called whole and is not there"
        return len(stored)

    # --- books -----------------------------------------------------------------------------------

    def true_books(self, moment: int) -> Iterator[BookTruth]:
        """The states that a message may have told of at a time, newest first."""
        symbol, market = self.market
        at, seen = moment // 1_000, -1
        while at >= (moment - GATHERED) // 1_000 - 1:
            book = self.box.book_truth(symbol, at, exchange=market)
            if book.sequence != seen:
                yield book
            at, seen = min(at, book.time) - 1, book.sequence

    def behind(self, moment: int, bids: Levels, asks: Levels) -> int | None:
        """How many changes a book lacks of the truth of a moment; None if it is no true book."""
        near = self.whole(bids[0][0])
        for behind, book in enumerate(self.true_books(moment)):
            if _same(bids, book.bids, near) and _same(asks, book.asks, near):
                return behind
        return None

    def all_books(self, start: int, end: int) -> dict[Sides, int]:
        """Every state of a window, with its number."""
        symbol, market = self.market
        at, found = end // 1_000, {}
        while at >= start // 1_000:
            book = self.box.book_truth(symbol, at, DEPTH, exchange=market)
            found[tuple(book.bids), tuple(book.asks)] = book.sequence
            at = min(at, book.time) - 1
        return found

    def books(self, start: int, end: int) -> tuple[int, int]:
        """Each valid row is a book that the exchange had; how many, and how many lack a change."""
        rows = self.store.load(self.series(Channel.BOOK))
        invalid = rows.filter(~pl.col("valid"))
        assert invalid.filter(pl.col("bid_price").list.len() > 0).is_empty()
        found = [
            (round(row["time"].timestamp() * SECOND), _levels(row, "bid"), _levels(row, "ask"))
            for row in rows.filter("valid").iter_rows(named=True)
        ]
        if self.exchange.name in UNDATED:
            told = {
                (tuple(book.bids), tuple(book.asks))
                for _, ladder in replay(self.store, self.series(Channel.BOOK_DELTAS))
                for book in [ladder.book(DEPTH)]
            }
            # a level at a time: what it is between two of them is what the exchange has told
            assert all((tuple(bids), tuple(asks)) in told for _, bids, asks in found)
            return len(found), 0
        late = valid = 0
        for moment, bids, asks in found:
            if start <= moment < end:
                behind = self.behind(moment, bids, asks)
                assert behind is not None, (self.exchange.name, moment, bids[:3], asks[:3])
                valid, late = valid + 1, late + (behind > 0)
        return valid, late

    def _numbers(
        self, books: Sequence[tuple[Levels, Levels]], start: int, end: int
    ) -> list[int | None]:
        true = self.all_books(start - 60 * SECOND, end)
        return [true.get((tuple(bids), tuple(asks))) for bids, asks in books]

    def deltas(self, start: int, end: int) -> int:
        """Books made of the stored changes are true; how many were compared."""
        rows = self.store.load(self.series(Channel.BOOK_DELTAS))
        if self.exchange.name in UNDATED:
            return self._passed(start)
        compared, before = 0, None
        whole = rows.sort("received")["snapshot"].to_list()
        for number, (_, ladder) in enumerate(replay(self.store, self.series(Channel.BOOK_DELTAS))):
            # a change of one moment may come in several messages: it is whole before the next
            moment = ladder.time or 0
            if before is not None and whole[number]:
                before = None  # it broke off in the midst of a change
            if before is not None and moment > before[0]:
                at, book = before
                if start <= at < end:
                    behind = self.behind(at, book.bids, book.asks)
                    assert behind is not None, (
                        self.exchange.name,
                        at,
                        book.bids[:3],
                        book.asks[:3],
                    )
                    compared += 1
                before = None
            if before is not None or number % max(1, len(rows) // 100) == 0:
                before = moment, ladder.book(DEPTH)
        return compared

    def _passed(self, start: int) -> int:
        """A book whose changes come level by level: it passes through all true states in order."""
        series, last, end = self.series(Channel.BOOK_DELTAS), None, self.box.now() * 1_000
        received = self.store.load(series)["received"].to_physical()
        since = int(received[max(0, len(received) - 3_000)])
        books = [ladder.book(DEPTH) for _, ladder in replay(self.store, series, since)]
        passed = []
        for number in self._numbers([(one.bids, one.asks) for one in books], start, end):
            if number is not None and number != last:
                passed.append(number)
                last = number
        newest = accumulate(passed, max)
        back = [number < most for number, most in zip(passed, newest, strict=True)]
        # half of a change, with one level set back, may look like the book before the last one
        assert not any(one and two for one, two in pairwise(back)), passed
        forward = [number for number, older in zip(passed, back, strict=True) if not older]
        jumps = sum(after != before + 1 for before, after in pairwise(forward))
        assert jumps < self.store.load(series)["snapshot"].sum()
        return len(forward)


def _levels(row: dict[str, list[float]], side: str) -> Levels:
    return list(zip(row[f"{side}_price"], row[f"{side}_amount"], strict=True))


def _same(ours: Levels, truth: Levels, near: float) -> bool:
    theirs = truth[: len(ours)]
    return [price for price, _ in ours] == [price for price, _ in theirs] and all(
        abs(one - two) <= near + 1e-9 * two for (_, one), (_, two) in zip(ours, theirs, strict=True)
    )


@dataclass
class Whole:
    """A running service. `begin` and `end` bound what has been recorded, of the sandbox's time."""

    box: Sandbox
    manager: StreamManager
    places: dict[str, Place]
    begin: int = 0
    end: int = 0

    def wait_live(self) -> None:
        """Until all is carried and trades have come: they are whole from the first one on."""
        wait(lambda: self.states() == {"live"}, "not all tasks are live", LONG)
        wait(self.trades_came, "no trades of some exchange", LONG)
        self.begin = self.box.now() * 1_000

    def trades_came(self) -> bool:
        places = self.places.values()
        return all(place.store.covered(place.series(Channel.TRADES)) for place in places)

    def states(self) -> set[str]:
        return {one.state for one in self.manager.statuses()}

    def problems(self) -> list[str]:
        return [f"{one.key}: {one.state}: {one.problem}" for one in self.manager.statuses()]

    def run(self, seconds: float) -> None:
        """Let market time pass."""
        until = self.box.now() + seconds * 1_000
        while self.box.now() < until:
            time.sleep(0.05)

    def freeze(self) -> None:
        """Let the market stand still: ahead of where it will be when this arrives, for set back it
        would begin anew what it has told of already."""
        self.box.set_clock(self.box.now() + AHEAD, frozen=True)

    def finish(self) -> None:
        """Stop the market, and wait until all that can be healed is."""
        self.box.set_stream_faults()
        # before it stands still: it may be set back after all, and is closed up to here even then
        self.end = self.box.now() * 1_000
        self.freeze()
        self.box.advance(1)
        for _ in range(int(LONG / SHORT)):
            end = time.monotonic() + SHORT
            while self.open_holes() and time.monotonic() < end:
                time.sleep(0.05)
            if not self.open_holes():
                break
            # where a market stands still, a REST that lags never shows its newest: let it go on
            self.box.set_clock(self.box.now())
            self.run(1)
            self.freeze()
        holes = self.open_holes()
        assert holes == [], holes
        assert self.manager.stop(30)

    def open_holes(self) -> list[str]:
        """Stretches of trades, up to the last true one, that are neither whole nor given up."""
        found = []
        for place in self.places.values():
            series = place.series(Channel.TRADES)
            window = Window(self.begin, place.last_trade(self.begin, self.end))
            for hole in subtract([window], place.store.covered(series)):
                losses = place.store.lost(series, hole)
                given_up = [Window(one.start, one.end) for one in losses if "; " in one.cause]
                if subtract([hole], given_up):
                    found.append(f"{series} {hole} of {window} {losses}")
        return found


@contextmanager
def recording(
    box: Sandbox, folder: Path, names: Sequence[str], timing: Timing = QUICK
) -> Iterator[Whole]:
    """A service that records a market of each of these exchanges, all channels of it."""
    store = DataStore(folder)
    places = {name: Place(box, store, STREAMS[name]) for name in names}
    config = Config.model_validate(
        {
            "settings": {"data_path": str(folder)},
            "stream_jobs": [job for place in places.values() for job in place.jobs],
            "exchanges": {
                name: {
                    "rest_url": f"{box.url}/{name}{_path(one)}",
                    "ws_url": f"{box.ws_url}/{name}",
                }
                for name, one in STREAMS.items()
                if name in names
            },
        }
    )
    manager = StreamManager(config, timing=replace(timing))
    manager.start()
    try:
        yield Whole(box, manager, places)
    finally:
        assert manager.stop(30)


def _path(exchange: Exchange) -> str:
    return (
        "/" + "/".join(exchange.rest_url.split("/")[3:]) if exchange.rest_url.count("/") > 2 else ""
    )
