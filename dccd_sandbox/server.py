"""The sockets: many kept-alive connections on one event loop."""

import asyncio
import json
import socket
from collections.abc import Callable

from dccd_sandbox.app import App, Upgrade
from dccd_sandbox.http import BadRequest, Body, Reply, Request, parse, render
from dccd_sandbox.sockets import WebSocket

Log = Callable[[Request, Reply], None]


class Connection(asyncio.Protocol):
    """One client. Requests are answered in order, one at a time; a slow answer holds only itself.

    An upgrade to WebSocket hands the transport to a protocol of its own.
    """

    def __init__(self, app: App, live: "set[Connection]", log: Log | None) -> None:
        self._app = app
        self._live = live
        self._log = log
        self._buffer = bytearray()
        self._waiting: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- a TCP server makes no other
        self._transport = transport
        self._live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and with it the answer it waited for."""
        self._live.discard(self)
        self._transport = None
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        """Some bytes of requests."""
        self._buffer += data
        self._serve()

    def close(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _serve(self) -> None:
        while self._waiting is None and self._transport is not None and self._buffer:
            try:
                request = parse(self._buffer)
            except BadRequest as error:
                self._buffer.clear()
                text = Body(json.dumps({"error": str(error)}).encode())
                self._transport.write(
                    render(Reply(error.status, text), None, self._app.clock.now())
                )
                self._transport.close()
                return
            if request is None:
                return
            if request.headers.get("upgrade", "").lower() == "websocket":
                reply = self._upgrade(request)
                if reply is None:
                    return
            else:
                reply = self._app.answer(request)
            if self._log is not None:
                self._log(request, reply)
            if reply.wait:
                loop = asyncio.get_running_loop()
                self._waiting = loop.call_later(reply.wait, self._late, request, reply)
            else:
                self._send(request, reply)

    def _upgrade(self, request: Request) -> Reply | None:
        """The refusal of a handshake; None: there is none, and the connection is another's soon."""
        opened = self._app.upgrade(request)
        if opened.stream is None:
            return opened.reply
        if self._log is not None:
            self._log(request, opened.reply)
        if opened.reply.wait:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(opened.reply.wait, self._switch, request, opened)
        else:
            self._switch(request, opened)
        return None

    def _switch(self, request: Request, opened: Upgrade) -> None:
        """Hand the transport over."""
        transport = self._transport
        if transport is None or opened.stream is None:
            return
        lines = "".join(f"{name}: {value}\r\n" for name, value in opened.reply.headers)
        head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        transport.write(f"{head}{lines}\r\n".encode())
        socket = WebSocket(self._app.hub, opened.stream, request.path, transport)
        self._live.discard(self)
        self._transport = None
        transport.set_protocol(socket)
        socket.start(bytes(self._buffer))

    def _late(self, request: Request, reply: Reply) -> None:
        self._waiting = None
        self._send(request, reply)
        self._serve()

    def _send(self, request: Request, reply: Reply) -> None:
        if self._transport is None:
            return
        content = render(reply, request, self._app.clock.now())
        if reply.cut:
            head = content.index(b"\r\n\r\n") + 4
            self._transport.write(content[: head + (len(content) - head) // 2])
            self._transport.close()
            return
        self._transport.write(content)
        if not request.keep_alive:
            self._transport.close()


class Server:
    """A listening socket and its connections.

    It accepts by itself, because asyncio's own server forgets a connection that it accepted in the
    moment of its closing: the client of that one would wait for ever.
    """

    def __init__(self, app: App, log: Log | None = None) -> None:
        self._app = app
        self._log = log
        self._live: set[Connection] = set()
        self._opening: set[asyncio.Task[object]] = set()
        self._socket: socket.socket | None = None

    def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which the system chose where it was 0. OSError: it is taken."""
        self._socket = socket.create_server((host, port), backlog=1_024)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket)
        return int(self._socket.getsockname()[1])

    async def stop(self) -> None:
        """Close the socket and every connection."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        await asyncio.gather(*self._opening, return_exceptions=True)
        while self._live or self._app.hub.live:
            for connection in list(self._live):
                connection.close()
            for stream in list(self._app.hub.live):
                stream.drop()
            await asyncio.sleep(0)

    def _accept(self, listening: socket.socket) -> None:
        try:
            accepted, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client went away again
        # as exchanges do: else a message waits until the client has read the one before it
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(
                lambda: Connection(self._app, self._live, self._log), accepted
            )
        )
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
