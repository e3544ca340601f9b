"""Faults of streams: which messages they hit, and what is sent instead."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from dccd_sandbox.frames import fragments, text_frame
from dccd_sandbox.stream import DATA, Close, Kind, Message

ON_MESSAGES = (
    *("cut", "half", "close", "stall", "drop", "gap", "duplicate", "reorder", "delay"),
    *("checksum", "garbage", "truncated", "huge", "fragment"),
)
ON_TEXTS = ("no_ack", "refuse", "replay")
ON_OPENING = ("lifetime", "deaf")
STREAM_KINDS = (*ON_MESSAGES, *ON_TEXTS, *ON_OPENING)
_GARBAGE = ("\x00not JSON at all <html>", "[]", "null", '{"e":"surprise","s":null}', "")
_CHECKSUM = re.compile(r'("checksum":\s*"?|"cs",\s*)(-?\d+)')


@dataclass(frozen=True, slots=True)
class StreamFault:
    """One kind of fault and what it may hit: see "Streams" in dccd_sandbox/README.md.

    path: prefix such as "/bybit/v5". channel (trades, book, ohlc, reply, beat; "": any data),
    symbol (the market's) and contains (part of the text) choose messages; `after` of them pass
    first, then `count` are hit (None: all), each with probability `rate`. seconds: length of a
    stall (0: as long as the connection lives), of a delay, of a life, and how far back a replay
    begins. Raises ValueError on values out of range.
    """

    kind: str
    path: str = ""
    channel: str = ""
    symbol: str = ""
    contains: str = ""
    after: int = 0
    count: int | None = 1
    rate: float = 1.0
    seed: int = 0
    seconds: float = 0.0
    code: int = 1001
    reason: str = ""
    times: int = 1
    size: int = 17_000_000
    beats: bool = True

    def __post_init__(self) -> None:
        if self.kind not in STREAM_KINDS:
            known = ", ".join(STREAM_KINDS)
            raise ValueError(f"stream fault kind {self.kind!r}: want one of {known}")
        if self.channel and self.channel not in set(Kind):
            known = ", ".join(Kind)
            raise ValueError(f"stream fault channel {self.channel!r}: want one of {known}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"stream fault {self.kind}: rate {self.rate} is not within 0..1")
        if min(self.seconds, self.after, self.count or 0, self.times, self.size) < 0:
            raise ValueError(f"stream fault {self.kind}: a number is below 0")

    def covers(self, path: str, message: Message) -> bool:
        """Whether the rule speaks of this message of the server, before it is counted."""
        if self.kind not in ON_MESSAGES or not path.startswith(self.path):
            return False
        channel = self.channel or ("book" if self.kind in ("gap", "checksum") else "")
        right = message.kind == channel if channel else message.kind in DATA
        return (
            right
            and (not self.symbol or message.symbol == self.symbol)
            and self.contains in message.text
            and (self.kind != "checksum" or _CHECKSUM.search(message.text) is not None)
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do on a socket: write, wait some seconds, end it with a close frame or a cut."""

    data: bytes = b""
    wait: float = 0.0
    close: Close | None = None
    cut: bool = False


@dataclass(slots=True)
class Line:
    """One connection as faults see it: its path with the exchange's prefix, what it waits for."""

    path: str
    stalls: list[tuple[StreamFault, float]] = field(default_factory=list)
    held: list[tuple[StreamFault, Message]] = field(default_factory=list)

    def is_dead(self, now: float) -> bool:
        """Whether nothing at all may be sent, not even a pong."""
        return any(not fault.beats and now < until for fault, until in self.stalls)

    def silences(self, message: Message, now: float) -> bool:
        """Whether a stall keeps this message from being sent."""
        return any(
            now < until and (fault.covers(self.path, message) or not fault.beats)
            for fault, until in self.stalls
        )


class StreamFaults:
    """The rules in force and their counts, over all connections."""

    def __init__(self) -> None:
        self.set(())

    def set(self, rules: Sequence[StreamFault]) -> None:
        """Replace all rules and forget their counts. What they have begun goes on."""
        self.rules = tuple(rules)
        self.hits: Counter[int] = Counter()
        self._seen: Counter[int] = Counter()

    def opened(self, path: str) -> list[StreamFault]:
        """What a new connection suffers: lifetime, deaf."""
        return self._chosen(ON_OPENING, path, "")

    def heard(self, path: str, text: str) -> StreamFault | None:
        """What becomes of a client's message: no_ack, refuse, replay; None: it is heard."""
        return next(iter(self._chosen(ON_TEXTS, path, text)), None)

    def spoil(self, line: Line, messages: Sequence[Message], now: float) -> list[Step]:
        """What is sent instead of these messages; `now` is real time in seconds."""
        steps: list[Step] = []
        for message in messages:
            steps += self._sent(line, message, now)
        return steps

    def _sent(self, line: Line, message: Message, now: float) -> list[Step]:
        hit = self._hit(line, message)
        if hit is not None and hit.kind == "stall":
            until = now + hit.seconds if hit.seconds else float("inf")
            line.stalls.append((hit, until))
        if line.stalls and line.silences(message, now):
            return []
        if hit is not None and hit.kind == "reorder":
            line.held.append((hit, message))
            return []
        late = [held for fault, held in line.held if fault.covers(line.path, message)]
        if late:
            line.held = [(fault, held) for fault, held in line.held if held not in late]
        steps = [Step(text_frame(message.text))] if hit is None else _spoilt(hit, message)
        return steps + [Step(text_frame(held.text)) for held in late]

    def _chosen(self, kinds: Sequence[str], path: str, text: str) -> list[StreamFault]:
        return [
            rule
            for number, rule in enumerate(self.rules)
            if rule.kind in kinds
            and path.startswith(rule.path)
            and rule.contains in text
            and self._counts(number, rule)
        ]

    def _hit(self, line: Line, message: Message) -> StreamFault | None:
        for number, rule in enumerate(self.rules):
            if rule.covers(line.path, message) and self._counts(number, rule):
                return rule
        return None

    def _counts(self, number: int, rule: StreamFault) -> bool:
        """Count a match; whether it is hit."""
        self._seen[number] += 1
        seen = self._seen[number]
        if seen <= rule.after or self.hits[number] == rule.count:
            return False
        digest = blake2b(f"{rule.seed}|{number}|{rule.kind}|{seen}".encode(), digest_size=8)
        if int.from_bytes(digest.digest()) / 2**64 >= rule.rate:
            return False
        self.hits[number] += 1
        return True


def _spoilt(fault: StreamFault, message: Message) -> list[Step]:
    """What is done instead of sending a message as it is."""
    text = message.text
    whole = Step(text_frame(text))
    match fault.kind:
        case "cut":
            return [Step(cut=True)]
        case "half":
            # The pause lets the half arrive: a reset may overtake it.
            return [Step(whole.data[: len(whole.data) // 2]), Step(wait=0.05), Step(cut=True)]
        case "close":
            return [Step(close=Close(fault.code, fault.reason))]
        case "drop" | "gap":
            return []
        case "duplicate":
            return [Step(whole.data * (fault.times + 1))]
        case "delay":
            return [Step(wait=fault.seconds), whole]
        case _:
            return [Step(_altered(fault, text))]


def _altered(fault: StreamFault, text: str) -> bytes:
    match fault.kind:
        case "checksum":
            return text_frame(_CHECKSUM.sub(lambda m: f"{m[1]}{int(m[2]) ^ 1}", text))
        case "garbage":
            return b"".join(map(text_frame, _GARBAGE)) + text_frame(text)
        case "truncated":
            return text_frame(text[: len(text) // 2])
        case "huge":
            return text_frame(f'{{"huge":"{"x" * fault.size}"}}') + text_frame(text)
        case "fragment":
            return fragments(text)
        case _:
            return text_frame(text)
