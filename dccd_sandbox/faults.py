"""Faults on demand: which requests they hit, and what they make of the answer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Protocol

from dccd_sandbox.candles import CLOSE, HIGH, QUOTE, TIME, VOLUME, Rows
from dccd_sandbox.http import HTML, TEXT, Body, Reply, Request, http_date

KINDS = (
    "429",
    "418",
    "5xx",
    "slow",
    "cut",
    "truncated",
    "wrong",
    "wrong_checksum",
    "empty",
    "missing_hour",
    "revised",
)
_ON_ROWS = {"empty", "missing_hour", "revised"}
_RETRY_AFTER = {"429": 1, "418": 120}
"""Seconds; two minutes is the shortest ban that Binance documents."""
_HOUR_MS = 3_600_000
_PAGE = b"<!DOCTYPE html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of fault and the requests it may hit.

    rate: share of the requests, 0..1. path: prefix such as "/binance/api/v3/klines". query: what
    parameters must be. count: at most so many hits. Which requests are hit depends on
    `seed`, on the request and on how often it came, not on the order in which requests arrive.
    retry_after: seconds for 429 and 418, as an HTTP date with as_date (by the sandbox's clock, like
    the Date header). seconds: what `slow` adds. Raises ValueError on values out of range.
    """

    kind: str
    rate: float = 1.0
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    count: int | None = None
    seed: int = 0
    retry_after: int | None = None
    as_date: bool = False
    seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault kind {self.kind!r}: want one of {', '.join(KINDS)}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"fault {self.kind}: rate {self.rate} is not within 0..1")
        if self.seconds < 0 or (self.retry_after or 0) < 0 or (self.count or 0) < 0:
            raise ValueError(f"fault {self.kind}: count, retry_after and seconds are not below 0")

    def wait(self) -> int:
        """Seconds that a 429 or 418 asks for."""
        return _RETRY_AFTER[self.kind] if self.retry_after is None else self.retry_after

    def covers(self, request: Request, reply: Reply) -> bool:
        """Whether the rule speaks of this request, before any draw."""
        if self.kind in _ON_ROWS and reply.candles is None:
            return False
        sent = dict(request.query)
        return request.path.startswith(self.path) and all(
            sent.get(name) == value for name, value in self.query.items()
        )


class Refuser(Protocol):
    """An exchange that says "too many requests" in its own words."""

    def refusal(self, status: int, retry_after: int) -> Reply:
        """Its 429 or 418; retry_after in seconds."""
        ...


class Faults:
    """The rules in force, and what they did."""

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.set(rules)

    def set(self, rules: tuple[Rule, ...]) -> None:
        """Replace all rules and forget their counts."""
        self.rules = rules
        self.hits: Counter[int] = Counter()
        self._seen: Counter[tuple[int, str]] = Counter()

    def apply(self, request: Request, reply: Reply, refuser: Refuser, now_ms: int) -> Reply:
        """The reply, spoilt by the first rule that hits."""
        for number, rule in enumerate(self.rules):
            if not rule.covers(request, reply):
                continue
            draw = self._draw(number, rule, request.target)
            if draw[0] >= rule.rate or self.hits[number] == rule.count:
                continue
            spoilt = _spoil(rule, reply, refuser, draw[1], now_ms)
            if spoilt is not None:
                self.hits[number] += 1
                return replace(spoilt, fault=rule.kind, weight=reply.weight)
        return reply

    def _draw(self, number: int, rule: Rule, target: str) -> tuple[float, int]:
        self._seen[number, target] += 1
        text = f"{rule.seed}|{number}|{rule.kind}|{target}|{self._seen[number, target]}"
        digest = blake2b(text.encode(), digest_size=16).digest()
        return int.from_bytes(digest[:8]) / 2**64, int.from_bytes(digest[8:])


def _spoil(rule: Rule, reply: Reply, refuser: Refuser, choice: int, now_ms: int) -> Reply | None:
    match rule.kind:
        case "429" | "418":
            return _refused(rule, reply, refuser, now_ms)
        case "5xx":
            return _broken(reply, choice)
        case "slow":
            return replace(reply, wait=reply.wait + rule.seconds)
        case "cut":
            return replace(reply, cut=True)
        case "truncated":
            body = Body(reply.body.plain[: len(reply.body) * 2 // 3], reply.body.kind)
            return replace(reply, body=body)
        case "wrong":
            return _wrong(reply, choice)
        case "wrong_checksum":
            return _wrong_checksum(reply)
        case _:
            return _on_rows(rule.kind, reply, choice)


def _refused(rule: Rule, reply: Reply, refuser: Refuser, now_ms: int) -> Reply:
    refused = refuser.refusal(int(rule.kind), rule.wait())
    headers = (*reply.headers, *refused.headers)
    if rule.as_date:
        date = http_date(now_ms + rule.wait() * 1_000)
        headers = tuple(
            (name, date if name.lower() == "retry-after" else value) for name, value in headers
        )
    return replace(refused, headers=headers)


def _broken(reply: Reply, choice: int) -> Reply:
    status, text = (
        (500, b"Internal Server Error"),
        (502, b"Bad Gateway"),
        (503, b"Service Unavailable"),
        (504, b"Gateway Time-out"),
    )[choice % 4]
    return replace(reply, status=status, body=Body(_PAGE % (text, text), HTML), candles=None)


def _wrong(reply: Reply, choice: int) -> Reply:
    """HTTP 200 with something else in it: a web page, another shape, or candles of another time."""
    if reply.candles is not None and choice % 3 == 0:
        rows = reply.candles.rows().copy()
        if len(rows):
            # 52 weeks later or earlier: on the grid (but of months), yet not what was asked for.
            rows[:, TIME] += (1 if choice % 2 else -1) * 364 * 24 * _HOUR_MS
            return replace(reply, status=200, body=Body(reply.candles.encode(rows)))
    if choice % 3 == 1:
        text = b"Scheduled maintenance"
        return replace(reply, status=200, body=Body(_PAGE % (text, text), HTML))
    shape = (b'{"status":"success","data":null}', b"null", b'[{"error":"busy"}]')[choice // 3 % 3]
    return replace(reply, status=200, body=Body(shape))


def _wrong_checksum(reply: Reply) -> Reply | None:
    """A published file without its ETag, a checksum file with other digits; None of all else."""
    if not any(name == "etag" for name, _ in reply.headers):
        return None
    headers = tuple(header for header in reply.headers if header[0] != "etag")
    if reply.body.kind != TEXT:
        return replace(reply, headers=headers)
    digits = reply.body.plain.translate(bytes.maketrans(b"0123456789", b"1234567890"))
    name = reply.body.plain.partition(b" ")[2]
    return replace(reply, headers=headers, body=Body(digits.partition(b" ")[0] + b" " + name, TEXT))


def _on_rows(kind: str, reply: Reply, choice: int) -> Reply | None:
    """A page that lacks candles or has a changed one; None where the page has nothing to spoil."""
    if reply.candles is None:
        return None
    rows = reply.candles.rows()
    if len(rows) == 0:
        return None
    match kind:
        case "empty":
            rows = rows[:0]
        case "missing_hour":
            hour = rows[choice % len(rows), TIME] // _HOUR_MS
            rows = rows[rows[:, TIME] // _HOUR_MS != hour]
        case _:
            rows = _revised(rows, choice % len(rows))
    return replace(reply, body=Body(reply.candles.encode(rows)))


def _revised(rows: Rows, place: int) -> Rows:
    """One candle with a higher close and more volume, still a possible candle."""
    rows = rows.copy()
    rows[place, CLOSE] = rows[place, HIGH] = rows[place, HIGH] + 1
    extra = 1 + rows[place, VOLUME] // 10
    rows[place, VOLUME] += extra
    rows[place, QUOTE] += extra * rows[place, CLOSE] if rows[place, QUOTE] else 0
    return rows
