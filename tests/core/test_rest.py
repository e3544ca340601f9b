"""The REST client against real servers on 127.0.0.1: what each kind of failure becomes."""

import gzip
import logging
import re
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

import dccd_core.http
from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Banned,
    Blocked,
    ExchangeError,
    Limits,
    Rejected,
    Request,
    Unavailable,
    UnknownSymbol,
)
from dccd_core.exchanges.binance import Binance
from dccd_core.limits import Cancelled, Limiter
from dccd_core.rest import RestClient, Retries

PING = Request("/api/v3/klines", {"symbol": "BTCUSDT", "note": "a b&c"}, weight=2)
ONCE = Retries(1, 0)
THRICE = Retries(3, 0)
PLENTY = Limits(weight=1e6, seconds=1, burst=1e6, page=1_000)

Play = bytes | Callable[[socket.socket], None]


class Server:
    """Plays one answer a request, in order, the last one for ever. No answer: the connection ends.

    A play is what to send, or a function that gets the socket.
    """

    def __init__(self, *plays: Play, tls: Path | None = None) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self._plays = list(plays)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._tls and tls:
            self._tls.load_cert_chain(tls)
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self.url = f"{scheme}://{self.address}"
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.add(connection)
            while head := self._head(connection):
                with self._lock:
                    self.heads.append(head)
                    play = self._plays.pop(0) if len(self._plays) > 1 else self._plays[0]
                if callable(play):
                    play(connection)
                else:
                    connection.sendall(play)
        except OSError:
            pass  # the client went away, or the play closed the socket
        finally:
            connection.close()

    @staticmethod
    def _head(connection: socket.socket) -> str:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            part = connection.recv(65_536)
            if not part:
                return ""
            data += part
        return data.decode()

    def drop(self) -> None:
        """Close all connections that are open, as a server does with idle ones."""
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def close(self) -> None:
        """End everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(30)
        for connection in self._open:
            connection.close()


@contextmanager
def server(*plays: Play, tls: Path | None = None) -> Iterator[Server]:
    """A server for the length of a block."""
    running = Server(*plays, tls=tls)
    try:
        yield running
    finally:
        running.close()


def answer(body: bytes = b"[]", *headers: str, status: int = 200) -> bytes:
    """A whole HTTP answer with the right length."""
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def zipped(body: bytes, *headers: str) -> bytes:
    return answer(gzip.compress(body), "Content-Encoding: gzip", *headers)


def cut(connection: socket.socket) -> None:
    """Close without an answer."""
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def then_cut(data: bytes) -> Callable[[socket.socket], None]:
    def play(connection: socket.socket) -> None:
        connection.sendall(data)
        cut(connection)

    return play


def dripping(head: bytes) -> Callable[[socket.socket], None]:
    """A byte now and then, for ever: no single read ever takes long."""

    def play(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return play


def silent(connection: socket.socket) -> None:
    """Say nothing until the other side goes away."""
    connection.recv(1)


@pytest.fixture
def budget(tmp_path: Path) -> Path:
    return tmp_path / "budget"


@pytest.fixture
def client(budget: Path) -> Iterator[Callable[..., RestClient]]:
    made: list[RestClient] = []

    def make(url: str, **options: object) -> RestClient:
        limiter = Limiter(budget, PLENTY)
        made.append(RestClient(Binance(), limiter, base_url=url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., RestClient]


def body(got: Answer) -> bytes:
    return got.body


def test_a_request_and_its_answer(client: Make) -> None:
    date = formatdate(time.time() - 3_600, usegmt=True)
    with server(zipped(b"[1]", f"Date: {date}", "X-Some-Header: Kept")) as there:
        rest = client(f"{there.url}/binance/")
        got = rest.call(PING, lambda got: got, retries=ONCE)
        lines = there.heads[0].split("\r\n")
        assert lines[0] == "GET /binance/api/v3/klines?symbol=BTCUSDT&note=a+b%26c HTTP/1.1"
        assert {"Accept-Encoding: gzip", f"Host: {there.address}"} <= set(lines)
        assert any(re.fullmatch(r"User-Agent: dccd/\S+", line) for line in lines)
    assert (got.status, got.body, got.headers["x-some-header"]) == (200, b"[1]", "Kept")
    assert formatdate(got.time / 1e6, usegmt=True) == date
    assert rest.requests == 1


@pytest.mark.parametrize(
    "header", ["X-None: 1", "Date: yesterday", "Date: Thu, 01 Jan 2099 00:00:00 GMT", "Date: "]
)
def test_without_a_plausible_date_the_local_clock_counts(client: Make, header: str) -> None:
    with server(answer(b"[]", header)) as there:
        before = time.time()
        got = client(there.url).call(PING, lambda got: got, retries=ONCE)
        assert before <= got.time / 1e6 + 1e-5 <= time.time() + 1e-5


def test_connections_are_kept_and_shared_by_threads(client: Make) -> None:
    with server(zipped(b"[]")) as there:
        rest = client(there.url)

        def work() -> None:
            for _ in range(25):
                assert rest.call(PING, body, retries=ONCE) == b"[]"

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert rest.requests == len(there.heads) == 100
        assert there.connections <= 4


def test_a_kept_connection_that_the_server_has_closed_is_no_failure(client: Make) -> None:
    with server(answer(b"1")) as there:
        rest = client(there.url)
        for _ in range(5):
            assert rest.call(PING, body, retries=ONCE) == b"1"
            there.drop()
        assert there.connections == 5


@pytest.mark.parametrize("closing", [cut, reset])
def test_a_kept_connection_closed_while_we_ask_is_no_failure(client: Make, closing: Play) -> None:
    with server(answer(b"1"), closing, answer(b"2")) as there:
        rest = client(there.url)
        assert rest.call(PING, body, retries=ONCE) == b"1"
        assert rest.call(PING, body, retries=ONCE) == b"2"
        assert rest.requests == 3


HTTP = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HTTP + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = "Content-Encoding: gzip"
FAILURES: dict[str, tuple[Play, str]] = {
    "closed": (cut, "connection broken: Remote end closed"),
    "reset": (reset, "connection broken: .*reset"),
    "another protocol": (then_cut(b"SSH-2.0-OpenSSH_9.2\r\n"), "connection broken: SSH-2.0"),
    "half a head": (then_cut(b"HTTP/1.1 200 OK\r\nContent-Le"), "nothing came after the head"),
    "short body": (then_cut(HTTP + b"Content-Length: 9\r\n\r\n[1,2"), "Incomplete.*4 bytes read"),
    "short chunk": (then_cut(CHUNKED + b"9\r\n[1,2"), "Incomplete"),
    "no last chunk": (then_cut(CHUNKED + b"4\r\n[1,2\r\n"), "Incomplete"),
    "bad chunk": (then_cut(CHUNKED + b"zz\r\n[1,2"), "Incomplete"),
    "silent": (silent, "no answer in time"),
    "no gzip": (answer(b"not gzip at all", GZIP), "broken gzip: "),
    "short gzip": (answer(gzip.compress(b"x" * 999)[:-9], GZIP), "broken gzip: it ends too early"),
    "wrong gzip": (answer(gzip.compress(b"x")[:-8] + b"12345678", GZIP), "broken gzip: .*check"),
    "gzip and more": (answer(gzip.compress(b"x") + b"more", GZIP), "broken gzip"),
    "dripping head": (dripping(HTTP + b"X-Long: "), "no complete answer within 3.5 s"),
    "dripping body": (
        dripping(HTTP + b"Content-Length: 9999\r\n\r\n"),
        "no complete answer within",
    ),
    "dripping end": (dripping(HTTP + b"Connection: close\r\n\r\n"), "no complete answer"),
    "endless head": (then_cut(HTTP + b"X: 1\r\n" * 200 + b"\r\n"), "connection broken: .*headers"),
    "redirect": (answer(b"", "Location: http://u:pw@h/x?k=1", status=302), "to http://h/x, which"),
    "redirect to nowhere": (answer(b"", status=307), "redirects to nowhere"),
    "503": (answer(b"<html>", status=503), "Binance: HTTP 503"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_no_whole_answer_is_unavailable(client: Make, kind: str) -> None:
    play, text = FAILURES[kind]
    with server(play) as there:
        # no time-out where something else is expected: a busy machine is slow
        short = kind == "silent" or kind.startswith("dripping")
        rest = client(there.url, **{"timeout": (0.5, 1.0)} if short else {})
        with pytest.raises(Unavailable, match=rf"(?s){text}.* \(after 1 attempt\)$") as caught:
            rest.call(PING, body, retries=ONCE)
        assert rest.requests == 1
        if kind != "503":
            assert str(caught.value).startswith(f"{there.url}/api/v3/klines?symbol=BTCUSDT")


def test_a_body_without_a_length_ends_with_the_connection(client: Make) -> None:
    with server(then_cut(HTTP + b"\r\n[1,2]")) as there:
        assert client(there.url).call(PING, body, retries=ONCE) == b"[1,2]"


def test_a_chunked_gzip_of_two_members(client: Make) -> None:
    data = gzip.compress(b"[1,") + gzip.compress(b"2]")
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, data[i : i + 1]) for i in range(len(data)))
    head = b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server(HTTP + head + chunks + b"0\r\n\r\n") as there:
        rest = client(there.url)
        assert [rest.call(PING, body, retries=ONCE) for _ in range(3)] == [b"[1,2]"] * 3
        assert there.connections == 1


def test_nobody_there_is_unavailable(client: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match=r"no connection: .*refused \(after 2 attempts\)"):
        client(f"http://127.0.0.1:{port}").call(PING, body, retries=Retries(2, 0))
    with pytest.raises(Unavailable, match="the host name cannot be resolved"):
        client("http://no.such.host.invalid").call(PING, body, retries=ONCE)


@pytest.mark.parametrize(
    "play",
    [
        answer(b"x" * 3_000),
        answer(gzip.compress(b"x" * 3_000), GZIP),
        then_cut(HTTP + b"Content-Length: 99999999999\r\n\r\n"),
        then_cut(HTTP + b"\r\n" + b"x" * 3_000),
        then_cut(CHUNKED + b"fffffffff\r\n" + b"x" * 3_000),
    ],
    ids=["length", "bomb", "announced", "endless", "chunk"],
)
def test_a_body_too_large_is_refused(
    client: Make, monkeypatch: pytest.MonkeyPatch, play: Play
) -> None:
    monkeypatch.setattr(dccd_core.http, "LARGEST_BODY", 2_048)
    with server(play) as there, pytest.raises(BadAnswer, match="MB is refused"):
        client(there.url).call(PING, body, retries=ONCE)


def test_an_encoding_that_nobody_asked_for_is_a_bad_answer(client: Make) -> None:
    with (
        server(answer(b"x", "Content-Encoding: br")) as there,
        pytest.raises(BadAnswer, match="content-encoding 'br', although only gzip"),
    ):
        client(there.url).call(PING, body, retries=ONCE)


def test_a_bad_answer_is_asked_again_and_a_good_one_ends_it(client: Make) -> None:
    def parse(got: Answer) -> int:
        if got.body != b"3":
            raise BadAnswer(f"no 3: {got.body!r}")
        return 3

    with server(answer(b"1"), cut, answer(b"3"), answer(b"4")) as there:
        rest = client(there.url)
        # the second connection is a kept one: its end is asked again at once, and not counted
        assert rest.call(PING, parse, retries=Retries(2, 0)) == 3
        with pytest.raises(BadAnswer, match=r"^no 3: b'4' \(after 3 attempts\)$"):
            rest.call(PING, parse, retries=THRICE)
        assert rest.requests == 6


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, '{"code":-1121,"msg":"Invalid symbol."}', UnknownSymbol),
        (400, '{"code":-1102,"msg":"Mandatory parameter"}', Rejected),
        (403, "<html>", Blocked),
        (451, "", Blocked),
        (301, "", Rejected),
    ],
)
def test_a_refusal_is_not_asked_again(
    client: Make, status: int, text: str, kind: type[ExchangeError]
) -> None:
    with server(answer(text.encode(), status=status)) as there:
        rest = client(there.url)
        with pytest.raises(kind) as caught:
            rest.call(PING, body, retries=Retries(5, 0))
        assert "after" not in str(caught.value)
        assert there.url in str(caught.value)  # whoever mistyped rest_url sees who was asked
        assert len(there.heads) == 1


def test_an_error_of_the_parser_itself_comes_through(client: Make) -> None:
    with server(answer()) as there, pytest.raises(ZeroDivisionError):
        client(there.url).call(PING, lambda _: 1 // 0, retries=THRICE)


def test_waits_double_and_have_a_little_jitter() -> None:
    for attempt, least in ((1, 2.0), (2, 4.0), (5, 32.0)):
        waits = {Retries(3, 2.0).delay(attempt) for _ in range(50)}
        assert all(least <= wait <= least * 1.1 for wait in waits)
        assert len(waits) > 1
    for wrong in ((0, 1.0), (1, -1.0)):
        with pytest.raises(ValueError, match="must be at least"):
            Retries(*wrong)


class Seen(Limiter):
    """A limiter that notes what it is told and waits for nothing."""

    def __init__(self, path: Path) -> None:
        self.told: list[tuple[str, float]] = []
        super().__init__(path, PLENTY, sleep=lambda *_: None)

    def acquire(self, weight: float, cancel: threading.Event | None = None) -> float:
        self.told.append(("acquire", weight))
        return 0.0

    def pause(self, seconds: float) -> None:
        self.told.append(("pause", seconds))

    def observe(self, used: float, at: float | None = None) -> None:
        self.told.append(("observe", used))


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_too_many_requests_pauses_everyone_for_as_long_as_asked(budget: Path, form: str) -> None:
    now = formatdate(time.time(), usegmt=True)
    value = "7" if form == "seconds" else formatdate(time.time() + 7, usegmt=True)
    limiter = Seen(budget)
    limited = answer(b"", f"Retry-After: {value}", f"Date: {now}", status=429)
    used = answer(b"[]", "X-MBX-USED-WEIGHT-1M: 1500")
    with (
        server(limited, used) as there,
        RestClient(Binance(), limiter, base_url=there.url) as rest,
    ):
        assert rest.call(PING, body, retries=Retries(3, 0.5)) == b"[]"
    names = [name for name, _ in limiter.told]
    assert names == ["acquire", "pause", "acquire", "observe"]
    assert limiter.told[0][1] == 2
    assert limiter.told[1][1] == pytest.approx(7, abs=1.1)
    assert limiter.told[3][1] == 0.25


def test_too_many_requests_without_a_time_waits_as_any_failure(budget: Path) -> None:
    limiter = Seen(budget)
    with (
        server(answer(b"", status=429)) as there,
        RestClient(Binance(), limiter, base_url=there.url) as rest,
        pytest.raises(ExchangeError, match=r"too many requests.*\(after 2 attempts\)"),
    ):
        rest.call(PING, body, retries=Retries(2, 4.0))
    pauses = [seconds for name, seconds in limiter.told if name == "pause"]
    assert pauses[0] == pytest.approx(4.2, abs=0.21)
    assert pauses[1] == pytest.approx(8.4, abs=0.41)


def test_a_real_pause_is_kept(client: Make) -> None:
    with server(answer(b"", "Retry-After: 1", status=429), answer(b"1")) as there:
        began = time.monotonic()
        assert client(there.url).call(PING, body, retries=Retries(2, 0)) == b"1"
        assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [
        (answer(b"", "Retry-After: 600", status=418), 600),
        (answer(b"", status=418), 120),
        (answer(b"", "Retry-After: 0", status=418), 120),
        (answer(b"", "Retry-After: 86400", status=429), 86_400),
    ],
    ids=["told", "not told", "over", "429 for a day"],
)
def test_a_ban_is_one_clear_error_and_no_storm(
    client: Make, refusal: bytes, seconds: float
) -> None:
    with server(refusal) as there:
        first, second = client(there.url), client(there.url)
        until = time.time() + seconds
        with pytest.raises(Banned, match=r"nothing is asked before \d{4}-.*Z$"):
            first.call(PING, body, retries=THRICE)
        for rest in (first, second):
            with pytest.raises(Banned, match=r"^no request before \d{4}-.*Z: ") as caught:
                rest.call(PING, body, retries=THRICE)
            assert caught.value.retry_after is not None
            assert caught.value.retry_after <= seconds
            assert time.time() + caught.value.retry_after >= until - 0.01
        assert len(there.heads) == 1


def test_usage_at_the_limit_stops_the_next_request(client: Make) -> None:
    """In the exchange's last tenth of a minute's budget we wait, whoever spent the rest."""
    cancel = threading.Event()
    date = formatdate(time.time() // 60 * 60, usegmt=True)  # a minute is left
    full = answer(b"[]", "X-MBX-USED-WEIGHT-1M: 6000", f"Date: {date}")
    with server(full) as there:
        rest = client(there.url, cancel=cancel)
        rest.call(PING, body, retries=ONCE)
        timer = threading.Timer(0.3, cancel.set)
        timer.start()
        with pytest.raises(Cancelled):
            rest.call(PING, body, retries=ONCE)
        timer.join()
        assert len(there.heads) == 1


@pytest.mark.parametrize("where", ["answer", "retry", "limiter", "before"])
def test_cancel_ends_every_wait(client: Make, budget: Path, where: str) -> None:
    cancel, asked = threading.Event(), threading.Event()

    def play(connection: socket.socket) -> None:
        asked.set()
        if where == "retry":
            connection.sendall(answer(status=500))
        else:
            silent(connection)

    with server(play) as there:
        rest = client(there.url, cancel=cancel, timeout=(5, 600))
        caught: list[BaseException] = []

        def work() -> None:
            try:
                rest.call(PING, body, retries=Retries(9, 600))
            except Cancelled as error:
                caught.append(error)

        if where == "limiter":
            Limiter(budget, PLENTY).pause(600)
        if where == "before":
            cancel.set()
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        if where in ("answer", "retry"):
            assert asked.wait(30)
        time.sleep(0.1)
        cancel.set()
        worker.join(30)
        assert len(caught) == 1
        assert rest.requests == (1 if where in ("answer", "retry") else 0)


def test_a_closed_client_says_so(client: Make) -> None:
    rest = client("http://127.0.0.1:9")
    rest.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        rest.call(PING, body, retries=ONCE)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("api.binance.com", "rest_url must be"),
        ("ftp://api.binance.com", "rest_url must be"),
        ("https://", "rest_url must be"),
        ("http://[::1", "rest_url must be"),
        ("https://user:s3cret@api.binance.com", "at api.binance.com must have no user"),
        ("https://api.binance.com/?key=s3cret", "must have no user, query or fragment"),
    ],
)
def test_a_base_url_that_cannot_be_meant(client: Make, url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        client(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        ("ftp://user:s3cret@proxy:21", "proxy at proxy: 'ftp' is not http, https or socks5"),
        ("user:s3cret@proxy:8080", "proxy must be http"),
        ("http://user:s3cret@[bad:8080", "proxy must be http"),
        ("", "proxy must be http"),
    ],
)
def test_a_proxy_that_cannot_be_meant(client: Make, proxy: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        client("https://api.binance.com", proxy=proxy)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_socks_without_its_package_says_what_to_install(
    client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'urllib3\[socks\]'") as caught:
        client("https://api.binance.com", proxy="socks5h://user:s3cret@127.0.0.1:1080")
    assert "s3cret" not in str(caught.value)


def test_a_proxy_gets_the_whole_url_and_its_password_and_nobody_else(client: Make) -> None:
    with server(answer(b"1")) as proxy:
        rest = client("http://no.such.host.invalid", proxy=f"http://me:p%40ss@{proxy.address}")
        assert rest.call(PING, body, retries=ONCE) == b"1"
        assert proxy.heads[0].startswith("GET http://no.such.host.invalid/api/v3/klines?")
        assert "proxy-authorization: Basic bWU6cEBzcw==" in proxy.heads[0]


def test_the_password_of_a_proxy_is_told_to_nobody(
    client: Make, caplog: pytest.LogCaptureFixture
) -> None:
    refused = answer(b"me:s3cret?", status=407)
    with caplog.at_level(logging.DEBUG), server(refused) as proxy:
        url = f"http://me:s3cret@{proxy.address}"
        rest = client("https://api.binance.com", proxy=url)
        with pytest.raises(Unavailable, match=r"proxy: .*407") as caught:
            rest.call(PING, body, retries=ONCE)
        told = [*traceback.format_exception(caught.value), caplog.text, repr(rest)]
        assert "s3cret" not in "".join(told)
        assert "czNjcmV0" not in "".join(told)  # the same in base64
    with pytest.raises(Unavailable, match="proxy: no connection") as caught:
        rest.call(PING, body, retries=ONCE)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "localhost.pem"
    path.write_text(CERTIFICATE)
    return path


def test_tls_is_verified(client: Make, certificate: Path) -> None:
    with server(answer(b"1"), tls=certificate) as there:
        with pytest.raises(Unavailable, match="certificate verify failed"):
            client(there.url).call(PING, body, retries=ONCE)
        assert there.heads == []


def test_tls_with_a_trusted_certificate(
    client: Make, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with server(answer(b"1"), tls=certificate) as there:
        rest = client(there.url)
        assert [rest.call(PING, body, retries=ONCE) for _ in range(3)] == [b"1"] * 3
        assert there.connections == 1
        there.drop()
        assert rest.call(PING, body, retries=ONCE) == b"1"
        wrong = there.url.replace("localhost", "127.0.0.2")
    with pytest.raises(Unavailable):
        client(wrong).call(PING, body, retries=ONCE)


def test_a_dripping_tls_server_and_one_that_never_shakes_hands(
    client: Make, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    drip = dripping(HTTP + b"Content-Length: 9999\r\n\r\n")
    with server(drip, tls=certificate) as there:
        rest = client(there.url, timeout=(2.0, 1.0))
        with pytest.raises(Unavailable, match=r"no complete answer within 5 s"):
            rest.call(PING, body, retries=ONCE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        rest = client(f"https://127.0.0.1:{listener.getsockname()[1]}", timeout=(0.2, 0.2))
        with pytest.raises(Unavailable, match="no answer in time"):
            rest.call(PING, body, retries=ONCE)


# Made for these tests: a key that only signs "localhost", good from 2020 to 2120.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBaDCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJUUTHLonWpb9SCe
sr+8c3pEkfDUar3RrkTMttGA4841D77D3mqWYMRMKj6+PT4s1IfC/GnAn+o1P84c
uW4MCICjTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBRT9D/R2qhFdNBMTpg2UK8+d037njAKBggqhkjOPQQD
AgNJADBGAiEA5PvOseQjAvexyo4hRg1guRMmW8zhNbvLQjbC1U9FNiMCIQDt9DPC
t+N1rArVHbYNxvaf48dA3XVybM5htsq1IQZWjQ==
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/f2UwVJOPRIaR8WW
TbMjIMk32AwYJQgkPVsPCzD1GXKhRANCAASVFExy6J1qW/UgnrK/vHN6RJHw1Gq9
0a5EzLbRgOPONQ++w95qlmDETCo+vj0+LNSHwvxpwJ/qNT/OHLluDAiA
-----END PRIVATE KEY-----
"""
