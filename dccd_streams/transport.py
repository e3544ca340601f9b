"""The only owner of a socket: connect, send, receive, close.

websocket-client connects (TLS, proxy, handshake) and masks what we send. It would read three
times per message; our own loop over its socket reads many messages at once. Where they come one by
one but often, a thread that all connections share reads them.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol
from urllib.parse import unquote, urlsplit

import websocket

from dccd_core.exchanges.live import Frame
from dccd_streams.frames import FrameReader, ProtocolError
from dccd_streams.shared_reader import SharedReader

CONNECT_SECONDS = 5.0
_ALTOGETHER = 20.0  # seconds of a handshake whose every byte is in time
_SEND_SECONDS = 5.0
_ROOM = 64 << 10  # bytes of one read; TLS gives 16 kB at most
_ENOUGH = 256 << 10  # bytes that are read at once: the reader has other work too
_SLOW = 0.025  # seconds from one message to the next: our own thread is woken for each


class Disconnected(Exception):
    """There is no connection, or no more; the message is one plain sentence."""


class Refused(Disconnected):
    """The server answered the handshake with another status. `retry_after` is in seconds."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"the server refused the connection with HTTP {status}")
        self.status, self.retry_after = status, retry_after


class Transport(Protocol):
    """What a connection needs of a WebSocket client. One thread uses it."""

    def connect(self, url: str, proxy: str | None) -> None:
        """Open the connection; Disconnected if that fails, Refused with the server's status."""

    def send(self, message: bytes) -> None:
        """Send one text message, an empty one as a ping frame; Disconnected if it cannot be."""

    def listen(self, take: Callable[[list[Frame]], bool], every: float) -> None:
        """Hand over what has come, every so many seconds, even if it is nothing, sooner if it is
        much, until `take` says that this is enough; any thread calls it. Disconnected at the end,
        after what came before it."""

    def close(self) -> None:
        """End the connection; again is allowed."""


class SocketTransport:
    """A Transport over websocket-client. `shared` reads for it where that is the cheaper way."""

    def __init__(self, shared: SharedReader | None = None) -> None:
        self._shared = shared
        self._client: websocket.WebSocket | None = None
        self._socket: socket.socket | None = None
        self._secure: ssl.SSLSocket | None = None
        self._reader = FrameReader()
        self._end: str | None = None
        self._timeout = CONNECT_SECONDS
        self._received, self._pause = 0.0, _SLOW

    def connect(self, url: str, proxy: str | None) -> None:
        """Open the connection to a ws:// or wss:// URL, through an http:// proxy if given."""
        self.close()
        self._reader, self._end, self._timeout = FrameReader(), None, CONNECT_SECONDS
        client = websocket.WebSocket(enable_multithread=False, skip_utf8_validation=True)
        late = threading.Timer(_ALTOGETHER, _cut, (client,))
        late.daemon = True
        late.start()
        try:
            client.connect(  # type: ignore[no-untyped-call]
                url,
                timeout=CONNECT_SECONDS,
                redirect_limit=0,
                suppress_origin=True,
                header=["User-Agent: dccd-pipelines"],
                **_proxy_options(proxy),
            )
        except websocket.WebSocketBadStatusException as error:
            after = (error.resp_headers or {}).get("retry-after")
            wait = float(after) if after and after.strip().isdigit() else None
            raise Refused(error.status_code, wait) from error
        except (OSError, ValueError, websocket.WebSocketException) as error:
            raise Disconnected(f"no connection: {_plain(error)}") from error
        finally:
            late.cancel()
        self._client, self._socket = client, client.sock
        self._secure = client.sock if isinstance(client.sock, ssl.SSLSocket) else None
        self._received, self._pause = time.monotonic(), _SLOW
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: bytes) -> None:
        """Send one text message, an empty one as a ping frame."""
        opcode = websocket.ABNF.OPCODE_TEXT if message else websocket.ABNF.OPCODE_PING
        self._send(message, opcode)

    def _send(self, message: bytes, opcode: int) -> None:
        self._wait_at_most(_SEND_SECONDS)
        try:
            self._open().send(message, opcode)
        except (OSError, websocket.WebSocketException) as error:
            raise Disconnected(f"cannot send: {_plain(error)}") from error

    def listen(self, take: Callable[[list[Frame]], bool], every: float) -> None:
        """Hand over the messages that come, each with the time of receipt of its last byte."""
        more, shared = True, self._shared_now()

        def turn() -> bool:
            nonlocal more
            found = self._messages()
            now = time.monotonic()
            self._pause = (now - self._received) / max(1, len(found))
            self._received = now
            more = take(found)
            to_do = self._end is not None or self._reader.pings or self._shared_now() is not shared
            return more and not to_do

        while more:
            self._raise_end()
            shared = self._shared_now()
            if shared is None:
                self._read_alone(turn, every)
            else:
                self._wait_at_most(0)
                shared.read(self._collect, turn, every)
            if self._reader.pings and self._end is None:
                self._pong()

    def _shared_now(self) -> SharedReader | None:
        """The shared reader while that is the cheaper way."""
        shared = self._shared
        return shared if shared is not None and self._pause < _SLOW and not shared.closed else None

    def _read_alone(self, turn: Callable[[], bool], every: float) -> None:
        """Read in our own thread, until a turn says that something else is to be done."""
        self._wait_at_most(every)
        due = time.monotonic() + every
        while True:
            enough = self._collect()
            now = time.monotonic()
            if enough or now >= due:
                due = now + every
                if not turn():
                    return

    def _raise_end(self) -> None:
        if self._end is not None:
            raise Disconnected(self._end)

    def _pong(self) -> None:
        """Answer the newest ping, which answers those before it (RFC 6455, 5.5.3)."""
        newest = self._reader.pings[-1]
        self._reader.pings.clear()
        try:
            self._send(newest, websocket.ABNF.OPCODE_PONG)
        except Disconnected as error:
            self._end = str(error)  # what was read with the ping is handed on first

    def _collect(self) -> bool:
        """Read what is there; whether that is enough for a turn. A fault is told after it."""
        sock, secure, read = self._socket, self._secure, 0
        if sock is None:
            return True
        try:
            while read < _ENOUGH:
                piece = sock.recv(_ROOM)
                if not piece:
                    self._end = "the server cut the connection"
                    return True
                self._reader.feed(piece, time.time_ns() // 1_000)
                read += len(piece)
                if self._timeout:  # the next read would wait, but for the rest of a TLS record
                    more = secure is not None and secure.pending() > 0
                else:
                    more = secure is not None or len(piece) == _ROOM
                if not more:
                    break
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            pass  # nothing came, or half a TLS record: the rest is read next time
        except OSError as error:
            self._end = f"the connection broke: {_plain(error)}"
            return True
        return read > 0 and self._reader.held >= _ENOUGH

    def _messages(self) -> list[Frame]:
        found: list[Frame] = []
        try:
            self._reader.messages(found)
        except ProtocolError as error:
            self._end = f"the server sent {error}"
        if self._reader.closed:
            code, reason = self._reader.closed
            self._end = f"the server closed with code {code} {reason}".rstrip()
        return found

    def close(self) -> None:
        """Say goodbye and close; what the server answers is not waited for."""
        client, self._client = self._client, None
        sock, self._socket = self._socket, None
        if client is None or sock is None:
            return
        try:
            sock.settimeout(0.5)
            client.send(b"\x03\xe8", websocket.ABNF.OPCODE_CLOSE)
        except (OSError, websocket.WebSocketException):
            return  # it is gone already
        finally:
            client.shutdown()  # type: ignore[no-untyped-call]

    def _open(self) -> websocket.WebSocket:
        if self._client is None:
            raise Disconnected("not connected")
        return self._client

    def _wait_at_most(self, seconds: float) -> None:
        """Set the socket's time-out. That is a system call: only where it changes."""
        if self._socket is None:
            raise Disconnected("not connected")
        if seconds != self._timeout:
            self._socket.settimeout(seconds)
            self._timeout = seconds


def _cut(client: websocket.WebSocket) -> None:
    """End a handshake that takes too long; who waits for it is told that the connection is gone."""
    sock = client.sock
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _proxy_options(proxy: str | None) -> dict[str, object]:
    """The proxy of the configuration and no other: not one that the environment names."""
    if proxy is None:
        return {"http_no_proxy": ["*"]}
    parts = urlsplit(proxy)
    options: dict[str, object] = {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port or 3128,
        "proxy_type": "http",
        "http_no_proxy": ["-"],
    }
    if parts.username:
        options["http_proxy_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    return options


def _plain(error: Exception) -> str:
    return str(error) or type(error).__name__
