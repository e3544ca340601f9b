"""A WebSocket client that is not ours, and a market that moves in steps."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandbox_client import NOW
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dccd_sandbox import Sandbox
from dccd_sandbox.clock import epoch_ms

NOW_MS = epoch_ms(NOW)
PATIENCE = 20.0
QUIET = 0.1
"""Seconds after which nothing more comes from a clock that stands still."""


@contextmanager
def opened(box: Sandbox, path: str) -> Iterator[ClientConnection]:
    """A connection to a path of the sandbox."""
    with connect(f"{box.ws_url}{path}", compression=None, max_size=None, max_queue=None) as ws:
        yield ws


def asked(ws: ClientConnection, **content: object) -> Any:
    """What the server answers to a message."""
    ws.send(json.dumps(content))
    return json.loads(ws.recv(PATIENCE))


def step(box: Sandbox, ms: int) -> int:
    """Move the frozen clock on until all streams have sent what lies between; the new time."""
    return box.advance(ms)


def texts(ws: ClientConnection) -> list[str]:
    """All that comes until nothing comes any more, or the connection ends."""
    found = []
    try:
        found.append(str(ws.recv(PATIENCE)))
        while True:
            try:
                found.append(str(ws.recv(QUIET)))
            except TimeoutError:
                # it may just be late on a busy machine: what was sent before a pong is there after
                ws.ping().wait(PATIENCE)
                found.append(str(ws.recv(QUIET)))
    except (TimeoutError, ConnectionClosed):
        return found


def messages(ws: ClientConnection) -> list[Any]:
    """The same as JSON."""
    return [json.loads(text) for text in texts(ws)]
