"""What a backfill prints of each series as it ends, where there is no terminal."""

import io

import pytest
from rich.console import Console

from dccd_core.history import Progress
from dccd_core.models import Series
from dccd_pipelines.progress import LiveProgress

MINUTES = Series.parse("binance/ohlc/1m/BTC-USDT")
TRADES = Series.parse("binance/trades/BTC-USDT")


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Progress(MINUTES, 3, 3, 2_880, 3), "2,880 candles in 3 pages"),
        (Progress(MINUTES, 1, 1, 1, 1), "1 candle in 1 page"),
        (Progress(MINUTES, 2, 3, 2_000, 3, failed=1), "2,000 candles in 2 of 3 pages"),
        (
            Progress(MINUTES, 16, 1_530, 16_000, 16, failed=1_514, cancelled=True),
            "cancelled: 16,000 candles in 16 of 1,530 pages",
        ),
        (Progress(TRADES, 86_400, 86_400, 5_000, 9), "5,000 trades"),
        (
            Progress(TRADES, 21_600, 86_400, 1_250, 2, failed=64_800, cancelled=True),
            "cancelled: 1,250 trades in 25% of what was missing",
        ),
    ],
)
def test_a_series_that_ends_says_once_what_came_of_it(step: Progress, line: str) -> None:
    console = Console(file=io.StringIO(), width=40)
    with LiveProgress(console) as progress:
        progress(Progress(step.series, 0, step.total, 10, 1))
        progress(step)
        progress(step)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == f"{step.series}: {line}\n"
