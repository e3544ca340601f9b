"""Texts packed as exchanges publish them, always into the same bytes."""

import gzip
import hashlib
import io
import zipfile
from collections.abc import Mapping

ZIP, GZIP = "application/zip", "application/gzip"
_DATE = (2020, 1, 1, 0, 0, 0)


def zipped(texts: Mapping[str, str]) -> bytes:
    """A zip of these files."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in texts.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text, compresslevel=1)
    return held.getvalue()


def gzipped(text: str) -> bytes:
    """A gzip of a text."""
    return gzip.compress(text.encode(), compresslevel=1, mtime=0)


def checksum(content: bytes, name: str) -> bytes:
    """What `sha256sum` writes of a file."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
