"""Where files that are fetched wait, and the step to their places."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dccd_core.store import files


@contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """A folder on the same disk; what a killed restore left in it is thrown away."""
    folder = root / ".dccd" / "offsite" / f"restore-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def on_one_disk(source: Path, target: Path) -> Iterator[Path]:
    """A file where it can take its place in one step, durable; no copy of it stays if it cannot."""
    if source.stat().st_dev == target.parent.stat().st_dev:
        files.make_durable(source)
        yield source
        return
    beside = target.with_name(f".{target.name}.tmp")  # the folder is a link
    try:
        shutil.copyfile(source, beside)
        files.make_durable(beside)
        yield beside
    finally:
        beside.unlink(missing_ok=True)
