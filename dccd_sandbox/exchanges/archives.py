"""The published files of all exchanges as a web server has them: /archives/binance/data/spot/….

As S3 does, it gives the MD5 of a file as ETag and serves ranges. A file is 404 until it is
published.
"""

import hashlib
import importlib
import re

from dccd_sandbox.archives.pack import GZIP, ZIP
from dccd_sandbox.cache import Cache
from dccd_sandbox.exchanges.base import Exchange, World
from dccd_sandbox.http import TEXT, Body, Reply, Request

_HOSTS = {
    "binance": "binance",
    "binance_usdm": "binance",
    "bitmex": "bitmex",
    "bybit": "bybit",
    "kraken": "kraken",
    "okx": "okx",
}
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_CACHE_BYTES = 256 * 1_024 * 1_024
_KINDS = {".zip": ZIP, ".gz": GZIP, ".CHECKSUM": TEXT}


class Archives(Exchange):
    """Files below the name of their exchange."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._files: Cache[str, bytes] = Cache(_CACHE_BYTES, len)
        self._exchanges: dict[str, Exchange] = {}

    def answer(self, request: Request, path: str) -> Reply:
        """A file, or the part of it that a Range asks for."""
        content = self._file(path)
        if content is None:
            return Reply(404, Body(b"<Error><Code>NoSuchKey</Code></Error>", "application/xml"))
        kind = next((k for end, k in _KINDS.items() if path.endswith(end)), ZIP)
        tag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        headers = (("etag", f'"{tag}"'), ("accept-ranges", "bytes"))
        wanted = _RANGE.fullmatch(request.headers.get("range", ""))
        if wanted is None:
            return Reply(200, Body(content, kind), headers)
        first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        if first > last:
            return Reply(416, Body(b"", kind), (("content-range", f"bytes */{len(content)}"),))
        span = ("content-range", f"bytes {first}-{last}/{len(content)}")
        return Reply(206, Body(content[first : last + 1], kind), (*headers, span))

    def refusal(self, status: int, retry_after: int) -> Reply:
        """As S3 says it."""
        body = Body(b"<Error><Code>SlowDown</Code></Error>", "application/xml")
        return Reply(status, body, (("retry-after", str(retry_after)),))

    def forget(self) -> None:
        """Files depend on the clock."""
        self._files.clear()
        self._exchanges.clear()

    def _file(self, path: str) -> bytes | None:
        exchange, _, rest = path.removeprefix("/").partition("/")
        if exchange not in _HOSTS:
            return None
        known = self._files.get(path)
        if known is not None:
            return known
        host = importlib.import_module(f"dccd_sandbox.archives.{_HOSTS[exchange]}")
        try:
            content: bytes | None = host.file(rest, self._open(exchange), self.world.clock.now())
        except KeyError:
            return None
        return None if content is None else self._files.put(path, content)

    def _open(self, name: str) -> Exchange:
        """The exchange whose files these are: it knows its markets by its own names."""
        if name not in self._exchanges:
            module = importlib.import_module(f"dccd_sandbox.exchanges.{name}")
            self._exchanges[name] = module.EXCHANGE(self.world)
        return self._exchanges[name]


EXCHANGE = Archives
