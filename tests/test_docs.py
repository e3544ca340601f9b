"""The documents say what is true: commands, options, keys, links, and code that runs."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from dccd_core.config import Config
from dccd_pipelines import load_config, run_backfill
from dccd_pipelines.cli import app
from dccd_sandbox import Sandbox, Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("dccd_*/**/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def options() -> Iterator[tuple[str, str]]:
    """Each command of `dccd` with each of its long options."""
    program: Any = typer.main.get_command(app)
    for name, command in program.commands.items():
        for parameter in command.params:
            longest = max(parameter.opts, key=len)
            if longest != "--help":
                yield name, longest


def test_every_command_and_option_is_in_the_documents() -> None:
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    table = [line for line in README.read_text().splitlines() if line.startswith("| `dccd ")]
    for command, option in options():
        lines = [line for line in table if f"`dccd {command}" in line]
        assert lines, f"README's table lacks dccd {command}"
        said = lines[0] if option != "--config" else text
        assert option in said, f"README's line of dccd {command} lacks {option}"


def test_no_document_tells_of_a_command_or_option_that_is_not_there() -> None:
    known: dict[str, set[str]] = {}
    for command, option in options():
        known.setdefault(command, {"--help", "--config"}).add(option)
    for path in DOCUMENTS:
        text = path.read_text()
        for command, rest in re.findall(r"`dccd ([a-z][\w-]*)([^`\n]*)`", text):
            assert command in known, f"{path.name}: dccd {command}"
            for option in re.findall(r"--[\w-]+", rest):
                assert option in known[command], f"{path.name}: dccd {command} {option}"
        for block in (body for kind, body in FENCE.findall(text) if kind == "sh"):
            for command, rest in re.findall(r"^dccd ([a-z][\w-]*)([^#\n]*)", block, re.MULTILINE):
                assert set(re.findall(r"--[\w-]+", rest)) <= known.get(command, set()), command


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Every key of a section and of those below it."""
    for name, field in model.model_fields.items():
        yield name
        pending: list[Any] = [field.annotation]
        while pending:
            one = pending.pop()
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from keys(one)
            pending += getattr(one, "__args__", ())


def test_every_key_is_in_the_example_file() -> None:
    text = (ROOT / "config.example.yml").read_text()
    written = set(re.findall(r"^\s*#?\s*(?:- )?\{?(\w+):", text, re.MULTILINE))
    written |= set(re.findall(r"[{,] *(\w+):", text))
    assert set(keys(Config)) - written == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(FENCE.sub("", path.read_text())):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{path.name}: {target}"
        assert ROOT in found.parents, f"{path.name}: {target} is not part of the project"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-")
                     for title in titles}  # fmt: skip
            assert anchor in slugs, f"{path.name}: {target}"


def test_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"`([\w./-]+\.(?:py|yml|yaml|md|toml|lock))`", README.read_text())
    of_the_user = {"config.yml", "./config.yml"}
    missing = {name for name in named if name not in of_the_user and not (ROOT / name).exists()}
    assert missing == set()


def test_the_readme_shows_the_example_that_a_test_runs() -> None:
    code = (ROOT / "examples" / "embedded_streams.py").read_text().partition('"""\n\n')[2]
    assert f"```py\n{code}```" in README.read_text()


def test_the_readme_s_python_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one namespace, where the user would be: beside a config.yml and after `dccd backfill`."""
    blocks = [body for kind, body in FENCE.findall(README.read_text()) if kind == "python"]
    assert len(blocks) >= 4
    monkeypatch.chdir(tmp_path)
    for name in ("DAGSTER_HOME", "DCCD_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    start = min(datetime.now(UTC) - timedelta(days=60), datetime(2025, 12, 20, tzinfo=UTC))
    with Sandbox(Settings(weight_limit=0)) as box:
        Path("config.yml").write_text(
            "settings: {data_path: ./data, timezone: UTC}\nhisto_jobs:\n"
            "  - {exchange: binance, pairs: [BTC/USDT], span: 1h,"
            f" start: {start:%Y-%m-%d}}}\n"
            f"exchanges: {{binance: {{rest_url: {box.binance_url}}}}}\n"
        )
        assert run_backfill(load_config("config.yml"), end="2026-01-05").ok
        namespace: dict[str, Any] = {"__name__": "readme"}
        for number, block in enumerate(blocks):
            code = compile(block, f"README.md, python block {number + 1}", "exec")
            exec(code, namespace)  # noqa: S102
        assert namespace["report"].ok
        assert namespace["day"].height == 24
        assert box.stats()["requests"] > 1
