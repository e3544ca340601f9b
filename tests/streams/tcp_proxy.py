"""A TCP proxy that a network's faults are made with: it cuts, stalls and delays."""

import socket
import threading
import time
from contextlib import suppress


class TcpProxy:
    """Passes bytes between whoever connects and a port of this machine.

    `stalled`: nothing of the server passes, connections stay open. `only`: of its WebSocket frames
    only those with these bytes pass. `delay`: how many seconds its bytes are late. `refuses`: who
    connects is cut off at once.
    """

    def __init__(self, port: int) -> None:
        self.connects = 0
        self.stalled = self.refuses = False
        self.only: bytes | None = None
        self.delay = 0.0
        self.held = threading.Event()
        self._port = port
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def __enter__(self) -> "TcpProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()

    def cut(self) -> None:
        """Cut every connection, on both sides."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connects += 1
                if self.refuses:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open |= {client, server}
                for pair in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, down: bool) -> None:
        with suppress(OSError):
            handshake = not down
            data = b""
            while part := source.recv(65_536):
                if not down:
                    target.sendall(part)
                    continue
                data += part
                if not handshake:
                    end = data.find(b"\r\n\r\n")
                    if end < 0:
                        continue
                    target.sendall(data[: end + 4])
                    data, handshake = data[end + 4 :], True
                data = self._pass_frames(data, target)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            self._open.discard(one)

    def _pass_frames(self, data: bytes, target: socket.socket) -> bytes:
        """Send the whole frames that may pass; what is left."""
        while (size := _frame(data)) is not None:
            frame, data = data[:size], data[size:]
            while self.stalled and not self._closed.wait(0.01):
                self.held.set()
            if self.delay:
                time.sleep(self.delay)
            if self.only is None or self.only in frame:
                target.sendall(frame)
        return data


def _frame(data: bytes) -> int | None:
    """How long the first frame is; None if it is not whole."""
    if len(data) < 2:
        return None
    more = {126: 2, 127: 8}.get(data[1], 0)
    if len(data) < 2 + more:
        return None
    size = 2 + more + (int.from_bytes(data[2 : 2 + more]) if more else data[1])
    return size if len(data) >= size else None
