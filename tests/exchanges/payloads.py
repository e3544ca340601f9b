"""The payload files beside this module, and ways to damage them. README.md says what is in them."""

import copy
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from dccd_core.exchanges.base import Answer
from dccd_core.models import microseconds

FOLDER = Path(__file__).parent


class Market(msgspec.Struct, forbid_unknown_fields=True):
    """One expected instrument."""

    symbol: str
    name: str
    trading: bool
    listed: str | None
    size: float
    price_digits: int | None = None
    amount_digits: int | None = None
    inverse: bool = False


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """An expected request."""

    path: str
    params: dict[str, str]


class Payload(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One answer, and what must be read from it."""

    source: str
    captured: str
    time: str
    status: int = 200
    headers: dict[str, str] = {}
    body: msgspec.Raw = msgspec.Raw()
    text: str | None = None
    used: float | None = None
    required: list[str] = []
    symbol: str | None = None
    span: str | None = None
    window: tuple[str, str] | None = None
    request: Question | None = None
    next: Question | None = None
    first: str | None = None
    expect: msgspec.Raw = msgspec.Raw(b"null")
    raises: str | None = None
    retry_after: float | None = None

    def answer(self, body: object = None, time: int | None = None) -> Answer:
        """The answer, with another body or another server time where given."""
        if body is not None:
            content = json.dumps(body).encode()
        else:
            content = bytes(self.body) if self.text is None else self.text.encode()
        return Answer(
            self.status, self.headers, content, micro(self.time) if time is None else time
        )

    def json(self) -> Any:
        """The body as Python has it."""
        return json.loads(bytes(self.body))

    def damaged(self) -> Iterator[tuple[str, object]]:
        """Bodies whose required fields are, in turn, gone, null and of another kind."""
        whole = self.json()
        for pattern in self.required:
            for place in sorted(places(whole, pattern.split(".")), key=str):
                yield f"{place} removed", changed(whole, place, remove=True)
                yield f"{place} null", changed(whole, place, None)
                other: object = {} if isinstance(get(whole, place), list) else []
                yield f"{place} other", changed(whole, place, other)

    def numbers(self) -> Iterator[tuple[tuple[str | int, ...], object]]:
        """Each required place whose content is a number, also one in quotes, with it."""
        whole = self.json()
        for pattern in self.required:
            for place in sorted(places(whole, pattern.split(".")), key=str):
                value = get(whole, place)
                if is_number(value):
                    yield place, value


def micro(text: str) -> int:
    """Microseconds of an ISO text."""
    return microseconds(datetime.fromisoformat(text))


def payload(exchange: str, name: str) -> Payload:
    """One file of an exchange's folder."""
    return msgspec.json.decode((FOLDER / exchange / f"{name}.json").read_bytes(), type=Payload)


def names(exchange: str, pattern: str) -> list[str]:
    """The files of an exchange's folder."""
    return sorted(path.stem for path in (FOLDER / exchange).glob(f"{pattern}.json"))


def is_number(value: object) -> bool:
    """Whether JSON holds a number here, in quotes or not."""
    try:
        float(str(value))
    except ValueError:
        return False
    return not isinstance(value, bool)


def places(value: Any, pattern: list[str]) -> Iterator[tuple[str | int, ...]]:
    """The places of a JSON value that a pattern names; KeyError or IndexError if there is none."""
    if not pattern:
        yield ()
        return
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        keys: list[str | int] = list(range(len(value)) if isinstance(value, list) else value)
    else:
        keys = [int(head) if isinstance(value, list) else head]
    for key in keys:
        for place in places(value[key], rest):
            yield (key, *place)


def get(value: Any, place: tuple[str | int, ...]) -> Any:
    """What is at a place."""
    for key in place:
        value = value[key]
    return value


def changed(
    whole: Any, place: tuple[str | int, ...], new: object = None, *, remove: bool = False
) -> Any:
    """A copy with something else, or nothing, at a place."""
    copied = copy.deepcopy(whole)
    parent = get(copied, place[:-1])
    if remove:
        del parent[place[-1]]
    else:
        parent[place[-1]] = new
    return copied
