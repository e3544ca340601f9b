"""Kraken's WebSocket, version 2: requests, answers, heartbeats.

https://docs.kraken.com/api/docs/guides/spot-ws-intro
"""

import json
from collections.abc import Iterable

from dccd_sandbox.kraken_topics import (
    CHANNELS,
    OPTIONS,
    Booking,
    Charting,
    Trading,
    Wanted,
    stamp,
    wire_name,
)
from dccd_sandbox.market import Market
from dccd_sandbox.stream import Kind, Message, Stream

_BEAT_MS = 1_000


class Refused(Exception):
    """A request that is answered with success false."""


class KrakenStream(Stream):
    """One connection."""

    def __init__(self, markets: Iterable[Market]) -> None:
        super().__init__()
        self._markets = {wire_name(market): market for market in markets}
        self._feeds: dict[str, tuple[Wanted, Trading | Booking | Charting]] = {}
        self._spoke = 0

    def opened(self, now: int) -> list[Message]:
        """The state of the engine."""
        self._spoke = now
        state = {"api_version": "v2", "connection_id": 12_345_678_901_234_567_890}
        state |= {"system": "online", "version": "2.0.10"}
        return [_said({"channel": "status", "type": "update", "data": [state]})]

    def heard(self, text: str, now: int) -> list[Message]:
        """ping, subscribe, unsubscribe; an answer for each symbol."""
        try:
            request = json.loads(text)
            method = request["method"]
        except (ValueError, KeyError, TypeError):
            return [_said({"error": "Malformed request", "success": False})]
        head = {"method": method} | ({"req_id": request["req_id"]} if "req_id" in request else {})
        times = {"time_in": stamp(now), "time_out": stamp(now)}
        if method == "ping":
            return [_said(head | {"method": "pong"} | times)]
        if method not in ("subscribe", "unsubscribe"):
            return [_said({"error": "Unsupported method", "success": False} | head | times)]
        answers: list[Message] = []
        snapshots: list[Message] = []
        params = request.get("params", {})
        for symbol in params.get("symbol", []):
            try:
                wanted = self._wanted(params, symbol)
                act = self._subscribe if method == "subscribe" else self._unsubscribe
                snapshots += act(wanted, params, now)
            except Refused as error:
                failed = {"error": str(error), "success": False, "symbol": symbol}
                answers.append(_said(failed | head | times))
            else:
                result = {key: value for key, value in params.items() if key != "symbol"}
                done = {"result": result | {"symbol": symbol}, "success": True}
                answers.append(_said(head | done | times))
        return answers + snapshots

    def refused(self, text: str, now: int) -> list[Message]:
        """Each symbol is refused."""
        request = json.loads(text)
        head = {key: request[key] for key in ("method", "req_id") if key in request}
        return [
            _said({"error": "Refused by the sandbox", "success": False, "symbol": symbol} | head)
            for symbol in request["params"]["symbol"]
        ]

    def shutdown(self, now: int) -> list[Message]:
        """Maintenance begins."""
        data = [{"api_version": "v2", "system": "maintenance", "version": "2.0.10"}]
        return [_said({"channel": "status", "type": "update", "data": data})]

    def due(self, now: int) -> list[Message]:
        """Data, or a heartbeat each second in which there is none."""
        found = [
            Message(text, CHANNELS[wanted.channel][1], wanted.market.symbol)
            for wanted, feed in self._feeds.values()
            for text in feed.due(now)
        ]
        if found:
            self._spoke = now
        elif self._feeds and now - self._spoke >= _BEAT_MS:
            self._spoke = now
            return [Message('{"channel":"heartbeat"}', Kind.BEAT)]
        return found

    def _wanted(self, params: dict[str, object], symbol: str) -> Wanted:
        channel = str(params.get("channel"))
        if channel not in CHANNELS:
            raise Refused(f"Channel not found {channel}")
        if symbol not in self._markets:
            raise Refused(f"Currency pair not supported {symbol}")
        name, allowed = OPTIONS.get(channel, ("", (0,)))
        option = params.get(name, allowed[0])
        if option not in allowed or not isinstance(option, int):
            raise Refused(f"Unsupported {name} {option}")
        return Wanted(channel, self._markets[symbol], option)

    def _subscribe(self, wanted: Wanted, params: dict[str, object], now: int) -> list[Message]:
        known = self._feeds.get(wanted.topic)
        if known and wanted.channel == "ohlc" and known[0].option != wanted.option:
            raise Refused("Already subscribed to one ohlc interval on this symbol")
        if known:
            raise Refused("Already subscribed")
        kind, sort = CHANNELS[wanted.channel]
        feed = kind(wanted, now)
        self._feeds[wanted.topic] = (wanted, feed)
        self.topics.add(wanted.topic)
        asked = params.get("snapshot", wanted.channel != "trade")
        texts = feed.begin(now) if asked else []
        return [Message(text, sort, wanted.market.symbol) for text in texts]

    def _unsubscribe(self, wanted: Wanted, params: dict[str, object], now: int) -> list[Message]:
        known = self._feeds.get(wanted.topic)
        if known is None or known[0].option != wanted.option:
            raise Refused("Subscription Not Found")
        del self._feeds[wanted.topic]
        self.topics.discard(wanted.topic)
        return []


def _said(content: dict[str, object]) -> Message:
    return Message(json.dumps(content, separators=(",", ":")))
