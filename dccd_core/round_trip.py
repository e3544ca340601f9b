"""Changing the lists of a YAML text by ruamel.yaml: comments, order, quotes and styles stay.

ruamel.yaml sets spaces anew. Where it would lose more than that, the text is refused.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from difflib import SequenceMatcher
from io import StringIO
from itertools import accumulate
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scalarstring import FoldedScalarString, LiteralScalarString
from ruamel.yaml.tokens import CommentToken

Append = Callable[[Any, Any], None]
Remove = Callable[[Any, int], Any]

# ruamel.yaml drops what stands before the line of dashes
_HEAD = re.compile(r"\ufeff?(?:(?:[ \t]*|[#%].*)\n)*---[ \t]*(?:#.*)?\n|\ufeff?")
_ANEW = re.compile(r"[\s,]+")  # commas: the one behind the last item in brackets goes
_GONE = "dccd-removed-item"
_GONE_LINE = re.compile(rf"^ *- +{_GONE}.*\n", re.MULTILINE)


class NotKept(Exception):
    """A text that ruamel.yaml would not write back as it was. `line`: where, from 1."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} would be lost")
        self.line = line


class _AsWritten(VersionedResolver):
    """Takes every plain word as text, so that null, ~ and off are written back as they were."""

    @property
    def versioned_resolver(self) -> dict[str, list[object]]:
        return {}


def edit(text: str, change: Callable[[Any, Append, Remove], None]) -> list[str]:
    """The text after `change(root, append, remove)` of its data, in which all scalars are text.

    First with the old spaces in lines that stay, which may not fit those that came; then with new
    spaces everywhere. NotKept if more than spaces would differ.
    """
    lines = text.replace("\r\n", "\n")
    found = _HEAD.match(lines)
    head = found[0] if found else ""
    body = lines[len(head) :]
    yaml = YAML()
    yaml.Resolver, yaml.preserve_quotes, yaml.width = _AsWritten, True, 1 << 30
    try:
        data = yaml.load(body)
        _indent(yaml, data)
        _check_same(body, _dump(yaml, data))
        change(data, _append, _remove)
    except NotKept as error:
        raise NotKept(error.line + head.count("\n")) from error
    except (YAMLError, KeyError) as error:  # what only PyYAML reads: `{a:[b]}`, keys with a tag
        mark = getattr(error, "problem_mark", None)
        raise NotKept((mark.line + 1 if mark else 1) + head.count("\n")) from error
    made = _GONE_LINE.sub("", _dump(yaml, data))
    end = body[len(body.rstrip()) :]
    texts = [head + new.rstrip() + end for new in (_old_spaces(body, made), made)]
    return [new.replace("\n", "\r\n") if "\r\n" in text else new for new in texts]


def _indent(yaml: YAML, data: CommentedMap) -> None:
    """Have it write with the indentation of the first mapping and the first list."""
    blocks = [value for value in data.values() if _is_block(value)]
    mapping = next((node.lc.col for node in blocks if isinstance(node, CommentedMap)), 2)
    listed = next((node for node in blocks if isinstance(node, CommentedSeq)), None)
    offset, item = (listed.lc.col, listed.lc.item(0)[1]) if listed else (2, 4)
    yaml.indent(mapping=mapping, sequence=max(item, offset + 2), offset=offset)


def _dump(yaml: YAML, data: CommentedMap) -> str:
    file = StringIO()
    yaml.dump(data, file)
    return file.getvalue()


def _check_same(old: str, new: str) -> None:
    """NotKept if two texts differ in more than spaces."""
    before, after = _ANEW.sub("", old), _ANEW.sub("", new)
    if before != after:
        pairs = enumerate(zip(before, after, strict=False))
        first = next((place for place, (a, b) in pairs if a != b), min(len(before), len(after)))
        ends = accumulate(len(_ANEW.sub("", line)) for line in old.splitlines())
        raise NotKept(bisect_right(list(ends), first) + 1)


def _old_spaces(old: str, new: str) -> str:
    """The new text with the old one's lines wherever those differ in spaces only."""
    before, after = old.split("\n"), new.split("\n")
    words = [[_ANEW.sub("", line) for line in lines] for lines in (before, after)]
    made: list[str] = []
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    for kind, start, end, first, last in matcher.get_opcodes():
        made += before[start:end] if kind == "equal" else after[first:last]
    return "\n".join(made)


def _is_block(node: Any) -> bool:
    """Whether a node is a collection of lines, not one in brackets, which may be empty."""
    return isinstance(node, CommentedMap | CommentedSeq) and node.fa.flow_style() is False


def _append(sequence: Any, item: Any) -> None:
    """Add an item, quoted like the last one. Comments below the last one are then below it."""
    _check_brackets(sequence)
    if isinstance(item, dict):
        item = CommentedMap(item)
        item.fa.set_block_style()
    else:
        item = type(sequence[-1])(item)
    sequence.append(item)
    if _is_block(sequence):
        (old, at), (new, there) = (_comments(sequence, len(sequence) - end) for end in (2, 1))
        if old[at]:
            beside, _, below = old[at].value.partition("\n")
            old[at].value = f"{beside}\n"
            new[there] = CommentToken(f"\n{below}", old[at].start_mark)


def _remove(sequence: Any, index: int) -> None:
    """Take an item out. The comments below it stay: in block style its line is cut out later."""
    _check_brackets(sequence)
    if _is_block(sequence):
        comments, at = _comments(sequence, index)
        list.__setitem__(sequence, index, _GONE)  # its own method would keep the quotes
        sequence.ca.items.setdefault(index, [None] * 4)[0] = comments[at]
    else:
        del sequence[index]


def _check_brackets(sequence: Any) -> None:
    """NotKept if there are comments in brackets: whether they belong to an item is not known."""
    if sequence and not _is_block(sequence) and sequence.ca.items:
        raise NotKept(sequence.lc.line + 1)


def _comments(holder: Any, key: Any) -> tuple[list[Any], int]:
    """Where the comment beside the last line of an item is, with all lines of comments below.

    It hangs at the last scalar or brackets in the item. Lists have it first, mappings third.
    """
    while _is_block(holder[key]):
        holder = holder[key]
        key = list(holder)[-1] if isinstance(holder, CommentedMap) else len(holder) - 1
    if isinstance(holder[key], FoldedScalarString | LiteralScalarString):
        raise NotKept(holder.lc.data[key][0] + 1)  # a comment below it is out of reach
    return holder.ca.items.setdefault(key, [None] * 4), 2 * isinstance(holder, CommentedMap)
