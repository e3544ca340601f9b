"""The webhook: what arrives, what waits, and that its address is told to nobody."""

import errno
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from slack import SECRET, Slack

from dccd_core.alerts import Alerter, Webhook, send_test, ui_address
from dccd_core.config import Config
from dccd_core.incidents import Condition, Kind, Register, State
from dccd_core.store import files

JOB = {"exchange": "binance", "pairs": ["BTC/USDT"], "span": "1h"}
BTC = Condition(kind=Kind.JOB, subject="binance_ohlc_1h_job", text="3 runs in a row failed")


@pytest.fixture
def slack() -> Iterator[Slack]:
    found = Slack()
    yield found
    found.close()


def config_of(data: Path, url: str | None, **alerts: Any) -> Config:
    return Config.model_validate(
        {
            "settings": {"data_path": str(data)},
            "histo_jobs": [JOB],
            "alerts": {"webhook_url": url, **alerts},
        }
    )


def test_an_incident_is_one_message_and_its_end_another(slack: Slack, tmp_path: Path) -> None:
    config = config_of(tmp_path, slack.url)
    for now in (0.0, 30.0, 60.0):
        Alerter(config).report([BTC], {Kind.JOB}, now)
    Alerter(config).report([], {Kind.JOB}, 90.0)
    assert [one.splitlines()[0] for one in slack.messages] == [
        ":red_circle: *job failed: binance_ohlc_1h_job*",
        ":large_green_circle: *job failed: binance_ohlc_1h_job* is over after 1 min 30 s",
    ]


@pytest.mark.parametrize("status", [500, 404, 429, 302])
def test_what_is_not_taken_is_delivered_later_and_once(
    slack: Slack, tmp_path: Path, status: int
) -> None:
    config = config_of(tmp_path, slack.url)
    slack.status = status
    Alerter(config).report([BTC], {Kind.JOB}, 0.0)
    Alerter(config).report([], {Kind.JOB}, 60.0)
    assert slack.messages == []
    assert len(Register(tmp_path).read().pending) == 2
    slack.status = 200
    Alerter(config).report([], {Kind.JOB}, 90.0)
    Alerter(config).report([], {Kind.JOB}, 120.0)
    assert [one.split()[0] for one in slack.messages] == [":red_circle:", ":large_green_circle:"]
    assert Register(tmp_path).read().pending == []


def test_no_message_is_longer_than_discord_takes(slack: Slack, tmp_path: Path) -> None:
    slack.refuses = lambda text: len(text) > 2_000
    wrong = [
        Condition(
            kind=Kind.CHECK, subject=f"binance/ohlc/1h/P{n}-USDT", group="g", text="<&>" * 400
        )
        for n in range(12)
    ]
    Alerter(config_of(tmp_path, slack.url)).report(wrong, {Kind.CHECK}, 0.0)
    [text] = slack.messages
    assert text.startswith(":red_circle: *12 × check failed*")
    assert all(f"P{n}-USDT: &lt;&amp;&gt;" in text for n in range(10))
    assert text.endswith("• … and 2 more: `dccd status` lists them")


def test_a_message_that_is_refused_holds_up_no_other(slack: Slack, tmp_path: Path) -> None:
    slack.refuses = lambda text: "poison" in text
    config = config_of(tmp_path, slack.url)
    bad = Condition(kind=Kind.JOB, subject="a", text="poison")
    Alerter(config).report([bad], {Kind.JOB}, 0.0)
    assert slack.messages == []
    Alerter(config).report([bad, BTC], {Kind.JOB}, 60.0)
    assert [one.partition("\n")[0] for one in slack.messages] == [
        ":red_circle: *job failed: a*",  # without what was refused in it
        ":red_circle: *job failed: binance_ohlc_1h_job*",
    ]
    assert Register(tmp_path).read().pending == []


def test_what_cannot_be_noted_as_told_is_told_later_and_once(
    slack: Slack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, slack.url)
    slack.status = 500
    Alerter(config).report([BTC], {Kind.JOB}, 0.0)
    slack.status = 200
    with monkeypatch.context() as full:

        def write_bytes(path: Path, content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(files, "write_bytes", write_bytes)
        for now in range(60, 120, 5):
            with pytest.raises(OSError, match="No space left"):
                Alerter(config).report([BTC], {Kind.JOB}, float(now))
    assert slack.messages == []
    for now in range(120, 180, 5):
        Alerter(config).report([BTC], {Kind.JOB}, float(now))
    assert len(slack.messages) == 1


def test_a_webhook_that_is_not_there_raises_nothing(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"http://127.0.0.1:1/services/{SECRET}")
    Alerter(config).report([BTC], {Kind.JOB}, 0.0)
    assert len(Register(tmp_path).read().pending) == 1
    problem = send_test(config)
    assert problem == "the webhook does not answer: ConnectionError"


def test_without_a_webhook_incidents_are_kept_and_nothing_waits(tmp_path: Path) -> None:
    config = config_of(tmp_path, None)
    Alerter(config).report([BTC], {Kind.JOB}, 0.0)
    state = Register(tmp_path).read()
    assert (list(state.open), state.pending) == ([BTC.key], [])
    with pytest.raises(ValueError, match=r"alerts\.webhook_url is not set"):
        send_test(config)


def test_the_address_is_told_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, slack: Slack
) -> None:
    caplog.set_level(logging.DEBUG)
    for place, url in enumerate((slack.url, f"http://127.0.0.1:1/services/{SECRET}")):
        config = config_of(tmp_path, url)
        wrong = [BTC] if place == 0 else []
        Alerter(config).report(wrong, {Kind.JOB}, 0.0)
        send_test(config)
        assert SECRET not in repr(config)
        assert SECRET not in repr(Alerter(config))
    assert "alerts wait" in caplog.text
    assert SECRET not in caplog.text
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_a_webhook_that_is_opened_again_and_again_leaves_nothing_behind() -> None:
    """The health sensor opens it twice a minute, for years."""
    logger = logging.getLogger("urllib3.connectionpool")
    Webhook(f"http://127.0.0.1:1/services/{SECRET}")
    before = len(logger.filters)
    for _ in range(10):
        Webhook(f"http://127.0.0.1:1/services/{SECRET}")
    assert len(logger.filters) == before


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "xn--0.example", "127.0.0.1:1"])
def test_no_address_makes_the_webhook_raise(host: str) -> None:
    problem = Webhook(f"http://{host}/services/{SECRET}").send("text")
    assert problem is not None
    assert SECRET not in problem


def test_discord_is_spoken_to_as_slack() -> None:
    url = "https://discord.com/api/webhooks/1/abc"
    assert Webhook(url)._url == f"{url}/slack"
    assert Webhook(f"{url}/slack")._url == f"{url}/slack"
    assert (
        Webhook("https://hooks.slack.com/services/1")._url == "https://hooks.slack.com/services/1"
    )


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("nas", "nas")],  # noqa: S104
)
def test_links_lead_to_the_ui(tmp_path: Path, host: str, shown: str) -> None:
    settings = {"data_path": str(tmp_path), "ui_host": host, "ui_port": 3001}
    assert (
        ui_address(Config.model_validate({"settings": settings, "histo_jobs": [JOB]}))
        == f"http://{shown}:3001"
    )


def test_the_digest_comes_at_its_time_and_once(slack: Slack, tmp_path: Path) -> None:
    alerter = Alerter(config_of(tmp_path, slack.url))
    day = datetime(2026, 11, 22, tzinfo=UTC).timestamp()

    def tick(hour: float) -> bool:
        return alerter.digest("0 7 * * *", day + hour * 3_600, lambda state: f"open {state.open}")

    assert not tick(8), "what was due before the first start is not sent"
    assert not tick(30.9)
    assert tick(31.0)
    assert not tick(31.1)
    assert tick(24 * 4 + 9), "after a long stop there is one, not three"
    assert slack.messages == ["open {}", "open {}"]


def test_a_digest_that_is_switched_on_begins_then(slack: Slack, tmp_path: Path) -> None:
    alerter = Alerter(config_of(tmp_path, slack.url))
    for now in (0.0, 86_400.0 * 3):
        assert not alerter.digest(None, now, str)
    assert not alerter.digest("0 7 * * *", 86_400.0 * 3 + 60, str)
    assert slack.messages == []


def test_messages_that_nobody_takes_do_not_grow_for_ever(tmp_path: Path) -> None:
    register, state = Register(tmp_path), State(pending=[str(n) for n in range(1_000)])
    register.write(state)
    assert register.read().pending == [str(n) for n in range(800, 1_000)]
