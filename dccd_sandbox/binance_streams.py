"""Binance's market streams, spot and USD-M: addresses, subscriptions, answers.

https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md and
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams. That
an unknown stream is acknowledged and stays silent is from general knowledge.
"""

import json
from collections.abc import Callable, Iterable

from dccd_sandbox.binance_topics import Dialect, Place, Topic, topic_of
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Close, Message, Stream

MOST_STREAMS = 1_024
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")


Find = Callable[[str], Market | None]


class BinanceStream(Stream):
    """One connection. `names` are the streams in its address; `serves` says which names are
    delivered here: the others are acknowledged and silent."""

    ping_seconds = 20.0
    messages = 5

    def __init__(
        self,
        find: Find,
        dialect: Dialect,
        *,
        combined: bool,
        names: list[str],
        unit: int = 1,
        serves: Callable[[str], bool] = lambda _: True,
    ) -> None:
        super().__init__()
        self._find = find
        self._dialect = dialect
        self._combined = combined
        self._unit = unit
        self._serves = serves
        self._names = names
        self._feeds: dict[str, Topic] = {}

    def opened(self, now: int) -> list[Message]:
        """The streams of the address begin."""
        self._subscribe(self._names, now)
        return []

    def heard(self, text: str, now: int) -> list[Message]:
        """SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS."""
        try:
            content = json.loads(text)
        except ValueError:
            return [_said({"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"})]
        problem = _problem(content)
        if problem:
            return [_said({"code": 2, "msg": f"Invalid request: {problem}"} | _id(content))]
        names, method = content.get("params", []), content["method"]
        if method == "LIST_SUBSCRIPTIONS":
            return [_said({"result": sorted(self.topics), "id": content["id"]})]
        if method == "UNSUBSCRIBE":
            for name in names:
                self.topics.discard(name)
                self._feeds.pop(name, None)
        else:
            self._subscribe(names, now)
        return [_said({"result": None, "id": content["id"]})]

    def refused(self, text: str, now: int) -> list[Message]:
        """An invalid request."""
        try:
            known = _id(json.loads(text))
        except ValueError:
            known = {}
        return [_said({"code": 2, "msg": "Invalid request: refused by the sandbox"} | known)]

    def shutdown(self, now: int) -> list[Message]:
        """Spot's notice before maintenance."""
        if not self._dialect.is_spot:
            return []
        event = f'{{"e":"serverShutdown","E":{now * self._unit}}}'
        return [Message(self._wrapped("!serverShutdown", event))]

    def due(self, now: int) -> list[Message]:
        """What the streams bring, one after the other."""
        return [
            Message(self._wrapped(name, text), topic.kind, topic.market.symbol)
            for name, topic in self._feeds.items()
            for text in topic.due(now)
        ]

    def _wrapped(self, name: str, text: str) -> str:
        return f'{{"stream":"{name}","data":{text}}}' if self._combined else text

    def _subscribe(self, names: Iterable[str], now: int) -> None:
        for name in names:
            if name in self.topics:
                continue
            self.topics.add(name)
            symbol = name.partition("@")[0]
            market = self._find(symbol.upper()) if symbol == symbol.lower() else None
            if market is not None and self._serves(name):
                self._begin(name, Place(market, self._dialect, self._unit, now))
        if len(self.topics) > MOST_STREAMS:
            self.close = Close(1008, "too many streams")

    def _begin(self, name: str, place: Place) -> None:
        topic = topic_of(name.partition("@")[2], place)
        if topic is not None:
            self._feeds[name] = topic


def _problem(content: object) -> str:
    """What is wrong with a request; "" if nothing is."""
    if not isinstance(content, dict):
        return "request must be a JSON object"
    if content.get("method") not in _METHODS:
        return f"unknown variant, expected one of {', '.join(_METHODS)}"
    if not isinstance(content.get("id"), int | str) or isinstance(content.get("id"), bool):
        return "request ID must be an unsigned integer or a string"
    params = content.get("params", [])
    if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
        return "params must be a list of strings"
    return ""


def _id(content: object) -> dict[str, object]:
    return {"id": content["id"]} if isinstance(content, dict) and "id" in content else {}


def _said(content: dict[str, object]) -> Message:
    return Message(json.dumps(content, separators=(",", ":")))
