"""From a request to its reply: exchanges under their prefix, faults, control at /_sandbox."""

import json
import time
from dataclasses import dataclass, replace
from typing import Any

from dccd_sandbox.clock import Clock, iso
from dccd_sandbox.control import clock_of, described, listed, one
from dccd_sandbox.exchanges import load_all
from dccd_sandbox.exchanges.base import World
from dccd_sandbox.faults import Faults, Rule
from dccd_sandbox.frames import accept
from dccd_sandbox.http import Body, Reply, Request
from dccd_sandbox.hub import Hub
from dccd_sandbox.load import Load
from dccd_sandbox.settings import Settings, markets
from dccd_sandbox.stats import Stats
from dccd_sandbox.stream import Close, Stream
from dccd_sandbox.stream_faults import StreamFault

_CONTROL = "/_sandbox/"


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The answer to a handshake: a reply with status 101 and the stream, or a refusal."""

    reply: Reply
    stream: Stream | None = None


class App:
    """The sandbox without its sockets."""

    def __init__(self, settings: Settings, rules: tuple[Rule, ...] = ()) -> None:
        self.settings = settings
        self.clock = Clock(settings.now, settings.frozen, settings.speed)
        self.markets = markets(settings)
        self.exchanges = load_all(World(self.markets, self.clock, settings.weight_limit))
        self.faults = Faults(rules)
        self.stats = Stats()
        self.hub = Hub(self.clock, limited=settings.weight_limit > 0)

    def answer(self, request: Request) -> Reply:
        """The reply to send, with all that is wrong with it."""
        if request.path.startswith(_CONTROL):
            return self._control(request)
        reply = self._exchange(request)
        self.stats.add(request, reply)
        return reply

    def upgrade(self, request: Request) -> Upgrade:
        """The stream at a path, or why there is none. Faults of requests hit handshakes, too."""
        opened = self._upgraded(request)
        reply = opened.reply
        exchange = self.exchanges.get(request.path[1:].partition("/")[0])
        if exchange is not None:
            reply = self.faults.apply(request, reply, exchange, self.clock.now())
            reply = replace(reply, wait=reply.wait + self.settings.latency)
        self.stats.add(request, reply)
        return Upgrade(reply, opened.stream if reply.status == 101 and not reply.cut else None)

    def set_clock(self, now: str | None, frozen: bool, speed: float | None = None) -> None:
        """Move the clock; prepared answers are of another time and go. ValueError: no ISO time."""
        self.clock.set(now, frozen, speed)
        for exchange in self.exchanges.values():
            exchange.forget()

    def set_faults(self, rules: tuple[Rule, ...]) -> None:
        """Replace all fault rules."""
        self.faults.set(rules)

    def reset(self) -> None:
        """No faults, no counts, no weight used, no bans. The clock stays."""
        self.faults.set(())
        self.stats.reset()
        self.hub.reset()
        for exchange in self.exchanges.values():
            exchange.limit.reset()

    def report(self, last: int = 100) -> dict[str, object]:
        """What GET /_sandbox/stats says."""
        limits = {name: exchange.limit.highest for name, exchange in self.exchanges.items()}
        return self.stats.report(last) | {
            "max_used_weight": limits,
            "now": iso(self.clock.now()),
            "now_ms": self.clock.now(),
            "frozen": self.clock.frozen,
            "speed": self.clock.speed,
            "streams": self.hub.report(),
            "cpu_seconds": time.process_time(),
        }

    def _exchange(self, request: Request) -> Reply:
        prefix, _, rest = request.path[1:].partition("/")
        exchange = self.exchanges.get(prefix)
        if exchange is None:
            known = ", ".join(f"/{name}" for name in self.exchanges)
            return _problem(404, f"no exchange at {request.path}; there is {known} and {_CONTROL}")
        if request.method != "GET":
            return _problem(405, f"{request.method} of market data; only GET is served")
        reply = exchange.answer(request, f"/{rest}")
        reply = self.faults.apply(request, reply, exchange, self.clock.now())
        return replace(reply, wait=reply.wait + self.settings.latency)

    def _upgraded(self, request: Request) -> Upgrade:
        prefix, _, rest = request.path[1:].partition("/")
        exchange = self.exchanges.get(prefix)
        key = request.headers.get("sec-websocket-key")
        stream = None if exchange is None else exchange.stream(f"/{rest}", request.query)
        if exchange is None or stream is None:
            return Upgrade(_problem(404, f"no stream at {request.path}"))
        if request.method != "GET":
            return Upgrade(_problem(405, f"{request.method} of a stream; only GET is served"))
        if key is None or request.headers.get("sec-websocket-version") != "13":
            return Upgrade(_problem(400, "want Sec-WebSocket-Key and Sec-WebSocket-Version: 13"))
        if not self.hub.may_connect(prefix, exchange.connects):
            return Upgrade(exchange.refusal(429, int(exchange.connects[1])))
        return Upgrade(Reply(101, Body(b""), (("sec-websocket-accept", accept(key)),)), stream)

    def _control(self, request: Request) -> Reply:
        path = request.path.removeprefix(_CONTROL)
        try:
            answer = (
                self._shown(path, dict(request.query))
                if request.method == "GET"
                else self._changed(request.method, path, request.body)
            )
        except ValueError as error:
            return _problem(400, str(error))
        if answer is None:
            return _problem(404, f"no control {request.method} {path}; see dccd_sandbox/README.md")
        return _json(answer)

    def _shown(self, path: str, query: dict[str, str]) -> object:
        match path:
            case "stats":
                return self.report(int(query.get("last", "100")))
            case "faults":
                return [described(rule) for rule in self.faults.rules]
            case "stream_faults":
                return [described(rule) for rule in self.hub.faults.rules]
            case _:
                return None

    def _changed(self, method: str, path: str, body: bytes) -> dict[str, object] | None:
        hit = 0
        match method, path:
            case "POST" | "DELETE", "faults" | "stream_faults":
                self._set_rules(path, body if method == "POST" else b"[]")
            case "POST", "streams":
                hit = self._deed(json.loads(body))
            case "POST" | "DELETE", "load":
                self._load(method, body)
            case "POST", "reset":
                self.reset()
            case "POST", "clock":
                self.set_clock(*clock_of(body))
            case _:
                return None
        return {"now": iso(self.clock.now()), "faults": len(self.faults.rules), "hit": hit}

    def _set_rules(self, path: str, body: bytes) -> None:
        if path == "faults":
            self.set_faults(listed(Rule, "fault", body))
        else:
            self.hub.faults.set(listed(StreamFault, "stream fault", body))

    def _load(self, method: str, body: bytes) -> None:
        load = one(Load, "load", json.loads(body)) if method == "POST" else None
        if load is not None and load.exchange not in self.exchanges:
            raise ValueError(f"load of {load.exchange!r}: want one of {', '.join(self.exchanges)}")
        self.hub.load(load)

    def _deed(self, content: Any) -> int:
        if not isinstance(content, dict) or "do" not in content:
            raise ValueError('want {"do": "cut", "close" or "shutdown", "path": "/binance"}')
        close = Close(int(content.get("code", 1001)), str(content.get("reason", "")))
        return self.hub.act(str(content["do"]), str(content.get("path", "")), close)


def _json(content: object, status: int = 200) -> Reply:
    return Reply(status, Body(json.dumps(content).encode()))


def _problem(status: int, text: str) -> Reply:
    return _json({"error": text}, status)
