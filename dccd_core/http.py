"""One HTTP GET over kept-alive connections, with a time limit that holds, or one plain error."""

import importlib.metadata
import importlib.util
import threading
import time
from base64 import b64encode
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from http.client import HTTPException, RemoteDisconnected
from typing import Any
from urllib.parse import unquote

import urllib3
from isal import isal_zlib
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)
from urllib3.util import Url

from dccd_core.exchanges.base import Answer, BadAnswer, Unavailable
from dccd_core.limits import Cancelled
from dccd_core.models import DAY, SECOND
from dccd_core.watch import Watch, watched

LARGEST_BODY = 64 * 2**20
BrokenGzip: type[Exception] = isal_zlib.error  # type: ignore[assignment] # its stub is wrong


class StaleConnection(Unavailable):
    """A kept connection was closed by the server just when it was used again: ask once more."""


class HttpClient:
    """GETs for any number of threads; up to `threads` connections to a host are kept.

    `timeout` is (connect, read) in seconds, of one network operation; a whole answer must be there
    after connect + 3 × read. `cancel` ends a running request. ValueError for an unusable `proxy`.
    """

    def __init__(
        self,
        *,
        proxy: str | None,
        timeout: tuple[float, float],
        threads: int,
        cancel: threading.Event | None,
    ) -> None:
        self._longest = timeout[0] + 3 * timeout[1]
        self._cancel = cancel
        self._watch = Watch(cancel)
        self._manager = _manager(
            proxy,
            maxsize=threads,
            headers={"User-Agent": f"dccd/{_version()}", "Accept-Encoding": "gzip"},
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
        )
        self._manager.pool_classes_by_scheme = {
            scheme: watched(pool, self._watch)
            for scheme, pool in self._manager.pool_classes_by_scheme.items()
        }

    def close(self) -> None:
        """Close all connections; a later `get` raises RuntimeError."""
        self._watch.close()
        self._manager.clear()

    def get(self, url: str) -> Answer:
        """The whole answer, whatever its status; redirects are not followed.

        Raises Unavailable if there is none, BadAnswer if it is too large or oddly encoded, and
        Cancelled.
        """
        with self._watch.flight(self._longest) as flight:
            try:
                answer = self._read(url)
                if not flight.cut:
                    return answer
                # To an answer that does not say how long it is, the cut looks like its end.
                failure: Exception = TimeoutError()
            except (HTTPError, HTTPException, OSError, BrokenGzip) as error:
                failure = error
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("cancelled") from failure
        if flight.cut:
            late = f"{url}: no complete answer within {self._longest:g} s"
            raise Unavailable(late) from failure
        # A connection that was made for this request is not excused.
        kind = StaleConnection if flight.reused and _is_stale(failure) else Unavailable
        raise kind(f"{url}: {_reason(failure)}") from failure

    def _read(self, url: str) -> Answer:
        response = self._manager.urlopen(
            "GET", url, redirect=False, retries=False, preload_content=False
        )
        try:
            if (response.length_remaining or 0) > LARGEST_BODY:
                raise _too_large(url)
            raw = response.read(LARGEST_BODY + 1, decode_content=False)
            if len(raw) > LARGEST_BODY:
                raise _too_large(url)
            if response.length_remaining:
                raise IncompleteRead(len(raw), response.length_remaining)
            if not raw and response.status == 200 and response.length_remaining is None:
                raise ProtocolError("nothing came after the head")
        finally:
            response.close()
        if response.status == 407:
            # not the exchange's answer; its text may repeat what the proxy was told
            raise Unavailable(f"{url}: proxy: HTTP 407: it wants a user and a password, or others")
        headers = {name.lower(): value for name, value in response.headers.items()}
        body = _decoded(url, raw, headers.get("content-encoding", "identity"))
        return Answer(response.status, headers, body, _time(headers.get("date", "")))


@cache
def _version() -> str:
    try:
        return importlib.metadata.version("dccd-pipelines")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout, not installed
        return "checkout"


def parse_url(url: str) -> Url | None:
    """None if it is no URL. The parser's own error quotes the URL, which may hold a password."""
    try:
        return urllib3.util.parse_url(url)
    except LocationParseError:
        return None


def _manager(proxy: str | None, **options: Any) -> urllib3.PoolManager:
    """The connections, direct or through a proxy, whose password stays out of its URL."""
    if proxy is None:
        return urllib3.PoolManager(**options)
    parsed = parse_url(proxy)
    if parsed is None or not parsed.host:
        raise ValueError("proxy must be http://[user:password@]host:port, https://… or socks5://…")
    user, _, password = (unquote(part) for part in (parsed.auth or "").partition(":"))
    bare = parsed._replace(auth=None).url
    if parsed.scheme in ("http", "https"):
        basic = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        secret = {"proxy-authorization": basic} if parsed.auth else None
        return urllib3.ProxyManager(bare, proxy_headers=secret, **options)
    if parsed.scheme not in ("socks5", "socks5h", "socks4", "socks4a"):
        raise ValueError(f"proxy at {parsed.host}: {parsed.scheme!r} is not http, https or socks5")
    if importlib.util.find_spec("socks") is None:
        raise ValueError(f"proxy {bare} needs a package more: pip install 'urllib3[socks]'")
    from urllib3.contrib.socks import SOCKSProxyManager

    return SOCKSProxyManager(bare, user or None, password or None, **options)


def _too_large(url: str) -> BadAnswer:
    return BadAnswer(f"{url}: an answer of more than {LARGEST_BODY // 2**20} MB is refused")


def _decoded(url: str, raw: bytes, encoding: str) -> bytes:
    """The body without its gzip, which may have several members. BrokenGzip if it is broken."""
    if encoding.lower() == "identity":
        return raw
    if encoding.lower() not in ("gzip", "x-gzip"):
        raise BadAnswer(f"{url}: content-encoding {encoding!r}, although only gzip was asked for")
    parts: list[bytes] = []
    room = LARGEST_BODY
    while raw:
        member = isal_zlib.decompressobj(wbits=31)
        part = member.decompress(raw, room + 1)
        room -= len(part)
        if room < 0:
            raise _too_large(url)
        if not member.eof:
            raise BrokenGzip("it ends too early")
        parts.append(part)
        raw = member.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _time(date: str) -> int:
    """Microseconds of a Date header; the local clock if it is missing or a day off."""
    local = time.time_ns() // 1_000
    server = _parsed_date(date)
    return server if abs(server - local) <= DAY * SECOND else local


@lru_cache(maxsize=16)
def _parsed_date(date: str) -> int:
    """Microseconds of an HTTP date, 0 if it is none. Many answers carry the same second."""
    try:
        return int(parsedate_to_datetime(date).timestamp()) * SECOND
    except ValueError:
        return 0


def _is_stale(error: Exception) -> bool:
    """Whether the connection was closed by the server."""
    cause = error.args[-1] if isinstance(error, ProtocolError) and error.args else error
    return isinstance(cause, RemoteDisconnected | ConnectionResetError | BrokenPipeError)


def _reason(error: BaseException) -> str:
    """What happened, in plain words, without the parts of urllib3's text that name objects."""
    match error:
        case ProxyError():
            return f"proxy: {_reason(error.original_error)}"
        case NameResolutionError():
            return "the host name cannot be resolved"
        case NewConnectionError():
            return f"no connection: {error.__cause__}"
        case ConnectTimeoutError() | ReadTimeoutError() | TimeoutError():
            return "no answer in time"
        case ProtocolError():
            return f"connection broken: {error.args[-1]}"
        case _ if isinstance(error, BrokenGzip):
            return f"broken gzip: {error}"
        case _:
            return str(error)
