"""When candles of a span close, as cron text in UTC."""

from dccd_core.models import DAY, WEEK, Series

MINUTE, HOUR = 60, 3_600


def default_cron(series: Series) -> str:
    """When a series is collected if its job does not say so.

    Trades each hour, a little after the candles: a day's file is small work, and the first run
    after midnight closes the day before.
    """
    return closing_cron(series.span) if series.span else "5 * * * *"


def closing_cron(span: int) -> str:
    """The cron text that fires as candles of a span close.

    Where cron cannot say it (every 90 minutes, every three days) it fires at the largest step
    that divides the span; every minute is as often as cron can.
    """
    if span % WEEK == 0:
        return "0 0 * * 1"
    if span % DAY == 0:
        return "0 0 * * *"
    if span % HOUR == 0:
        return f"0 {_step(span // HOUR, 24)} * * *"
    return f"{_step(max(1, span // MINUTE), 60)} * * * *"


def _step(units: int, circle: int) -> str:
    """The cron field of the largest step that divides both the span and its circle."""
    step = max(n for n in range(1, circle) if circle % n == 0 and units % n == 0)
    return "*" if step == 1 else f"*/{step}"
