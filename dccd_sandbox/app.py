"""From a request to its reply: exchanges under their prefix, faults, control at /_sandbox."""

import json
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from dccd_sandbox.clock import Clock, iso
from dccd_sandbox.exchanges import load_all
from dccd_sandbox.exchanges.base import World
from dccd_sandbox.faults import Faults, Rule
from dccd_sandbox.http import Body, Reply, Request
from dccd_sandbox.settings import Settings, markets
from dccd_sandbox.stats import Stats

_CONTROL = "/_sandbox/"
_RULE_TYPES: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "rate": (int, float),
    "path": (str,),
    "query": (dict,),
    "count": (int, type(None)),
    "seed": (int,),
    "retry_after": (int, type(None)),
    "as_date": (bool,),
    "seconds": (int, float),
}


class App:
    """The sandbox without its sockets."""

    def __init__(self, settings: Settings, rules: tuple[Rule, ...] = ()) -> None:
        self.settings = settings
        self.clock = Clock(settings.now, settings.frozen)
        self.markets = markets(settings)
        self.exchanges = load_all(World(self.markets, self.clock, settings.weight_limit))
        self.faults = Faults(rules)
        self.stats = Stats()

    def answer(self, request: Request) -> Reply:
        """The reply to send, with all that is wrong with it."""
        if request.path.startswith(_CONTROL):
            return self._control(request)
        reply = self._exchange(request)
        self.stats.add(request, reply)
        return reply

    def set_clock(self, now: str | None, frozen: bool) -> None:
        """Move the clock; prepared answers are of another time and go. ValueError: no ISO time."""
        self.clock.set(now, frozen)
        for exchange in self.exchanges.values():
            exchange.forget()

    def set_faults(self, rules: tuple[Rule, ...]) -> None:
        """Replace all fault rules."""
        self.faults.set(rules)

    def reset(self) -> None:
        """No faults, no counts, no weight used, no bans. The clock stays."""
        self.faults.set(())
        self.stats.reset()
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

    def _control(self, request: Request) -> Reply:
        path = request.path.removeprefix(_CONTROL)
        try:
            if request.method == "GET" and path == "stats":
                return _json(self.report(int(dict(request.query).get("last", "100"))))
            if request.method == "GET" and path == "faults":
                return _json([_described(rule) for rule in self.faults.rules])
            if not self._change(request.method, path, request.body):
                return _problem(
                    404, f"no control {request.method} {path}; see dccd_sandbox/README.md"
                )
        except ValueError as error:
            return _problem(400, str(error))
        return _json({"now": iso(self.clock.now()), "faults": len(self.faults.rules)})

    def _change(self, method: str, path: str, body: bytes) -> bool:
        match method, path:
            case "POST", "faults":
                self.set_faults(rules_of(json.loads(body)))
            case "DELETE", "faults":
                self.set_faults(())
            case "POST", "reset":
                self.reset()
            case "POST", "clock":
                self.set_clock(*_clock_of(json.loads(body)))
            case _:
                return False
        return True


def rules_of(content: Any) -> tuple[Rule, ...]:
    """Fault rules from JSON: an object or a list of them. Raises ValueError naming the wrong."""
    listed = content if isinstance(content, list) else [content]
    return tuple(_rule(item) for item in listed)


def _rule(item: Any) -> Rule:
    if not isinstance(item, dict) or "kind" not in item:
        raise ValueError(f'fault {item!r}: want an object such as {{"kind": "429", "rate": 0.1}}')
    for name, value in item.items():
        wanted = _RULE_TYPES.get(name)
        if wanted is None:
            raise ValueError(f"fault key {name!r}: want one of {', '.join(_RULE_TYPES)}")
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            names = " or ".join(kind.__name__ for kind in wanted)
            raise ValueError(f"fault {name} is {value!r}, want {names}")
    return Rule(**item)


def _clock_of(content: Any) -> tuple[str | None, bool]:
    if not isinstance(content, Mapping) or "now" not in content:
        raise ValueError('want {"now": ISO time or null, "frozen": true or false}')
    now, frozen = content["now"], content.get("frozen", False)
    if not (now is None or isinstance(now, str)) or not isinstance(frozen, bool):
        raise ValueError(
            f"clock now={now!r} frozen={frozen!r}: want an ISO text or null, and a bool"
        )
    return now, frozen


def _described(rule: Rule) -> dict[str, object]:
    return {item.name: getattr(rule, item.name) for item in fields(rule)}


def _json(content: object, status: int = 200) -> Reply:
    return Reply(status, Body(json.dumps(content).encode()))


def _problem(status: int, text: str) -> Reply:
    return _json({"error": text}, status)
