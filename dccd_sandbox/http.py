"""HTTP/1.1 as far as a market-data client uses it: requests read, replies written."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

from dccd_sandbox.candles import Rows

HEAD_LIMIT = 64 * 1_024
BODY_LIMIT = 4 * 1_024 * 1_024
_WORTH_GZIP = 256
JSON = "application/json;charset=UTF-8"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain"


class BadRequest(Exception):
    """Bytes that are no request; the connection is closed after `status`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` and `query` are decoded, header names are in lower case."""

    method: str
    target: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants to use the connection again."""
        return self.headers.get("connection", "").lower() != "close"


@dataclass(slots=True)
class Body:
    """Bytes of an answer, compressed once when first asked for."""

    plain: bytes
    kind: str = JSON
    _gzip: bytes | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.plain)

    def encoded(self, accept: str) -> tuple[bytes, str]:
        """The bytes to send and the lines of header that go with them."""
        head = f"content-type: {self.kind}\r\n"
        if "gzip" not in accept or len(self.plain) < _WORTH_GZIP:
            return self.plain, head
        if self._gzip is None:
            self._gzip = gzip.compress(self.plain, compresslevel=1, mtime=0)
        return self._gzip, head + "content-encoding: gzip\r\nvary: accept-encoding\r\n"


@dataclass(frozen=True, slots=True)
class Candles:
    """The table behind an answer, for faults to change: rows() makes it, encode() prints it."""

    rows: Callable[[], Rows]
    encode: Callable[[Rows], bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `weight` is what it cost under the exchange's limit, `wait` holds it back for so
    many seconds, `cut` breaks the connection in the middle of the body."""

    status: int
    body: Body
    headers: tuple[tuple[str, str], ...] = ()
    candles: Candles | None = None
    weight: int = 0
    wait: float = 0.0
    cut: bool = False
    fault: str = ""


def parse(buffer: bytearray) -> Request | None:
    """Take one whole request off the buffer; None while it is not all there. Raises BadRequest."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > HEAD_LIMIT:
            raise BadRequest(431, f"header of more than {HEAD_LIMIT} bytes")
        return None
    lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    headers = dict(map(_header, lines[1:]))
    length = _length(headers)
    if len(buffer) < end + 4 + length:
        return None
    body = bytes(buffer[end + 4 : end + 4 + length])
    del buffer[: end + 4 + length]
    return _request(lines[0], headers, body)


def render(reply: Reply, request: Request | None, now_ms: int) -> bytes:
    """The whole answer as bytes; the Date is the sandbox's own."""
    accept = request.headers.get("accept-encoding", "") if request else ""
    body, lines = reply.body.encoded(accept)
    extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
    keep = "keep-alive" if request and request.keep_alive else "close"
    head = (
        f"HTTP/1.1 {reply.status} {_phrase(reply.status)}\r\ndate: {http_date(now_ms)}\r\n"
        f"connection: {keep}\r\ncontent-length: {len(body)}\r\n{lines}{extra}\r\n"
    )
    return head.encode("latin-1") + body


def http_date(ms: int) -> str:
    """A time in milliseconds as HTTP writes dates."""
    return formatdate(ms / 1_000, usegmt=True)


def _request(line: str, headers: dict[str, str], body: bytes) -> Request:
    words = line.split(" ")
    if len(words) != 3 or not words[1].startswith("/"):
        raise BadRequest(400, f"request line {line[:100]!r}")
    if words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(505, f"version {words[2][:20]!r}")
    if words[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    path, _, query = words[1].partition("?")
    pairs = tuple(parse_qsl(query, keep_blank_values=True))
    return Request(words[0], words[1], unquote(path), pairs, headers, body)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise BadRequest(400, f"header line {line[:100]!r}")
    return name.lower(), value.strip()


def _length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest(501, "transfer-encoding of a request")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(400, f"content-length {text[:20]!r}")
    if int(text) > BODY_LIMIT:
        raise BadRequest(413, f"body of more than {BODY_LIMIT} bytes")
    return int(text)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
