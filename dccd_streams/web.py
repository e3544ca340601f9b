"""HTTP on 127.0.0.1: /health, /metrics, and /streams to list, start and stop.

    GET  /health              200, or 503 with what is wrong
    GET  /metrics             Prometheus
    GET  /streams             the status of every task
    POST /streams             {"exchange", "pair", "channels", "time_step"?, "depth"?}: start one
    DELETE /streams/KEY       stop one

What changes something needs `Authorization: Bearer TOKEN`, and is refused where no token is set.
"""

import hmac
import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import msgspec

from dccd_core.config_problems import stream_job
from dccd_core.stream_status import ServiceStatus
from dccd_streams.manager import StreamManager
from dccd_streams.metrics import metrics_text

log = logging.getLogger(__name__)

_MOST = 65_536
_JSON, _TEXT = "application/json", "text/plain; version=0.0.4; charset=utf-8"
_SICK = ("silent", "put_aside")


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body that starts a stream."""

    exchange: str
    pair: str
    channels: list[str]
    time_step: int = 60
    depth: int = 20


class WebServer:
    """Serves one manager until it is closed. OSError if the port is taken."""

    def __init__(self, manager: StreamManager, port: int, token: str) -> None:
        handler = type("Handler", (_Handler,), {"manager": manager, "token": token})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="stream-web", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def ailments(status: ServiceStatus) -> list[str]:
    """What is wrong, a line each; empty if all is well."""
    found = [status.problem] if status.problem else []
    sick = [one for one in status.streams if one.state in _SICK]
    found += [": ".join(filter(None, (one.key, one.state, one.problem))) for one in sick]
    return found


class _Handler(BaseHTTPRequestHandler):
    manager: StreamManager
    token: str
    timeout = 10

    def do_GET(self) -> None:
        """Answer a question."""
        match self.path.partition("?")[0]:
            case "/health":
                found = ailments(self.manager.service_status())
                status = HTTPStatus.SERVICE_UNAVAILABLE if found else HTTPStatus.OK
                self._answer(status, "\n".join(found or ["well"]).encode() + b"\n", _TEXT)
            case "/metrics":
                self._answer(HTTPStatus.OK, metrics_text(self.manager.service_status()), _TEXT)
            case "/streams":
                self._json(HTTPStatus.OK, self.manager.statuses())
            case _:
                self._error(HTTPStatus.NOT_FOUND, "there are /health, /metrics and /streams")

    def do_POST(self) -> None:
        """Start a stream."""
        if not self._allowed():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/streams" or not length.isdecimal() or int(length) > _MOST:
            self._error(HTTPStatus.BAD_REQUEST, "POST a JSON object to /streams")
            return
        try:
            wanted = msgspec.json.decode(self.rfile.read(int(length)), type=Wanted)
            job = stream_job(
                {
                    "exchange": wanted.exchange,
                    "pairs": [wanted.pair],
                    "channels": wanted.channels,
                    "time_step": wanted.time_step,
                    "depth": wanted.depth,
                }
            )
            key = self.manager.start_one(job, job.pairs[0], job.channels)
        except (msgspec.MsgspecError, ValueError, RuntimeError) as error:
            self._error(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self._json(HTTPStatus.CREATED, {"key": key})

    def do_DELETE(self) -> None:
        """Stop a stream."""
        if not self._allowed():
            return
        key = unquote(self.path.removeprefix("/streams/"))
        if self.manager.stop_one(key):
            self._json(HTTPStatus.OK, {"stopped": key})
        else:
            self._error(HTTPStatus.NOT_FOUND, f"no stream {key} runs")

    def _allowed(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.token:
            self._error(
                HTTPStatus.FORBIDDEN, "start the service with a token in DCCD_STREAMS_TOKEN"
            )
        elif not hmac.compare_digest(given.encode(), self.token.encode()):
            self._error(HTTPStatus.UNAUTHORIZED, "Authorization: Bearer and the service's token")
        else:
            return True
        return False

    def _error(self, status: HTTPStatus, why: str) -> None:
        self._json(status, {"error": why})

    def _json(self, status: HTTPStatus, value: object) -> None:
        self._answer(status, msgspec.json.encode(value) + b"\n", _JSON)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """To our log, not to stderr."""
        log.debug(format, *args)
