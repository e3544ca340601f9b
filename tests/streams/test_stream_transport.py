"""The transport over a real socket, plain and TLS: how much a turn of the shared reader brings."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from helpers import next_heard
from stream_lab import wait
from websockets.frames import Frame, Opcode

from dccd_streams import transport as transport_module
from dccd_streams.transport import Disconnected, SocketTransport

MESSAGE = b"x" * 2_000
MANY = 60


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side of TLS, its certificate made for this."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def connected(transport: SocketTransport, server: ssl.SSLContext | None) -> Iterator[socket.socket]:
    """The transport at one end of a connection whose handshakes are done; the other end."""
    ours, theirs = socket.socketpair()
    if server is None:
        with closing(ours), closing(theirs):
            transport._socket = ours
            yield theirs
        return
    accepted: list[socket.socket] = []
    thread = threading.Thread(
        target=lambda: accepted.append(server.wrap_socket(theirs, server_side=True))
    )
    thread.start()
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with closing(client.wrap_socket(ours)) as wrapped:
        thread.join()
        transport._socket = transport._secure = wrapped
        with closing(accepted[0]):
            yield accepted[0]


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_turn_reads_all_that_is_there(request: pytest.FixtureRequest, kind: str) -> None:
    """TLS gives a record at a time: one for each turn would be less than an exchange sends."""
    context = request.getfixturevalue("secure") if kind == "tls" else None
    transport = SocketTransport()
    with connected(transport, context) as server:
        server.sendall(Frame(Opcode.TEXT, MESSAGE).serialize(mask=False) * MANY)
        transport._wait_at_most(0)
        transport._collect()
        assert [frame.payload for frame in transport._messages()] == [MESSAGE] * MANY


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_nothing_there_is_no_end(request: pytest.FixtureRequest, kind: str) -> None:
    context = request.getfixturevalue("secure") if kind == "tls" else None
    transport = SocketTransport()
    with connected(transport, context) as server:
        transport._wait_at_most(0)
        assert not transport._collect()
        server.sendall(Frame(Opcode.TEXT, b"later").serialize(mask=False))
        assert [frame.payload for frame in next_heard(transport)] == [b"later"]


def test_a_part_of_a_large_message_is_no_turn_again_and_again() -> None:
    transport = SocketTransport()
    large = Frame(Opcode.TEXT, b"x" * (1 << 20)).serialize(mask=False)
    part = large[: 900 << 10]

    def came() -> bool:
        transport._collect()
        return transport._reader.held == len(part)

    with connected(transport, None) as server:
        sender = threading.Thread(target=server.sendall, args=(part,))
        sender.start()
        transport._wait_at_most(0)
        wait(came)
        sender.join()
        assert not transport._collect()
        server.sendall(large[len(part) :])
        assert [len(frame.payload) for frame in next_heard(transport)] == [1 << 20]


def test_of_many_pings_the_newest_is_answered() -> None:
    """A flood of them would keep the thread busy with answers, and stop() waiting."""
    transport, said = SocketTransport(), list[tuple[bytes, int]]()

    class Client:
        def send(self, message: bytes, opcode: int) -> None:
            said.append((message, opcode))

    with connected(transport, None) as server:
        transport._client = Client()  # type: ignore[assignment]
        pings = b"".join(Frame(Opcode.PING, b"%d" % n).serialize(mask=False) for n in range(1_000))
        server.sendall(pings)
        transport.listen(lambda _: not said, 0.1)
    assert said[-1] == (b"999", Opcode.PONG)
    assert len(said) < 10


def test_a_handshake_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte of it comes in time."""
    monkeypatch.setattr(transport_module, "_ALTOGETHER", 0.3)
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        served, _ = listener.accept()
        with closing(served), suppress(OSError):
            while not over.wait(0.05):
                served.sendall(b"x")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = threading.Thread(target=drip, args=(listener,))
        server.start()
        with pytest.raises(Disconnected, match="no connection"):
            SocketTransport().connect(f"ws://127.0.0.1:{listener.getsockname()[1]}", None)
        over.set()
        server.join()
