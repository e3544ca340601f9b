"""The REST client of one exchange: limiter, request, what the answer stands for, retries."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar
from urllib.parse import urlencode

from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Banned,
    Exchange,
    ExchangeError,
    RateLimited,
    Rejected,
    Request,
    Unavailable,
)
from dccd_core.http import HttpClient, StaleConnection, parse_url
from dccd_core.limits import Cancelled, Limiter
from dccd_core.models import SECOND, iso

T = TypeVar("T")

# A ban without a length: the shortest that Binance gives.
UNKNOWN_BAN = 120.0
# A longer Retry-After is handled as a ban: nobody wants a run that sleeps for hours unseen.
LONGEST_WAIT = 900.0
# What is assumed before the first answer: a wait, and our own work on an answer, in seconds.
SLOW, LIGHT = 1.0, 0.001
# A shorter wait is believed for some dozens of answers: others were held up by our threads.
FORGET = 1.02


@dataclass(frozen=True, slots=True)
class Retries:
    """How often one request is tried in all, and the wait in seconds after the first failure."""

    max_retries: int = 3
    retry_delay: float = 2.0

    def __post_init__(self) -> None:
        if self.max_retries < 1 or self.retry_delay < 0:
            raise ValueError(f"{self}: max_retries must be at least 1, retry_delay at least 0")

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failure number `attempt`: doubled each time, up to 10 % jitter."""
        wait: float = self.retry_delay * 2 ** (attempt - 1)
        return wait * random.uniform(1.0, 1.1)


class RestClient:
    """Asks one exchange; any number of threads may share it.

    `base_url` stands in for the exchange's own and may have a path; `timeout` is (connect, read)
    in seconds of one network operation, an attempt ends after connect + 3 × read at the latest.
    `cancel` ends every wait with Cancelled. Raises ValueError for an unusable `base_url` or
    `proxy`. `requests` counts what was really sent.
    """

    def __init__(
        self,
        exchange: Exchange,
        limiter: Limiter,
        *,
        base_url: str | None = None,
        proxy: str | None = None,
        timeout: tuple[float, float] = (5.0, 20.0),
        threads: int = 8,
        cancel: threading.Event | None = None,
    ) -> None:
        self.requests = 0
        self.latency = SLOW  # the shortest wait for an answer of late, without that for the budget
        self.work = LIGHT  # seconds of CPU that an answer takes of late, from request to rows
        self._ahead = 0  # microseconds by which the exchange's clock was ahead of ours
        self._exchange = exchange
        self._limiter = limiter
        self._base = _base(exchange.rest_url if base_url is None else base_url)
        self._own = self._base == exchange.rest_url
        self._http = HttpClient(proxy=proxy, timeout=timeout, threads=threads, cancel=cancel)
        self._cancel = cancel
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; a later call raises RuntimeError."""
        self._http.close()

    def clock(self) -> int:
        """Microseconds by the exchange's clock as its last answer told it, by ours before that."""
        return time.time_ns() // 1_000 + self._ahead

    def call(self, request: Request, parse: Callable[[Answer], T], *, retries: Retries) -> T:
        """Ask, and read the answer with `parse`; the last error if no attempt succeeds.

        BadAnswer, Unavailable and RateLimited are tried again. RateLimited makes every process of
        this machine wait, Banned stops them all. Raises ExchangeError or Cancelled.
        """
        attempt = 1
        while True:
            try:
                return self._once(request, parse)
            except Banned:
                raise
            except (BadAnswer, Unavailable, RateLimited) as error:
                delay = retries.delay(attempt)
                if isinstance(error, RateLimited):
                    self._slow_down(error, delay)
                    delay = 0.0  # the limiter makes us wait, as everyone
                if attempt >= retries.max_retries:
                    error.args = (f"{error} (after {attempt} attempt{'s' * (attempt > 1)})",)
                    raise
            self._sleep(delay)
            attempt += 1

    def _once(self, request: Request, parse: Callable[[Answer], T]) -> T:
        began = time.thread_time()
        try:
            return self._read(self._get(request), parse)
        finally:
            self.work += (time.thread_time() - began - self.work) / 8

    def _read(self, answer: Answer, parse: Callable[[Answer], T]) -> T:
        try:
            self._exchange.check(answer)
        except Banned as error:
            raise self._ban(error, error.retry_after) from error
        except ExchangeError as error:
            if not self._own:
                error.args = (f"{error}, at rest_url {self._base}",)
            raise
        used = self._exchange.used(answer)
        if used is not None:
            self._limiter.observe(used, answer.time / SECOND)
        return parse(answer)

    def _get(self, request: Request) -> Answer:
        query = f"?{urlencode(request.params)}" if request.params else ""
        base = request.base if request.base and self._own else self._base
        url = f"{base}{request.path}{query}"
        while True:
            self._limiter.acquire(request.weight, self._cancel)
            with self._lock:
                self.requests += 1
            began = time.monotonic()
            try:
                answer = self._http.get(url)
            except StaleConnection:
                continue  # ends: each time a kept connection is used up, and a new one is not stale
            self.latency = min(time.monotonic() - began, self.latency * FORGET)
            self._ahead = answer.time - time.time_ns() // 1_000
            _refuse_redirect(url, answer)
            return answer

    def _slow_down(self, error: RateLimited, delay: float) -> None:
        wait = max(delay, error.retry_after or 0.0)
        if wait > LONGEST_WAIT:
            raise self._ban(error, wait) from error
        self._limiter.pause(wait)

    def _ban(self, error: RateLimited, seconds: float | None) -> Banned:
        until = self._limiter.ban(seconds if seconds is not None and seconds > 0 else UNKNOWN_BAN)
        message = f"{error}; nothing is asked before {iso(int(until) * SECOND)}"
        return Banned(message, error.retry_after)

    def _sleep(self, seconds: float) -> None:
        if self._cancel is None:
            time.sleep(seconds)
        elif self._cancel.wait(seconds):
            raise Cancelled("cancelled")


def _base(url: str) -> str:
    """A base URL without a slash at its end; ValueError if it is not a plain http(s) URL."""
    parsed = parse_url(url)
    if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("rest_url must be http://host[:port][/path] or https://…")
    if parsed.auth or parsed.query or parsed.fragment:
        raise ValueError(f"rest_url at {parsed.host} must have no user, query or fragment")
    return url.rstrip("/")


def _refuse_redirect(url: str, answer: Answer) -> None:
    """A permanent redirect is Rejected, a temporary one (maintenance, a portal) Unavailable."""
    if answer.status not in (301, 302, 303, 307, 308):
        return
    target = parse_url(answer.headers.get("location", ""))
    place = (target and target._replace(auth=None, query=None).url) or "nowhere"
    kind: type[ExchangeError] = Rejected if answer.status in (301, 308) else Unavailable
    raise kind(f"{url}: HTTP {answer.status} redirects to {place}, which is not followed")
