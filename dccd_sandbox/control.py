"""Requests to /_sandbox: JSON read and checked."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from dccd_sandbox.faults import Rule
from dccd_sandbox.load import Load
from dccd_sandbox.stream_faults import StreamFault

T = TypeVar("T", Rule, StreamFault, Load)
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "Mapping[str, str]": (dict,),
}


def listed(kind: type[T], name: str, body: bytes) -> tuple[T, ...]:
    """Objects of a class from JSON: one or a list of them. Raises ValueError naming the wrong."""
    content = json.loads(body)
    items = content if isinstance(content, list) else [content]
    return tuple(one(kind, name, item) for item in items)


def one(kind: type[T], name: str, item: Any) -> T:
    """An object of a class from a JSON object. Raises ValueError naming the wrong."""
    known = {field.name: _types(field.type) for field in fields(kind)}
    first = next(iter(known))
    if not isinstance(item, dict) or first not in item:
        raise ValueError(f'{name} {item!r}: want an object with a "{first}"')
    for key, value in item.items():
        wanted = known.get(key)
        if wanted is None:
            raise ValueError(f"{name} key {key!r}: want one of {', '.join(known)}")
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            names = " or ".join(one.__name__ for one in wanted)
            raise ValueError(f"{name} {key} is {value!r}, want {names}")
    try:
        return kind(**item)
    except TypeError as error:
        raise ValueError(f"{name} {item!r}: {error}") from None


def clock_of(body: bytes) -> tuple[str | None, bool, float | None]:
    """now, frozen, speed. Raises ValueError."""
    content = json.loads(body)
    if not isinstance(content, Mapping) or "now" not in content:
        raise ValueError('want {"now": ISO time or null, "frozen": true or false}')
    now, frozen, speed = content["now"], content.get("frozen", False), content.get("speed")
    if not (now is None or isinstance(now, str)) or not isinstance(frozen, bool):
        raise ValueError(
            f"clock now={now!r} frozen={frozen!r}: want an ISO text or null, and a bool"
        )
    if not (speed is None or isinstance(speed, int | float)) or isinstance(speed, bool):
        raise ValueError(f"clock speed={speed!r}: want a number")
    return now, frozen, speed


def described(rule: Rule | StreamFault) -> dict[str, object]:
    """As JSON shows a rule."""
    return asdict(rule)


def _types(annotation: object) -> tuple[type, ...]:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return _TYPES[text.replace("collections.abc.", "")]
