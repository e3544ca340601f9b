"""docs/operations.md has each kind of message as Slack shows it: as the code makes it here."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from slack import Slack

from dccd_core import observations
from dccd_core.alerts import Alerter, send_test
from dccd_core.config import Config
from dccd_core.freshness import Freshness, State
from dccd_core.gap_incidents import gap_condition
from dccd_core.health import JobMetrics
from dccd_core.incidents import REMIND, Condition, Kind
from dccd_core.incidents import State as Incidents
from dccd_core.models import SECOND, Series, Symbol
from dccd_core.observations import (
    Observer,
    config_condition,
    disk_condition,
    endings,
)
from dccd_core.store.datastore import DataStore
from dccd_core.store.inventory import InventoryRow
from dccd_core.store.schemas import Loss
from dccd_core.stream_status import ServiceStatus, StreamStatus, write_status
from dccd_pipelines.child import Child
from dccd_pipelines.health_run import OURS, daily_word
from dccd_pipelines.keys import asset_key
from dccd_pipelines.program_watch import Watch
from dccd_pipelines.run_records import check_failed, copy_failed, job_failed

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
NOW = 1_795_000_000.0
BTC_1M, ETH_1H = (Series.parse(f"binance/ohlc/{one}") for one in ("1m/BTC-USDT", "1h/ETH-USDT"))
BYBIT = [Series.parse(f"bybit/{one}/BTC-USDT") for one in ("trades", "book")]
RUN = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
SIGNS = {
    ":red_circle:": "🔴",
    ":large_green_circle:": "🟢",
    ":large_orange_circle:": "🟠",
    ":white_check_mark:": "✅",
}


@pytest.fixture
def slack() -> Iterator[Slack]:
    found = Slack()
    yield found
    found.close()


@pytest.fixture
def config(tmp_path: Path, slack: Slack) -> Config:
    return Config.model_validate(
        {
            "settings": {"data_path": str(tmp_path)},
            "histo_jobs": [{"exchange": "binance", "pairs": ["BTC/USDT"], "span": "1m"}],
            "stream_jobs": [
                {"exchange": "bybit", "pairs": ["BTC/USDT"], "channels": ["trades", "book"]}
            ],
            "alerts": {"webhook_url": slack.url},
        }
    )


def section(kind: str) -> str:
    """What the page says of a kind."""
    found = re.search(rf"^### {re.escape(kind)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/operations.md has no ### {kind}"
    return found[1]


def as_shown(text: str) -> str:
    """A message in Slack's way of writing as Markdown that looks the same."""
    for name, sign in SIGNS.items():
        text = text.replace(name, sign)
    text = re.sub(r"\*(.+?)\*(?=$|[ :]| )", r"**\1**", text, flags=re.MULTILINE)
    text = re.sub(r"<(http[^|>]+)\|([^>]+)>", r"[\2](\1)", text)
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(entity, sign)
    return "\n".join(f"> {line}\\" for line in text.splitlines()).removesuffix("\\")


def assert_documented(where: str, *messages: str) -> None:
    """The page has these messages there, and says what to do."""
    told = section(where)
    for one in messages:
        assert as_shown(one) in told, f"docs/operations.md, ### {where}, lacks:\n{as_shown(one)}"
    words = [line for line in told.splitlines() if line and not line.startswith(">")]
    assert len(" ".join(words)) > 60, f"{where}: what is to be done?"


def opened(config: Config, slack: Slack, *wrong: Condition, lasted: float = 600.0) -> str:
    """The message of conditions that have lasted long enough."""
    alerter = Alerter(config)
    for now in (NOW - lasted, NOW):
        alerter.report(wrong, OURS | {Kind.PROGRAM}, now)
    [text] = slack.messages
    return text


def closed(config: Config, slack: Slack, later: float, ended: dict[str, str]) -> str:
    """The message of their end."""
    for now in (NOW + later, NOW + later + 120.0):
        Alerter(config).report([], OURS | {Kind.PROGRAM}, now, ended=ended)
    return slack.messages[-1]


def status(data: Path, *streams: StreamStatus, problem: str | None = None) -> None:
    write_status(
        data,
        ServiceStatus(
            pid=1, host="h", started=0.0, written=NOW - 1, problem=problem, streams=list(streams)
        ),
    )


def stream(state: str, **more: Any) -> StreamStatus:
    known: dict[str, Any] = {
        "key": "bybit_BTC_USDT_trades_book", "exchange": "bybit", "pair": "BTC/USDT",
        "channels": ["trades", "book"], "time_step": 60, "running": True,
        "last_row": NOW - 154, "series": [str(one) for one in BYBIT],
    }  # fmt: skip
    return StreamStatus(state=state, **known | more)


def seen(config: Config, *found: Freshness) -> list[Condition]:
    return Observer(config, {}).conditions(found, NOW)


def test_job_failed(config: Config, slack: Slack) -> None:
    error = (
        "2026: 2026-11-23T03:34:00Z … 2026-11-23T03:39:00Z: Binance: no answer in time "
        "(after 3 attempts)"
    )
    metrics = {str(BTC_1M): JobMetrics(str(BTC_1M), consecutive_errors=3, last_error=error)}
    text = opened(config, slack, job_failed("binance_ohlc_1m_job", 3, RUN, metrics, ""))
    Alerter(config).report(
        [job_failed("binance_ohlc_1m_job", 50, RUN, metrics, "")], OURS, NOW + REMIND
    )
    reminder = slack.messages[-1]
    assert_documented(Kind.JOB, text, reminder, closed(config, slack, REMIND + 5_400.0, {}))


def test_check_failed(config: Config, slack: Slack) -> None:
    key = dg.AssetCheckKey(asset_key(BTC_1M), "quality")
    assert_documented(Kind.CHECK, opened(config, slack, check_failed(key, "3 candles are missing")))


def test_check_failed_as_the_exchange_has_no_such_pair(config: Config, slack: Slack) -> None:
    said = "2026: BTC/USDX: Binance has no such pair; did you mean BTC/USDT?"
    keys = [
        dg.AssetCheckKey(asset_key(replace(BTC_1M, symbol=Symbol(*pair))), "quality")
        for pair in (("BTC", "USDX"), ("ETH", "USDT"))
    ]
    unknown, other = check_failed(keys[0], said), check_failed(keys[1], "3 candles are missing")
    assert unknown.group != other.group, "a message has one cure"
    assert_documented(Kind.CHECK, opened(config, slack, unknown))


def test_stale(config: Config, slack: Slack) -> None:
    status(config.settings.data_path, stream("live", last_row=NOW - 5))
    found = [Freshness(BTC_1M, State.STALE, 11_400.0, 1_020.0)]
    text = opened(config, slack, *seen(config, *found))
    fresh = [Freshness(BTC_1M, State.FRESH, 40.0, 1_020.0)]
    ended = endings(Alerter(config).state(), fresh, config.settings.data_path)
    assert_documented(Kind.STALE, text, closed(config, slack, 600.0, ended))


def test_stale_live(config: Config, slack: Slack) -> None:
    status(config.settings.data_path, stream("live", last_row=NOW - 5))
    found = Freshness(BYBIT[0], State.STALE, 1_500.0, 600.0)
    assert_documented(Kind.STALE, opened(config, slack, *seen(config, found)))


def test_stream(config: Config, slack: Slack) -> None:
    data = config.settings.data_path
    status(data, stream("silent", silent_since=NOW - 154))
    text = opened(config, slack, *seen(config), lasted=120.0)
    status(data, stream("live", healed=18))
    ended = endings(Alerter(config).state(), [], data)
    assert_documented(Kind.STREAM, text, closed(config, slack, 40.0, ended))


def test_an_exchange_that_is_down_is_one_message(config: Config, slack: Slack) -> None:
    pairs = ("BTC", "ETH", "SOL")
    down = [
        stream("connecting", key=f"bybit_{one}_USDT_trades_book", last_message=NOW - 240,
               problem="no connection: [Errno 111] Connection refused",
               series=[f"bybit/trades/{one}-USDT", f"bybit/book/{one}-USDT"])
        for one in pairs
    ]  # fmt: skip
    status(config.settings.data_path, *down)
    assert_documented(Kind.STREAM, opened(config, slack, *seen(config)))


def test_gap(config: Config, slack: Slack) -> None:
    lost = [Loss(0, 42 * SECOND, "connection: the server cut the connection")]
    assert_documented(Kind.GAP, opened(config, slack, gap_condition(BYBIT[0], lost)))


def test_gap_of_a_book(config: Config, slack: Slack) -> None:
    lost = [Loss(0, 102 * SECOND, "connection: the server cut the connection")]
    assert_documented(Kind.GAP, opened(config, slack, gap_condition(BYBIT[1], lost)))


def test_stream_service(config: Config, slack: Slack) -> None:
    status(config.settings.data_path)
    gone = Observer(config, {}).conditions([], NOW + 300.0)
    assert_documented(Kind.SERVICE, opened(config, slack, *gone))


def test_a_problem_of_the_stream_service(config: Config, slack: Slack) -> None:
    status(config.settings.data_path, problem="nothing can be written: No space left on device")
    assert_documented(Kind.SERVICE, opened(config, slack, *seen(config)))


def test_program(config: Config, slack: Slack) -> None:
    child = Child("webserver", [], {})
    child.trouble = "ended with code -9"
    watch = Watch(config, [child])
    watch.look(NOW)
    child.trouble = ""
    watch.look(NOW + 35.0)
    assert_documented(Kind.PROGRAM, *slack.messages)


def test_a_daemon_that_does_nothing(
    config: Config, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = config.settings.data_path / ".dccd" / "metrics.json"
    metrics.parent.mkdir()
    metrics.touch()
    os.utime(metrics, (NOW - 330.0, NOW - 330.0))
    watch = Watch(config, [])
    later = time.monotonic() + 400.0
    monkeypatch.setattr(
        "dccd_pipelines.program_watch.time", SimpleNamespace(monotonic=lambda: later)
    )
    watch.look(NOW)
    assert_documented(Kind.PROGRAM, *slack.messages)


def test_copy_failed(config: Config, slack: Slack) -> None:
    said = "nas:crypto: rclone lsjson: couldn't connect SSH: dial tcp 10.0.0.2:22: no route to host"
    assert_documented(
        Kind.SYNC, opened(config, slack, copy_failed("offsite_nas_crypto_job", RUN, said))
    )


def test_disk_low(config: Config, slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=500_000_000_000, free=4_300_000_000)
    monkeypatch.setattr(observations.shutil, "disk_usage", lambda _: usage)
    low = disk_condition(Path("/srv/dccd/data"), was_low=False)
    assert low
    assert_documented(Kind.DISK, opened(config, slack, low))


def test_config(config: Config, slack: Slack) -> None:
    problem = "config.yml:7: histo_jobs[0].pairs[0]: BTCUSDT: write BASE/QUOTE in upper case, as " \
        "BTC/USDT; did you mean BTC/USDT?"  # fmt: skip
    assert_documented(Kind.CONFIG, opened(config, slack, config_condition(problem)))


def test_digest(config: Config, slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [InventoryRow(BTC_1M, 0, 1, 412_008_112, 3, 0, 0, 0, 21_400_000_000)]
    monkeypatch.setattr(DataStore, "inventory_rows", lambda *_: rows)
    fresh = [Freshness(BTC_1M, State.FRESH, 40.0, 1_020.0)] * 300
    well = daily_word(config, fresh, Incidents(), NOW)
    rows[0] = replace(rows[0], missing=1_440)
    lacking = daily_word(config, fresh, Incidents(), NOW)
    rows[0] = replace(rows[0], missing=0)
    monkeypatch.undo()
    low = Condition(kind=Kind.SYNC, subject="offsite_nas_crypto_job", text="")
    opened(config, slack, low)
    monkeypatch.setattr(DataStore, "inventory_rows", lambda *_: rows)
    ill = daily_word(config, fresh, Alerter(config).state(), NOW)
    assert_documented("digest", well, lacking, ill)


def test_alert_test(config: Config, slack: Slack) -> None:
    assert send_test(config) is None
    assert_documented("alert-test", *slack.messages)


def test_every_kind_has_a_section() -> None:
    kinds = {value for name, value in vars(Kind).items() if name.isupper()}
    assert {kind for kind in kinds if section(kind)} == kinds
