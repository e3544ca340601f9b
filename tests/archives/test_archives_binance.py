"""Binance's files: the recorded day, both time units, headers, checksums, and what is left."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from archives.host import Host, opened, serving, sorted_out, with_checksum, zipped
from helpers import COLUMNS, at, collecting, truth, window

from dccd_core.archived import ArchiveFirst
from dccd_core.archives import archive as archive_module
from dccd_core.archives.archive import Archive
from dccd_core.archives.base import Part, Refused
from dccd_core.collectors import ExchangeCollector
from dccd_core.exchanges.base import Instrument
from dccd_core.history import Collector
from dccd_core.intervals import union
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_sandbox import Rule, Sandbox, Settings
from dccd_sandbox.settings import markets
from dccd_sandbox.tape import aggregated

RECORDED = (
    Path(__file__).parents[2].parent / "shared/market_data/binance_vision_ADABTC-1m-2021-11-27.csv"
)
NOW = "2026-05-20T12:34:30Z"
SETTINGS = Settings(now=NOW, frozen=True)
BTC = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 60)
BTC_TRADES = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
MARKET = Instrument(BTC.symbol, "BTCUSDT", True)
MINUTE = 60 * SECOND
DAY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-{}.zip"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as box:
        yield box


@pytest.fixture(autouse=True)
def clean(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(archive_module, "_now", lambda: at(NOW))
    yield
    box.reset()


def archive_of(box: Sandbox, exchange: str, private: Path) -> Archive:
    return opened(exchange, private, Host({}, url=f"{box.url}/archives/{exchange}"))


def kline(time: int, unit: int = 1, close: float = 2.0, span: int = 60_000) -> str:
    end = (time + span) * unit - 1
    return f"{time * unit},1.0,3.0,0.5,{close},10.5,{end},20.25,7,4.5,9.125,0"


def day_of_klines(date: str, unit: int = 1, minutes: range = range(1_440)) -> list[str]:
    first = at(date) // 1_000
    return [kline(first + n * 60_000, unit, close=1 + n / 1_000) for n in minutes]


def served_day(date: str, lines: list[str], **options: bool) -> dict[str, bytes]:
    path = DAY.format(date)
    name = f"BTCUSDT-1m-{date}.csv"
    return with_checksum(path, zipped(name, "\n".join([*lines, ""])), **options)


def one_day(
    tmp_path: Path, date: str, files: dict[str, bytes], **options: object
) -> tuple[list[Part], list[Refused], Host]:
    wanted = Window(at(date), at(date) + 86_400 * SECOND)
    with serving(files, **options) as host, opened("binance", tmp_path, host) as archive:
        parts, refused = sorted_out(archive.fetch(BTC, MARKET, [wanted]))
        return parts, refused, host


# --- what comes ---------------------------------------------------------------------------------


def test_a_year_is_twelve_requests_and_the_truth(box: Sandbox, tmp_path: Path) -> None:
    year = window("2025-01-01", "2026-01-01")
    with archive_of(box, "binance", tmp_path) as archive:
        assert len(archive.files(BTC, MARKET, [year])) == 12
        parts, refused = sorted_out(archive.fetch(BTC, MARKET, [year]))
        assert archive.requests == 12
    assert refused == []
    found = pl.DataFrame(pl.from_arrow(pa.concat_tables([part.rows for part in parts])))
    assert found.equals(truth(box, BTC, year))
    assert {part.period for part in parts} == {"2025"}


@pytest.mark.parametrize("date", ["2024-12-31", "2025-01-01"])
def test_milliseconds_and_microseconds(tmp_path: Path, date: str) -> None:
    unit = 1_000 if date >= "2025" else 1
    parts, refused, _ = one_day(tmp_path, date, served_day(date, day_of_klines(date, unit)))
    assert refused == []
    rows = parts[0].rows.to_pylist()
    assert len(rows) == 1_440
    assert parts[0].covered == [Window(at(date), at(date) + 1_440 * MINUTE)]
    assert rows[7] == {
        **dict(zip(COLUMNS[1:6], (1.0, 3.0, 0.5, 1.007, 10.5), strict=True)),
        "time": pl.from_epoch(pl.Series([at(date) + 7 * MINUTE]), "us").dt.replace_time_zone("UTC")[
            0
        ],
        "quote_volume": 20.25,
        "trades": 7,
        "taker_buy_volume": 4.5,
        "taker_buy_quote_volume": 9.125,
    }


def test_a_header_is_passed_over(tmp_path: Path) -> None:
    head = "open_time,open,high,low,close,volume,close_time,quote_volume,count,a,b,ignore"
    files = served_day("2024-05-01", [head, *day_of_klines("2024-05-01")])
    parts, refused, _ = one_day(tmp_path, "2024-05-01", files)
    assert refused == []
    assert parts[0].rows.num_rows == 1_440


def test_holes_of_a_file_are_not_covered(tmp_path: Path) -> None:
    lines = day_of_klines("2024-05-01", minutes=[*range(100), *range(160, 1_440)])
    parts, refused, _ = one_day(tmp_path, "2024-05-01", served_day("2024-05-01", lines))
    assert refused == []
    start = at("2024-05-01")
    assert parts[0].covered == [
        Window(start, start + 100 * MINUTE),
        Window(start + 160 * MINUTE, start + 1_440 * MINUTE),
    ]


def test_usdm_has_a_header_and_a_file_of_its_own(box: Sandbox, tmp_path: Path) -> None:
    series = Series("binance_usdm", Channel.OHLC, Symbol("BTC", "USDT", "PERP"), 60)
    month = window("2025-03-01", "2025-04-01")
    with archive_of(box, "binance_usdm", tmp_path) as archive:
        parts, refused = sorted_out(archive.fetch(series, MARKET, [month]))
    assert refused == []
    assert parts[0].file.startswith("data/futures/um/monthly/klines/BTCUSDT/1m/")
    found = pl.DataFrame(pl.from_arrow(parts[0].rows))
    assert found.equals(truth(box, BTC, month))


def test_a_day_is_taken_where_a_month_is_not_published(box: Sandbox, tmp_path: Path) -> None:
    month = window("2026-05-01", "2026-05-18")
    with archive_of(box, "binance", tmp_path) as archive:
        parts, refused = sorted_out(archive.fetch(BTC, MARKET, [month]))
        assert archive.requests == 17
    assert refused == []
    assert len(parts) == 1  # all of one year's file, which is written once
    assert "/daily/" in parts[0].file
    assert sum(part.rows.num_rows for part in parts) == 17 * 1_440


def test_days_of_a_month_that_was_never_published_are_not_asked_for(tmp_path: Path) -> None:
    months = window("2024-01-01", "2024-04-01")
    march = "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-03.zip"
    lines = day_of_klines("2024-03-01", minutes=range(31 * 1_440))
    content = zipped("BTCUSDT-1m-2024-03.csv", "\n".join(lines))
    with (
        serving(with_checksum(march, content)) as host,
        opened("binance", tmp_path, host) as archive,
    ):
        parts, _ = sorted_out(archive.fetch(BTC, MARKET, [months]))
        assert len(host.paths) == 4  # three months, and a checksum
    assert sum(part.rows.num_rows for part in parts) == 31 * 1_440


def test_less_than_a_page_is_left_to_rest(box: Sandbox, tmp_path: Path) -> None:
    hour = Series("binance", Channel.OHLC, BTC.symbol, 3_600)
    with archive_of(box, "binance", tmp_path) as archive:
        assert archive.files(BTC, MARKET, [window("2025-03-01", "2025-03-01T10:00")]) == []
        assert archive.files(hour, MARKET, [window("2025-01-01", "2026-01-01")]) == []
        assert archive.requests == 0


# --- trades -------------------------------------------------------------------------------------


def expected_trades(box: Sandbox, wanted: Window, *, aggregate: bool = False) -> list[tuple]:
    market = markets(SETTINGS)["BTCUSDT"]
    trades = market.tape.between(wanted.start // 1_000, wanted.end // 1_000)
    if aggregate:
        trades, _ = aggregated(trades)
    price, amount = 10**market.digits.price, 10**market.digits.amount
    return [
        (
            time * 1_000,
            str(trades.first_id + n),
            ticks / price,
            lots / amount,
            "buy" if buy else "sell",
        )
        for n, (time, ticks, lots, buy) in enumerate(
            zip(
                *(c.tolist() for c in (trades.time, trades.ticks, trades.lots, trades.buy)),
                strict=True,
            )
        )
    ]


def as_tuples(parts: list[Part]) -> list[tuple]:
    found = []
    for part in parts:
        columns = [part.rows.column("time").cast(pa.int64()), *(part.rows.column(n) for n in TRADE)]
        found += zip(*(column.to_pylist() for column in columns), strict=True)
    return found


TRADE = ("trade_id", "price", "amount", "side")


@pytest.mark.parametrize(
    ("start", "end", "requests"),
    [("2025-03-01", "2025-04-01", 1), ("2024-12-30T12:00", "2025-01-02", 3)],
)
def test_trades_are_the_truth(
    box: Sandbox, tmp_path: Path, start: str, end: str, requests: int
) -> None:
    wanted = window(start, end)
    with archive_of(box, "binance", tmp_path) as archive:
        parts, refused = sorted_out(archive.fetch(BTC_TRADES, MARKET, [wanted]))
        assert archive.requests == requests
    assert refused == []
    assert as_tuples(parts) == expected_trades(box, wanted)
    assert [part.period for part in parts] == [p for p, _ in BTC_TRADES.periods(wanted)]
    # what is before the first and after the last trade of all files is for REST: two requests
    times = [row[0] for row in as_tuples(parts)]
    whole = start == "2024-12-30T12:00"  # the file of that day is whole before it
    known = Window(wanted.start if whole else times[0] + 1, times[-1])
    assert union(w for part in parts for w in part.covered) == [known]
    assert all(part.rows.column("received").null_count == part.rows.num_rows for part in parts)


def test_usdm_trades_are_the_aggregates(box: Sandbox, tmp_path: Path) -> None:
    series = Series("binance_usdm", Channel.TRADES, Symbol("BTC", "USDT", "PERP"))
    wanted = window("2025-03-04", "2025-03-06")
    with archive_of(box, "binance_usdm", tmp_path) as archive:
        parts, refused = sorted_out(archive.fetch(series, MARKET, [wanted]))
    assert refused == []
    assert as_tuples(parts) == expected_trades(box, wanted, aggregate=True)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: lines[:700] + lines[701:2] + lines[699:], "twice"),
        (lambda lines: [kline(at("2024-05-01") // 1_000 + 30_000), *lines], "not open on the"),
        (lambda lines: [kline(at("2024-04-30") // 1_000), *lines], "outside"),
        (lambda lines: [kline(at("2024-05-01") // 1_000, unit=1_000), *lines[1:]], "and in micro"),
        (lambda lines: [f"{line},1" for line in lines], "columns"),
        (lambda lines: [lines[0].replace("1.0", "nan", 1), *lines[1:]], "not finite"),
        (lambda lines: [lines[0].replace("1.0", "", 1), *lines[1:]], "lines have no open"),
        (lambda lines: [lines[0].replace("1.0", "1;0", 1), *lines[1:]], "cannot be read"),
        (lambda lines: [kline(at("2024-05-01") // 1_000, span=30_000), *lines[1:]], "60 s long"),
        (lambda _: ["<html>maintenance</html>"], "cannot be read"),
    ],
)
def test_a_day_that_is_wrong_is_refused(tmp_path: Path, change: object, reason: str) -> None:
    lines = change(day_of_klines("2024-05-01"))  # type: ignore[operator]
    parts, refused, _ = one_day(tmp_path, "2024-05-01", served_day("2024-05-01", lines))
    assert parts == []
    assert reason in refused[0].reason
    assert "BTCUSDT-1m-2024-05-01" in refused[0].file


def test_the_wrong_time_unit_is_refused(tmp_path: Path) -> None:
    lines = [line.replace("17145", "171450", 1) for line in day_of_klines("2024-05-01")]
    parts, refused, _ = one_day(tmp_path, "2024-05-01", served_day("2024-05-01", lines))
    assert parts == []
    assert refused


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    files = served_day("2024-05-01", day_of_klines("2024-05-01"), wrong=True)
    parts, refused, host = one_day(tmp_path, "2024-05-01", files)
    assert parts == []
    assert "sha256" in refused[0].reason
    assert host.paths[:2] == [DAY.format("2024-05-01"), DAY.format("2024-05-01") + ".CHECKSUM"]


@pytest.mark.parametrize("text", [b"", b"no checksum", b"a" * 64 + b"  another.zip\n"])
def test_a_checksum_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    files = served_day("2024-05-01", day_of_klines("2024-05-01"))
    files[DAY.format("2024-05-01") + ".CHECKSUM"] = text
    parts, refused, _ = one_day(tmp_path, "2024-05-01", files)
    assert parts == []
    assert "checksum" in refused[0].reason


def test_the_md5_of_s3_saves_the_question_for_the_checksum(tmp_path: Path) -> None:
    files = served_day("2024-05-01", day_of_klines("2024-05-01"))
    parts, refused, host = one_day(tmp_path, "2024-05-01", files, etag=True)
    assert parts
    assert refused == []
    assert host.paths == [DAY.format("2024-05-01")]


def test_an_etag_that_is_no_md5_asks_for_the_checksum(tmp_path: Path) -> None:
    files = served_day("2024-05-01", day_of_klines("2024-05-01"))
    parts, _, host = one_day(tmp_path, "2024-05-01", files, headers={"ETag": '"aa-2"'})
    assert parts
    assert len(host.paths) == 2


def with_files(collector: Collector, archive: Archive) -> ExchangeCollector:
    files = ArchiveFirst(archive, collector.store, collector.instrument, lambda _: None)
    return ExchangeCollector(collector, None, collector.store, files)


# --- with REST behind it ------------------------------------------------------------------------


def test_a_hole_in_the_ids_of_trades_is_not_covered(tmp_path: Path) -> None:
    start = at("2024-05-01") // 1_000
    numbers = [*range(100), *range(103, 200)]
    lines = [f"{n},5.5,1.5,8.25,{start + n * 1_000},False,True" for n in numbers]
    path = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-05-01.zip"
    files = with_checksum(path, zipped("BTCUSDT-trades-2024-05-01.csv", "\n".join(lines)))
    day = window("2024-05-01", "2024-05-02")
    with serving(files) as host, opened("binance", tmp_path, host) as archive:
        parts, refused = sorted_out(archive.fetch(BTC_TRADES, MARKET, [day]))
    assert refused == []
    first = start * 1_000
    assert parts[0].covered == [
        Window(first + 1, first + 99 * SECOND),
        Window(first + 103 * SECOND + 1, first + 199 * SECOND),
    ]


@pytest.mark.skipif(not RECORDED.exists(), reason=f"{RECORDED} is not here")
@pytest.mark.parametrize("wrong", [False, True])
def test_the_recorded_day_is_used_and_refused_with_a_wrong_checksum(
    tmp_path: Path, wrong: bool
) -> None:
    """Its ten rows are all that is recorded of that day, so the page is made shorter than that;
    REST serves the same rows."""
    lines = [line for line in RECORDED.read_text().splitlines() if line]
    series = Series("binance", Channel.OHLC, Symbol("ADA", "BTC"), 60)
    path = "data/spot/daily/klines/ADABTC/1m/ADABTC-1m-2021-11-27.zip"
    content = zipped("ADABTC-1m-2021-11-27.csv", "\n".join(lines) + "\n")
    settings = Settings(
        symbols=(), candles=(f"ADABTC:ADA:BTC:1m:{RECORDED}",), now="2021-12-01", frozen=True
    )
    wanted = window("2021-11-27", "2021-11-27T00:10")
    with (
        serving(with_checksum(path, content, wrong)) as host,
        Sandbox(settings) as box,
        opened("binance", tmp_path / ".dccd", host) as archive,
        collecting(box.binance_url, tmp_path, page=4) as collector,
    ):
        archive._exchange = collector.exchange  # its page is shorter than the day
        outcomes = list(with_files(collector, archive).collect(cells(series, wanted)))
        asked = box.stats()["paths"]["/binance/api/v3/klines"]
    assert [outcome.failed for outcome in outcomes] == [[]]
    note = outcomes[0].note
    assert ("sha256" in note) == wrong
    assert ("10 rows from published files" in note) != wrong
    found = collector.store.load(series)
    recorded = [[float(cell) for cell in line.split(",")] for line in lines]
    assert found.height == len(recorded) == 10
    assert found["close"].to_list() == [row[4] for row in recorded]
    assert found["taker_buy_quote_volume"].to_list() == [row[10] for row in recorded]
    # two questions for the listing; with the wrong checksum three pages of candles besides
    assert sum(asked.values()) == (5 if wrong else 2)


def test_rest_takes_over_what_the_files_lack(box: Sandbox, tmp_path: Path) -> None:
    series, wanted = BTC, window("2026-03-20", "2026-05-20T12:00")
    box.set_faults(Rule("truncated", path="/archives/binance/data/spot/daily"))
    private = tmp_path / ".dccd"
    with (
        archive_of(box, "binance", private) as archive,
        collecting(box.binance_url, tmp_path) as collector,
    ):
        both = with_files(collector, archive)
        outcomes = list(both.collect(cells(series, wanted)))
        again = list(both.collect(cells(series, wanted)))
    assert outcomes[0].failed == []
    assert "its published checksum is none" in outcomes[0].note
    assert collector.store.load(series).equals(truth(box, series, wanted))
    assert again[0].note == "complete: nothing was asked"
