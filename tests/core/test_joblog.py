"""Log files: a line in the job's and in the whole one; large ones are put away."""

import threading
from pathlib import Path

import pytest

from dccd_core import joblog
from dccd_core.joblog import KEPT, Logs

NOW = 1_780_000_000.0


def test_a_line_is_in_both_files(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.write("binance/ohlc/1h/BTC-USDT", "24 rows\n", NOW)
    logs.write("code server", "up", NOW + 1)
    assert logs.jobs() == ["binance.ohlc.1h.BTC-USDT", "code_server"]
    assert logs.tail("binance/ohlc/1h/BTC-USDT", 5) == ["2026-05-28 20:26:40Z 24 rows"]
    assert logs.tail(None, 5) == [
        "2026-05-28 20:26:40Z binance/ohlc/1h/BTC-USDT: 24 rows",
        "2026-05-28 20:26:41Z code server: up",
    ]
    assert logs.tail(None, 1) == ["2026-05-28 20:26:41Z code server: up"]


def test_an_unknown_job_is_told_what_there_is(tmp_path: Path) -> None:
    assert Logs(tmp_path).tail(None, 5) == []
    with pytest.raises(ValueError, match="there are: none"):
        Logs(tmp_path).tail("daemon", 5)
    Logs(tmp_path).write("daemon", "up", NOW)
    with pytest.raises(ValueError, match="demon has no log; there are: daemon"):
        Logs(tmp_path).tail("demon", 5)
    with pytest.raises(ValueError, match="has no log"):
        Logs(tmp_path).tail("../../config", 5)


def test_large_files_are_put_away_and_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblog, "LARGEST", 300)
    logs = Logs(tmp_path)
    for n in range(200):
        logs.write("job", f"line {n}", NOW)
    sizes = [path.stat().st_size for path in logs.folder.glob("job.log*")]
    assert len(sizes) == KEPT + 1
    assert max(sizes) < 400
    lines = logs.tail("job", 1_000)
    numbers = [int(line.rsplit(" ", 1)[1]) for line in lines]
    assert numbers == list(range(numbers[0], 200)), "in order, without a hole"
    assert 20 < len(numbers) < 60


def test_several_writers_break_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblog, "LARGEST", 20_000)

    def work(name: int) -> None:
        for n in range(100):
            Logs(tmp_path).write("job", f"writer {name} {'x' * 50} {n}", NOW)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = Logs(tmp_path).tail("job", 10_000)
    assert len(lines) == 400
    assert all(line.split()[2] == "writer" and len(line.split()) == 6 for line in lines)
