"""Who may import whom, and how large things may get: read from the code itself."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [
    package
    for package in ("dccd_core", "dccd_pipelines", "dccd_streams", "dccd_sandbox")
    if (ROOT / package).is_dir()
]
OURS = {"dccd_core", "dccd_pipelines", "dccd_streams", "dccd_sandbox"}
# a package of ours may import these others of ours
MAY_IMPORT = {
    "dccd_core": set(),
    "dccd_pipelines": {"dccd_core"},
    "dccd_streams": {"dccd_core"},
    "dccd_sandbox": set(),
}
# a library, and the only files that may import it
ONLY_IN = {
    "dagster": ("dccd_pipelines/",),
    "urllib3": ("dccd_core/http.py", "dccd_core/watch.py"),
    "requests": ("dccd_core/archives/download.py", "dccd_core/alerts.py"),
    "websocket": ("dccd_streams/transport.py",),
    "typer": ("dccd_pipelines/",),
    "pydantic": ("dccd_core/config",),
}
# an exchange's file holds its candles, its trades and its stream
MODULE, EXCHANGE_MODULE = 300, 550


@dataclass(frozen=True)
class Module:
    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]

    def imports(self) -> Iterator[str]:
        """Full names of what is imported, wherever it stands in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}: a relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(*folders: str) -> list[Module]:
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append(Module(path.relative_to(ROOT).as_posix(), text))
    return found


ALL = modules(*PACKAGES)
EXCHANGES = [
    module
    for module in ALL
    if module.path.startswith("dccd_core/exchanges/")
    and not module.path.endswith(("/base.py", "/trades.py", "/live.py", "__init__.py"))
]


def each(found: list[Module]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", found, ids=[module.path for module in found])


def test_the_code_is_found() -> None:
    assert {module.package for module in ALL} == set(PACKAGES)
    assert len(ALL) > 50
    assert EXCHANGES


@each(ALL)
def test_a_package_imports_only_the_packages_below_it(module: Module) -> None:
    others = {name.partition(".")[0] for name in module.imports()} & OURS - {module.package}
    assert others <= MAY_IMPORT[module.package]


@each(ALL)
def test_a_library_is_imported_only_where_its_work_is_done(module: Module) -> None:
    for name in module.imports():
        allowed = ONLY_IN.get(name.partition(".")[0])
        assert allowed is None or module.path.startswith(allowed), f"{name} in {module.path}"


@each([module for module in ALL if module.package == "dccd_pipelines"])
def test_dagster_is_used_by_its_public_names(module: Module) -> None:
    assert [name for name in module.imports() if name.startswith("dagster._")] == []
    assert "dagster._" not in module.text
    assert not re.search(r"\bdg\._", module.text)


@each(ALL)
def test_the_environment_is_read_in_one_module(module: Module) -> None:
    touched = [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv", "putenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    named = [name for name in module.imports() if name in ("os.environ", "os.getenv")]
    # the service sets a variable of Arrow's, which must be there before Arrow is
    allowed = ("dccd_core/config.py", "dccd_streams/__main__.py")
    assert module.path in allowed or touched + named == []


@each([module for module in ALL if module.package != "dccd_sandbox"])
def test_only_the_command_line_prints(module: Module) -> None:
    prints = [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert module.path == "dccd_pipelines/cli.py" or prints == []


@each(ALL)
def test_a_module_says_what_it_is_and_is_not_too_long(module: Module) -> None:
    assert ast.get_docstring(module.tree), "no docstring"
    most = EXCHANGE_MODULE if module in EXCHANGES else MODULE
    assert len(module.text.splitlines()) <= most


@each(EXCHANGES)
def test_an_exchange_imports_the_contract_and_nothing_else_of_ours(module: Module) -> None:
    ours = [name for name in module.imports() if name.partition(".")[0] in OURS]
    contract = (
        "dccd_core.exchanges.base.",
        "dccd_core.exchanges.trades.",
        "dccd_core.exchanges.live.",
        "dccd_core.models.",
    )
    assert [name for name in ours if not name.startswith(contract)] == []


@each(EXCHANGES)
def test_an_exchange_does_no_input_or_output(module: Module) -> None:
    banned = {"os", "io", "socket", "http", "pathlib", "threading", "asyncio", "time", "subprocess"}
    assert {name.partition(".")[0] for name in module.imports()} & banned == set()
    calls = [
        node.func.id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert not {"open", "print", "input", "exec", "eval"} & set(calls)


@each(EXCHANGES)
def test_an_exchange_has_no_default_for_a_field_that_is_not_there(module: Module) -> None:
    defaults = [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "setdefault", "pop")
        and len(node.args) + len(node.keywords) > 1
    ]
    assert defaults == []


@each([module for module in ALL if module.package == "dccd_pipelines"])
def test_dagster_can_read_the_annotations(module: Module) -> None:
    assert "__future__.annotations" not in set(module.imports())


@each([one for one in ALL if one.path.startswith("dccd_core/store/")])
def test_files_of_the_store_are_written_in_one_module(module: Module) -> None:
    """So that another kind of storage can take the place of a local disk."""
    writes = {"write_bytes", "write_text", "rename", "unlink", "mkdir", "fsync", "ParquetWriter"}
    found = [
        node.func.attr
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "files")
        and node.func.attr in writes
    ]
    assert module.path == "dccd_core/store/files.py" or found == []
