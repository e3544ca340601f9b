"""Asks Dagster's UI for everything that it tells: each query, each field, some levels deep."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

_TYPE = "{ kind name" + " ofType { kind name" * 6 + " }" * 7
_SCHEMA = f"""{{ __schema {{ types {{
    kind name possibleTypes {{ name }}
    fields {{ name type {_TYPE} args {{ name type {_TYPE} }} }} }} }} }}"""


class Walk:
    """The queries of a server. `values` are the arguments, by the name of their type or their own;
    what needs another one is left out. `depths` are of fields of the root that are looked at
    another number of levels than `depth`."""

    def __init__(
        self, port: int, values: Mapping[str, Any], depths: Mapping[str, int], depth: int = 3
    ) -> None:
        self._url = f"http://127.0.0.1:{port}/graphql"
        self._values, self._depths, self._usual, self._depth = values, depths, depth, depth
        schema = json.loads(self.ask(_SCHEMA))["data"]["__schema"]
        self._broken: set[str] = set()
        self._types = {one["name"]: one for one in schema["types"]}

    def ask(self, query: str) -> str:
        """The answer as text, also of a query that fails."""
        body = json.dumps({"query": query}).encode()
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, head)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def answers(self) -> Iterator[tuple[str, str]]:
        """Each field of the root that can be asked for, with all that was answered."""
        for field in self._types["Query"]["fields"]:
            self._broken = set()
            self._depth = self._depths.get(field["name"], self._usual)
            answer = "{}"
            while selection := self._field(field, ("Query",)):
                answer += (said := self.ask(f"{{ {selection} }}"))
                # one that fails takes what it is part of with it: ask again without
                more = {_name_of(one["path"]) for one in json.loads(said).get("errors", [])}
                if not more - self._broken:
                    break
                self._broken |= more
            yield field["name"], answer

    def _field(self, field: Mapping[str, Any], path: tuple[str, ...]) -> str:
        if field["name"] in self._broken:
            return ""
        given = {}
        for argument in field["args"]:
            name, kind = argument["name"], _named(argument["type"])["name"]
            if (value := self._values.get(kind, self._values.get(name))) is not None:
                given[name] = value
            elif argument["type"]["kind"] == "NON_NULL":
                return ""
        below = self._below(_named(field["type"]), path)
        if below is None:
            return ""
        told = ", ".join(f"{name}: {_literal(value)}" for name, value in given.items())
        return f"{field['name']}{f'({told})' if told else ''}{below}"

    def _below(self, kind: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
        """What is asked of a type: nothing of a plain value, None if it leads too deep."""
        if kind["kind"] in ("SCALAR", "ENUM"):
            return ""
        if kind["name"] in path or len(path) > self._depth:
            return None
        whole, here = self._types[kind["name"]], (*path, kind["name"])
        if kind["kind"] == "OBJECT":
            return self._fields(whole, here)
        # an alias for each type, as fields of one name may have other types elsewhere
        parts = [
            f"... on {one['name']} {found}"
            for one in whole["possibleTypes"]
            if (found := self._fields(self._types[one["name"]], here, f"{one['name']}_"))
        ]
        return f" {{ __typename {' '.join(parts)} }}"

    def _fields(self, whole: Mapping[str, Any], path: tuple[str, ...], alias: str = "") -> str:
        found = [
            f"{alias}{field['name']}: {part}" if alias else part
            for field in whole["fields"]
            if (part := self._field(field, path))
        ]
        return f" {{ __typename {' '.join(found)} }}"


def _named(kind: Mapping[str, Any]) -> Mapping[str, Any]:
    """A type without its lists and its "not null"."""
    while kind.get("ofType"):
        kind = kind["ofType"]
    return kind


def _name_of(path: list[str | int]) -> str:
    """The field at the end of an error's path, without its alias."""
    return next(one for one in reversed(path) if isinstance(one, str)).rpartition("_")[2]


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{name}: {_literal(one)}" for name, one in value.items())
        return f"{{{inner}}}"
    return json.dumps(value)
