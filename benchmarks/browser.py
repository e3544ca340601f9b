"""A headless Chromium, told what to do by its own protocol: pages as a user sees them."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import websocket
from websocket import create_connection

PATIENCE = 90.0
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update --remote-debugging-port=0
--remote-allow-origins=* --window-size=1600,1000"""


def chromium() -> str | None:
    """Where it is; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, address: str) -> None:
        self._socket: websocket.WebSocket = create_connection(address, timeout=PATIENCE)
        self._numbers = count(1)
        self.call("Page.enable")

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """One command, and its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": given}))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return done["result"].get("value")

    def open(self, address: str, shows: str) -> float:
        """Seconds until the expression `shows` is true of a page twice in a row: it is complete,
        and the page answers. RuntimeError, with what is to be read there, if it never is."""
        began = time.monotonic()
        self.call("Page.navigate", url=address)
        true_since = None
        while (now := time.monotonic()) - began < PATIENCE:
            if not self.run(shows):
                true_since = None
            elif true_since is not None:
                return true_since - began
            else:
                true_since = now
            time.sleep(0.05)
        raise RuntimeError(f"{address} never showed it:\n{self.run('document.body.innerText')}")

    def picture(self, path: Path) -> None:
        """A screenshot as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def browser() -> Iterator[Page]:
    """A browser that has seen nothing yet, with one tab."""
    program = chromium()
    if program is None:
        raise RuntimeError("there is no Chromium: apt install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, *FLAGS.split(), f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Page(_address(Path(folder) / "DevToolsActivePort"))
        finally:
            process.terminate()
            process.wait()


def _address(said: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while not (said.exists() and said.read_text().count("\n")):
        if time.monotonic() > deadline:
            raise RuntimeError("Chromium does not start")
        time.sleep(0.05)
    port, path = said.read_text().splitlines()[:2]
    whole = create_connection(f"ws://127.0.0.1:{port}{path}", timeout=PATIENCE)
    whole.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
    tabs = json.loads(whole.recv())["result"]["targetInfos"]
    whole.close()
    tab = next(one["targetId"] for one in tabs if one["type"] == "page")
    return f"ws://127.0.0.1:{port}/devtools/page/{tab}"
