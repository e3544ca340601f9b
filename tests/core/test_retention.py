"""What is old and at every remote is removed here; nothing else ever is."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers import BTC_1H, at, table
from remotes import WebDav, rclone_config, tree, web_dav

from dccd_core import retention
from dccd_core.config import Config, ConfigError, parse_config
from dccd_core.derived import Deriver
from dccd_core.exchanges.base import Limits
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Symbol, Window, iso, moment
from dccd_core.offsite import PushError, RemoteStorage
from dccd_core.offsite_rclone import OffsiteError
from dccd_core.offsite_restored import AWAY
from dccd_core.plan import cells, plan_days, plan_years
from dccd_core.retention import Cleared, Retention
from dccd_core.store import files
from dccd_core.store.datastore import DataStore
from dccd_core.store.gaps import GapKind
from dccd_core.store.removed import read_removed, write_removed
from dccd_core.store.schemas import trades_table

BTC = Series("binance", Channel.TRADES, Symbol("BTC", "USDT"))
ETH = replace(BTC, symbol=Symbol("ETH", "USDT"))
KRAKEN = Series("kraken", Channel.TRADES, Symbol("BTC", "USD"))
TODAY = datetime.now(UTC).date()
DAYS = [(TODAY - timedelta(days=n)).isoformat() for n in (60, 59, 58, 2, 1)]
START = DAYS[0]
CONFIG = """\
settings: {{data_path: ./data, timezone: UTC}}
trades_jobs:
  - {{exchange: binance, pairs: [BTC/USDT, ETH/USDT], start: {start}}}
{more}
storage:
  remotes: [{{remote: "{disk}"}}, {{remote: "dav:copy"}}]
  retention: {{{days}}}
"""


def put(store: DataStore, series: Series, day: str, whole: bool = True) -> None:
    """A day of 300 trades, covered or but for its last hour."""
    window = series.period_window(day)
    trades = [
        Trade(
            window.start + n * SECOND, None, str(window.start // SECOND + n), 1.0, 2.0, n % 2 == 0
        )
        for n in range(300)
    ]
    covered = Window(window.start, window.end - (0 if whole else 3_600 * SECOND))
    store.merge(series, day, trades_table(trades), [covered], "rest")


def configure(folder: Path, days: str = "trades: 30", more: str = "") -> Config:
    text = CONFIG.format(start=START, disk=folder / "disk", days=days, more=more)
    return parse_config(text, folder / "config.yml")


@pytest.fixture
def dav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebDav]:
    """A remote that has no checksums. Files count as unchanged for long."""
    monkeypatch.setattr(retention, "STAYS", 0)
    (tmp_path / "disk").mkdir()
    with web_dav(tmp_path / "dav") as server:
        rclone_config(tmp_path / "rclone.conf", server, monkeypatch)
        yield server


@pytest.fixture
def config(tmp_path: Path, dav: WebDav) -> Config:
    """Two series of five days, which both remotes have."""
    found = configure(tmp_path)
    store = DataStore(found.settings.data_path)
    for series in (BTC, ETH):
        for day in DAYS:
            put(store, series, day)
    RemoteStorage(found.storage).push(store.root)
    return found


def clear(config: Config) -> Cleared:
    return Retention(config, RemoteStorage(config.storage)).run()


def days_of(config: Config, series: Series) -> list[str]:
    return DataStore(config.settings.data_path).existing_periods(series)


def test_old_days_go_and_are_not_asked_for_again(config: Config) -> None:
    store = DataStore(config.settings.data_path)
    window = Window(at(START), BTC.period_window(DAYS[-1]).end)
    before = store.missing_windows(BTC, window)
    gone = [f"{one.path}/{day}.parquet" for one in (BTC, ETH) for day in DAYS[:3]]
    size = sum((store.root / path).stat().st_size for path in gone)
    assert clear(config) == Cleared(gone, size, {})
    assert days_of(config, BTC) == days_of(config, ETH) == DAYS[3:]
    assert store.load(BTC).height == 600
    until = BTC.period_window(DAYS[2]).end
    assert store.missing_windows(BTC, window) == [w for w in before if w.start >= until]
    assert store.missing_windows(BTC, window, here=True)[0].start == at(START)
    plans = plan_days(store, cells(BTC, window), None, 1_000, window.end)
    assert [plan.missing for plan in plans[:3]] == [[], [], []]
    first = store.gaps(BTC, START)[0]
    assert (first.kind, first.window) == (GapKind.REMOVED, Window(at(START), until))
    assert store.inventory()["missing"].to_list() == [0, 0]
    assert clear(config) == Cleared(), "there is nothing left to remove"


def test_what_was_removed_comes_back_when_it_is_named_and_stays_for_a_week(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, remotes = DataStore(config.settings.data_path), RemoteStorage(config.storage)
    before = store.load(BTC)
    clear(config)
    [disk, dav] = remotes.restore(store.root)
    assert disk.files == dav.files == []
    assert list(disk.left.values()).count(AWAY) == 6
    [disk, _] = remotes.restore(store.root, [BTC])
    assert [file.rows for file in disk.files] == [300, 300, 300]
    assert store.load(BTC).equals(before)
    assert days_of(config, ETH) == DAYS[3:]
    monkeypatch.setattr(retention, "STAYS", 7 * 86_400)
    assert clear(config).kept == {f"{BTC} {DAYS[0]}": "changed here less than 7 days ago"}
    assert days_of(config, BTC) == DAYS


@pytest.mark.parametrize("note", [True, False])
def test_a_day_that_comes_again_does_not_take_the_place_of_the_whole_copy(
    config: Config, tmp_path: Path, note: bool
) -> None:
    store, remotes = DataStore(config.settings.data_path), RemoteStorage(config.storage)
    clear(config)
    before = tree(tmp_path / "disk")
    if not note:
        for path in (store.private / "offsite").iterdir():
            path.unlink()
    start = BTC.period_window(DAYS[1]).start
    late = trades_table([Trade(start, None, str(start // SECOND), 1.0, 2.0, True)])
    store.merge(BTC, DAYS[1], late, [], "stream")
    with pytest.raises(PushError, match=r"lacks rows of the copy there.*dccd restore --series"):
        remotes.push(store.root)
    assert tree(tmp_path / "disk") == before
    (store.folder(BTC) / f"{DAYS[1]}.parquet").unlink()
    remotes.restore(store.root, [BTC])
    put(store, BTC, DAYS[1])
    assert [one.kept for one in remotes.push(store.root)] == [[], []]


def test_nothing_goes_while_a_remote_cannot_be_asked(config: Config, dav: WebDav) -> None:
    dav.stop()
    with pytest.raises(OffsiteError, match="dav:copy"):
        clear(config)
    assert days_of(config, BTC) == days_of(config, ETH) == DAYS


@pytest.mark.parametrize("place", ["disk", "dav/copy"])
@pytest.mark.parametrize("harm", ["gone", "other bytes of the same size"])
def test_a_day_that_one_remote_lacks_stays_and_so_do_later_ones(
    config: Config, tmp_path: Path, place: str, harm: str
) -> None:
    path = tmp_path / place / f"{BTC.path}/{DAYS[1]}.parquet"
    content = bytearray(path.read_bytes())
    path.unlink()
    if harm != "gone":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    cleared = clear(config)
    assert days_of(config, BTC) == DAYS[1:]
    assert days_of(config, ETH) == DAYS[3:]
    [(what, why)] = cleared.kept.items()
    assert what == f"{BTC} {DAYS[1]}"
    assert why.endswith("has no equal copy")


def test_what_is_incomplete_or_needed_or_of_another_channel_stays(
    tmp_path: Path, dav: WebDav
) -> None:
    more = "histo_jobs: [{exchange: kraken, pairs: [BTC/USD], span: 1h, start: 2025-01-01}]"
    config = configure(tmp_path, more=more)
    store = DataStore(config.settings.data_path)
    for day in DAYS:
        put(store, BTC, day, whole=day != DAYS[1])
        put(store, KRAKEN, day)
        put(store, replace(BTC, exchange="okx"), day)  # no job names it any more
    RemoteStorage(config.storage).push(store.root)
    assert clear(config).kept == {
        f"{BTC} {DAYS[1]}": "is not complete: dccd backfill",
        f"{KRAKEN}": "other candles are built from it",
    }
    assert days_of(config, BTC) == DAYS[1:]
    assert days_of(config, KRAKEN) == DAYS
    assert days_of(config, replace(BTC, exchange="okx")) == DAYS[3:]
    assert clear(configure(tmp_path, "book: 30")) == Cleared()


def test_a_day_of_which_only_a_copy_is_here_is_not_written_off(config: Config) -> None:
    store = DataStore(config.settings.data_path)
    series = replace(BTC, exchange="okx")  # no job tells of a hole
    for name in DAYS:
        put(store, series, name)
    RemoteStorage(config.storage).push(store.root)
    day = store.folder(series) / f"{DAYS[1]}.parquet"
    day.rename(day.with_name(f"{DAYS[1]}.bak.parquet"))
    why = "has no file of its own name here, only another one: move that away"
    assert clear(config).kept == {f"{series} {DAYS[1]}": why}
    assert read_removed(store.folder(series)) == BTC.period_window(DAYS[0]).end
    assert days_of(config, series) == DAYS[1:]


def test_the_newest_day_stays_however_old_it_is(tmp_path: Path, dav: WebDav) -> None:
    config = configure(tmp_path)
    store = DataStore(config.settings.data_path)
    for day in DAYS[:2]:
        put(store, BTC, day)
    RemoteStorage(config.storage).push(store.root)
    clear(config)
    assert days_of(config, BTC) == [DAYS[1]]


@pytest.mark.parametrize("there", [DAYS[1:], [DAYS[0], *DAYS[2:]]])
def test_a_day_that_was_not_fetched_yet_is_not_written_off(
    tmp_path: Path, dav: WebDav, there: list[str]
) -> None:
    config = configure(tmp_path)
    store = DataStore(config.settings.data_path)
    for day in there:
        put(store, BTC, day)
    RemoteStorage(config.storage).push(store.root)
    window = Window(at(START), BTC.period_window(DAYS[2]).end)
    before = store.missing_windows(BTC, window)
    [hole] = before
    [(what, why)] = clear(config).kept.items()
    first = there[0] if hole.start == at(START) else there[1]
    assert what == f"{BTC} {first}"
    assert why == f"{iso(hole.start)} is still missing: dccd backfill, or a later start"
    assert store.missing_windows(BTC, window) == before


def test_no_candles_are_fetched_into_a_year_that_was_removed(tmp_path: Path) -> None:
    store, year = DataStore(tmp_path), at("2025-01-01")
    window = Window(at("2024-01-01"), at("2025-01-02"))
    limits = Limits(weight=1.0, seconds=1.0, burst=1.0, page=1_000)
    assert [len(plan.pages) for plan in plan_years(store, cells(BTC_1H, window), limits)] == [9, 1]
    write_removed(store.folder(BTC_1H), year)
    [old, new] = plan_years(store, cells(BTC_1H, window), limits)
    assert old.pages == []
    assert new.pages == [Window(year, window.end)]


@pytest.mark.parametrize("steps", range(4))
def test_killed_between_any_two_steps_the_rest_goes_next_time(
    config: Config, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    store = DataStore(config.settings.data_path)
    before = store.load(BTC)
    real, left = files.remove, iter(range(steps))

    def remove(path: Path) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", remove)
        with pytest.raises(KeyboardInterrupt):
            clear(config)
    kept = store.load(BTC)
    assert kept.equals(before.tail(kept.height))
    assert store.missing_windows(BTC, BTC.period_window(DAYS[0])) == []
    clear(config)
    assert days_of(config, BTC) == days_of(config, ETH) == DAYS[3:]


def test_candles_are_not_built_from_hours_that_were_removed(tmp_path: Path) -> None:
    store = DataStore(tmp_path)
    two, ten = replace(BTC_1H, span=7_200), replace(BTC_1H, span=36_000)
    wanted = Window(two.floor(at("2024-12-20")), ten.floor(at("2025-01-20")))
    for period, part in two.periods(wanted):
        times = range(part.start, part.end, two.span * SECOND)
        store.merge(two, period, table(list(times)), [part], "rest")
    (store.folder(two) / "2024.parquet").unlink()
    year = at("2025-01-01")
    write_removed(store.folder(two), year)
    [old, new] = Deriver(store).collect(cells(ten, Window(ten.ceil(wanted.start), wanted.end)))
    assert old.added == 0
    assert [why for _, why in old.failed] == [f"candles of {two} are missing"]
    assert new.failed == []
    assert store.load(ten)["time"][0] >= moment(year)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{retention: {trades: 30}}", "nothing is removed here without a copy elsewhere"),
        ("{remotes: [{remote: 'a:b'}], retention: {trades: 3}}", "whole number of days, 7 or more"),
        ("{remotes: [{remote: 'a:b'}], retention: {bok: 30}}", "did you mean book"),
    ],
)
def test_a_retention_that_cannot_be_is_refused(tmp_path: Path, text: str, line: str) -> None:
    job = f"[{{exchange: binance, pairs: [{BTC_1H.symbol}], span: 1h}}]"
    whole = f"settings: {{data_path: ./data}}\nhisto_jobs: {job}\nstorage: {text}\n"
    with pytest.raises(ConfigError, match=line):
        parse_config(whole, tmp_path / "config.yml")
