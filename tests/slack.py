"""A webhook on this machine, which takes messages as Slack does."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "T0P5ECRET-hunter2"


class Slack:
    """The server. `status` is what it answers; a message that it `refuses` gets 400."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.status = 200
        self.refuses: Callable[[str], bool] = lambda _: False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
                status = 400 if outer.refuses(text) else outer.status
                if status == 200:
                    outer.messages.append(text)
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/{SECRET}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Hear nothing more."""
        self.server.shutdown()
        self.server.server_close()
