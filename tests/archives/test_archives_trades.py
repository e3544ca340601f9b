"""Trades of Bybit, OKX and BitMEX: layouts as published, days as they are cut, ids and sides.

The lines are of the published shape; where a comment names a place, they were seen there.
"""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from archives.host import gzipped, opened, serving, sorted_out, zipped
from helpers import at, window

from dccd_core.archived import ArchiveFirst
from dccd_core.archives.base import ArchiveError, Part, Refused
from dccd_core.archives.doubles import without_stored
from dccd_core.archives.ids import Ids
from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import Cell, Plan
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import trades_table

PERP = Symbol("BTC", "USDT", "PERP")
SPOT = Symbol("BTC", "USDT")
LINEAR = Instrument(PERP, "linear BTCUSDT", True)
BYBIT = Series("bybit", Channel.TRADES, PERP)
BYBIT_SPOT = Series("bybit", Channel.TRADES, SPOT)
OKX = Series("okx", Channel.TRADES, PERP)
BITMEX = Series("bitmex", Channel.TRADES, Symbol("BTC", "USD", "PERP"))
HEAD = (
    "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,"
    "foreignNotional"
)
Row = tuple[int, str, float, float, str]


def rows_of(parts: list[Part]) -> list[Row]:
    found: list[Row] = []
    for part in parts:
        names = ("trade_id", "price", "amount", "side")
        columns = [part.rows.column("time").cast(pa.int64()), *(part.rows.column(n) for n in names)]
        found += zip(*(column.to_pylist() for column in columns), strict=True)
    return found


def fetched(
    series: Series,
    market: Instrument,
    private: Path,
    files: dict[str, bytes],
    wanted: Window,
) -> tuple[list[Part], list[Refused]]:
    with serving(files) as host, opened(series.exchange, private, host) as archive:
        return sorted_out(archive.fetch(series, market, [wanted]))


# --- Bybit --------------------------------------------------------------------------------------

BYBIT_PATH = "trading/BTCUSDT/BTCUSDT{}.csv.gz"
# newest first, as the files of 2020 are
BYBIT_OLD = f"""{HEAD}
1585267197.3539,BTCUSDT,Sell,0.857,6733.5,MinusTick,b702,577060950000.0,0.857,5770.6095
1585267187.3512,BTCUSDT,Buy,0.18,6734.0,PlusTick,f9c1,121211999999.99998,0.18,1212.12
1585267187.3512,BTCUSDT,Buy,0.19,6734.0,PlusTick,e9c1,121211999999.99998,0.19,1212.12
1585180818.434,BTCUSDT,Buy,0.09,6699.0,MinusTick,2908,60291000000.0,0.09,602.91
"""
BYBIT_NEW = f"""{HEAD},RPI
1788220800.1169,BTCUSDT,Sell,0.001,78541.70,MinusTick,555a,7.854169999999999e+09,0.001,78.5,0
1788220801,BTCUSDT,Buy,0.002,78541.80,PlusTick,655a,7.8e+09,0.002,157.0,1
"""


def test_bybit_newest_first(tmp_path: Path) -> None:
    files = {BYBIT_PATH.format("2020-03-26"): gzipped(BYBIT_OLD)}
    day = window("2020-03-26", "2020-03-27")
    parts, refused = fetched(BYBIT, LINEAR, tmp_path, files, day)
    assert refused == []
    assert rows_of(parts) == [
        (1_585_180_818_434_000, "2908", 6699.0, 0.09, "buy"),
        (1_585_267_187_351_200, "e9c1", 6734.0, 0.19, "buy"),
        (1_585_267_187_351_200, "f9c1", 6734.0, 0.18, "buy"),
        (1_585_267_197_353_900, "b702", 6733.5, 0.857, "sell"),
    ]
    assert [part.covered for part in parts] == [[day]]


def test_bybit_with_a_column_more(tmp_path: Path) -> None:
    files = {BYBIT_PATH.format("2026-09-01"): gzipped(BYBIT_NEW)}
    parts, refused = fetched(BYBIT, LINEAR, tmp_path, files, window("2026-09-01", "2026-09-02"))
    assert refused == []
    assert rows_of(parts) == [
        (1_788_220_800_116_900, "555a", 78541.7, 0.001, "sell"),
        (1_788_220_801_000_000, "655a", 78541.8, 0.002, "buy"),
    ]


def test_bybit_spot_numbers_are_made_unique_by_the_day(tmp_path: Path) -> None:
    text = "id,timestamp,price,volume,side,rpi\n1,1747612800074,106453.8,0.003718,sell,0\n"
    files = {"spot/BTCUSDT/BTCUSDT_2025-05-19.csv.gz": gzipped(text)}
    market = Instrument(SPOT, "spot BTCUSDT", True)
    day = window("2025-05-19", "2025-05-20")
    parts, refused = fetched(BYBIT_SPOT, market, tmp_path, files, day)
    assert refused == []
    assert rows_of(parts) == [
        (1_747_612_800_074_000, "2025-05-19/1", 106453.8, 0.003718, "sell"),
    ]


def streamed(store: DataStore, day: str, trades: list[Trade], covered: list[Window]) -> None:
    store.merge(BYBIT_SPOT, day, trades_table(trades), covered, "stream")


def filled_from_bybit_spot(store: DataStore, trades: list[Trade], unit: int = 1_000) -> None:
    """What a run does with the published file of these trades, all of one day."""
    lines = [
        f"{n},{t.time // unit},{t.price},{t.amount},{'buy' if t.buy else 'sell'}"
        for n, t in enumerate(trades, 1)
    ]
    day = window("2025-05-19", "2025-05-20")
    text = "\n".join(["id,timestamp,price,volume,side", *lines, ""])
    files = {"spot/BTCUSDT/BTCUSDT_2025-05-19.csv.gz": gzipped(text)}
    market = Instrument(SPOT, "spot BTCUSDT", True)
    with serving(files) as host, opened("bybit", store.private, host) as archive:
        first = ArchiveFirst(archive, store, lambda _: market, lambda _: None)
        first.fill([Plan(Cell(BYBIT_SPOT, "2025-05-19", day), [day], [])])


@pytest.mark.parametrize("unit", [1, 1_000])
def test_a_bybit_spot_trade_that_a_stream_brought_is_stored_once(tmp_path: Path, unit: int) -> None:
    start = at("2025-05-19")
    # the fills of an order are alike: two trades in each fifth of a second, three now and then
    times = [start + n * SECOND // 5 for n in range(300) for _ in range(3 if n % 10 == 0 else 2)]
    trades = [Trade(t, t, f"22900000{n:08}", 100.5, 0.1, n % 2 == 0) for n, t in enumerate(times)]
    store = DataStore(tmp_path)
    before = [t for t in trades if t.time < start + 20 * SECOND]
    after = [t for t in trades if t.time >= start + 30 * SECOND]
    # a break of ten seconds; what is covered ends before the newest trades, of which some are there
    streamed(store, "2025-05-19", before[:-1], [Window(start, before[-1].time)])
    streamed(store, "2025-05-19", after[1:], [Window(after[4].time, after[-1].time)])
    filled_from_bybit_spot(store, trades, unit)
    rows = store.load(BYBIT_SPOT)
    found = zip(rows["time"].dt.epoch("us"), rows["side"].cast(pl.String), strict=True)
    assert sorted(found) == sorted((t.time, "buy" if t.buy else "sell") for t in trades)
    own = set(rows["trade_id"]) & {trade.trade_id for trade in trades}
    assert len(own) == len(before) + len(after) - 2, "what the stream brought stays as it is"
    assert store.missing_windows(BYBIT_SPOT, Window(start, start + 59 * SECOND)) == []


def test_a_bybit_spot_file_that_is_read_twice_changes_nothing(tmp_path: Path) -> None:
    start = at("2025-05-19")
    trades = [
        Trade(start + n // 4 * SECOND, None, str(10_000 + n), 1.0, 1.0, True) for n in range(60)
    ]
    store = DataStore(tmp_path)
    streamed(store, "2025-05-19", trades[10:30:3], [])
    filled_from_bybit_spot(store, trades)
    once = store.load(BYBIT_SPOT)
    assert once.height == len(trades)
    market = Instrument(SPOT, "spot BTCUSDT", True)
    day = window("2025-05-19", "2025-05-20")
    text = "\n".join(f"{n},{t.time // 1_000},1.0,1.0,buy" for n, t in enumerate(trades, 1))
    files = {
        "spot/BTCUSDT/BTCUSDT_2025-05-19.csv.gz": gzipped(
            f"id,timestamp,price,volume,side\n{text}\n"
        )
    }
    parts, _ = fetched(BYBIT_SPOT, market, tmp_path / "again", files, day)
    rows = without_stored(store, BYBIT_SPOT, parts[0].rows)
    store.merge(BYBIT_SPOT, "2025-05-19", rows, [day], "archive")
    assert store.load(BYBIT_SPOT).equals(once)


def test_a_bybit_spot_file_takes_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    start = at("2025-05-19")
    trades = [Trade(start + n * SECOND, None, str(n), 1.0, 1.0, True) for n in range(60)]
    store = DataStore(tmp_path)
    streamed(store, "2025-05-19", trades, [])
    path = store.folder(BYBIT_SPOT) / "2025-05-19.parquet"
    path.write_bytes(path.read_bytes()[:200])
    filled_from_bybit_spot(store, trades)
    assert store.load(BYBIT_SPOT).height == len(trades)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("BTCUSDT,Sell", "ETHUSDT,Sell", "another market"),
        ("Sell", "None", "neither buy nor sell"),
        ("1788220801,", "1788220801000,", "outside"),
        ("1788220801,", "1788307200,", "outside"),
        ("0.002,78541", "inf,78541", "not finite"),
        ("0.002,78541", ",78541", "lines have no size: 1"),
        ("trdMatchID", "id", "has no trdMatchID"),
    ],
)
def test_bybit_lines_that_cannot_be_right(tmp_path: Path, old: str, new: str, reason: str) -> None:
    files = {BYBIT_PATH.format("2026-09-01"): gzipped(BYBIT_NEW.replace(old, new, 1))}
    parts, refused = fetched(BYBIT, LINEAR, tmp_path, files, window("2026-09-01", "2026-09-02"))
    assert parts == []
    assert reason in refused[0].reason


def test_a_file_without_a_trade_is_no_answer(tmp_path: Path) -> None:
    files = {BYBIT_PATH.format("2026-09-01"): gzipped(f"{HEAD}\n")}
    day = window("2026-09-01", "2026-09-02")
    parts, refused = fetched(BYBIT, LINEAR, tmp_path, files, day)
    assert refused == []
    assert parts == []


def test_what_was_not_asked_for_is_left_out(tmp_path: Path) -> None:
    files = {BYBIT_PATH.format("2020-03-26"): gzipped(BYBIT_OLD)}
    wanted = Window(1_585_267_187_351_201, at("2020-03-27"))
    parts, _ = fetched(BYBIT, LINEAR, tmp_path, files, wanted)
    assert [row[1] for row in rows_of(parts)] == ["b702"]
    assert [part.covered for part in parts] == [[wanted]]


# --- OKX ----------------------------------------------------------------------------------------

OKX_PATH = "cdn/okex/traderecords/trades/daily/{}/BTC-USDT-SWAP-trades-{}.zip"
SWAP = Instrument(PERP, "BTC-USDT-SWAP", True, size=0.01)


def okx_file(date: str, text: str | bytes) -> dict[str, bytes]:
    path = OKX_PATH.format(date.replace("-", ""), date)
    return {path: zipped(f"BTC-USDT-SWAP-trades-{date}.csv", text)}


def okx_lines(*moments: str) -> list[str]:
    return [f"BTC-USDT-SWAP,{n},buy,42897.9,8.0,{at(m) // 1_000}" for n, m in enumerate(moments)]


def test_an_okx_file_is_a_day_of_utc_plus_8(tmp_path: Path) -> None:
    head = "instrument_name,trade_id,side,price,size,created_time"
    lines = okx_lines("2024-01-14T16:00", "2024-01-14T23:59:59.999", "2024-01-15T00:00")
    files = okx_file("2024-01-15", "\n".join([head, *lines]))
    days = window("2024-01-14", "2024-01-16")
    parts, refused = fetched(OKX, SWAP, tmp_path, files, days)
    assert refused == []
    assert [(part.period, part.rows.num_rows) for part in parts] == [
        ("2024-01-14", 2),
        ("2024-01-15", 1),
    ]
    assert [part.covered for part in parts] == [
        [window("2024-01-14T16:00", "2024-01-15")],
        [window("2024-01-15", "2024-01-15T16:00")],
    ]
    assert rows_of(parts)[0] == (at("2024-01-14T16:00"), "0", 42897.9, 0.08, "buy")


@pytest.mark.parametrize("encoding", ["utf-8", "gbk"])
def test_an_old_okx_header_has_chinese_in_it(tmp_path: Path, encoding: str) -> None:
    text = (
        "trade_id/交易id,side/交易方向,size/数量,price/价格,created_time/成交时间\n"
        f"719977054,sell,3,84760.0,{at('2023-04-18T20:00') // 1_000}\n"
    )
    files = okx_file("2023-04-19", text.encode(encoding))
    wanted = window("2023-04-18T16:00", "2023-04-19T16:00")
    parts, refused = fetched(OKX, SWAP, tmp_path, files, wanted)
    assert refused == []
    assert rows_of(parts) == [(at("2023-04-18T20:00"), "719977054", 84760.0, 0.03, "sell")]


def test_contracts_are_base_units_to_the_last_digit(tmp_path: Path) -> None:
    head = "instrument_name,trade_id,side,price,size,created_time"
    time = at("2024-01-14T16:00") // 1_000
    lines = [f"X,{n},buy,40000,{n},{time}" for n in range(1, 1_000)]
    files = okx_file("2024-01-15", "\n".join([head, *lines]))
    parts, _ = fetched(OKX, SWAP, tmp_path / "linear", files, window("2024-01-14", "2024-01-16"))
    assert [row[3] for row in rows_of(parts)] == [n / 100 for n in range(1, 1_000)]
    inverse = Instrument(PERP, "BTC-USDT-SWAP", True, size=100.0, inverse=True)
    parts, _ = fetched(OKX, inverse, tmp_path / "other", files, window("2024-01-14", "2024-01-16"))
    assert rows_of(parts)[7][3] == 8 * 100 / 40_000


def test_an_okx_day_cut_at_utc_midnight_is_refused(tmp_path: Path) -> None:
    head = "instrument_name,trade_id,side,price,size,created_time"
    files = okx_file("2024-01-15", "\n".join([head, *okx_lines("2024-01-15T20:00")]))
    parts, refused = fetched(OKX, SWAP, tmp_path, files, window("2024-01-14", "2024-01-16"))
    assert parts == []
    assert "outside" in refused[0].reason


def test_okx_files_are_not_expected_before_two_days(tmp_path: Path) -> None:
    from dccd_core.archives.okx import OkxTrades

    now = at("2024-01-18T17:00")
    files = OkxTrades().files(OKX, SWAP, window("2024-01-15", "2024-01-18"), now)
    assert [file.path[-14:-4] for file in files] == ["2024-01-15", "2024-01-16"]


# --- BitMEX -------------------------------------------------------------------------------------

XBT = Instrument(BITMEX.symbol, "XBTUSD", True)
# lines of 2018-12-05, all markets together
BITMEX_TEXT = f"""{HEAD}
2018-12-05D00:00:25.948313000,ADAZ18,Sell,166774,9.54e-06,MinusTick,4983,159102396,166774,1.591
2018-12-05D00:00:25.948313000,XBTUSD,Sell,11,3911.5,ZeroMinusTick,1d00,10494,0.00281222,11
2018-12-05D23:59:59.999999999,XBTUSD,Buy,100,3912,PlusTick,214a,9523,0.02556237,100
"""


def test_bitmex_takes_the_lines_of_its_market_in_base_units(tmp_path: Path) -> None:
    files = {"data/trade/20181205.csv.gz": gzipped(BITMEX_TEXT)}
    day = window("2018-12-05", "2018-12-06")
    parts, refused = fetched(BITMEX, XBT, tmp_path, files, day)
    assert refused == []
    start = at("2018-12-05")
    assert rows_of(parts) == [
        (start + 25_948_313, "1d00", 3911.5, 0.00281222, "sell"),
        (start + 86_400 * SECOND - 1, "214a", 3912.0, 0.02556237, "buy"),
    ]
    assert [part.covered for part in parts] == [[day]]


def test_bitmex_lines_of_an_index_have_no_amount(tmp_path: Path) -> None:
    index = "2018-12-05D00:00:00.000000000,.BXBT,,0,3900,PlusTick,1e00,,,\n"
    files = {"data/trade/20181205.csv.gz": gzipped(BITMEX_TEXT + index)}
    day = window("2018-12-05", "2018-12-06")
    parts, refused = fetched(BITMEX, XBT, tmp_path / "good", files, day)
    assert refused == []
    assert parts[0].rows.num_rows == 2
    bad = BITMEX_TEXT.replace("0.02556237", "")
    files = {"data/trade/20181205.csv.gz": gzipped(bad)}
    parts, refused = fetched(BITMEX, XBT, tmp_path / "bad", files, day)
    assert parts == []
    assert "without its price or its amount" in refused[0].reason


def test_bitmex_without_a_trade_of_its_market(tmp_path: Path) -> None:
    files = {"data/trade/20181205.csv.gz": gzipped(BITMEX_TEXT)}
    market = Instrument(BITMEX.symbol, "XBTZ18", True)
    parts, refused = fetched(BITMEX, market, tmp_path, files, window("2018-12-05", "2018-12-06"))
    assert refused == []
    assert [part.rows.num_rows for part in parts] == [0]


def test_bitmex_takes_the_trades_that_rest_has_where_the_file_tells_their_kind(
    tmp_path: Path,
) -> None:
    head, *lines = BITMEX_TEXT.splitlines()
    kinds = ["Regular", "Regular", "Settlement"]
    text = "\n".join([f"{head},trdType", *map(",".join, zip(lines, kinds, strict=True)), ""])
    files = {"data/trade/20181205.csv.gz": gzipped(text)}
    parts, refused = fetched(BITMEX, XBT, tmp_path, files, window("2018-12-05", "2018-12-06"))
    assert refused == []
    assert [row[1] for row in rows_of(parts)] == ["1d00"]


@pytest.mark.parametrize("hours", [7, 24])
def test_bitmex_the_lines_of_all_markets_tell_where_a_file_is_cut(
    hours: int, tmp_path: Path
) -> None:
    """Of one market with a trade a day nobody could tell."""
    others = "".join(
        f"2018-12-05D{n // 60:02}:{n % 60:02}:59.000000000,ADAZ18,Sell,1,9e-06,x,{n},1,1,1\n"
        for n in range(hours * 60)
    )
    one = "2018-12-05D06:00:00.000000000,XBTUSD,Sell,11,3911.5,x,1d00,10494,0.00281222,11\n"
    files = {"data/trade/20181205.csv.gz": gzipped(f"{HEAD}\n{others}{one}")}
    day = window("2018-12-05", "2018-12-06")
    parts, refused = fetched(BITMEX, XBT, tmp_path, files, day)
    assert (refused, len(rows_of(parts))) == ([], 1)
    end = day.end if hours == 24 else at("2018-12-05T06:59:59") + 1
    assert [part.covered for part in parts] == [[Window(day.start, end)]]


def test_bitmex_times_that_cannot_be_read(tmp_path: Path) -> None:
    files = {"data/trade/20181205.csv.gz": gzipped(BITMEX_TEXT.replace("05D00", "05X0"))}
    parts, refused = fetched(BITMEX, XBT, tmp_path, files, window("2018-12-05", "2018-12-06"))
    assert parts == []
    assert "time that cannot be read" in refused[0].reason


# --- ids ----------------------------------------------------------------------------------------


def table_of(ids: list[int | str], *, backwards: bool = False) -> pa.Table:
    times = [n if isinstance(n, int) else 0 for n in ids]
    order = list(range(len(ids)))[:: -1 if backwards else 1]
    return pa.table(
        {
            "time": pa.array([times[n] for n in order], pa.timestamp("us", "UTC")),
            "trade_id": pa.array([str(ids[n]) for n in order]),
        }
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_holes_in_ids_are_found_in_blocks_and_between_them(backwards: bool) -> None:
    blocks = [[1, 2, 3], [4, 5, 9], [12, 13], [14]]
    seen = Ids()
    found = [
        hole
        for ids in (blocks[::-1] if backwards else blocks)
        for hole in seen.holes(table_of(ids, backwards=backwards))
    ]
    assert sorted(found) == [Window(5, 10), Window(9, 13)]


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ([[1, 2, 2]], "trade 2 is there twice"),
        ([[1, 2], [2, 3]], "neither in ascending"),
        ([[1, 2], [7, 8], [4]], "neither in ascending"),
        ([["a"]], "no number"),
    ],
)
def test_ids_that_cannot_be_right(blocks: list[list[int | str]], reason: str) -> None:
    seen = Ids()
    *good, bad = blocks
    assert [seen.holes(table_of(ids)) for ids in good][1:] in ([], [[Window(2, 8)]])
    with pytest.raises(ArchiveError, match=reason):
        seen.holes(table_of(bad))


def test_a_hole_of_an_okx_file_is_left_to_rest(tmp_path: Path) -> None:
    head = "instrument_name,trade_id,side,price,size,created_time"
    start = at("2024-01-14T16:00") // 1_000
    lines = [f"X,{n},buy,40000,1,{start + n * 1_000}" for n in (5, 4, 2, 1)]
    files = okx_file("2024-01-15", "\n".join([head, *lines]))
    wanted = window("2024-01-15T08:00", "2024-01-15T16:00")
    wanted = Window(at("2024-01-14T16:00"), wanted.end)
    parts, refused = fetched(OKX, SWAP, tmp_path, files, wanted)
    assert refused == []
    assert [row[1] for row in rows_of(parts)] == ["1", "2", "4", "5"]
    first = start * 1_000
    assert parts[0].covered == [
        Window(wanted.start, first + 2 * SECOND),
        Window(first + 4 * SECOND + 1, at("2024-01-15")),
    ]


# --- before the exchange's own reach ------------------------------------------------------------


def test_files_are_asked_for_what_the_exchange_does_not_reach(tmp_path: Path) -> None:
    """A plan leaves out what REST cannot give; that is what files are for."""
    head = "instrument_name,trade_id,side,price,size,created_time"
    files = okx_file("2024-01-15", "\n".join([head, *okx_lines("2024-01-15T00:00")]))
    files |= okx_file("2024-01-16", "\n".join([head]))
    day = Cell(OKX, "2024-01-15", window("2024-01-15", "2024-01-16"))
    store = DataStore(tmp_path)
    plan = Plan(day, [], [], note="only published files have it")
    with serving(files) as host, opened("okx", store.private, host) as archive:
        first = ArchiveFirst(archive, store, lambda _: SWAP, lambda _: None)
        first.fill([plan])
        count = archive.requests
        first.fill([plan])
        assert archive.requests == count == 2
    assert store.missing_windows(OKX, day.window) == []
    assert store.load(OKX)["trade_id"].to_list() == ["0"]
