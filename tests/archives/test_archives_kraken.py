"""Kraken's zips: one file out of many by ranges, over the borders of parts, and what it covers."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from archives.host import Host, opened, serving, sorted_out
from helpers import at, window

from dccd_core.archives import archive as archive_module
from dccd_core.archives import ranges
from dccd_core.archives.base import Part, Refused
from dccd_core.exchanges.base import Instrument
from dccd_core.models import SECOND, Channel, Series, Symbol, Window

BTC = Series("kraken", Channel.OHLC, Symbol("BTC", "USD"), 3_600)
MARKET = Instrument(BTC.symbol, "XBTUSD", True)
HOUR = 3_600
FOLDER = "marketing/institutions/Kraken_OHLCVT_"
NOW = "2026-08-20"


@pytest.fixture(autouse=True)
def summer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "_now", lambda: at(NOW))


def csv_of(opens: Sequence[int]) -> str:
    lines = [f"{t},{n + 1}.5,{n + 3}.0,{n}.25,{n + 2}.125,1.5,{n}" for n, t in enumerate(opens)]
    return "\n".join([*lines, ""])


def hours(start: str, end: str, *, without: Sequence[int] = ()) -> list[int]:
    first, last = at(start) // SECOND, at(end) // SECOND
    return [t for n, t in enumerate(range(first, last, HOUR)) if n not in without]


def zip_of(files: dict[str, str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as made:
        for name, text in files.items():
            made.writestr(name, text)
    return held.getvalue()


def in_parts(name: str, content: bytes, size: int) -> dict[str, bytes]:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return {f"{FOLDER}{name}.zip.part{n:02}": piece for n, piece in enumerate(pieces)}


def fetched(host: Host, private: Path, *windows: Window) -> tuple[list[Part], list[Refused]]:
    with opened("kraken", private, host) as archive:
        return sorted_out(archive.fetch(BTC, MARKET, list(windows)))


def opens_of(parts: list[Part]) -> list[int]:
    times = [part.rows.column("time").cast(pa.int64()).to_pylist() for part in parts]
    return sorted(time // SECOND for found in times for time in found)


OTHERS = {f"P{n}USD_60.csv": csv_of(hours("2025-01-01", "2025-01-03")) for n in range(300)}
# 2025-12-31T22:00 and two hours of 2026 had no trades
OLD = hours("2025-12-01", "2026-04-01", without=[742, 744, 745])


@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_one_file_out_of_parts(tmp_path: Path, pieces: int, method: int) -> None:
    content = zip_of({**OTHERS, "XBTUSD_60.csv": csv_of(OLD), "XBTUSD_1.csv": "x"}, method)
    size = len(content) // pieces + 1
    with serving(in_parts("Full_2026Q1", content, size)) as host:
        parts, refused = fetched(host, tmp_path, window("2025-06-01", "2026-08-01"))
    assert refused == []
    assert opens_of(parts) == hours("2025-12-01", "2026-04-01")
    assert [part.period for part in parts] == ["2025", "2026"]
    assert [w for part in parts for w in part.covered] == [
        window("2025-12-01", "2026-01-01"),
        window("2026-01-01", "2026-04-01"),
    ]
    rows = parts[0].rows.to_pylist()
    assert (rows[1]["open"], rows[1]["high"], rows[1]["low"]) == (2.5, 4.0, 1.25)
    assert (rows[1]["close"], rows[1]["volume"], rows[1]["trades"]) == (3.125, 1.5, 1)
    assert rows[1]["quote_volume"] is None
    last, flat = rows[741], rows[742]
    assert {flat[name] for name in ("open", "high", "low", "close")} == {last["close"]}
    assert (flat["volume"], flat["trades"], flat["quote_volume"]) == (0.0, 0, None)
    # the first hour of 2026 is flat at the close of 2025's last one
    assert parts[1].rows.to_pylist()[0]["close"] == rows[743]["close"]
    assert parts[1].rows.to_pylist()[0]["volume"] == 0.0


def test_only_the_wanted_file_and_the_contents_are_read(tmp_path: Path) -> None:
    big = "".join(f"{n * 2654435761 % 2**32:x}" for n in range(2_000_000))
    content = zip_of({"BIG_60.csv": big, "XBTUSD_60.csv": csv_of(OLD), **OTHERS})
    assert len(content) > 3 * ranges.TAIL
    with serving(in_parts("Full_2026Q1", content, 10**9)) as host:
        fetched(host, tmp_path, window("2025-06-01", "2026-03-01"))
        first = list(host.asked)
        with opened("kraken", tmp_path, host) as archive:
            parts, _ = sorted_out(archive.fetch(BTC, MARKET, [window("2025-06-01", "2026-03-01")]))
            assert archive.requests == 1  # the contents are known from before
            assert archive.bytes < 200_000
    assert parts
    assert len([one for one in first if "part00" in one[0] and "2026Q1" in one[0]]) == 3


def test_the_newest_zip_there_is_and_the_quarters_after_it(tmp_path: Path) -> None:
    old = zip_of({"XBTUSD_60.csv": csv_of(hours("2025-12-01", "2026-04-01"))})
    new = zip_of({"XBTUSD_60.csv": csv_of(hours("2026-04-01", "2026-07-01"))})
    files = in_parts("Full_2026Q1", old, 10**9) | {f"{FOLDER}2026Q2.zip": new}
    with serving(files) as host:
        parts, refused = fetched(host, tmp_path, window("2025-12-01", "2026-08-01"))
    assert refused == []
    assert opens_of(parts) == hours("2025-12-01", "2026-07-01")


def test_a_quarter_alone_is_taken_from_its_own_zip(tmp_path: Path) -> None:
    new = zip_of({"XBTUSD_60.csv": csv_of(hours("2026-04-01", "2026-07-01"))})
    with serving({f"{FOLDER}2026Q2.zip": new}) as host:
        parts, _ = fetched(host, tmp_path, window("2026-04-10", "2026-05-01"))
        assert all("2026Q2.zip" in path for path in host.paths)
    assert opens_of(parts) == hours("2026-04-10", "2026-05-01")
    assert [w for part in parts for w in part.covered] == [window("2026-04-10", "2026-05-01")]


def test_a_pair_that_is_not_in_it_is_not_asked_for_again(tmp_path: Path) -> None:
    files = {f"{FOLDER}2026Q2.zip": zip_of({"ETHUSD_60.csv": "x"})}
    asked = window("2026-04-10", "2026-07-01")
    with serving(files) as host:
        assert fetched(host, tmp_path, asked) == ([], [])
        count = len(host.asked)
        assert fetched(host, tmp_path, asked) == ([], [])
        assert len(host.asked) == count


def test_a_file_of_that_name_in_a_folder_is_found_two_are_refused(tmp_path: Path) -> None:
    text = csv_of(hours("2026-04-01", "2026-07-01"))
    asked = window("2026-04-10", "2026-07-01")
    with serving({f"{FOLDER}2026Q2.zip": zip_of({"master/XBTUSD_60.csv": text})}) as host:
        parts, _ = fetched(host, tmp_path / "one", asked)
        assert parts
    double = zip_of({"a/XBTUSD_60.csv": text, "b/XBTUSD_60.csv": text})
    with serving({f"{FOLDER}2026Q2.zip": double}) as host:
        parts, refused = fetched(host, tmp_path / "two", asked)
    assert parts == []
    assert "2 times" in refused[0].reason


def test_a_zip_that_was_replaced_is_noticed_and_read_anew(tmp_path: Path) -> None:
    asked = window("2026-04-10", "2026-07-01")
    path = f"{FOLDER}2026Q2.zip"
    text = csv_of(hours("2026-04-01", "2026-07-01"))
    with serving({path: zip_of({"XBTUSD_60.csv": text})}) as host:
        assert fetched(host, tmp_path, asked)[0]
        host.files[path] = zip_of({**OTHERS, "XBTUSD_60.csv": text})
        parts, refused = fetched(host, tmp_path, asked)
        assert parts == []
        assert "has changed" in refused[0].reason
        assert opens_of(fetched(host, tmp_path, asked)[0]) == hours("2026-04-10", "2026-07-01")


@pytest.mark.parametrize("place", [0, 20, 60, 200])
def test_a_flipped_bit_is_found(tmp_path: Path, place: int) -> None:
    content = bytearray(zip_of({"XBTUSD_60.csv": csv_of(hours("2026-04-01", "2026-07-01"))}))
    content[place] ^= 4
    with serving({f"{FOLDER}2026Q2.zip": bytes(content)}) as host:
        parts, refused = fetched(host, tmp_path, window("2026-04-10", "2026-07-01"))
    if place != 20:  # the size in a local header, which nobody reads
        assert parts == []
        assert refused


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    with serving({f"{FOLDER}2026Q2.zip": b"<html>" * 1_000}) as host:
        parts, refused = fetched(host, tmp_path, window("2026-04-10", "2026-07-01"))
    assert parts == []
    assert "table of contents" in refused[0].reason


def test_a_week_is_not_published(tmp_path: Path) -> None:
    week = Series("kraken", Channel.OHLC, BTC.symbol, 604_800)
    with serving({}) as host, opened("kraken", tmp_path, host) as archive:
        assert not archive.offers(week)
        assert archive.files(week, MARKET, [window("2020-01-01", "2026-01-01")]) == []


def test_what_is_after_the_last_candle_is_not_known(tmp_path: Path) -> None:
    ended = zip_of({"XBTUSD_60.csv": csv_of(hours("2026-04-02", "2026-05-01"))})
    with serving({f"{FOLDER}2026Q2.zip": ended}) as host:
        parts, refused = fetched(host, tmp_path, window("2026-04-01", "2026-07-01"))
    assert refused == []
    assert [w for part in parts for w in part.covered] == [window("2026-04-02", "2026-05-01")]


def test_candles_by_the_million_come_in_blocks(tmp_path: Path) -> None:
    minute = Series("kraken", Channel.OHLC, BTC.symbol, 60)
    first = at("2024-06-01") // SECOND
    opens = [first + 60 * n for n in range(300_000) if n % 7]
    with (
        serving(
            {
                f"{FOLDER}2026Q2.zip": zip_of({}),
                **in_parts("Full_2026Q2", zip_of({"XBTUSD_1.csv": csv_of(opens)}), 10**9),
            }
        ) as host,
        opened("kraken", tmp_path, host) as archive,
    ):
        wanted = [window("2024-01-01", "2026-01-01")]
        parts, refused = sorted_out(archive.fetch(minute, MARKET, wanted))
    assert refused == []
    assert opens_of(parts) == list(range(opens[0], opens[-1] + 60, 60))
