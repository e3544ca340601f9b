"""`dccd` as a process that ends by itself. It is forked from a server that has it imported: each of
two hundred would need a second for that."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from dccd_pipelines.entry import main

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dccd_pipelines.cli"])
PATIENCE = 300  # seconds, on a busy machine


def dccd(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> CompletedProcess[str]:
    """What `dccd` with these arguments said in a folder, and how it ended."""
    with TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        work = (list(arguments), folder, dict(environment), out, err)
        process = CONTEXT.Process(target=_run, args=work)
        process.start()
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
        code = -1 if process.exitcode is None else process.exitcode
        return CompletedProcess(list(arguments), code, out.read_text(), err.read_text())


def _run(
    arguments: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path
) -> None:
    for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["dccd", *arguments]
    main()
