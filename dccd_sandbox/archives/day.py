"""Days as archives cut them."""

from datetime import UTC, datetime

from dccd_sandbox.spans import DAY_MS


def day_of(date: str, form: str = "%Y-%m-%d", ahead_ms: int = 0) -> tuple[int, int]:
    """Start and end of a day in milliseconds; `ahead_ms` is how long before UTC it begins.
    ValueError: no date."""
    start = int(datetime.strptime(date, form).replace(tzinfo=UTC).timestamp()) * 1_000 - ahead_ms
    return start, start + DAY_MS
