"""config.yml: what is read, and what is said about a file that cannot be used."""

import logging
import pickle
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dccd_core import config_fields, moments
from dccd_core.config import (
    Config,
    ConfigError,
    load_config,
    parse_config,
    resolve_config_path,
)
from dccd_core.config_sections import HistoJob, Settings
from dccd_core.cron import check_cron
from dccd_core.exchanges import load, load_all
from dccd_core.models import Channel, Series, Symbol
from dccd_core.moments import find_zone, parse_moment, show_moment

EXAMPLE = Path(__file__).parents[2] / "config.example.yml"
HERE = Path("/here/config.yml")
HOUR = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 3600)

# The whole schema of dccd 2.4, as its users have it.
DCCD_24 = """
settings:
  data_path: ./data/crypto
  timezone: local
  ui_host: 127.0.0.1
  ui_port: 8080
  ui_auth_token: null
storage:
  local_path: ''
  remotes:
    - {provider: rclone, remote: "mynas:crypto/"}
  sync_interval: 3600
histo_jobs:
  - exchange: binance
    pairs: [BTC/USDT]
    span: 3600
    format: parquet
    max_retries: 3
    retry_delay: 2.0
stream_jobs:
  - exchange: binance
    pairs: [BTC/USDT]
    channels: [trades, book]
    time_step: 60
alerts:
  webhook_url: null
  max_consecutive_errors: 3
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DCCD_CONFIG", "XDG_CONFIG_HOME", "TZ"):
        monkeypatch.delenv(name, raising=False)


def with_job(extra: str = "", pairs: str = "[BTC/USDT]", span: str = "1h") -> str:
    return (
        "settings: {data_path: data, timezone: Europe/Paris}\n"
        f"histo_jobs:\n  - exchange: binance\n    pairs: {pairs}\n    span: {span}\n{extra}"
    )


def problems(text: str) -> list[str]:
    """The lines of the error of a text, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, HERE)
    return [
        line.removeprefix("/here/config.yml:").strip() for line in str(caught.value).split("\n")
    ]


# What is read


def test_the_whole_schema_of_dccd_24() -> None:
    config = parse_config(DCCD_24, HERE)
    assert config.settings.data_path == Path("/here/data/crypto")
    assert config.settings.ui_port == 8080
    assert config.series() == [HOUR]
    assert config.job_of(HOUR).retry_delay == 2.0
    assert config.start_of(HOUR) is None
    assert config.stream_jobs[0].channels == (Channel.TRADES, Channel.BOOK)
    assert config.storage.remotes[0].remote == "mynas:crypto/"


def test_the_shortest_file_has_the_defaults() -> None:
    config = parse_config(with_job(), HERE)
    assert config.job_of(HOUR) == HistoJob(exchange="binance", pairs=("BTC/USDT",), span=3600)
    assert (config.job_of(HOUR).max_retries, config.job_of(HOUR).retry_delay) == (3, 2.0)
    assert (config.settings.ui_host, config.settings.ui_port) == ("127.0.0.1", 3000)
    assert config.alerts.max_consecutive_errors == 3
    assert config.exchange_settings("binance").requests == 1.0
    assert config.storage.sync_interval == 3600


def test_a_section_that_is_commented_out_is_absent() -> None:
    config = parse_config(
        with_job("storage:\nalerts:\nstream_jobs:\nexchanges:\n  binance:\n"), HERE
    )
    assert config.storage.remotes == ()
    assert config.exchange_settings("binance").rest_url is None


@pytest.mark.parametrize("span", ["3600", "1h", "'1h'", "'3600'", "60m"])
def test_spans_are_seconds_or_labels(span: str) -> None:
    assert parse_config(with_job(span=span), HERE).series() == [HOUR]


def test_yaml_12_scalars_are_what_they_look_like() -> None:
    job = parse_config(
        with_job("    schedule: off\n    start: 2020-01-01 12:00\n"), HERE
    ).histo_jobs[0]
    assert (job.schedule, job.start) == ("off", "2020-01-01 12:00")


def test_the_path_is_kept_but_not_dumped(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(with_job())
    config = load_config(file)
    assert config.path == file
    assert config.settings.data_path == tmp_path / "data"
    assert str(file) not in config.model_dump_json()


def test_the_configuration_cannot_be_changed() -> None:
    config = parse_config(with_job(), HERE)
    with pytest.raises(ValueError, match="frozen"):
        config.settings.ui_port = 1


def test_models_made_in_python_are_checked_too(tmp_path: Path) -> None:
    job = HistoJob(exchange="binance", pairs=("BTC/USDT",), span=3600)
    config = Config(settings=Settings(data_path=tmp_path), histo_jobs=(job,))
    assert config.series() == [HOUR]
    with pytest.raises(
        ConfigError, match=r"^histo_jobs\[1\].pairs\[0\]: .* already in histo_jobs\[0\]"
    ):
        Config(settings=Settings(data_path=tmp_path), histo_jobs=(job, job))


def test_secrets_are_not_in_the_repr() -> None:
    text = with_job('alerts: {webhook_url: "https://hooks.slack.com/T0/hunter2"}\n')
    config = parse_config(text, HERE)
    assert "hunter2" not in repr(config)
    remote = with_job("storage: {remotes: [{remote: ':webdav,pass=hunter2:x'}]}\n")
    assert "hunter2" not in repr(parse_config(remote, HERE))
    assert config.alerts.webhook_url is not None
    assert config.alerts.webhook_url.get_secret_value().endswith("hunter2")


def test_the_token_of_dccd_24_is_ignored_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parse_config(
            with_job().replace("data_path: data", "data_path: d, ui_auth_token: hunter2"), HERE
        )
    assert "ui_auth_token is ignored" in caplog.text
    assert "hunter2" not in caplog.text


# The environment


def test_variables_are_filled_in_after_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "/x: [y, #z")
    monkeypatch.setenv("SPAN", "1h")
    text = with_job(span="${SPAN}").replace(
        "data_path: data", 'data_path: "${WHERE}/$${a}/${WHERE}"'
    )
    config = parse_config(text, HERE)
    assert config.settings.data_path == Path("/x: [y, #z/${a}/x: [y, #z")
    assert config.series() == [HOUR]


def test_a_value_is_not_filled_in_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "${B}")
    text = with_job().replace("data_path: data", 'data_path: "${A}"')
    assert parse_config(text, HERE).settings.data_path == Path("/here/${B}")


def test_a_missing_variable_is_named_with_its_key() -> None:
    text = with_job('alerts:\n  webhook_url: "https://x/${NO_SUCH_VARIABLE}"\n')
    assert problems(text) == [
        "7: alerts.webhook_url: the environment has no variable NO_SUCH_VARIABLE: set it"
    ]


@pytest.mark.parametrize("text", ["${", "${}", "${a-b}", "${X:-default}", "${1}"])
def test_only_plain_variables_are_understood(text: str) -> None:
    [line] = problems(with_job().replace("Europe/Paris", f"'{text}'"))
    assert line == "1: settings.timezone: write a variable as ${NAME}, or $${ for a literal ${"


FULL = """
settings: {data_path: d, timezone: UTC, ui_host: h, ui_port: 1, ui_auth_token: t}
storage: {local_path: d, remotes: [{provider: rclone, remote: "a:b"}], sync_interval: 1}
histo_jobs:
  - {exchange: binance, pairs: [BTC/USDT], span: 1h, format: parquet, max_retries: 3,
     retry_delay: 1, start: 2020-01-01, schedule: 5 * * * *}
stream_jobs:
  - {exchange: binance, pairs: [BTC/USDT], channels: [trades], time_step: 60}
alerts: {webhook_url: "https://x/y", max_consecutive_errors: 3}
exchanges:
  binance: {rest_url: "http://a", ws_url: "ws://a", archive_url: "http://a", proxy: "http://a",
    requests: 1}
"""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, item in items for leaf in leaves(item, (*path, key))]
    return [path]


@pytest.mark.parametrize("path", leaves(yaml.safe_load(FULL)), ids=str)
@pytest.mark.parametrize("secret", ["hunter2 61 * * * x", "61", "hunter2/usdt", "\udcff\x1b[31m\n"])
def test_no_message_shows_a_value_of_the_environment(
    path: tuple[Any, ...], secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value of a full file in turn is taken from the environment, mostly a wrong one."""
    monkeypatch.setenv("SECRET", secret)
    values = yaml.safe_load(FULL)
    values["settings"]["timezone"] = "nowhere"  # so that there is always a message
    holder = values
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = "${SECRET}"
    holder[f"{path[-1]}x" if isinstance(holder, dict) else slice(9, 9)] = ["x"]  # and a wrong key
    with pytest.raises(ConfigError) as caught:
        parse_config(yaml.safe_dump(values), Path("c.yml"))
    shown = re.sub(r"c\.yml(:\d+)?|[\w.]+(\[\d+\])+|\(line \d+\)|\d+ to \d+", "", str(caught.value))
    assert secret not in shown
    assert shown.isprintable() or "\x1b" not in shown
    assert "hunter2" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("section", "key"),
    [("alerts", "webhook_url"), ("settings", "ui_auth_token"), ("exchanges", "proxy")],
)
def test_wrong_secrets_are_not_shown(section: str, key: str) -> None:
    values = yaml.safe_load(FULL)
    holder = values[section].get("binance", values[section])
    for wrong in ("hunter2", ["hunter2"], {"hunter2": 1}):
        holder[key] = wrong
        values["settings"]["timezone"] = "nowhere"
        assert "hunter2" not in "".join(problems(yaml.safe_dump(values)))


@pytest.mark.parametrize(
    "wrong",
    [
        "alerts: https://hooks.slack.com/hunter2",
        "alerts: webhook_url https://hooks.slack.com/hunter2",
        "alerts: [https://hooks.slack.com/hunter2]",
        "alerts: {webhook_url https://hooks.slack.com/hunter2}",
        "alerts: {webhook: https://hooks.slack.com/hunter2}",
        "webhook_url: https://hooks.slack.com/hunter2",
        "storage: {remotes: [':webdav,pass=hunter2:x']}",
        "storage: {remotes: ':webdav,pass=hunter2:x'}",
        "storage: ':webdav,pass=hunter2:x'",
        "exchanges: {binance: 'http://ann:hunter2@proxy:3128'}",
        "exchanges: 'http://ann:hunter2@proxy:3128'",
        "exchanges: {binance: {rest_url: 'https://ann:hunter2@host'}}",
        "exchanges: {binance: {rest_url: 'ann:hunter2@host'}}",
        "exchanges: {binance: {ws_url: 'wss://ann:hunter2@host'}}",
        "exchanges: {binance: {archive_url: 'https://ann:hunter2@host/x'}}",
        "exchanges: {binance: {ws_url: https://hooks.slack.com/hunter2}}",
        "exchanges: {binance: {requests: 'password: hunter2'}}",
        "alerts: {digest: https://hooks.slack.com/hunter2}",
        "alerts: {digest: hunter2}",
        "alerts: {max_consecutive_errors: hooks.slack.com/hunter2}",
        "storage: {remotes: [{provider: ':sftp,host=h,pass=hunter2:x', remote: 'a:b'}]}",
        "storage: {remotes: [{provider: hunter2, remote: 'a:b'}]}",
        "storage: {remotes: [{':sftp,pass=hunter2:x': null, remote: 'a:b'}]}",
        "storage: {sync_interval: ':sftp,host=h,pass=hunter2:x'}",
        "storage: {local_path: ':sftp,host=h,pass=hunter2:x'}",
        "storage: {retention: {ohlc: 'token hunter2'}}",
        "stream_jobs: [{exchange: https://hooks/hunter2, pairs: [A/B], channels: [book]}]",
        "stream_jobs: [{exchange: binance, pairs: ['https://hooks/hunter2'], channels: [book]}]",
    ],
)
def test_a_secret_in_a_wrong_place_is_not_shown(wrong: str) -> None:
    found = problems(with_job(f"{wrong}\n"))
    assert found
    assert "hunter2" not in "\n".join(found)


def test_a_secret_as_the_time_zone_is_not_shown() -> None:
    text = with_job().replace("Europe/Paris", "https://hooks.slack.com/hunter2")
    [line] = problems(text)
    assert line == f"1: settings.timezone: https://hooks.slack.com/…: {ZONE}"


def test_no_text_instead_of_a_file_is_shown() -> None:
    assert problems("https://hooks.slack.com/hunter2\n") != []
    assert "hunter2" not in "".join(problems("https://hooks.slack.com/hunter2\n"))


# What is refused

EXCHANGES = ", ".join(load_all())
KEYS = "settings, storage, histo_jobs, trades_jobs, stream_jobs, alerts, exchanges"
SPANS = "1s, 1m, 3m, 5m, 15m, 30m, 1h, 2h, 4h, 6h, 8h, 12h, 1d, 3d, 1w"
SPAN = "write seconds (3600) or a label (1m, 1h, 1d, 1w)"
PAIR = "write BASE/QUOTE in upper case, as BTC/USDT"
PAIRS = "must be a list of one pair or more, as [BTC/USDT]"
MOMENT = "null or a moment: 2024-01-01, 2024-01-01 12:00 or 2024-01-01T12:00:00Z"
CHANNELS = "book, book_deltas, ohlc, trades"
ZONE = "must be local, UTC or an IANA name, as Europe/Paris"
FOLDER = "must be a folder, absolute or relative to this file"
CRON = "five cron fields"


def stream(*jobs: str) -> str:
    """A file with stream jobs in the lines from 7 on."""
    lines = (f"  - {{exchange: binance, pairs: [A/B], {job}}}\n" for job in jobs)
    return with_job("stream_jobs:\n" + "".join(lines))


def setting(key: str, value: str) -> str:
    """A file with another value for a key of the settings, in line 1."""
    lines = re.sub(rf"{key}: [\w/]+", "", with_job(), count=1).replace("{,", "{")
    return lines.replace("{", f"{{{key}: {value}, ", 1)


# What is in the file, and the one line that is said about it.
NO_SPAN = "binance has no such span, nor one to build it from"
REFUSED = [
    (with_job(span="61"),
     f"5: histo_jobs[0].span: 61: {NO_SPAN}; it has {SPANS}; did you mean 1m?"),
    (with_job(span="1H"), f"5: histo_jobs[0].span: 1H: {SPAN}; did you mean 1h?"),
    (with_job(span="1min"), f"5: histo_jobs[0].span: 1min: {SPAN}; did you mean 1m?"),
    (with_job(span="1M"), f"5: histo_jobs[0].span: 1M: {SPAN}"),
    (with_job(span="true"), f"5: histo_jobs[0].span: true: {SPAN}"),
    (with_job(span=""), "5: histo_jobs[0].span: missing: write seconds (3600) or a label (1h)"),
    (with_job(pairs="[btc/usdt]"),
     f"4: histo_jobs[0].pairs[0]: btc/usdt: {PAIR}; did you mean BTC/USDT?"),
    (with_job(pairs="[BTC-USDT]"),
     f"4: histo_jobs[0].pairs[0]: BTC-USDT: {PAIR}; did you mean BTC/USDT?"),
    (with_job(pairs="[BTCUSDT]"),
     f"4: histo_jobs[0].pairs[0]: BTCUSDT: {PAIR}; did you mean BTC/USDT?"),
    (with_job(pairs="[btc_usdt:perp]"),
     f"4: histo_jobs[0].pairs[0]: btc_usdt:perp: {PAIR}; did you mean BTC/USDT:PERP?"),
    (with_job(pairs="[XYZ]"), f"4: histo_jobs[0].pairs[0]: XYZ: {PAIR}"),
    (with_job(pairs="[1]"), f"4: histo_jobs[0].pairs[0]: 1: {PAIR}"),
    (with_job(pairs="[]"), f"4: histo_jobs[0].pairs: an empty list: {PAIRS}"),
    (with_job(pairs="{a: b}"), f"4: histo_jobs[0].pairs: a mapping: {PAIRS}"),
    (with_job(pairs="BTC/USDT"), f"4: histo_jobs[0].pairs: BTC/USDT: {PAIRS}"),
    (with_job(pairs="[BTC/USDT, ETH/USDT, BTC/USDT]"),
     "4: histo_jobs[0].pairs[2]: binance/ohlc/1h/BTC-USDT is already in histo_jobs[0].pairs[0] "
     "(line 4)"),
    (with_job("  - {exchange: binance, pairs: [BTC/USDT], span: 60m}\n"),
     "6: histo_jobs[1].pairs[0]: binance/ohlc/1h/BTC-USDT is already in histo_jobs[0].pairs[0] "
     "(line 4)"),
    (with_job().replace("exchange: binance", "exchange: Binance"),
     "3: histo_jobs[0].exchange: Binance: no such exchange; there are: " + f"{EXCHANGES}; "
     "did you mean binance?"),
    (with_job("    format: csv\n"),
     "6: histo_jobs[0].format: csv: must be parquet: no other format is written "
     "(dccd 2.4 ignored this key)"),
    (with_job("    max_retries: 11\n"),
     "6: histo_jobs[0].max_retries: 11: must be a whole number from 1 to 10"),
    (with_job("    max_retries: true\n"),
     "6: histo_jobs[0].max_retries: true: must be a whole number from 1 to 10"),
    (with_job("    retry_delay: .nan\n"),
     "6: histo_jobs[0].retry_delay: .nan: must be seconds, 0 or more"),
    (with_job("    start: last\n"), f"6: histo_jobs[0].start: last: must be {MOMENT}"),
    (with_job("    schedule: hourly\n"),
     f"6: histo_jobs[0].schedule: hourly: write {CRON}, minute hour day month weekday, "
     "as '5 * * * *'"),
    (with_job("    schedule: false\n"),
     f"6: histo_jobs[0].schedule: false: must be null, off or {CRON} in quotes, "
     "as '5 * * * *' (UTC)"),
    (with_job("    spann: 1\n"), "6: histo_jobs[0].spann: no such key; did you mean span?"),
    (with_job("stream_job: []\n"), "6: stream_job: no such key; did you mean stream_jobs?"),
    (with_job("webhook_url: x\n"), "6: webhook_url: no such key; it belongs in alerts"),
    (with_job("zzz:\n"), f"6: zzz: no such key; there are: {KEYS}"),
    (with_job("storage: {remotes: [nas]}\n"),
     "6: storage.remotes[0]: (hidden): must be a mapping with the keys provider, remote"),
    (with_job("storage: {remotes: [{remote: --delete}]}\n"),
     "6: storage.remotes[0].remote: (hidden): must be an rclone remote and path, as nas:crypto"),
    (with_job('storage: {remotes: [{remote: "a:"}, {remote: "a:"}]}\n'),
     "6: storage.remotes[1].remote: the same as storage.remotes[0].remote"),
    (with_job("storage: {sync_interval: -1}\n"),
     "6: storage.sync_interval: -1: must be whole seconds, 0 or more"),
    (with_job("storage: {local_path: elsewhere}\n"),
     "6: storage.local_path: elsewhere: there is one tree of data, settings.data_path: "
     "leave this key out"),
    (with_job("storage: {local_path: ~no-such-user}\n"),
     "6: storage.local_path: ~no-such-user: there is one tree of data, settings.data_path: "
     "leave this key out"),
    (with_job("alerts: {webhook_url: hooks.slack.com}\n"),
     "6: alerts.webhook_url: (hidden): must be a URL that begins with https://"),
    (with_job("alerts: {max_consecutive_errors: 0}\n"),
     "6: alerts.max_consecutive_errors: 0: must be a whole number, 1 or more"),
    (with_job("alerts: {max_consecutive_errors: three}\n"),
     "6: alerts.max_consecutive_errors: (hidden): must be a whole number, 1 or more"),
    (with_job("alerts: {digest: 70 * * * *}\n"),
     "6: alerts.digest: 70 * * * *: the minute goes from 0 to 59"),
    (with_job("alerts: {digest: daily}\n"),
     "6: alerts.digest: daily: write five cron fields, minute hour day month weekday, as "
     "'5 * * * *'"),
    (with_job("storage: {remotes: [{provider: scp, remote: 'a:b'}]}\n"),
     "6: storage.remotes[0].provider: (hidden): must be rclone"),
    (with_job('exchanges: {binance: {ws_url: "https://u:p@a:1/b?c"}}\n'),
     "6: exchanges.binance.ws_url: https://…@a:1/…: must be a URL that begins with wss://"),
    (with_job("exchanges: {binanse: {}}\n"),
     f"6: exchanges.binanse: binanse: no such exchange; there are: {EXCHANGES}; "
     "did you mean binance?"),
    (with_job("exchanges: {binance: {requests: 0}}\n"),
     "6: exchanges.binance.requests: 0: must be a fraction from 0.01 to 1"),
    (with_job('exchanges: {binance: {rest_url: "http://:1"}}\n'),
     "6: exchanges.binance.rest_url: http://:1: must be a URL that begins with https://"),
    (with_job('exchanges: {binance: {rest_url: "http://a:b"}}\n'),
     "6: exchanges.binance.rest_url: http://a:b: must be a URL that begins with https://"),
    (with_job('exchanges: {binance: {ws_url: "https://a"}}\n'),
     "6: exchanges.binance.ws_url: https://a: must be a URL that begins with wss://"),
    (stream("channels: [book, boook]"),
     f"7: stream_jobs[0].channels[1]: boook: no such channel; without a key there are: {CHANNELS}; "
     "did you mean book?"),
    (stream("channels: [book, book]"),
     "7: stream_jobs[0].channels: a list: name each channel once"),
    (stream("channels: [book], time_step: 0"),
     "7: stream_jobs[0].time_step: 0: must be whole seconds, 1 or more"),
    (stream("channels: [book]", "channels: [trades, book], time_step: 5"),
     "8: stream_jobs[1].pairs[0]: binance/book/A-B is already in stream_jobs[0].pairs[0] (line 7)"),
    (setting("timezone", "europe/paris"),
     f"1: settings.timezone: europe/paris: {ZONE}; did you mean Europe/Paris?"),
    (setting("timezone", "Zone"), f"1: settings.timezone: Zone: {ZONE}"),
    (setting("data_path", "''"), f"1: settings.data_path: '': {FOLDER}"),
    (setting("data_path", "~no-such-user/x"),
     f"1: settings.data_path: ~no-such-user/x: {FOLDER}"),
    ("settings: {data_path: d, ui_port: 8710}\n"
     "stream_jobs: [{exchange: binance, pairs: [BTC/USDT], channels: [trades]}]\n",
     "1: settings.ui_port: 8710: ui_port and stream_port are the same: "
     "give each a port of its own"),
    (setting("ui_port", "65536"), "1: settings.ui_port: 65536: must be a port from 1 to 65535"),
    ("settings: {data_path: d}\n",
     "nothing to collect: name a job in histo_jobs, trades_jobs, stream_jobs"),
    (with_job(span="1h\n    span: 1h"),
     "6: histo_jobs[0].span: written twice: it is already in line 5"),
    (with_job("histo_jobs: []\n"), "6: histo_jobs: written twice: it is already in line 2"),
    (with_job(span="!!int '3600'\n    schedule: !x off"),
     "6: histo_jobs[0].schedule: YAML tags are not read: leave it out"),
    (with_job("    max_retries: !!int many\n"),
     "6: histo_jobs[0].max_retries: YAML tags are not read: leave it out"),
    (with_job("alerts: !!python/object:os.system {}\n"),
     "6: alerts: YAML tags are not read: leave it out"),
    (with_job("? [a]\n: 1\n"), "6: a key must be one word, not a collection"),
    (with_job("\n\tx: 1\n"),
     "7: not YAML: column 1: while scanning for the next token, found character '\\t' that cannot "
     "start any token"),
    ("a: [1\nb: 2\n",
     "2: not YAML: column 2: while parsing a flow sequence, expected ',' or ']', but got ':'"),
    ("a: 1\n---\nb: 2\n",
     "2: not YAML: column 1: expected a single document in the stream, but found another document"),
    ("a: \x01", "1: not YAML: it may not hold the character 0x01"),
    ('a: "\\UFFFFFFFF"', "1: not YAML: column 7: a number or character code that does not exist"),
    ("&a [*a]", "1: not YAML: column 1: an anchor holds itself"),
    ("[" * 100_000, "not YAML: nested too deeply"),
    ("- a", f"1: a list: must be a mapping with the keys {KEYS}"),
    ("text", f"1: (hidden): must be a mapping with the keys {KEYS}"),
    ("", "is empty: config.example.yml shows every key"),
    ("# nothing\n", "is empty: config.example.yml shows every key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[said[:60] for _, said in REFUSED])
def test_each_problem_has_one_line_that_helps(text: str, said: str) -> None:
    assert problems(text) == [said]


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        ({Channel.TRADES}, "binance does not offer it without a key; it has: trades"),
        (set(), "it has: none"),
    ],
)
def test_a_channel_that_the_exchange_does_not_offer(
    offered: set[Channel], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet(type(load("binance"))):  # type: ignore[misc]  # its class is found at run time
        channels = frozenset(offered)

    monkeypatch.setattr(config_fields, "load_all", lambda: {"binance": Quiet()})
    [line] = problems(stream("channels: [book]"))
    assert line.startswith(
        "7: stream_jobs[0].channels[0]: book: binance does not offer it without a key; "
    )
    assert line.endswith(said)


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = with_job("    max_retries: 0\nalert: {}\n", pairs="[btc/usdt, A/B, A/B]", span="61")
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["4", "histo_jobs[0].pairs[2]"],
        ["4", "histo_jobs[0].pairs[0]"],
        ["5", "histo_jobs[0].span"],
        ["6", "histo_jobs[0].max_retries"],
        ["7", "alert"],
    ]


def test_missing_sections_are_named() -> None:
    assert problems("stream_jobs: [{exchange: binance, pairs: [A/B]}]") == [
        "1: settings: missing: write a mapping with data_path and others",
        "1: stream_jobs[0].channels: missing: write a list of one channel or more, as [trades]",
    ]


def test_aliases_are_read_and_a_bomb_of_them_is_not() -> None:
    text = with_job("  - {exchange: binance, pairs: *p, span: 1d}\n", pairs="&p [BTC/USDT, A/B]")
    assert len(parse_config(text, HERE).series()) == 4
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    [line] = problems(bomb)
    assert line.endswith("too many values")


def test_terminal_codes_in_a_file_do_not_reach_the_terminal() -> None:
    [line] = problems(with_job(span='"\\e[31m\\n1h"'))
    assert line.startswith(r"5: histo_jobs[0].span: '\x1b[31m\n1h': ")
    [line] = problems(with_job('"\\e[2J": 1\n'))
    assert line.startswith(r"6: '\x1b[2J': no such key")


def test_files_that_are_none(tmp_path: Path) -> None:
    said = {}
    latin = tmp_path / "latin.yml"
    latin.write_bytes(b"a: 1\nb: \xe9\n")
    for path in (tmp_path, latin, tmp_path / "none.yml", latin / "below"):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        said[path] = str(caught.value).removeprefix(str(path)).strip(": ")
    assert list(said.values()) == [
        "is a folder: name the file in it",
        "2: is not UTF-8: save it as UTF-8",
        "cannot be read: No such file or directory",
        "cannot be read: Not a directory",
    ]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(with_job(), encoding="utf-8-sig")
    assert load_config(file).series() == [HOUR]


def test_the_error_survives_a_process_border() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(with_job(span="61"), HERE)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["binance", "BTC/USDT", "1h", "trades", "${X}", "$${", "~", "local"]),
)  # fmt: skip
WORDS = st.sampled_from(re.findall(r"\w+(?=:)", FULL))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES)
def test_any_values_are_read_or_refused(tree: object) -> None:
    read_or_refused(yaml.safe_dump(tree, allow_unicode=True))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([FULL, DCCD_24, EXAMPLE.read_text()]))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 30)))
        junk = data.draw(st.text("-:[]{}&*!|>'\"%@`#?,~ \n\t0aé\0\ud800", max_size=4))
        text = text[:start] + junk + text[end:]
    read_or_refused(text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
@example("%YAML 1." + "9" * 5000 + "\n--- a")
@example("a: " + "9" * 5000)
@example('"\\ud800": 1')
@example("a: !!bool maybe")
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refused(text)


def read_or_refused(text: str) -> None:
    config, said = None, ""
    try:
        config = parse_config(text, HERE)
    except ConfigError as error:
        said = str(error)
    assert bool(said) is (config is None)
    for line in said.split("\n") if said else []:
        assert line.startswith("/here/config.yml:")
        assert line.isprintable()


# Where the file is


def test_the_file_is_searched_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(ConfigError) as caught:
        resolve_config_path()
    assert str(caught.value) == (
        "no config file: looked at $DCCD_CONFIG (not set), config.yml, "
        f"{tmp_path}/home/.config/dccd/config.yml; name one with --config"
    )
    home = tmp_path / "home/.config/dccd/config.yml"
    home.parent.mkdir(parents=True)
    home.touch()
    assert resolve_config_path() == home
    xdg = tmp_path / "xdg/dccd/config.yml"
    xdg.parent.mkdir(parents=True)
    xdg.touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert resolve_config_path() == xdg
    Path("config.yml").touch()
    assert resolve_config_path() == tmp_path / "config.yml"
    monkeypatch.setenv("DCCD_CONFIG", "other.yml")
    assert resolve_config_path() == tmp_path / "other.yml"
    assert resolve_config_path("this.yml") == tmp_path / "this.yml"
    with pytest.raises(ConfigError, match=r"^other.yml: cannot be read: No such file"):
        load_config()


def test_a_relative_xdg_folder_and_a_missing_home_are_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(ConfigError, match=r"looked at .* ~/.config/dccd/config.yml"):
        resolve_config_path()


def no_home(path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


# Dates


def test_start_is_read_in_the_zone_of_the_settings() -> None:
    config = parse_config(with_job("    start: 2024-07-01\n"), HERE)
    assert config.start_of(HOUR) == int(datetime(2024, 6, 30, 22, tzinfo=UTC).timestamp()) * 10**6
    assert config.show_moment(config.parse_moment("2024-07-01")) == "2024-07-01 00:00:00+02:00"
    assert config.timezone == ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-01-01", "2023-12-31T23:00:00"),
        ("2024-01-01 12:00", "2024-01-01T11:00:00"),
        ("2024-01-01 12:00:30", "2024-01-01T11:00:30"),
        ("2024-01-01T12:00:00Z", "2024-01-01T12:00:00"),
        (" 2024-01-01T12:00:00-05:00 ", "2024-01-01T17:00:00"),
        ("2024-10-27 02:30", "2024-10-27T00:30:00"),  # happens twice: the first
        ("2024-03-31 02:30", "2024-03-31T01:30:00"),  # never happens: as if the clock went on
    ],
)
def test_moments_as_people_write_them(text: str, utc: str) -> None:
    expected = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert parse_moment(text, ZoneInfo("Europe/Paris")) == int(expected.timestamp()) * 10**6


@pytest.mark.parametrize("text", ["", "now", "2024-13-01", "01.02.2024", "2024", "1704067200"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="is not a moment: write 2024-01-01, 2024-01-01 12:00 or"):
        parse_moment(text, ZoneInfo("UTC"))


def test_start_may_be_a_date_in_python() -> None:
    values = {"exchange": "binance", "pairs": ["BTC/USDT"], "span": 3600, "start": date(2024, 1, 1)}
    assert HistoJob.model_validate(values).start == "2024-01-01"


@given(
    st.integers(0, 4_000_000_000_000_000),
    st.sampled_from(["UTC", "Europe/Paris", "America/St_Johns", "Australia/Lord_Howe"]),
)
def test_a_moment_that_is_shown_can_be_read_again(time: int, zone: str) -> None:
    assert parse_moment(show_moment(time, ZoneInfo(zone)), ZoneInfo("Asia/Tokyo")) == time


def test_the_local_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_zone("local", "Asia/Tokyo").key == "Asia/Tokyo"
    assert find_zone("local", ":/usr/share/zoneinfo/Asia/Tokyo").key == "Asia/Tokyo"
    monkeypatch.setattr(moments, "LOCALTIME", tmp_path / "localtime")
    assert find_zone("local").key == "UTC"
    Path(tmp_path / "localtime").symlink_to("/usr/share/zoneinfo/Europe/Paris")
    if (tmp_path / "localtime").exists():
        assert find_zone("local").key == "Europe/Paris"
        rules = (tmp_path / "localtime").read_bytes()
        (tmp_path / "localtime").unlink()
        (tmp_path / "localtime").write_bytes(rules)
        assert show_moment(0, find_zone("local")) == "1970-01-01 01:00:00+01:00"


def test_a_tz_that_is_no_name_is_a_problem_of_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST")
    assert problems(with_job().replace("Europe/Paris", "local")) == [
        "1: settings.timezone: local: this machine's TZ is no IANA name: write one here, "
        "as Europe/Paris"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "5 * * * *",
        "*/15 0-6,20 1 jan-mar MON",
        "0 0 29 2 *",
        "0 0 31 2 5",
        "5/10 * * * 7",
    ],
)
def test_cron_texts_that_are_right(text: str) -> None:
    check_cron(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("* * * *", "five cron fields"),
        ("@hourly", "five cron fields"),
        ("60 * * * *", "the minute goes from 0 to 59"),
        ("* 24 * * *", "the hour goes from 0 to 23"),
        ("* * 0 * *", "the day of the month goes from 1 to 31"),
        ("* * * foo *", "the month goes from 1 to 12"),
        ("* * * * 8", "the day of the week goes from 0 to 7"),
        ("5-1 * * * *", "the minute goes from 0 to 59"),
        ("*/0 * * * *", "the minute cannot be read"),
        ("1, * * * *", "the minute cannot be read"),
        ("0 0 30 2 *", "it never comes"),
        ("0 0 31 apr,jun *", "it never comes"),
    ],
)
def test_cron_texts_that_are_wrong(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_cron(text)


# The example


def test_the_example_loads_as_it_is() -> None:
    config = load_config(EXAMPLE)
    assert [str(series) for series in config.series()] == [
        "binance/ohlc/1h/BTC-USDT",
        "binance/ohlc/1h/ETH-USDT",
        "binance/ohlc/1m/BTC-USDT",
    ]
    assert (config.job_of(HOUR).start, config.job_of(HOUR).schedule) == ("2020-01-01", None)


def test_the_example_has_every_key_and_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its examples switched on, but for the second webhook_url, which is another value."""
    monkeypatch.setenv("DCCD_WEBHOOK_URL", "https://hooks.slack.com/x")
    text = EXAMPLE.read_text().replace("  webhook_url: null\n", "")
    text = re.sub(r"(?m)^( *)#(?=[^ \n])", r"\1", text)
    config = parse_config(text, EXAMPLE)
    assert config.alerts.webhook_url
    values = yaml.safe_load(text)
    assert set(values) == set(Config.model_fields)
    for name, field in Config.model_fields.items():
        has_every_field(values[name], field.annotation)


def has_every_field(value: Any, annotation: Any) -> None:
    """Follows the models and the example side by side; a default that is shown is the default."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        assert set(value) == set(annotation.model_fields), annotation
        for name, field in annotation.model_fields.items():
            has_every_field(value[name], field.annotation)
            default = field.default
            if not field.is_required() and isinstance(default, str | int | float | None):
                assert value[name] == default or name in ("start", "webhook_url"), name
    elif isinstance(value, list) and value:
        has_every_field(value[0], next(iter(get_args(annotation)), None))
    elif isinstance(value, dict):
        has_every_field(next(iter(value.values())), get_args(annotation)[1])


def test_every_key_of_the_example_has_one_comment_line_above() -> None:
    lines = EXAMPLE.read_text().splitlines()
    seen: set[str] = set()
    for above, line in zip(["", *lines], lines, strict=False):
        key = re.match(r" *#?(?:- )?\{?([a-z_]+):", line)
        if key and key[1] not in seen and key[1] not in ("settings", "binance"):
            assert above.lstrip().startswith("# "), line
            seen.add(key[1])
    assert len(seen) > 25
