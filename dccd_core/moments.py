"""Dates as people write and read them, in a time zone; inside the program times are integers."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from dccd_core.models import microseconds, moment

LOCALTIME = Path("/etc/localtime")


def parse_moment(text: str, zone: ZoneInfo) -> int:
    """Microseconds since the epoch of a date, a date and time, or either with an offset.

    Without an offset it is read in `zone`; of a time that a clock change repeats, the first is
    meant. ValueError says what would be right.
    """
    try:
        parsed = datetime.fromisoformat(text.strip())
        return microseconds(parsed if parsed.tzinfo else parsed.replace(tzinfo=zone))
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is not a moment: write 2024-01-01, 2024-01-01 12:00 or 2024-01-01T12:00:00Z"
        ) from error


def show_moment(time: int, zone: ZoneInfo) -> str:
    """Microseconds since the epoch as `2024-01-01 12:00:00+01:00`, which `parse_moment` reads."""
    return moment(time).astimezone(zone).isoformat(sep=" ")


def find_zone(name: str, variable: str = "") -> ZoneInfo:
    """The zone of an IANA name or of `local`; LookupError if there is none of that name.

    `variable` is what the environment says in TZ; it goes before the machine's own setting.
    """
    if name == "local":
        return _local_zone(variable)
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:  # a folder of zones raises OSError
        raise LookupError(name) from error


def _local_zone(variable: str) -> ZoneInfo:
    """TZ, else where /etc/localtime points, else what it holds, else UTC (slim containers)."""
    if variable:
        return find_zone(variable.removeprefix(":").rpartition("zoneinfo/")[2])
    if not LOCALTIME.exists():
        return ZoneInfo("UTC")
    _, found, name = str(LOCALTIME.resolve()).rpartition("zoneinfo/")
    if found:
        return find_zone(name)
    with LOCALTIME.open("rb") as file:
        return ZoneInfo.from_file(file)
