"""Two ways to run a sandbox: in a thread of this process, or in a process of its own."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event, Thread

from dccd_sandbox.app import App
from dccd_sandbox.clock import epoch_ms, iso
from dccd_sandbox.server import Server
from dccd_sandbox.settings import Settings

_TIMEOUT = 30.0


class InThread:
    """The server on an event loop of its own thread."""

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self.app = App(settings)
        self.pid = os.getpid()
        self._host = host
        self._port = port
        self._ready = Event()
        self._error: OSError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Event | None = None
        self._thread = Thread(target=self._main, name="dccd-sandbox", daemon=True)

    def start(self) -> int:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self._port

    def stop(self) -> None:
        if self._loop is not None and self._done is not None:
            self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(_TIMEOUT)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        server = Server(self.app)
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        try:
            self._port = server.start(self._host, self._port)
        except OSError as error:
            self._error = error
            return
        self._ready.set()
        await self._done.wait()
        await server.stop()


class InProcess:
    """The server as a child process."""

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        # Not by -m: that finds us only where we are installed or the working directory.
        root = str(Path(__file__).resolve().parent.parent)
        code = f"import sys; sys.path.insert(0, {root!r}); from dccd_sandbox.__main__ import main"
        self._command = [sys.executable, "-c", f"{code}; sys.exit(main())", "--quiet"]
        self._command += ["--host", host, "--port", str(port), *arguments(settings)]
        self._child: subprocess.Popen[str] | None = None
        self.pid = 0

    def start(self) -> int:
        # A file and no pipe: nobody reads what it says while it runs, and a full pipe stops it.
        with TemporaryFile("w+", encoding="utf-8") as errors:
            child = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            self._child, self.pid = child, child.pid
            assert child.stdout is not None  # noqa: S101 -- it is a pipe
            line = child.stdout.readline()
            if not line:
                self.stop()
                errors.seek(0)
                raise OSError(f"the sandbox did not start: {errors.read().strip()}")
        return int(line.rpartition(":")[2])

    def stop(self) -> None:
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.communicate(timeout=_TIMEOUT)
        finally:
            self._child.kill()


def arguments(settings: Settings) -> list[str]:
    """The command line that makes these settings."""
    words = [f"--symbol={text}" for text in settings.symbols] or ["--no-symbols"]
    words += [f"--candles={text}" for text in settings.candles]
    words += [f"--many={settings.many}", f"--latency={settings.latency}", f"--seed={settings.seed}"]
    words += [f"--weight-limit={settings.weight_limit}"]
    words += [f"--speed={settings.speed}", f"--rate={settings.rate}"]
    if settings.now is not None:
        words.append(f"--now={iso(epoch_ms(settings.now))}")
    return words + (["--frozen"] if settings.frozen else [])
