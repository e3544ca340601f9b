"""A sandbox for tests and benchmarks: in a thread of this process, or in a process of its own."""

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from types import TracebackType
from typing import Any, Self, cast

import polars as pl

from dccd_sandbox import truth
from dccd_sandbox.app import App
from dccd_sandbox.clock import epoch_ms, iso
from dccd_sandbox.faults import Rule
from dccd_sandbox.load import Load
from dccd_sandbox.market import Market
from dccd_sandbox.runners import InProcess, InThread
from dccd_sandbox.settings import Settings
from dccd_sandbox.stream_faults import StreamFault
from dccd_sandbox.truth import BookTruth

_TIMEOUT = 30.0
_LOOK = 0.005
Moment = str | datetime | int
"""ISO text, datetime (UTC where they name no zone) or epoch milliseconds."""


class Sandbox:
    """A running sandbox: `with Sandbox() as box: box.binance_url`. port 0 takes a free one.

    With process=True it runs as `python -m dccd_sandbox`, so that its CPU is told apart from ours.
    Raises OSError where it cannot listen, ValueError where the settings make no market.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        faults: Sequence[Rule] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        process: bool = False,
    ) -> None:
        self.settings = settings or Settings()
        self.host = host
        self.port = port
        self._rules = tuple(faults)
        self._runner: InThread | InProcess = (
            InProcess(self.settings, host, port) if process else InThread(self.settings, host, port)
        )
        self._copy: App | None = None

    def __enter__(self) -> Self:
        self.port = self._runner.start()
        self.set_faults(*self._rules)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.stop()

    @property
    def url(self) -> str:
        """Address of the whole sandbox, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @property
    def binance_url(self) -> str:
        """`rest_url` for Binance."""
        return f"{self.url}/binance"

    @property
    def ws_url(self) -> str:
        """Address of the whole sandbox for WebSockets: an exchange's is this and /NAME."""
        return f"ws://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Process that serves."""
        return self._runner.pid

    def set_faults(self, *rules: Rule) -> None:
        """Replace all fault rules; none given: no faults."""
        self._control("POST", "faults", [asdict(rule) for rule in rules])

    def set_stream_faults(self, *rules: StreamFault) -> None:
        """Replace all fault rules of streams; none given: no faults."""
        self._control("POST", "stream_faults", [asdict(rule) for rule in rules])

    def end_streams(self, do: str, path: str = "", code: int = 1001, reason: str = "") -> int:
        """End all connections of a path now: "cut" (TCP reset), "close" (with a close frame) or
        "shutdown" (with the exchange's notice before). How many there were."""
        deed = {"do": do, "path": path, "code": code, "reason": reason}
        return int(cast(dict[str, int], self._control("POST", "streams", deed))["hit"])

    def set_load(self, load: Load | None) -> None:
        """Give new connections of an exchange a load instead of its market; None: no more."""
        if load is None:
            self._control("DELETE", "load", None)
        else:
            self._control("POST", "load", asdict(load))

    def set_clock(
        self, now: Moment | None, frozen: bool = False, speed: float | None = None
    ) -> None:
        """Move the sandbox's clock (None: real time), and let it run on or stand still. The speed
        stays unless another is given."""
        moment = None if now is None else iso(epoch_ms(now))
        self._control("POST", "clock", {"now": moment, "frozen": frozen, "speed": speed})

    def advance(self, ms: int) -> int:
        """Move a frozen clock on, and wait until all streams have sent what lies between; the new
        time. Raises TimeoutError where they do not catch up."""
        now = self.now() + ms
        self.set_clock(now, frozen=True)
        until = time.monotonic() + _TIMEOUT
        while self.stats(last=0)["streams"]["behind_ms"]:
            if time.monotonic() > until:
                raise TimeoutError(f"the streams do not catch up with {iso(now)}")
            time.sleep(_LOOK)
        return now

    def reset(self) -> None:
        """Forget faults, counts, used weight and bans."""
        self._control("POST", "reset", {})

    def stats(self, last: int = 100) -> dict[str, Any]:
        """requests, weight, paths {path: {status: n}}, faults, last, max_used_weight, …"""
        return cast(dict[str, Any], self._control("GET", f"stats?last={last}", None))

    def now(self) -> int:
        """The sandbox's time, in milliseconds."""
        return int(self.stats(last=0)["now_ms"])

    def truth(
        self, symbol: str, span: int | str, start: Moment, end: Moment, exchange: str = ""
    ) -> pl.DataFrame:
        """What a perfect collector has: closed candles that open in [start, end), columns of our
        own schema (time in µs UTC, decimals as the nearest float64). KeyError: no such symbol."""
        market = self._market(symbol, exchange)
        return truth.candles(market, span, epoch_ms(start), epoch_ms(end), self.now())

    def trades_truth(
        self,
        symbol: str,
        start: Moment,
        end: Moment,
        exchange: str = "",
        *,
        aggregate: bool = False,
    ) -> pl.DataFrame:
        """All trades of [start, end) that have happened: time (µs UTC), trade_id, price, amount,
        side. The ids are the market's own, with `aggregate` those of Binance's aggregate trades.
        With an exchange, the symbol is one that Exchange.market_of knows. KeyError: none."""
        market = self._market(symbol, exchange)
        return truth.trades(market, epoch_ms(start), epoch_ms(end), self.now(), aggregate)

    def book_truth(
        self, symbol: str, moment: Moment, depth: int = 0, exchange: str = ""
    ) -> BookTruth:
        """The book after all changes up to a moment, both sides of at most `depth` levels."""
        return truth.book(self._market(symbol, exchange), epoch_ms(moment), depth)

    def _market(self, symbol: str, exchange: str) -> Market:
        if isinstance(self._runner, InThread):
            app = self._runner.app
        else:
            # The same markets once more: they are made by rule.
            self._copy = app = self._copy or App(self.settings)
        return app.exchanges[exchange].market_of(symbol) if exchange else app.markets[symbol]

    def _control(self, method: str, path: str, content: object) -> object:
        """One request to /_sandbox. Raises ValueError with the sandbox's own words."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, f"/_sandbox/{path}", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"{method} /_sandbox/{path}: {answer['error']}")
        return answer
