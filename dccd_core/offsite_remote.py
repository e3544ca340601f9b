"""A remote of the configuration: as rclone is told of it, and as people may read it.

Format: https://rclone.org/docs/#connection-strings
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from dccd_core.config_sections import Remote

# A remote that is written out in the configuration has this name where rclone is told of it.
_SECTION = "dccdoffsite"
_HEAD = re.compile(r"(:?)([^,:/]+)")
_OPTION = re.compile(r""",([\w-]+)(?:=("(?:[^"]|"")*"|'(?:[^']|'')*'|[^,:"'][^,:]*|))?""")
# What begins like this is a URL, or a value that lacks its quotes; there may be a password in it.
_SPILLED = re.compile(r"//|[^/]*@[^/]*:|.*,[\w-]+=")
_USER = re.compile(r"://[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Target:
    """A place for copies. `name` is for asset keys and file names, `shown` for people.

    `root` is what rclone is given; `variables` are the options that were written into the remote:
    they go through the environment, because arguments are seen by everyone and rclone repeats
    them in its errors. `section` is the name of a remote in rclone's own configuration, `local` a
    folder of this machine, `problem` why the remote cannot be used.
    """

    name: str
    shown: str
    root: str
    section: str | None = None
    local: Path | None = None
    problem: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    def below(self, folder: str) -> str:
        """A folder inside the remote, as rclone is given it."""
        return self.root + ("" if self.root.endswith((":", "/")) else "/") + folder

    def scrub(self, text: str) -> str:
        """A text of rclone's without what may be a secret."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return _USER.sub("://…@", text).replace(f"{_SECTION}:", f"{self.shown.partition(',')[0]}:")


def targets(remotes: Iterable[Remote]) -> list[Target]:
    """The configured remotes; each has a name of its own."""
    found = [(remote.remote, parse_remote(remote.remote)) for remote in remotes]
    names = [target.name.lower() for _, target in found]
    return [
        replace(target, name=f"{target.name}-{_mark(text)}")
        if names.count(target.name.lower()) > 1
        else target
        for text, target in found
    ]


def parse_remote(text: str) -> Target:
    """The target of a remote's text; `problem` says what would be right if it is none."""
    head = _HEAD.match(text)
    if not head or ":" not in text or text[head.end()] == "/":
        return _local(text)
    options, end = _options(text, head.end())
    if text[end : end + 1] != ":" or _SPILLED.match(text[end + 1 :]):
        return _odd(text, head[0])
    anonymous, name, path = bool(head[1]), head[2], text[end + 1 :]
    section = _SECTION if anonymous else name
    given = {"type": name, **options} if anonymous else options
    return Target(
        name=_slug(f"{name}-{path}"),
        shown=f"{head[0]}{',…' if options else ''}:{path}",
        root=f"{section}:{path}",
        section=None if anonymous else name,
        variables={_variable(section, key): value for key, value in given.items()},
        secrets=tuple(value for value in options.values() if value not in ("", "true", "false")),
    )


def _odd(text: str, head: str) -> Target:
    """No remote; there may be a password in what comes after its head."""
    why = "is not understood: write name:path, or :backend,key='value':path"
    return Target(f"remote-{_mark(text)}", f"{head}…", "", problem=why, secrets=(text,))


def _local(text: str) -> Target:
    if text[:1] not in "/~" and "," in text and "=" in text:  # its colons were forgotten
        return _odd(text, text.partition(",")[0] if text.index(",") < text.index("=") else "")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        path = Path(text)
    target = Target(_slug(text) or "root", text, str(path), local=path)
    if not path.is_absolute():
        why = f"is a folder, as it has no colon: write {text}: for a remote, or an absolute path"
        return replace(target, problem=why)
    return target


def _options(text: str, at: int) -> tuple[dict[str, str], int]:
    """The options that begin at a place, and where they end."""
    found: dict[str, str] = {}
    while option := _OPTION.match(text, at):
        key, value = option[1], option[2]
        if value and value[0] in "\"'":
            value = value[1:-1].replace(value[0] * 2, value[0])
        found[key] = "true" if value is None else value
        at = option.end()
    return found, at


def _variable(section: str, key: str) -> str:
    return f"RCLONE_CONFIG_{section}_{key.replace('-', '_')}".upper()


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def _mark(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:6]
