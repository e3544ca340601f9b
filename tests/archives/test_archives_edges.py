"""Published days of trades that end early or begin late, and quiet ones that do not."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest
from archives.host import gzipped, opened, serving, with_checksum, zipped
from helpers import at, window
from memory_exchange import Client, Memory, market, sequence

from dccd_core.archived import ArchiveFirst
from dccd_core.archives import archive as archive_module
from dccd_core.archives.base import Part
from dccd_core.archives.calendar import days, months
from dccd_core.archives.parts import Parts
from dccd_core.collectors import ExchangeCollector
from dccd_core.exchanges.base import Answer, Instrument, Listed, Request
from dccd_core.exchanges.trades import Trade
from dccd_core.history import Collector, Outcome
from dccd_core.intervals import subtract
from dccd_core.limits import Cancelled
from dccd_core.models import DAY, SECOND, Channel, Series, Symbol, Window, iso
from dccd_core.plan import Cell, Plan, cells
from dccd_core.store.datastore import DataStore
from dccd_core.trades_history import TradesCollector

NOW = at("2026-06-10")
SPOT, PERP = Symbol("BTC", "USDT"), Symbol("BTC", "USDT", "PERP")
BINANCE = Series("binance", Channel.TRADES, SPOT)
BYBIT = Series("bybit", Channel.TRADES, PERP)
OKX = Series("okx", Channel.TRADES, SPOT)
LINEAR = Instrument(PERP, "linear BTCUSDT", True)
DAYS = window("2026-04-01", "2026-04-04")
SEVEN = window("2026-04-02T07:00", "2026-04-03")


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "_now", lambda: NOW)


def every(seconds: float, wanted: Window) -> list[Trade]:
    times = range(wanted.start + SECOND, wanted.end, int(seconds * SECOND))
    return [Trade(t, None, str(n), 100.0, 1.0, True) for n, t in enumerate(times, 1)]


def without(trades: Iterable[Trade], gone: Window) -> list[Trade]:
    return [t for t in trades if not gone.start <= t.time < gone.end]


# --- with REST behind it: Binance spot ----------------------------------------------------------


class Spot(Memory):
    """Binance of one market in memory."""

    name, title = "binance", "Binance spot"

    def instruments(self, answer: Answer, request: Request) -> Listed:
        return Listed([Instrument(SPOT, "BTCUSDT", True)])


def binance_files(trades: Sequence[Trade], wanted: Window, size: str = "daily") -> dict[str, bytes]:
    files = dict[str, bytes]()
    for date, part in days(wanted) if size == "daily" else months(wanted):
        stem = f"BTCUSDT-trades-{date}"
        lines = [
            f"{t.trade_id},{t.price},{t.amount},1,{t.time // 1_000},{not t.buy},True"
            for t in trades
            if part.start <= t.time < part.end
        ]
        path = f"data/spot/{size}/trades/BTCUSDT/{stem}.zip"
        files |= with_checksum(path, zipped(f"{stem}.csv", "\n".join(lines)))
    return files


@dataclass
class Ran:
    """What a run did: its outcomes, how many files and how many pages of REST it asked for."""

    outcomes: list[Outcome]
    files: int
    pages: int


def run(store: DataStore, exchange: Spot, files: dict[str, bytes], wanted: Window = DAYS) -> Ran:
    client = Client(NOW)
    candles = Collector(exchange, client, store)  # type: ignore[arg-type]
    trades = TradesCollector(exchange, client, store)  # type: ignore[arg-type]
    with serving(files) as host, opened("binance", store.private, host) as archive:
        first = ArchiveFirst(archive, store, candles.instrument, lambda _: None)
        collector = ExchangeCollector(candles, trades, store, first)
        outcomes = list(collector.collect(cells(BINANCE, wanted)))
        return Ran(outcomes, archive.requests, client.pages())


def stored(store: DataStore, series: Series = BINANCE) -> set[str]:
    return set(store.load(series)["trade_id"])


@pytest.mark.parametrize(
    "gone",
    [
        SEVEN,
        window("2026-04-02", "2026-04-02T17:00"),
        window("2026-04-02T23:50", "2026-04-03"),
        window("2026-04-02", "2026-04-03"),
    ],
)
@pytest.mark.parametrize("seconds", [20, 3_000])
def test_what_a_published_day_lacks_at_an_end_is_asked_by_rest(
    tmp_path: Path, gone: Window, seconds: float
) -> None:
    trades = market("2026-03-30", "2026-04-10", seconds)
    store = DataStore(tmp_path)
    ran = run(store, Spot(BTCUSDT=trades), binance_files(without(trades, gone), DAYS))
    truth = [t for t in trades if DAYS.start <= t.time < DAYS.end]
    assert stored(store) == {t.trade_id for t in truth}
    assert store.load(BINANCE).height == len(sequence(truth))
    assert store.missing_windows(BINANCE, DAYS) == []
    missed = sum(gone.start <= t.time < gone.end for t in trades)
    assert ran.pages <= missed / Memory.trades_page + 10
    again = run(store, Spot(BTCUSDT=trades), {})
    assert (again.files, again.pages) == (0, 0)


@pytest.mark.parametrize(("size", "hours"), [("daily", 0.5), ("monthly", 0.5), ("monthly", 40)])
def test_files_whose_ids_go_on_prove_their_midnights_without_rest(
    tmp_path: Path, size: str, hours: float
) -> None:
    wanted = window("2025-01-01", "2026-01-01") if size == "monthly" else DAYS
    around = Window(wanted.start - 9 * DAY * SECOND, wanted.end + 9 * DAY * SECOND)
    trades = every(hours * 3_600, around)
    store = DataStore(tmp_path)
    ran = run(store, Spot(BTCUSDT=trades), binance_files(trades, wanted, size), wanted)
    assert stored(store) == {t.trade_id for t in trades if wanted.start <= t.time < wanted.end}
    assert store.missing_windows(BINANCE, wanted) == []
    asked = 12 if size == "monthly" else 3
    assert ran.files <= 2 * asked + 2  # with their checksums; no month is there as days
    assert ran.pages <= 6, "only what is before the first and after the last file, and the listing"


def test_a_market_of_a_few_trades_has_days_without_any(tmp_path: Path) -> None:
    times = [at(f"2026-03-{day:02}T05:00") for day in (1, 2, 20, 21)] + [at("2026-04-20")]
    trades = [Trade(t, None, str(n), 1.0, 1.0, True) for n, t in enumerate(times)]
    wanted = window("2026-03-01", "2026-04-01")
    store = DataStore(tmp_path)
    ran = run(store, Spot(BTCUSDT=trades), binance_files(trades, wanted), wanted)
    assert stored(store) == {"0", "1", "2", "3"}
    assert store.missing_windows(BINANCE, wanted) == []
    assert [outcome.error for outcome in ran.outcomes] == [None] * 31
    assert ran.pages <= 15, "ten days of silence after the last trade, and what is before the first"


def test_a_file_that_is_refused_leaves_its_neighbours_as_they_are(tmp_path: Path) -> None:
    trades = market("2026-03-30", "2026-04-10", 20)
    files = binance_files(trades, DAYS)
    [path] = [path for path in files if path.endswith("2026-04-02.zip")]
    files[path] = files[path][:-100]
    store = DataStore(tmp_path)
    run(store, Spot(BTCUSDT=trades), files)
    assert stored(store) == {t.trade_id for t in trades if DAYS.start <= t.time < DAYS.end}


def test_what_was_read_is_given_before_a_cancel_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, finish = Event(), Parts.finish

    def cancelled_then(parts: Parts) -> Iterator[Part]:
        yield from finish(parts)
        cancel.set()

    monkeypatch.setattr(Parts, "finish", cancelled_then)
    files = binance_files(every(60, DAYS), DAYS)
    with serving(files) as host, opened("binance", tmp_path, host, cancel=cancel) as archive:
        items = archive.fetch(BINANCE, Instrument(SPOT, "BTCUSDT", True), [DAYS])
        first = next(items)
        with pytest.raises(Cancelled):
            next(items)
    assert isinstance(first, Part)
    assert (first.period, first.rows.num_rows) == ("2026-04-01", 1_440)


# --- where nobody else can be asked: Bybit, and OKX of long ago ---------------------------------


def bybit_file(trades: Iterable[Trade]) -> dict[str, bytes]:
    head = "timestamp,symbol,side,size,price,trdMatchID"
    lines = [f"{t.time / SECOND},BTCUSDT,Buy,1,100,{t.trade_id}" for t in trades]
    return {"trading/BTCUSDT/BTCUSDT2026-04-02.csv.gz": gzipped("\n".join([head, *lines, ""]))}


BYBIT_DAY = window("2026-04-02", "2026-04-03")


@pytest.mark.parametrize(
    ("seconds", "gone", "missing"),
    [
        (20, SEVEN, True),
        (20, window("2026-04-02", "2026-04-02T02:00"), True),
        (20, window("2026-04-02T23:10", "2026-04-03"), False),
        (1_200, SEVEN, True),
        (3_600, window("2026-04-02T21:00", "2026-04-03"), False),
        (30_000, SEVEN, False),
        (1, window("2026-04-02", "2026-04-03"), True),
    ],
)
@pytest.mark.parametrize("newest_first", [False, True])
def test_an_end_far_longer_than_the_pauses_of_the_day_is_missing(
    tmp_path: Path, seconds: float, gone: Window, missing: bool, newest_first: bool
) -> None:
    trades = without(every(seconds, BYBIT_DAY), gone)
    files = bybit_file(trades[::-1] if newest_first else trades)
    store = DataStore(tmp_path)
    with serving(files) as host, opened("bybit", store.private, host) as archive:
        first = ArchiveFirst(archive, store, lambda _: LINEAR, lambda _: None)
        first.fill([Plan(cell, [], []) for cell in cells(BYBIT, BYBIT_DAY)])
    assert stored(store, BYBIT) == {t.trade_id for t in trades}
    left = store.missing_windows(BYBIT, BYBIT_DAY)
    assert bool(left) is missing
    assert subtract(left, [Window(gone.start - int(seconds * SECOND), gone.end + SECOND)]) == []


def test_a_file_that_lacks_something_is_not_read_again_for_just_that(tmp_path: Path) -> None:
    files = bybit_file(without(every(20, BYBIT_DAY), SEVEN))
    store = DataStore(tmp_path)
    plans = [Plan(Cell(BYBIT, "2026-04-02", BYBIT_DAY), [], [])]

    def fill() -> int:
        with serving(files) as host, opened("bybit", store.private, host) as archive:
            ArchiveFirst(archive, store, lambda _: LINEAR, lambda _: None).fill(plans)
            return archive.requests

    assert (fill(), fill()) == (1, 0)
    for path in store.folder(BYBIT).glob("2026-04-02*"):
        path.unlink()
    assert fill() == 1, "the day was deleted here: more is missing than the file lacks"


def okx_files(trades: Sequence[Trade], wanted: Window) -> dict[str, bytes]:
    files = dict[str, bytes]()
    for date, day in days(wanted, 8 * 3_600):
        lines = [
            f"BTC-USDT,{t.trade_id},buy,100,1,{t.time // 1_000}"
            for t in trades
            if day.start <= t.time < day.end
        ]
        head = "instrument_name,trade_id,side,price,size,created_time"
        folder = f"cdn/okex/traderecords/trades/daily/{date.replace('-', '')}"
        stem = f"BTC-USDT-trades-{date}"
        files[f"{folder}/{stem}.zip"] = zipped(f"{stem}.csv", "\n".join([head, *lines[::-1]]))
    return files


@pytest.mark.parametrize("gone", [None, window("2025-04-02T15:30", "2025-04-02T16:00")])
def test_beyond_the_reach_of_rest_ids_of_the_next_file_tell_of_the_smallest_hole(
    tmp_path: Path, gone: Window | None
) -> None:
    wanted = window("2025-04-01", "2025-04-04")
    trades = every(20, Window(wanted.start - DAY * SECOND, wanted.end + DAY * SECOND))
    files = okx_files(without(trades, gone) if gone else trades, wanted)
    store = DataStore(tmp_path)
    with serving(files) as host, opened("okx", store.private, host) as archive:
        okx = Instrument(SPOT, "BTC-USDT", True)
        ArchiveFirst(archive, store, lambda _: okx, lambda _: None).fill(
            [Plan(cell, [], []) for cell in cells(OKX, wanted)]
        )
    left = store.missing_windows(OKX, wanted)
    assert [iso(w.start)[:16] for w in left] == (["2025-04-02T15:29"] if gone else [])
