"""Candle files: read, refused with reasons, served as they are."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from sandbox_client import ask

from dccd_sandbox import Sandbox, Settings
from dccd_sandbox.files import FileMarket

REAL = Path("/work/shared/market_data")
MINUTE0 = 1_700_000_100_000
PAIR = ("XBT", "X", "BT")
LINES = [
    (MINUTE0, "10.5", "11", "10.25", "10.75", "3.00000000000000000001"),
    (MINUTE0 + 60_000, "10.75", "10.75", "10", "10", "0"),
    (MINUTE0 + 240_000, "10", "12", "9", "11", "1e-3"),
]


def csv(path: Path, lines: list[tuple[object, ...]], header: str = "") -> Path:
    text = "\n".join(",".join(map(str, line)) for line in lines)
    path.write_text(f"{header}\n{text}\n" if header else f"{text}\n", encoding="utf-8")
    return path


def served(path: Path, interval: str = "1m", span: str = "1m") -> list[list[str | int]]:
    spec = f"XBT:X:BT:{span}:{path}"
    with Sandbox(Settings(symbols=(), candles=(spec,), weight_limit=0)) as box:
        query = {"symbol": "XBT", "interval": interval, "startTime": 0}
        rows: list[list[str | int]] = ask(box, "/binance/api/v3/klines", **query).json
        return rows


def test_holes_stay_and_digits_stay(tmp_path: Path) -> None:
    rows = served(csv(tmp_path / "x.csv", LINES))
    assert [row[0] for row in rows] == [line[0] for line in LINES]
    assert [row[4] for row in rows] == ["10.75", "10.00", "11.00"]
    assert [row[5] for row in rows] == [
        "3.00000000000000000001",
        "0.00000000000000000000",
        "0.00100000000000000000",
    ]
    assert [row[8] for row in rows] == [0, 0, 0]
    assert {float(row[7]) for row in rows} == {0.0}


def test_longer_spans_are_summed_and_shorter_ones_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "x.csv", LINES)
    (row,) = served(path, "5m")
    assert row[:6] == [
        MINUTE0 // 300_000 * 300_000,
        *("10.50", "12.00", "9.00", "11.00", "3.00100000000000000001"),
    ]
    assert served(path, "1s") == {"code": -1120, "msg": "Invalid interval."}


@pytest.mark.parametrize(
    "times",
    [
        [t // 1_000 for t, *_ in LINES],
        [t for t, *_ in LINES],
        [t * 1_000 for t, *_ in LINES],
        [t * 1_000_000 for t, *_ in LINES],
        [datetime.fromtimestamp(t / 1_000, UTC).isoformat() for t, *_ in LINES],
        [datetime.fromtimestamp(t / 1_000, UTC).strftime("%Y-%m-%d %H:%M") for t, *_ in LINES],
    ],
    ids=["s", "ms", "us", "ns", "iso", "naive"],
)
def test_times_of_every_kind(tmp_path: Path, times: list[object]) -> None:
    lines = [(time, *line[1:]) for time, line in zip(times, LINES, strict=True)]
    path = csv(tmp_path / "x.csv", lines, "Date,Open,High,Low,Close,Volume")
    assert FileMarket(PAIR, 60, path).candles(60, 0, 2**62, 2**62)[:, 0].tolist() == [
        line[0] for line in LINES
    ]


def test_newest_first_is_turned(tmp_path: Path) -> None:
    assert served(csv(tmp_path / "x.csv", LINES[::-1])) == served(csv(tmp_path / "y.csv", LINES))


def test_parquet_and_json(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "time": pl.Series([line[0] for line in LINES]).cast(pl.Datetime("ms", "UTC")),
            **{
                name: [float(str(line[n])) for line in LINES]
                for n, name in enumerate(("open", "high", "low", "close", "volume"), 1)
            },
            "trades": [3, 0, 1],
        }
    )
    frame.write_parquet(tmp_path / "x.parquet")
    rows = served(tmp_path / "x.parquet")
    assert [(row[0], float(row[1]), float(row[5]), row[8]) for row in rows] == [
        (line[0], float(str(line[1])), float(str(line[5])), count)
        for line, count in zip(LINES, (3, 0, 1), strict=True)
    ]
    content = [[line[0], *map(float, map(str, line[1:]))] for line in LINES]
    (tmp_path / "x.json").write_text(json.dumps(content), encoding="utf-8")
    assert [row[:2] for row in served(tmp_path / "x.json")] == [
        [MINUTE0, "10.50"],
        [MINUTE0 + 60_000, "10.75"],
        [MINUTE0 + 240_000, "10.00"],
    ]


def test_binance_archive_keeps_all_its_columns(tmp_path: Path) -> None:
    line = "1637971200000,0.2,0.3,0.1,0.2,304.20,1637971259999,1.035,79,23.00,0.55,0"
    (tmp_path / "x.csv").write_text(line + "\n", encoding="utf-8")
    (row,) = served(tmp_path / "x.csv")
    assert ",".join(map(str, row)) == line.replace(",0.55,", ",0.550,")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("time,open,high,low,close,volume\n", "no candles"),
        ("1700000040000,1,1,1,1\n", "5 columns and no header"),
        ("time,open,high,low,close\n1700000040000,1,1,1,1\n", "volume"),
        ("1700000040000,1,2,1,x,1\n", "candle 1: close is 'x'"),
        ("1700000040000,1,2,1,nan,1\n", "candle 1: close is 'nan'"),
        ("1700000040000,1,2,1,1,-1\n", "candle 1: volume is '-1'"),
        ("1700000040000,3,2,1,1,1\n", "high or low"),
        ("1700000041000,1,2,1,1,1\n", "not the open"),
        ("17,1,2,1,1,1\n", "between 2009 and 2100"),
        ("yesterday,1,2,1,1,1\n", "neither a number nor ISO"),
        ("1700000040000,1,2,1,1,1\n1700000040000,1,2,1,1,1\n", "twice"),
    ],
)
def test_refused_with_a_reason(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words) as caught:
        FileMarket(PAIR, 60, path)
    assert str(path) in str(caught.value)


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.txt"):
        FileMarket(PAIR, 60, tmp_path / "x.txt")
    (tmp_path / "x.json").write_text('{"rows": []}', encoding="utf-8")
    with pytest.raises(ValueError, match="JSON list"):
        FileMarket(PAIR, 60, tmp_path / "x.json")


@pytest.mark.skipif(not REAL.exists(), reason="real market data is not here")
def test_real_files_are_served_whole() -> None:
    names = ("btc-perp-20211231-20220201_1m.csv", "UNITTEST_BTC-1m.json")
    frame = pl.read_csv(REAL / names[0])
    wanted = {
        "A": [
            (int(datetime.fromisoformat(t).replace(tzinfo=UTC).timestamp() * 1_000), *rest)
            for t, *rest in frame.iter_rows()
        ],
        "B": [tuple(row) for row in json.loads((REAL / names[1]).read_text(encoding="utf-8"))],
    }
    specs = tuple(f"{name}:X:Y:1m:{REAL / path}" for name, path in zip("AB", names, strict=True))
    with Sandbox(Settings(symbols=(), candles=specs, weight_limit=0)) as box:
        for name, rows in wanted.items():
            got: list[tuple[float, ...]] = []
            start = 0
            while page := ask(
                box,
                "/binance/api/v3/klines",
                symbol=name,
                interval="1m",
                startTime=start,
                limit=1_000,
            ).json:
                got += [(row[0], *map(float, row[1:6])) for row in page]
                start = page[-1][0] + 1
            assert got == rows
        assert box.truth("B", "1m", 0, 2**42).height == len(wanted["B"])
