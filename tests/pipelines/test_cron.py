"""The times of schedules: the cron text of each span that any exchange has, and of odd ones."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import dagster as dg
import pytest
from helpers import BTC_1H

from dccd_core.cron import check_cron
from dccd_core.exchanges import load_all
from dccd_core.models import DAY, SECOND, WEEK, microseconds
from dccd_pipelines.cron import closing_cron

START = datetime(2024, 2, 28, tzinfo=UTC)  # a leap day and the end of months are ahead
SPANS = sorted({span for exchange in load_all().values() for span in exchange.spans})
ODD = [90, 5_400, 2_700, 18_000, 90_000, 129_600, 2 * DAY, 2 * WEEK]


def ticks(cron: str, end: datetime) -> list[int]:
    """When Dagster fires a schedule from START on, in microseconds."""
    fires = dg.TimeWindowPartitionsDefinition(
        START, "%Y-%m-%dT%H:%M:%S%z", end=end, cron_schedule=cron, timezone="UTC"
    )
    return [microseconds(datetime.fromisoformat(key)) for key in fires.get_partition_keys()]


@pytest.mark.parametrize("span", [*SPANS, *ODD])
def test_a_schedule_fires_as_each_candle_closes(span: int) -> None:
    cron = closing_cron(span)
    check_cron(cron)
    end = START + timedelta(days=2 if span < DAY else 70)
    fired = ticks(cron, end)
    longest = max(later - earlier for earlier, later in pairwise(fired))
    assert longest <= max(span, 60) * SECOND
    series = replace(BTC_1H, span=span)
    closes = range(series.ceil(fired[0]), fired[-1] + 1, span * SECOND)
    assert len(closes) > 2
    assert {close for close in closes if close % (60 * SECOND) == 0} <= set(fired)


@pytest.mark.parametrize(
    ("span", "cron"),
    [
        (1, "* * * * *"),
        (60, "* * * * *"),
        (900, "*/15 * * * *"),
        (3_600, "0 * * * *"),
        (4 * 3_600, "0 */4 * * *"),
        (DAY, "0 0 * * *"),
        (3 * DAY, "0 0 * * *"),
        (WEEK, "0 0 * * 1"),
        (5_400, "*/30 * * * *"),
    ],
)
def test_no_schedule_fires_more_often_than_it_must(span: int, cron: str) -> None:
    assert closing_cron(span) == cron
