"""The record of each series: runs, rows, errors; written by several processes at once."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import BTC_1H, BTC_1M

from dccd_core.health import HealthMonitor, JobMetrics
from dccd_core.joblog import Logs


def test_a_success_and_errors_in_a_row(tmp_path: Path) -> None:
    health = HealthMonitor(tmp_path)
    assert health.get_metrics() == {}
    health.record(BTC_1H, 100.0, 24, None)
    health.record(BTC_1H, 200.0, 0, "HTTP 500")
    third = health.record(BTC_1H, 300.0, 3, "HTTP 502")
    assert third == JobMetrics(
        series="binance/ohlc/1h/BTC-USDT",
        last_run=300.0,
        last_success=100.0,
        rows_collected=27,
        errors_count=2,
        consecutive_errors=2,
        last_error="HTTP 502",
    )
    fourth = health.record(BTC_1H, 400.0, 1, None)
    assert (fourth.last_success, fourth.consecutive_errors, fourth.errors_count) == (400.0, 0, 2)
    assert fourth.last_error == "HTTP 502"
    assert HealthMonitor(str(tmp_path)).get_metrics() == {str(BTC_1H): fourth}


def test_a_cancelled_run_counts_its_rows_and_is_neither_error_nor_success(tmp_path: Path) -> None:
    health = HealthMonitor(tmp_path)
    first = health.record(BTC_1H, 100.0, 16, "2024: cancelled", cancelled=True)
    assert first == JobMetrics(str(BTC_1H), last_run=100.0, rows_collected=16)
    health.record(BTC_1H, 200.0, 0, "HTTP 500")
    after = health.record(BTC_1H, 300.0, 3, "2024: cancelled", cancelled=True)
    assert (after.last_run, after.last_success, after.rows_collected) == (300.0, None, 19)
    assert (after.errors_count, after.consecutive_errors) == (1, 1), "as they were"
    assert after.last_error == "HTTP 500"
    assert [line[21:] for line in Logs(tmp_path).tail(str(BTC_1H), 9)] == [
        "16 rows",
        "error 1 in a row: HTTP 500",
        "3 rows",
    ]


def test_series_are_apart_and_sorted(tmp_path: Path) -> None:
    health = HealthMonitor(tmp_path)
    week = replace(BTC_1H, span=604_800)
    for series in (week, BTC_1M, BTC_1H):
        health.record(series, 1.0, series.span, None)
    metrics = health.get_metrics()
    assert list(metrics) == [str(BTC_1H), str(BTC_1M), str(week)]
    assert metrics[str(BTC_1M)].rows_collected == 60


@pytest.mark.parametrize("content", [b"", b"{", b'{"series": 5}', b"\xff"])
def test_a_damaged_record_is_begun_again(tmp_path: Path, content: bytes) -> None:
    health = HealthMonitor(tmp_path)
    health.record(BTC_1H, 1.0, 5, None)
    health.record(BTC_1M, 1.0, 5, None)
    (path,) = (tmp_path / ".dccd" / "health").glob("*1h*.json")
    path.write_bytes(content)
    assert list(health.get_metrics()) == [str(BTC_1M)]
    assert health.record(BTC_1H, 2.0, 7, None).rows_collected == 7


def test_no_run_is_lost_when_several_record_at_once(tmp_path: Path) -> None:
    def work() -> None:
        for n in range(25):
            HealthMonitor(tmp_path).record(BTC_1H, float(n), 1, None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert HealthMonitor(tmp_path).get_metrics()[str(BTC_1H)].rows_collected == 100
