"""Places for copies: rclone itself, a folder, and a WebDAV server that can go away."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import free_port

needs_rclone = pytest.mark.skipif(
    shutil.which("rclone") is None, reason="rclone is not installed: apt install rclone"
)


class WebDav:
    """`rclone serve webdav`: a remote without checksums and without times."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self._flags = folder, flags
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        # with a time of 0 rclone 1.75 turns in circles
        self._process = subprocess.Popen(
            ["rclone", "serve", "webdav", str(self.folder), f"--addr=127.0.0.1:{self.port}",
             "--dir-cache-time=1ms", *self._flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(1_200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "rclone serve ended"
            time.sleep(0.05)
        raise AssertionError("rclone serve does not listen")

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


@contextmanager
def web_dav(folder: Path, *flags: str) -> Iterator[WebDav]:
    """A server that runs from the beginning."""
    server = WebDav(folder, *flags)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def rclone_config(path: Path, server: WebDav, patch: pytest.MonkeyPatch) -> None:
    """Make rclone know a server as `dav`, and nothing of the one who runs the tests."""
    path.write_text(f"[dav]\ntype = webdav\nurl = {server.url}\nvendor = other\n")
    patch.setenv("RCLONE_CONFIG", str(path))


def instead_of_rclone(folder: Path, patch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in rclone's place; `$RCLONE` in it is the real one."""
    real = shutil.which("rclone") or "rclone-is-not-installed"
    folder.mkdir(exist_ok=True)
    program = folder / "rclone"
    program.write_text(f"#!/bin/sh\nRCLONE={real}\n{script}\n")
    program.chmod(0o755)
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
