"""A client that is not ours: http.client."""

import gzip
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from dccd_sandbox import Sandbox

NOW = "2026-06-01T12:34:30Z"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Answer]


def ask(box: Sandbox, path: str, headers: dict[str, str] | None = None, **query: object) -> Answer:
    """GET a path of the sandbox; keywords are the query."""
    connection = http.client.HTTPConnection(box.host, box.port, timeout=20)
    try:
        target = f"{path}?{urlencode(query)}" if query else path
        connection.request("GET", target, headers=headers or {})
        response = connection.getresponse()
        body = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        if found.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        return Answer(response.status, found, body)
    finally:
        connection.close()
