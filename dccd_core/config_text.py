"""A YAML text as plain values, with the line of each value and what is wrong with the text.

Scalars follow YAML 1.2's core schema, so that `off` is text and `12:00` is not a number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Key = tuple[str | int, ...]

# A list of 5,000 pairs is 5,000 nodes; aliases of aliases can stand for more than memory holds.
MOST_NODES = 200_000

_VARIABLE = re.compile(r"\$?\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile("://.*", re.DOTALL)
_ASSIGNED = re.compile(r"(pass\w*|secret|token)(\s*[=:]).*", re.DOTALL | re.IGNORECASE)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (path of the key, line from 1) and a sentence."""

    key: Key
    text: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What a text holds. `hidden` maps the keys whose values came from outside to `${NAME}`, and
    `unset` are those whose variable there is not, where that is no problem."""

    path: Path | None = None
    values: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    hidden: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unset: list[Problem] = field(default_factory=list)

    def line(self, key: Key) -> int | None:
        """The line of a key, or of the nearest thing that holds it."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key)


class _Loader(yaml.SafeLoader):
    """PyYAML in Python: its C parser dies of deep nesting, and 1,000 pairs take it 40 ms."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's own way; typed as an instance's


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]{1,18}", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), [*_first, ""])


def shown_key(key: Key) -> str:
    """A path as people write it: histo_jobs[0].span."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{plain(_covered(part))}" for part in key)
    return "".join(parts).removeprefix(".")


def _covered(part: str) -> str:
    """A colon forgotten after webhook_url makes its address a key, one after a remote its text."""
    return _ASSIGNED.sub(r"\1\2…", _ADDRESS.sub("://…", part))


def plain(text: str) -> str:
    """A text as it is if that is safe to show in a line, else quoted and cut."""
    cut = text if len(text) <= 80 else text[:79] + "…"
    return cut if cut and cut.isprintable() and cut == cut.strip() else repr(cut)


def compose(text: str) -> yaml.Node | None:
    """The tree of nodes of a text, None if it holds nothing; yaml.YAMLError if it is not YAML."""
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="nested too deeply") from None
    except (ValueError, OverflowError) as error:  # "\UFFFFFFFF", %YAML 1.<5,000 digits>
        raise yaml.MarkedYAMLError(
            problem="a number or character code that does not exist", problem_mark=loader.get_mark()
        ) from error
    finally:
        loader.dispose()
    return node


def read_document(
    text: str, environ: Mapping[str, str], path: Path | None = None, *, lenient: bool = False
) -> Document:
    """The values of a text with `${NAME}` filled in; never raises, problems are in the document.

    Variables are filled in after parsing, so that a value can never become YAML. `$${` is a
    literal `${`. If it is `lenient` a value whose variable there is not counts as not written.
    """
    unset: list[Problem] = []
    reader = _Reader(environ, unset if lenient else None)
    try:
        node = compose(text)
        values = reader.value(node, ()) if node else None
    except yaml.YAMLError as error:
        return Document(path, problems=[_syntax(error, text)])
    return Document(path, values, reader.lines, reader.hidden, reader.problems, unset)


def _syntax(error: yaml.YAMLError, text: str) -> Problem:
    """Where and what, without the text that PyYAML quotes: there may be a secret in it."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem((), f"not YAML: it may not hold the character {error.character:#04x}", line)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = ", ".join(
        filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))
    )
    if mark is None:
        return Problem((), f"not YAML: {what}")
    return Problem((), f"not YAML: column {mark.column + 1}: {what}", mark.line + 1)


class _Reader:
    """Turns nodes into values and notes lines, hidden values and problems on the way."""

    def __init__(self, environ: Mapping[str, str], unset: list[Problem] | None) -> None:
        self.environ = environ
        self.lines: dict[Key, int] = {}
        self.hidden: dict[Key, str] = {}
        self.problems: list[Problem] = []
        self._unset = self.problems if unset is None else unset
        self._open: list[yaml.Node] = []
        self._nodes = 0

    def value(self, node: yaml.Node, key: Key) -> Any:
        """The value of a node; yaml.MarkedYAMLError if it holds itself or is beyond all bounds."""
        self._nodes += 1
        self.lines.setdefault(key, node.start_mark.line + 1)
        if node in self._open or self._nodes > MOST_NODES:
            problem = "an anchor holds itself" if node in self._open else "too many values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key)
        self._open.append(node)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self._problem(key, "YAML tags are not read: leave it out")
        if isinstance(node, yaml.MappingNode):
            found: Any = self._mapping(node, key)
        else:
            found = [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        self._open.pop()
        return found

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                self.problems.append(Problem(key, "a key must be one word, not a collection", line))
                continue
            here = (*key, name.value)
            if name.value in found:
                text = f"written twice: it is already in line {self.lines[here]}"
                self.problems.append(Problem(here, text, line))
                continue
            self.lines[here] = line
            found[name.value] = self.value(item, here)
        return found

    def _scalar(self, node: yaml.ScalarNode, key: Key) -> Any:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "str":
                return self._filled(text, key)
            case "int" | "float" as kind:
                try:
                    return int(text) if kind == "int" else float(text)
                except ValueError:
                    pass
        return self._problem(key, "YAML tags are not read: leave it out")

    def _filled(self, text: str, key: Key) -> str | None:
        """The text with its variables filled in, None if it lacks one. The key's value is hidden
        from then on."""
        names: list[str] = []
        known = len(self._unset)

        def fill(found: re.Match[str]) -> str:
            if found[0].startswith("$$"):
                return found[0][1:]
            name = found[1]
            if not found[2] or not _NAME.fullmatch(name):
                self._problem(key, "write a variable as ${NAME}, or $${ for a literal ${")
            elif name not in self.environ:
                why = f"the environment has no variable {name}: set it"
                self._unset.append(Problem(key, why, self.lines.get(key)))
            names.append(name)
            return self.environ.get(name, "")

        filled = _VARIABLE.sub(fill, text)
        if names:
            self.hidden[key] = " ".join(f"${{{plain(name)}}}" for name in names)
        return filled if len(self._unset) == known else None

    def _problem(self, key: Key, text: str) -> None:
        self.problems.append(Problem(key, text, self.lines.get(key)))
