"""What a host may do to a download, and what is remembered of it."""

import threading
import time
from pathlib import Path

import pytest
from archives.host import Host, opened, serving, sorted_out, with_checksum, zipped

from dccd_core.archives import download, open_archive, sources
from dccd_core.archives.base import ArchiveError, ArchiveFile
from dccd_core.archives.choice import choose, length
from dccd_core.archives.memory import Absent
from dccd_core.exchanges import load
from dccd_core.exchanges.base import Instrument
from dccd_core.limits import Cancelled
from dccd_core.models import DAY, SECOND, Channel, Series, Symbol, Window

SERIES = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
MARKET = Instrument(SERIES.symbol, "BTCUSDT", True)
FIRST = 1_714_521_600  # 2024-05-01
PATH = "data/spot/{}/trades/BTCUSDT/BTCUSDT-trades-{}.zip"
DAILY, MONTHLY = PATH.format("daily", "2024-05-01"), PATH.format("monthly", "2024-05")
WINDOW = Window(FIRST * SECOND, (FIRST + DAY) * SECOND)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "DELAY", 0.01)


def day_file(count: int = 50) -> dict[str, bytes]:
    lines = [f"{n},5.5,1.5,8.25,{(FIRST + n) * 1_000},False,True" for n in range(count)]
    content = zipped("BTCUSDT-trades-2024-05-01.csv", "\n".join(lines))
    return with_checksum(DAILY, content)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def fetched(host: Host, private: Path, **options: object) -> tuple[int, list[str]]:
    """Rows that came, reasons of what was refused."""
    with opened("binance", private, host, **options) as archive:
        parts, refused = sorted_out(archive.fetch(SERIES, MARKET, [WINDOW]))
    return sum(part.rows.num_rows for part in parts), [one.reason for one in refused]


def test_every_exchange_with_files_is_an_exchange() -> None:
    assert set(sources()) == {"binance", "binance_usdm", "bitmex", "bybit", "kraken", "okx"}
    for name in sources():
        assert load(name).name == name


def test_an_exchange_without_files_has_no_archive(tmp_path: Path) -> None:
    assert open_archive(load("coinbase"), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_on_disk_and_nothing_is_asked_before_the_first_item(tmp_path: Path) -> None:
    with serving(day_file()) as host, opened("binance", tmp_path, host) as archive:
        items = archive.fetch(SERIES, MARKET, [WINDOW])
        assert host.asked == []
        assert len(list(items)) == 1
        assert list((tmp_path / "downloads").iterdir()) == []
        assert archive.bytes > 0


def test_absent_files_are_remembered_by_the_next_archive(tmp_path: Path) -> None:
    with serving({}) as host:
        assert fetched(host, tmp_path) == (0, [])
        assert host.paths == [DAILY, MONTHLY]
        assert fetched(host, tmp_path) == (0, [])
        assert host.paths == [DAILY, MONTHLY]


def test_a_late_file_is_asked_for_again_soon_an_old_one_later(tmp_path: Path) -> None:
    absent = Absent(tmp_path / "absent.json")
    now, hour = 10**15, 3_600 * SECOND
    absent.add("new", Window(now - 2 * DAY * SECOND, now - DAY * SECOND), now)
    absent.add("old", Window(0, 1), now)
    absent.save(now)
    for notes in (absent, Absent(tmp_path / "absent.json")):
        assert notes.known("new", now + 5 * hour)
        assert not notes.known("new", now + 7 * hour)
        assert notes.known("old", now + 29 * 24 * hour)
        assert not notes.known("old", now + 31 * 24 * hour)
    (tmp_path / "absent.json").write_bytes(b"{damaged")
    assert not Absent(tmp_path / "absent.json").known("old", now)


def test_what_other_processes_remember_is_kept(tmp_path: Path) -> None:
    one, two = Absent(tmp_path / "a.json"), Absent(tmp_path / "a.json")
    one.add("one", Window(0, 1), 0)
    two.add("two", Window(0, 1), 0)
    one.save(0)
    two.save(0)
    both = Absent(tmp_path / "a.json")
    assert both.known("one", 1)
    assert both.known("two", 1)


def test_s3_says_403_of_a_key_that_it_does_not_have(tmp_path: Path) -> None:
    with serving({}, refusal=b"<Error><Code>AccessDenied</Code></Error>") as host:
        host.before = lambda _path, _count: 403
        assert fetched(host, tmp_path) == (0, [])
        assert host.paths == [DAILY, MONTHLY]


def test_an_address_that_is_refused_is_told_once(tmp_path: Path) -> None:
    with serving({}, refusal=b"<h1>The request could not be satisfied</h1>") as host:
        host.before = lambda _path, _count: 403
        _, reasons = fetched(host, tmp_path)
    assert len(reasons) == len(host.paths) == 1
    assert "HTTP 403" in reasons[0]


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_busy_host_is_asked_again(tmp_path: Path, status: int) -> None:
    with serving(day_file(), headers={"Retry-After": "0"}) as host:
        host.before = lambda path, count: status if path == DAILY and count == 1 else None
        assert fetched(host, tmp_path) == (50, [])


def test_a_host_that_is_down_is_given_up_after_three_attempts(tmp_path: Path) -> None:
    month = Window(WINDOW.start, WINDOW.end + 30 * DAY * SECOND)
    with serving({}) as host:
        host.before = lambda _path, _count: 500
        with opened("binance", tmp_path, host) as archive:
            parts, refused = sorted_out(archive.fetch(SERIES, MARKET, [month]))
            assert sorted_out(archive.fetch(SERIES, MARKET, [month])) == ([], [])
    assert parts == []
    assert len(refused) == 1
    assert "after 3 attempts" in refused[0].reason
    assert len(host.asked) == 3


def test_no_host_at_all(tmp_path: Path) -> None:
    rows, reasons = fetched(Host({}, url="http://127.0.0.1:1"), tmp_path)
    assert rows == 0
    assert len(reasons) == 1
    assert "127.0.0.1:1" in reasons[0]


def test_a_connection_that_breaks_is_not_a_whole_file(tmp_path: Path) -> None:
    with serving(day_file(), cut=100) as host:
        rows, reasons = fetched(host, tmp_path)
    assert rows == 0
    assert "after 3 attempts" in reasons[0]
    assert host.paths.count(DAILY) == 3


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with serving({}, headers={"Location": "http://127.0.0.1:1/elsewhere"}) as host:
        host.before = lambda _path, _count: 302
        _, reasons = fetched(host, tmp_path)
    assert "HTTP 302" in reasons[0]


def test_a_file_that_is_too_large_is_not_taken(tmp_path: Path, monkeypatch: object) -> None:
    with serving(day_file(5_000)) as host:
        monkeypatch.setattr(download, "LARGEST", 1_000)  # type: ignore[attr-defined]
        rows, reasons = fetched(host, tmp_path)
    assert rows == 0
    assert "more than 1,000" in reasons[0]


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ROOM", 2**60)
    with serving(day_file()) as host:
        rows, reasons = fetched(host, tmp_path)
    assert rows == 0
    assert "no room" in reasons[0]


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.tempfile, "TemporaryFile", full)
    with serving(day_file()) as host:
        rows, reasons = fetched(host, tmp_path)
    assert rows == 0
    assert "No space left on device" in reasons[0]


def test_cancel_ends_a_download_that_drips(tmp_path: Path) -> None:
    cancel = threading.Event()
    with (
        serving(day_file(), drip=0.05) as host,
        opened("binance", tmp_path, host, cancel=cancel) as archive,
    ):
        threading.Timer(0.3, cancel.set).start()
        with pytest.raises(Cancelled):
            list(archive.fetch(SERIES, MARKET, [WINDOW]))


def test_a_closed_generator_and_a_closed_archive_leave_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    handles = open_files()
    month = Window(WINDOW.start, WINDOW.end + 6 * DAY * SECOND)
    with serving(day_file(), drip=0.001) as host:
        archive = opened("binance", tmp_path, host)
        items = archive.fetch(SERIES, MARKET, [month])
        next(items)
        items.close()
        archive.close()
    for _ in range(100):
        if threading.active_count() <= before and open_files() <= handles:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before
    assert open_files() <= handles


def test_a_proxy_is_used_and_its_password_is_not_told(tmp_path: Path) -> None:
    with serving({}) as proxy:
        proxy.before = lambda _path, _count: 404
        target = Host({}, url="http://archive.invalid")
        address = proxy.url.replace("http://", "http://me:sesame@")
        rows, reasons = fetched(target, tmp_path, proxy=address)
        assert (rows, reasons) == (0, [])
        assert proxy.paths[0].endswith(DAILY)
    rows, reasons = fetched(target, tmp_path / "x", proxy="http://me:sesame@127.0.0.1:1")
    assert reasons
    assert "sesame" not in str(reasons)


def test_a_range_that_is_not_served_is_an_error(tmp_path: Path) -> None:
    with serving({"a": b"0123456789"}) as host:
        with download.Host(host.url, tmp_path, proxy=None, threads=1, cancel=None) as served:
            found = served.download("a", span=(2, 5))
            assert found is not None
            assert found.file.read() == b"234"
            assert found.total == 10
            found.file.close()
        host.before = lambda _path, _count: 200
        with (
            download.Host(host.url, tmp_path, proxy=None, threads=1, cancel=None) as served,
            pytest.raises(ArchiveError, match="ranges"),
        ):
            served.download("a", span=(2, 5))


# --- which files --------------------------------------------------------------------------------


def files_of(*windows: tuple[int, int]) -> list[ArchiveFile]:
    return [ArchiveFile(f"{start}-{end}", Window(start, end)) for start, end in windows]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([(0, 30)], ["0-30"]),
        ([(5, 25)], ["0-30"]),
        ([(0, 2)], ["0-1", "1-2"]),
        ([(0, 40)], ["0-30", "30-40"]),
        ([(50, 60)], []),
    ],
)
def test_large_files_where_much_is_missing_small_ones_else(
    missing: list[tuple[int, int]], expected: list[str]
) -> None:
    days = [(n, n + 1) for n in range(30)]
    candidates = files_of((0, 30), *days, (30, 40))
    windows = [Window(*one) for one in missing]
    chosen = choose(candidates, windows, lambda part: length(part) > 0)
    assert [file.path for file in chosen] == expected


def test_a_large_file_where_there_is_no_small_one() -> None:
    chosen = choose(files_of((0, 30)), [Window(0, 2)], lambda part: length(part) > 0)
    assert [file.path for file in chosen] == ["0-30"]


def test_what_is_absent_is_asked_for_ever_less_often(tmp_path: Path) -> None:
    day = WINDOW
    now, asked = day.end, list[int]()
    while now < day.end + 45 * DAY * SECOND:
        absent = Absent(tmp_path / "absent.json")
        if not absent.known("file", now):
            absent.add("file", day, now)
            absent.save(now)
            asked.append(now)
        now += 3_600 * SECOND
    assert asked[1] - asked[0] == 6 * 3_600 * SECOND
    assert 15 < len(asked) < 25
    assert 7 < (asked[-1] - asked[-2]) / (DAY * SECOND) < 11
    absent.add("old", Window(0, DAY * SECOND), now)
    assert absent.known("old", now + 29 * DAY * SECOND)
    assert not absent.known("old", now + 31 * DAY * SECOND)
