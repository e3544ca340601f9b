"""The sockets, the command line and the two ways to run it."""

import gzip
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sandbox_client import NOW, ask

from dccd_sandbox import Rule, Sandbox, Settings

ROOT = Path(__file__).resolve().parents[2]
TARGET = "/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=200"


@pytest.fixture
def wire(box: Sandbox) -> Iterator[socket.socket]:
    with socket.create_connection((box.host, box.port), timeout=20) as connection:
        yield connection


def answers(wire: socket.socket, count: int) -> bytes:
    """Bytes until `count` answers have begun and the last one is whole (they are small here)."""
    got = b""
    while got.count(b"HTTP/1.1 ") < count or not got.endswith(b"}"):
        part = wire.recv(65_536)
        if not part:
            break
        got += part
    return got


def test_a_connection_is_kept_and_requests_in_one_packet_are_answered_in_order(
    wire: socket.socket,
) -> None:
    one = b"GET /binance/api/v3/ping HTTP/1.1\r\nHost: x\r\n\r\n"
    two = b"GET /binance/api/v3/time HTTP/1.1\r\nHost: x\r\n\r\n"
    wire.sendall(one + two)
    got = answers(wire, 2)
    assert got.index(b"\r\n\r\n{}") < got.index(b"serverTime")
    wire.sendall(one)
    assert b"connection: keep-alive" in answers(wire, 1)


def test_a_request_in_many_packets(wire: socket.socket) -> None:
    for byte in b"GET /binance/api/v3/ping HTTP/1.1\r\nHost: x\r\n\r\n":
        wire.sendall(bytes([byte]))
    assert answers(wire, 1).endswith(b"{}")


def test_a_slow_answer_holds_back_only_its_own_connection(box: Sandbox) -> None:
    box.set_faults(Rule("slow", seconds=5, path="/binance/api/v3/time"))
    with socket.create_connection((box.host, box.port), timeout=20) as slow:
        slow.sendall(b"GET /binance/api/v3/time HTTP/1.1\r\n\r\n")
        assert ask(box, "/binance/api/v3/ping").status == 200
        slow.settimeout(0.01)
        with pytest.raises(TimeoutError):
            slow.recv(1)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"GET /" + b"x" * 70_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)
def test_garbage_is_refused_and_the_connection_closed(
    wire: socket.socket, sent: bytes, status: int
) -> None:
    wire.sendall(sent)
    got = answers(wire, 2)
    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert b'{"error": ' in got


def test_close_when_asked(wire: socket.socket) -> None:
    wire.sendall(b"GET /binance/api/v3/ping HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answers(wire, 2).endswith(b"{}")


def test_gzip_when_asked_for(box: Sandbox, wire: socket.socket) -> None:
    wire.sendall(b"GET %s HTTP/1.1\r\nAccept-Encoding: gzip\r\n" % TARGET.encode())
    wire.sendall(b"Connection: close\r\n\r\n")
    got = b"".join(iter(lambda: wire.recv(65_536), b""))
    head, body = got.split(b"\r\n\r\n", 1)
    assert b"content-encoding: gzip" in head
    assert len(body) < 20_000
    plain = ask(box, TARGET)
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(body) == plain.body


def test_many_connections_at_once(box: Sandbox) -> None:
    with ThreadPoolExecutor(32) as pool:
        bodies = list(pool.map(lambda _: ask(box, TARGET).body, range(200)))
    assert len(set(bodies)) == 1
    assert box.stats(last=0)["requests"] == 200


def test_stats_tell_paths_statuses_and_the_last_requests(box: Sandbox) -> None:
    ask(box, TARGET)
    ask(box, "/binance/api/v3/klines")
    stats = box.stats(last=1)
    assert stats["paths"] == {"/binance/api/v3/klines": {"200": 1, "400": 1}}
    assert [seen["target"] for seen in stats["last"]] == ["/binance/api/v3/klines"]
    box.reset()
    assert box.stats()["requests"] == 0


def test_stopping_ends_open_connections_and_frees_the_port() -> None:
    with Sandbox(Settings(symbols=())) as box:
        idle = socket.create_connection((box.host, box.port), timeout=20)
    with idle:
        assert ends(idle)
    with Sandbox(Settings(symbols=()), port=box.port) as again:
        assert ask(again, "/binance/api/v3/ping").status == 200
        with pytest.raises(OSError, match="in use"):
            Sandbox(Settings(symbols=()), port=box.port).__enter__()


def ends(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_process_of_its_own_serves_the_same() -> None:
    settings = Settings(now=NOW, frozen=True, weight_limit=0, many=1)
    with Sandbox(settings) as here, Sandbox(settings, process=True, faults=[Rule("slow")]) as there:
        assert there.pid not in (0, os.getpid())
        there.set_faults()
        assert ask(there, TARGET).body == ask(here, TARGET).body
        window = ("1h", "2026-05-30", "2026-06-02")
        assert there.truth("N0000USDT", *window).equals(here.truth("N0000USDT", *window))
        pid = there.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_that_cannot_start_says_why() -> None:
    with (
        Sandbox(Settings(symbols=())) as taken,
        pytest.raises(OSError, match="cannot listen"),
        Sandbox(Settings(symbols=()), port=taken.port, process=True),
    ):
        pass


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dccd_sandbox", "--port", "0", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_is_and_ends_with_0(number: signal.Signals) -> None:
    with start("--symbol", "XYZUSDT:XYZ:USDT:2026-01-01", "--fault", "429=1") as child:
        assert child.stdout is not None
        url = child.stdout.readline().split()[-1]
        assert url.startswith("http://127.0.0.1:")
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
            wire.sendall(b"GET /binance/api/v3/ping HTTP/1.1\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 429 ")
            child.send_signal(number)
            _, errors = child.communicate(timeout=20)
        assert child.returncode == 0
        assert "GET /binance/api/v3/ping 429" in errors
        assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--symbol", "BTCUSDT"), "SYMBOL:BASE:QUOTE:LISTED"),
        (("--symbol", "BTCUSDT:BTC:USDT:soon"), "'soon' is no ISO date"),
        (("--symbol", "A:A:B:2024-01-01", "--symbol", "A:A:B:2024-01-01"), "given twice"),
        (("--candles", "A:A:B:1m:/nowhere/x.csv"), "/nowhere/x.csv"),
        (("--candles", "A:A:B:1x:/nowhere/x.csv"), "'1x'"),
        (("--fault", "429=2"), "0..1"),
        (("--fault", "late"), "'late'"),
        (("--now", "soon"), "soon"),
    ],
)
def test_settings_in_error_are_told_and_end_with_2(words: tuple[str, ...], said: str) -> None:
    with start(*words) as child:
        _, errors = child.communicate(timeout=20)
        assert child.returncode == 2
        assert said in errors.splitlines()[-1]
