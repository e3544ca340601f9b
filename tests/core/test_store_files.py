"""The module that touches files. Promise 7: atomic, durable, and never over what cannot be read."""

import os
import signal
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import BTC_1H, at, table

from dccd_core.store import files
from dccd_core.store.files import UnreadableError

HOUR = 3_600_000_000
ROWS = table([at("2024-01-01") + n * HOUR for n in range(300)])


def write(path: Path) -> int:
    return files.write_table(path, ROWS, {b"dccd": b"{}"})


def test_what_is_written_is_read_back_with_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "2024.parquet"
    size = write(path)
    assert size == path.stat().st_size
    assert pq.read_table(path).equals(ROWS)
    assert pq.read_metadata(path).metadata[b"dccd"] == b"{}"
    assert [found.name for found in path.parent.iterdir()] == ["2024.parquet"]


def test_promise_7_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "2024.parquet"
    files.write_bytes(path, b"old")
    with pytest.raises(TypeError):
        files.write_table(path, ROWS, {b"key": object()})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        files.write_bytes(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 on fork
@pytest.mark.parametrize("step", ["write", "fsync", "replace", "fsync of the folder"])
def test_promise_7_a_writer_that_dies_at_any_step_leaves_the_old_or_the_new_file(
    step: str, tmp_path: Path
) -> None:
    """In a forked process that kills itself there."""
    path = tmp_path / "2024.parquet"
    files.write_bytes(path, b"old")
    child = os.fork()
    if child == 0:
        die_at(step)
        files.write_bytes(path, b"new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert path.read_bytes() == (b"new" if step == "fsync of the folder" else b"old")
    files.clean(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def die_at(step: str) -> None:
    """Make the system call of a step the last thing that this process does."""
    fsyncs = 0

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fsync(descriptor: int) -> None:
        nonlocal fsyncs
        fsyncs += 1
        if fsyncs == (1 if step == "fsync" else 2):
            die()

    if step == "write":
        os.fsync = die  # type: ignore[assignment]
    elif step == "replace":
        Path.replace = die  # type: ignore[assignment, method-assign]
    else:
        os.fsync = fsync  # type: ignore[assignment]


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"garbage" * 100, b"PAR1" + b"\0" * 500 + b"PAR1"], ids=repr
)
def test_what_is_no_parquet_is_unreadable_and_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "2024.parquet"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=str(path)) as raised:
        files.open_parquet(path)
    assert raised.value.path == path


def test_a_truncated_file_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "2024.parquet"
    write(path)
    whole = path.read_bytes()
    for length in range(1, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableError):
            files.open_parquet(path)


def test_what_the_system_refuses_to_read_is_not_taken_for_damaged(tmp_path: Path) -> None:
    path = tmp_path / "2024.parquet"
    path.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        files.open_parquet(path)
    with pytest.raises(FileNotFoundError):
        files.open_parquet(tmp_path / "none.parquet")


def test_a_file_set_aside_keeps_its_content_and_is_no_data_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "2024.parquet"
    names = set()
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        target = files.set_aside(path)
        assert target.read_bytes() == content
        names.add(target.name)
    assert len(names) == 3
    assert list(tmp_path.glob("*.parquet")) == []


def test_an_open_file_is_the_same_to_its_end_when_another_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "2024.parquet"
    write(path)
    opened = files.open_parquet(path)
    files.write_table(path, ROWS.slice(0, 3), {})
    assert opened.read().num_rows == 300
    assert files.open_parquet(path).read().num_rows == 3


def test_the_lock_holds_between_threads_and_is_free_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "locks" / f"{'.'.join(BTC_1H.key)}.lock"
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with files.lock(path):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    with pytest.raises(ZeroDivisionError), files.lock(path):
        raise ZeroDivisionError
    with files.lock(path):
        pass
