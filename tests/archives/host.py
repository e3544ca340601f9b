"""A web server of fixed files, with ranges, that remembers what was asked; and packers."""

import gzip
import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dccd_core.archives import open_archive
from dccd_core.archives.archive import Archive
from dccd_core.archives.base import Part, Refused
from dccd_core.exchanges import load


@dataclass
class Host:
    """Files by path, without a slash before it. `etag` sends the MD5 as S3 does.

    `before` may answer instead: a status, or None. `cut` sends so many bytes and breaks
    off, `drip` waits so many seconds between bytes, `refusal` is the body of what is not good.
    """

    files: dict[str, bytes]
    etag: bool = False
    before: Callable[[str, int], int | None] = lambda _path, _count: None
    cut: int | None = None
    drip: float = 0.0
    refusal: bytes = b"no"
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def paths(self) -> list[str]:
        """What was asked, in order."""
        return [path for path, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host: Host

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        host, path = self.host, self.path.lstrip("/")
        host.asked.append((path, self.headers.get("Range", "")))
        status = host.before(path, host.paths.count(path))
        content = host.files.get(path)
        if status is None and content is None:
            status = 404
        if status is not None:
            self._send(status, host.refusal, {})
            return
        assert content is not None
        headers = {}
        if host.etag:
            headers["ETag"] = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        if wanted := self.headers.get("Range"):
            first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {first}-{min(last, len(content) - 1)}/{len(content)}"
            self._send(206, content[first : last + 1], headers)
        else:
            self._send(200, content, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, **self.host.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.host.cut is not None and status < 300:
            self.wfile.write(content[: self.host.cut])
            self.close_connection = True
            return
        if self.host.drip and status < 300:
            try:
                for n in range(len(content)):
                    self.wfile.write(content[n : n + 1])
                    time.sleep(self.host.drip)
            except OSError:
                self.close_connection = True
            return
        self.wfile.write(content)


@contextmanager
def serving(files: dict[str, bytes], **options: object) -> Iterator[Host]:
    """The files at 127.0.0.1."""
    host = Host(files, **options)  # type: ignore[arg-type]
    handler = type("Handler", (_Handler,), {"host": host})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def zipped(name: str, text: str | bytes) -> bytes:
    """A zip of one file."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return held.getvalue()


def gzipped(text: str) -> bytes:
    """A gzip."""
    return gzip.compress(text.encode())


def with_checksum(path: str, content: bytes, wrong: bool = False) -> dict[str, bytes]:
    """A file and its checksum as Binance publishes them."""
    digest = hashlib.sha256(content + b"x" * wrong).hexdigest()
    name = path.rpartition("/")[2]
    return {path: content, f"{path}.CHECKSUM": f"{digest}  {name}\n".encode()}


def opened(exchange: str, private: object, host: Host, **options: object) -> Archive:
    """The archive of an exchange at this host."""
    found = open_archive(load(exchange), private, base_url=host.url, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def sorted_out(items: Iterator[Part | Refused]) -> tuple[list[Part], list[Refused]]:
    """What came and what was refused."""
    found = list(items)
    return (
        [item for item in found if isinstance(item, Part)],
        [item for item in found if isinstance(item, Refused)],
    )
