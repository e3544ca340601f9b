"""Files of one host, streamed into files that have no name: what is broken off leaves nothing."""

import hashlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from dccd_core.archives.base import ArchiveError
from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    ExchangeError,
    Limits,
    RateLimited,
    Unavailable,
    retry_after,
)
from dccd_core.http import HttpClient, StaleConnection
from dccd_core.limits import Cancelled, Limiter

# No host says what it allows; none of ours is known to refuse this.
LIMITS = Limits(weight=8, seconds=1, burst=8, page=1)
TRIES, DELAY, LONGEST_DELAY = 3, 1.0, 60.0
LARGEST = 16 * 2**30
SMALL = 2**16
# A stretch of a download must come within so many seconds: a host that drips is left.
CHUNK, CHUNK_SECONDS = 2**18, 60.0
ROOM = 2**28  # bytes of disk that are left alone
# S3 says so of a key that it does not have where it does not let us list
_NO_KEY = re.compile(rb"<Code>(AccessDenied|NoSuchKey)</Code>")


class HostDown(ArchiveError):
    """The host did not answer, or refuses us: its other files are not asked for either."""


@dataclass(slots=True, eq=False)
class Download:
    """What came: an open file without a name, its size, hashes and the ETag that came with it.

    `total` is the size of the whole file where only a range was asked for.
    """

    file: BinaryIO
    size: int
    sha256: str
    md5: str
    etag: str
    total: int


class _Streaming(HttpClient):
    """An HTTP client whose good answers go to a file: one question a thread at a time."""

    def __init__(self, *, proxy: str | None, threads: int, cancel: threading.Event | None) -> None:
        super().__init__(proxy=proxy, timeout=(10.0, 30.0), threads=threads, cancel=cancel)
        self._wanted = threading.local()

    def stream(self, url: str, sink: "Sink", headers: Mapping[str, str]) -> Answer:
        """As `get`, but the body of a good answer is in `sink`, and none in the answer."""
        self._wanted.sink, self._wanted.headers = sink, headers
        return self.get(url)

    def _read(self, url: str) -> Answer:
        sink: Sink = self._wanted.sink
        flight = self._watch.current()
        response = self._manager.urlopen(
            "GET",
            url,
            headers={**self._manager.headers, "Accept-Encoding": "identity"} | self._wanted.headers,
            redirect=False,
            retries=False,
            preload_content=False,
        )
        try:
            body = b""
            if response.status in (200, 206):
                sink.begin(response.length_remaining)
                while chunk := response.read(CHUNK, decode_content=False):
                    sink.write(chunk)
                    flight.ends = time.monotonic() + CHUNK_SECONDS
                if response.length_remaining:
                    raise OSError(f"{response.length_remaining:,} bytes are missing at its end")
            else:
                body = response.read(SMALL, decode_content=False)
        finally:
            response.close()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, body, time.time_ns() // 1_000)


class Sink:
    """Takes a body, no more than `largest` bytes of it, and hashes it."""

    def __init__(self, folder: Path, largest: int) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- it is closed with the download
        self._folder, self._largest = folder, largest
        self.size = 0
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def begin(self, length: int | None) -> None:
        """Refuse what is too large, or finds no room."""
        if (length or 0) > self._largest:
            raise ArchiveError(f"it has {length:,} bytes, more than {self._largest:,}")
        if shutil.disk_usage(self._folder).free < (length or 0) + ROOM:
            raise ArchiveError(f"no room for {length or 0:,} bytes in {self._folder}")

    def write(self, chunk: bytes) -> None:
        """Some more bytes."""
        self.size += len(chunk)
        if self.size > self._largest:
            raise ArchiveError(f"it has more than {self._largest:,} bytes")
        self.file.write(chunk)
        self.sha256.update(chunk)
        self.md5.update(chunk)


class Host:
    """Downloads from one host, for several threads; `requests` and `bytes` count what was done."""

    def __init__(
        self,
        url: str,
        private: Path,
        *,
        proxy: str | None,
        threads: int,
        cancel: threading.Event | None,
    ) -> None:
        self.requests = self.bytes = 0
        self._url, self._cancel = url.rstrip("/"), cancel
        self._folder = private / "downloads"
        self._folder.mkdir(parents=True, exist_ok=True)
        address = urlsplit(url)
        budget = private / "limits" / f"archive.{address.hostname}.{address.port or 443}"
        self._limiter = Limiter(budget, LIMITS)
        self._http = _Streaming(proxy=proxy, threads=threads, cancel=cancel)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def download(
        self, path: str, largest: int = LARGEST, span: tuple[int, int] | None = None
    ) -> Download | None:
        """A file, or the bytes from the first to before the second of `span`; None if there is no
        such file. Raises ArchiveError, HostDown after three failures, and Cancelled."""
        headers = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}
        for attempt in range(1, TRIES + 1):
            try:
                return self._once(path, min(largest, LARGEST), headers)
            except (Unavailable, RateLimited, BadAnswer) as error:
                if attempt == TRIES:
                    raise HostDown(f"{error} (after {TRIES} attempts)") from error
                self._pause(error, DELAY * 2 ** (attempt - 1))
            except ExchangeError as error:
                raise HostDown(str(error)) from error
            except OSError as error:
                raise ArchiveError(f"it cannot be kept in {self._folder}: {error}") from error
        raise AssertionError("unreachable")

    def small(self, path: str) -> bytes | None:
        """The whole of a file of at most 64 kB, None if there is none."""
        found = self.download(path, SMALL)
        if found is None:
            return None
        with found.file as file:
            return file.read()

    def _once(self, path: str, largest: int, headers: Mapping[str, str]) -> Download | None:
        sink = Sink(self._folder, largest)
        try:
            answer = self._answer(f"{self._url}/{path}", sink, headers)
            if answer is None:
                sink.file.close()
                return None
            sink.file.flush()
            sink.file.seek(0)
        except BaseException:
            sink.file.close()
            raise
        etag = answer.headers.get("etag", "").strip('"').lower()
        ranged = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("content-range", ""))
        if headers and not (answer.status == 206 and ranged):
            sink.file.close()
            raise ArchiveError("the host does not serve ranges")
        total = int(ranged[1]) if ranged else sink.size
        return Download(
            sink.file, sink.size, sink.sha256.hexdigest(), sink.md5.hexdigest(), etag, total
        )

    def _answer(self, url: str, sink: Sink, headers: Mapping[str, str]) -> Answer | None:
        while True:
            self._limiter.acquire(1, self._cancel)
            with self._lock:
                self.requests += 1
            try:
                answer = self._http.stream(url, sink, headers)
            except StaleConnection:
                if sink.size:
                    raise
                continue
            finally:
                with self._lock:
                    self.bytes += sink.size
            return _checked(url, answer)

    def _pause(self, error: ExchangeError, delay: float) -> None:
        if isinstance(error, RateLimited):
            self._limiter.pause(min(LONGEST_DELAY, max(delay, error.retry_after or 0.0)))
        elif self._cancel is None:
            time.sleep(delay)
        elif self._cancel.wait(delay):
            raise Cancelled("cancelled")


def _checked(url: str, answer: Answer) -> Answer | None:
    """The answer if it is a good one, None if it says that there is no such file."""
    status = answer.status
    if status in (200, 206):
        return answer
    if status == 404 or (status == 403 and _NO_KEY.search(answer.body)):
        return None
    if status in (429, 503):
        raise RateLimited(f"{url}: HTTP {status}", retry_after(answer))
    kind = Unavailable if status >= 500 else ExchangeError
    raise kind(f"{url}: HTTP {status}: {answer.quote}")
