"""Adding to and removing from the sequences of a YAML text, leaving every other byte as it is.

A parser's round trip would set spaces, quotes and line breaks anew. Here the parser only says where
things are. The caller reads the result again and compares: layouts that these few rules do not
know (anchors, block scalars, lists that share a line) give other values, never silent damage.
"""

import re

import yaml

from dccd_core.config_text import compose

_REST = re.compile(r"[ \t]*,?[ \t]*(#[^\n]*)?\r?(\n|\Z)")
_DASH = re.compile(r"[ \t]*-[ \t]+")


def child(node: yaml.Node | None, *path: str | int) -> yaml.Node | None:
    """The node at a path of keys and indices, None if there is none."""
    for part in path:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
        else:
            return None
    return node


def append_item(text: str, path: tuple[str | int, ...], item: list[str], flow: str) -> str:
    """The text with one more item in a sequence; it may be missing, null or empty if `path` is
    one key of the root. `item` is its lines in block style, `flow` the same in flow style.
    """
    node = child(compose(text), *path)
    if isinstance(node, yaml.SequenceNode) and node.value:
        if node.flow_style:
            return _append_flow(text, node.value[-1], flow)
        return _insert_lines(text, _end(node), _block_item(text, node, item))
    lines = _indented("  - ", item)
    if node is None:
        return _insert_lines(text, len(text), [f"{path[0]}:", *lines])
    start, end = node.start_mark.index, node.end_mark.index
    text = text[:start].rstrip(" ") + text[end:]
    return _insert_lines(text, len(text[:start].rstrip(" ")), lines)


def remove_item(text: str, path: tuple[str | int, ...]) -> str:
    """The text without the item at a path that ends in an index, nor the comment beside it."""
    *parent, index = path
    sequence = child(compose(text), *parent)
    if not isinstance(sequence, yaml.SequenceNode) or not isinstance(index, int):
        raise TypeError(f"{path} is not an item of a sequence")
    item = sequence.value[index]
    if not sequence.flow_style:
        before = _end(sequence.value[index - 1]) if index else _line_start(text, sequence)
        dash = re.compile(rf"^ {{{sequence.start_mark.column}}}-", re.MULTILINE)
        found = dash.search(text, before)
        return _cut_lines(text, found.start() if found else before, _end(item))
    start, end = item.start_mark.index, _end(item)
    if _alone(text, item):
        return _cut_lines(text, start, end)
    if index + 1 < len(sequence.value):
        return text[:start] + text[sequence.value[index + 1].start_mark.index :]
    before = _end(sequence.value[index - 1]) if index else start
    if "\n" in text[before:start]:  # the comma and the comment of the item before it stay
        before = start
    return text[:before] + text[end:]


def _append_flow(text: str, last: yaml.Node, flow: str) -> str:
    end = _end(last)
    if not _alone(text, last):
        return f"{text[:end]}, {flow}{text[end:]}"
    rest = _REST.match(text, end)
    comma = bool(rest) and "," in (rest[0].partition("#")[0] if rest else "")
    indent = " " * last.start_mark.column
    text = text if comma else f"{text[:end]},{text[end:]}"
    return _insert_lines(text, end, [f"{indent}{flow}{',' if comma else ''}"])


def _block_item(text: str, sequence: yaml.SequenceNode, item: list[str]) -> list[str]:
    """The lines of a new item, with dash and text where the last item has them."""
    last = sequence.value[-1]
    prefix = text[_line_start(text, last) : last.start_mark.index]
    if not _DASH.fullmatch(prefix):
        prefix = " " * sequence.start_mark.column + "- "
    return _indented(prefix, item)


def _indented(prefix: str, item: list[str]) -> list[str]:
    return [prefix + item[0], *(" " * len(prefix) + line for line in item[1:])]


def _alone(text: str, node: yaml.Node) -> bool:
    """Whether an item of a flow sequence has its lines for itself, but for a comma and comment."""
    before = text[_line_start(text, node) : node.start_mark.index]
    return not before.strip() and _REST.match(text, _end(node)) is not None


def _end(node: yaml.Node) -> int:
    """Where the text of a node ends. A block collection's own mark is at the next token."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    index: int = node.end_mark.index
    return index


def _line_start(text: str, node: yaml.Node) -> int:
    return text.rfind("\n", 0, node.start_mark.index) + 1


def _insert_lines(text: str, index: int, lines: list[str]) -> str:
    """The text with lines after the line that holds `index`; a missing last line end stays so."""
    newline = "\r\n" if "\r\n" in text else "\n"
    at = text.find("\n", index) + 1
    if at:
        return text[:at] + "".join(line + newline for line in lines) + text[at:]
    if text.endswith("\n"):
        return text + "".join(line + newline for line in lines)
    return text + "".join(newline + line for line in lines)


def _cut_lines(text: str, start: int, end: int) -> str:
    """The text without the whole lines from `start` to `end`."""
    start = text.rfind("\n", 0, start) + 1
    after = text.find("\n", end) + 1
    if after:
        return text[:start] + text[after:]
    return text[:start].removesuffix("\n").removesuffix("\r")
