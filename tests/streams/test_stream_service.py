"""The service as a program: signals, kills, a second one beside it, its config file."""

import json
import logging
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import free_port
from stream_lab import PATIENT, wait

from dccd_core import joblog
from dccd_core.config import child_environment
from dccd_core.joblog import Logs
from dccd_core.last_good import remember
from dccd_core.models import moment
from dccd_core.store.datastore import DataStore
from dccd_core.stream_status import read_statuses
from dccd_sandbox import Sandbox, Settings
from dccd_streams.instance import Shard
from dccd_streams.log_file import log_file

ROOT = Path(__file__).parents[2]
SPEED = 10
BTC, ETH = "binance/trades/BTC-USDT", "binance/trades/ETH-USDT"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """Binance with five thousand trades a minute, ten times as fast as life."""
    with Sandbox(Settings(speed=SPEED, rate=500, weight_limit=0)) as found:
        yield found


def write_config(folder: Path, box: Sandbox, *pairs: str, channels: str = "[trades]") -> Path:
    """A config file for these pairs."""
    path = folder / "config.yml"
    path.write_text(
        f"""\
settings: {{data_path: {folder / "data"}}}
stream_jobs:
  - {{exchange: binance, pairs: [{", ".join(pairs)}], channels: {channels}, time_step: 60}}
exchanges:
  binance: {{rest_url: "{box.url}/binance", ws_url: "{box.ws_url}/binance"}}
"""
    )
    return path


@contextmanager
def program(
    command: list[str], config: Path, variables: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A program, killed at the end if it runs still; what it says is in `service.log`."""
    with (config.parent / "service.log").open("a") as said:
        process = subprocess.Popen(
            command, cwd=ROOT, text=True, stderr=said, stdout=said,
            env=child_environment(**variables),
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def service(config: Path, *options: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The service."""
    command = [sys.executable, "-m", "dccd_streams", "--config", str(config), "--port", "0"]
    with program([*command, *options], config, variables) as process:
        yield process


def said(config: Path) -> str:
    return (config.parent / "service.log").read_text()


def streams(config: Path) -> dict[str, Any]:
    """What the service tells, by pair."""
    found = read_statuses(config.parent / "data")
    return {one.pair: one for status in found for one in status.streams}


def is_(state: str, config: Path, *pairs: str) -> bool:
    found = streams(config)
    return all(pair in found and found[pair].state == state for pair in pairs)


def live(config: Path, *pairs: str) -> bool:
    return is_("live", config, *pairs)


def wait_rows(config: Path, *pairs: str, more: int = 50) -> None:
    """Until so many more rows of each of these pairs are told."""
    before = streams(config)

    def came() -> bool:
        now = streams(config)
        return all(now[pair].rows > before[pair].rows + more for pair in pairs)

    wait(came, lambda: said(config))


def assert_equals_truth(data: Path, box: Sandbox, key: str, symbol: str) -> pl.DataFrame:
    """No row is missing, torn or doubled between the first and the last."""
    stored = DataStore(data).load(key)
    ids = stored["trade_id"].cast(pl.Int64)
    assert ids.n_unique() == len(ids)
    first, last = stored["time"][0], stored["time"][-1]
    truth = box.trades_truth(symbol, first.isoformat(), last.isoformat())
    inside = stored.filter(pl.col("time") < last)
    columns = ["time", "trade_id", "price", "amount", "side"]
    as_text = [pl.col("side").cast(pl.String), pl.col("trade_id").cast(pl.String)]
    found = inside.select(columns).with_columns(as_text)
    expected = truth.select(columns).with_columns(as_text).cast(dict(found.schema))
    assert found.equals(expected)
    return stored


def streamed(store: DataStore, key: str, since: int) -> list[int]:
    """The times (µs) of what a stream has brought since a moment (µs)."""
    rows = store.load(key, moment(since)).filter(pl.col("received").is_not_null())
    return rows["time"].to_physical().to_list()


def holes(store: DataStore, ends: dict[str, int]) -> int:
    """How many holes there are from the first row of each series up to an end (µs)."""
    wanted = [(key, store.first_timestamp(key), moment(end)) for key, end in ends.items()]
    return sum(len(store.missing_intervals(*one)) for one in wanted)


def wait_whole(data: Path, box: Sandbox, *keys: str) -> None:
    """Until nothing is missing between the first row and what a stream brings from now on.

    What REST brings does not tell that: it fills a hole page by page, before a stream runs and
    after.
    """
    store, begun = DataStore(data), box.now() * 1_000
    wait(lambda: all(streamed(store, key, begun) for key in keys), "nothing new", 2 * PATIENT)
    ends = {key: streamed(store, key, begun)[-1] for key in keys}
    while left := holes(store, ends):  # many kills leave much to fetch: as long as it gets less
        wait(lambda few=left: holes(store, ends) < few, f"{left} holes stay", 2 * PATIENT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_with_everything_on_disk(
    tmp_path: Path, box: Sandbox, number: int
) -> None:
    config = write_config(tmp_path, box, "BTC/USDT", channels="[trades, book, ohlc]")
    with service(config) as process:
        wait(lambda: live(config, "BTC/USDT"), "not live")
        wait_rows(config, "BTC/USDT")
        process.send_signal(number)
        assert process.wait(10) == 0, "the time that is promised"
    told = streams(config)["BTC/USDT"]
    data = tmp_path / "data"
    [status] = read_statuses(data)
    assert not status.alive(status.written)
    assert_equals_truth(data, box, BTC, "BTCUSDT")
    assert told.state == "stopped"
    assert list((data / ".dccd" / "journal").glob("*.open")) == []
    assert "ERROR" not in said(config)


SIGNALLED = """
import os, sys
from dccd_streams import __main__ as service
from dccd_streams.manager import StreamManager

start = StreamManager.start

def signalled(self):
    os.kill(os.getpid(), {number:d})
    start(self)

StreamManager.start = signalled
sys.exit(service.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_it_begins_is_heard(
    tmp_path: Path, box: Sandbox, number: signal.Signals
) -> None:
    config = write_config(tmp_path, box, "BTC/USDT")
    code = SIGNALLED.format(number=number)
    command = [sys.executable, "-c", code, "--config", str(config), "--port", "0"]
    with program(command, config, {"PYTHONPATH": str(ROOT)}) as process:
        if number == signal.SIGHUP:
            wait(lambda: "the config file was read again" in said(config), lambda: said(config))
            process.terminate()
        assert process.wait(PATIENT) == 0
    assert said(config).endswith("stopped\n")


MOST_LOST = 1.0
"""Seconds of rows that a kill may cost before they are healed."""


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.soak)])
def test_killed_at_random_moments_it_loses_nothing_that_rest_has(
    tmp_path: Path, box: Sandbox, kills: int
) -> None:
    config = write_config(tmp_path, box, "BTC/USDT", "ETH/USDT", channels="[trades, book]")
    dice = random.Random(3)
    data = tmp_path / "data"
    lost = []
    for _ in range(kills):
        with service(config) as process:
            wait(lambda: live(config, "BTC/USDT", "ETH/USDT"), "not live")
            # of now: what precedes the stream is healed
            wait_rows(config, "BTC/USDT", "ETH/USDT", more=0)
            time.sleep(dice.uniform(0.2, 1.5))
            killed = box.now()
            process.kill()
            process.wait()
        for key, symbol in ((BTC, "BTCUSDT"), (ETH, "ETHUSDT")):
            rows = DataStore(data).load(key)
            assert rows["trade_id"].n_unique() == len(rows)
            lost.append(seconds_missing(rows, box, symbol, killed))
        (data / ".dccd" / "streams" / "status.json").unlink()
    with service(config) as process:
        wait_whole(data, box, BTC, ETH)
        process.terminate()
        assert process.wait(PATIENT) == 0
    assert_equals_truth(data, box, BTC, "BTCUSDT")
    assert_equals_truth(data, box, ETH, "ETHUSDT")
    assert DataStore(data).load("binance/book/BTC-USDT")["time"].is_sorted()
    if kills > 3:  # beside other tests a machine may be too slow for it
        assert max(lost) <= MOST_LOST, sorted(lost)


def seconds_missing(rows: pl.DataFrame, box: Sandbox, symbol: str, killed: int) -> float:
    """How much of real time a kill at a moment (ms) of the sandbox has cost, at most."""
    newest = rows["time"].to_physical()[-1]
    truth = box.trades_truth(symbol, newest // 1_000, killed)["time"].to_physical()
    after = truth.filter(truth > newest)
    return 0.0 if after.is_empty() else (killed * 1_000 - after[0]) / 1e6 / SPEED


def test_a_second_one_is_refused_and_told_who_runs(tmp_path: Path, box: Sandbox) -> None:
    config = write_config(tmp_path, box, "BTC/USDT")
    with service(config) as first:
        wait(lambda: live(config, "BTC/USDT"), "not live")
        for options in ([], ["--shard", "1/2"]):
            with service(config, *options) as second:
                assert second.wait(PATIENT) == 2
            assert f"process {first.pid} on " in said(config)
        assert first.poll() is None


def test_shards_cover_each_pair_once(tmp_path: Path, box: Sandbox) -> None:
    pairs = ["BTC/USDT", "ETH/USDT", "SOL/USDT", "DOGE/USDT"]
    config = write_config(tmp_path, box, *pairs)
    with service(config, "--shard", "1/2") as one, service(config, "--shard", "2/2") as two:
        wait(lambda: live(config, *pairs), "not live")
        wait_rows(config, "BTC/USDT")  # "live" is told before the first of them
        found = read_statuses(tmp_path / "data")
        assert [status.shard for status in found] == ["1/2", "2/2"]
        told = [stream.pair for status in found for stream in status.streams]
        assert sorted(told) == sorted(pairs)
        for process in (one, two):
            process.terminate()
            assert process.wait(PATIENT) == 0
    assert_equals_truth(tmp_path / "data", box, BTC, "BTCUSDT")


def problem(data: Path) -> str:
    [status] = read_statuses(data)
    return status.problem or ""


def test_a_changed_file_touches_only_what_changed(tmp_path: Path, box: Sandbox) -> None:
    config = write_config(tmp_path, box, "BTC/USDT", "ETH/USDT")
    with service(config) as process:
        wait(lambda: live(config, "BTC/USDT", "ETH/USDT"), "not live")
        write_config(tmp_path, box, "ETH/USDT", "SOL/USDT")
        process.send_signal(signal.SIGHUP)
        wait(lambda: live(config, "SOL/USDT"), "the new pair is not live")
        assert "BTC/USDT" not in streams(config)
        assert streams(config)["ETH/USDT"].reconnects == 0
        config.write_text("settings: [")
        wait(lambda: "the old one stays" in said(config), "the broken file was not noticed")
        wait_rows(config, "ETH/USDT")
        wait(lambda: "config.yml" in problem(tmp_path / "data"), "the status does not tell of it")
        process.terminate()
        assert process.wait(PATIENT) == 0
    assert_equals_truth(tmp_path / "data", box, ETH, "ETHUSDT")


def ask(
    port: int, path: str, method: str = "GET", body: object = None, token: str | None = None
) -> tuple[int, str]:
    """The status and the text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENT) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_http_tells_and_does(tmp_path: Path, box: Sandbox) -> None:
    config = write_config(tmp_path, box, "BTC/USDT")
    with service(config, DCCD_STREAMS_TOKEN="sesame"):
        wait(lambda: live(config, "BTC/USDT"), "not live")
        [status] = read_statuses(tmp_path / "data")
        port = status.health_port
        assert port is not None
        assert ask(port, "/health") == (200, "well\n")
        code, text = ask(port, "/metrics")
        assert code == 200
        labels = 'exchange="binance",key="binance_BTC_USDT_trades",pair="BTC/USDT"'
        assert f'dccd_stream_state{{{labels},state="live"}} 1.0' in text
        wanted = {"exchange": "binance", "pair": "ETH/USDT", "channels": ["trades"]}
        assert ask(port, "/streams", "POST", wanted)[0] == 401
        assert ask(port, "/streams", "POST", wanted, "wrong")[0] == 401
        code, text = ask(port, "/streams", "POST", wanted | {"pair": "?", "depth": 0}, "sesame")
        assert code == 400
        assert json.loads(text)["error"] == (
            "pairs[0]: ?: write BASE/QUOTE in upper case, as BTC/USDT; "
            "depth: 0: must be a whole number of levels, 1 or more"
        )
        code, text = ask(port, "/streams", "POST", wanted, "sesame")
        assert (code, json.loads(text)) == (201, {"key": "binance_ETH_USDT_trades"})
        wait(lambda: live(config, "ETH/USDT"), "not live")
        wanted = {"exchange": "binance", "pair": "BTC/USDT", "channels": ["trades"]}
        assert ask(port, "/streams", "POST", wanted | {"depth": 5}, "sesame")[0] == 201
        listed = json.loads(ask(port, "/streams")[1])
        assert [one["pair"] for one in listed] == ["BTC/USDT", "ETH/USDT"]
        assert ask(port, "/streams/binance_ETH_USDT_trades", "DELETE", token="sesame")[0] == 200
        assert ask(port, "/streams/binance_ETH_USDT_trades", "DELETE", token="sesame")[0] == 404
        assert ask(port, "/else")[0] == 404


def test_health_is_bad_while_a_market_is_not_there(tmp_path: Path, box: Sandbox) -> None:
    config = write_config(tmp_path, box, "BTC/USDT", "NIX/USDT")
    with service(config):
        wait(lambda: live(config, "BTC/USDT"), "not live")
        wait(lambda: is_("put_aside", config, "NIX/USDT"), "not put aside")
        [status] = read_statuses(tmp_path / "data")
        assert status.health_port is not None
        code, text = ask(status.health_port, "/health")
        assert code == 503
        assert "binance_NIX_USDT_trades: put_aside: NIX/USDT: Binance spot has no such pair" in text
        assert ask(status.health_port, "/streams", "POST", {}, "")[0] == 403


def test_a_config_that_cannot_be_used_ends_it_at_once(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text("settings: {}\n")
    with service(config) as process:
        assert process.wait(PATIENT) == 2
    assert "data_path" in said(config)


def kept(config: Path) -> str:
    """What `dccd logs streams` shows."""
    return "\n".join(Logs(config.parent / "data").tail("streams", 1_000))


def test_arrow_takes_its_memory_where_it_is_given_back() -> None:
    asked = (
        "import dccd_streams.__main__, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    )
    command = [sys.executable, "-c", asked]
    assert subprocess.check_output(command, text=True, cwd=ROOT).split() == ["system"]


def test_alone_it_keeps_a_log(tmp_path: Path, box: Sandbox) -> None:
    config = write_config(tmp_path, box, "BTC/USDT")
    with service(config) as process:
        wait(lambda: live(config, "BTC/USDT"), "not live")
        with service(config) as second:
            assert second.wait(PATIENT) == 2
        process.terminate()
        assert process.wait(PATIENT) == 0
    log = kept(config)
    assert log.count("INFO dccd_streams: started: 1 streams") == 1
    assert log.count(f"the stream service runs already on this data path: process {process.pid}")
    assert log.endswith("Z INFO dccd_streams: stopped")
    whole = Logs(tmp_path / "data").tail(None, 1_000)
    assert whole[-1].endswith("Z streams: INFO dccd_streams: stopped")


def test_no_log_leaves_it_to_who_starts_it(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    job = "{exchange: binance, pairs: [BTC/USDT], span: 1h}"
    config.write_text(f"settings: {{data_path: ./data}}\nhisto_jobs: [{job}]\n")
    with service(config, "--no-log") as process:
        wait(lambda: "started: 0 streams" in said(config), "not started")
        process.terminate()
        assert process.wait(PATIENT) == 0
    assert Logs(tmp_path / "data").jobs() == []


def test_a_configured_port_that_is_taken_keeps_nothing_from_being_recorded(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    job = "{exchange: binance, pairs: [BTC/USDT], span: 1h}"
    command = [sys.executable, "-m", "dccd_streams", "--config", str(config)]
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        settings = f"settings: {{data_path: ./data, stream_port: {port}}}"
        config.write_text(f"{settings}\nhisto_jobs: [{job}]\n")
        with program(command, config, {}) as process:
            wait(lambda: read_statuses(tmp_path / "data"), "not started")
            [status] = read_statuses(tmp_path / "data")
            assert status.health_port not in (None, port)
            told = f"stream_port: {port} cannot be used (Address already in use): /health and "
            assert f"{told}/metrics are on port {status.health_port}\n" in said(config)
            process.terminate()
            assert process.wait(PATIENT) == 0
        with program([*command, "--port", str(port)], config, {}) as process:
            assert process.wait(PATIENT) == 2, "a port that was asked for is that one or none"
    with program(command, config, {}) as process:
        wait(lambda: f"started: 0 streams, http://127.0.0.1:{port}\n" in said(config), "not there")
        assert ask(port, "/health")[0] == 200
        process.terminate()
        assert process.wait(PATIENT) == 0


def test_why_a_config_ends_it_is_in_the_log_of_the_last_good_one(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    job = "{exchange: binance, pairs: [BTC/USDT], span: 1h}"
    config.write_text(f"settings: {{data_path: ./data}}\nhisto_jobs: [{job}]\n")
    remember(config)
    config.write_text("settings: {data_path: ./data}\n")
    with service(config) as process:
        assert process.wait(PATIENT) == 2
    assert "ERROR dccd_streams: " in kept(config)
    assert "nothing to collect" in kept(config)


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO):
        yield caplog


def test_the_log_has_every_line_of_an_error_also_of_a_thread(
    tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    def die() -> None:
        raise ValueError("out of its mind")

    with log_file(tmp_path / "data", Shard(2, 8)):
        thread = threading.Thread(target=die, name="folds")
        thread.start()
        thread.join()
    first, *_, last = Logs(tmp_path / "data").tail("streams", 100)
    assert first.endswith("Z shard 2/8: ERROR dccd_streams: the thread folds died")
    assert last.endswith("Z ValueError: out of its mind")
    logging.getLogger("dccd_streams").info("after it")
    assert "after it" not in kept(tmp_path / "config.yml")


def test_a_log_that_cannot_be_written_is_said_once_and_goes_on(
    tmp_path: Path, heard: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    log = logging.getLogger("dccd_streams")
    with log_file(tmp_path / "data", None):
        with monkeypatch.context() as patch:
            patch.setattr(joblog.Logs, "write", full)
            log.info("one")
            log.info("two")
        log.info("three")
    why = "the log file cannot be written: [Errno 28] No space left on device"
    assert [record.message for record in heard.records] == ["one", why, "two", "three"]
    assert kept(tmp_path / "config.yml").endswith("three")


def test_the_example_of_the_readme_runs(tmp_path: Path, box: Sandbox) -> None:
    config = write_config(tmp_path, box, "BTC/USDT")
    example = str(ROOT / "examples" / "embedded_streams.py")
    variables = {"DCCD_CONFIG": str(config), "PYTHONPATH": str(ROOT)}
    with program([sys.executable, example], config, variables) as process:
        wait(lambda: live(config, "BTC/USDT"), "not live")
        wait_rows(config, "BTC/USDT")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENT) == 0
    assert_equals_truth(tmp_path / "data", box, BTC, "BTCUSDT")
