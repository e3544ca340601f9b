"""Whether the data path of a configuration can be written: what the file alone does not tell."""

from pathlib import Path
from tempfile import TemporaryFile

from dccd_core.config import Config, ConfigError, parse_document, read_text
from dccd_core.config_text import Document, Problem, plain

KEY = ("settings", "data_path")


def check_data_path(config: Config) -> None:
    """Write nothing that stays; ConfigError if `settings.data_path` could not be written.

    Reading needs no such right, so this is no part of loading: data may lie on a read-only disk.
    """
    folder, file = config.settings.data_path, config.path
    document = parse_document(read_text(file), file) if file else Document()
    there = folder
    try:
        while not (there.is_symlink() or there.exists()):
            there = there.parent
        if there.is_dir():
            with TemporaryFile(dir=there):
                return
        why = "is no folder"
    except OSError as error:
        why = f"says: {error.strerror or error}"
    # a value that came from the environment is not shown, and neither is a part of it
    hidden = document.hidden.get(KEY)
    where = "it" if hidden or there == folder else plain(str(there))
    text = f"{hidden or _written(document, folder)}: cannot be written: {where} {why}"
    raise ConfigError(file, [Problem(KEY, text, document.line(KEY))])


def _written(document: Document, folder: Path) -> str:
    """The value as it stands in the file."""
    values = document.values or {}
    return plain(str(values.get(KEY[0], {}).get(KEY[1], folder)))
