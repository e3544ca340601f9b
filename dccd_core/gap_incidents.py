"""What streams lost for good, as an incident."""

from collections.abc import Sequence

from dccd_core.incidents import Condition, Kind
from dccd_core.intervals import union
from dccd_core.messages import duration
from dccd_core.models import SECOND, Channel, Series, Window
from dccd_core.store.footer import clip_losses
from dccd_core.store.schemas import Loss

# Healing takes its time, and a loss is not in a file at once.
PATIENCE = 600.0
PAGE = "/assets/"
# Nobody has the books of the past, and each reconnect costs a second of them.
LEAST_OF_BOOKS = 60.0
BOOKS = {Channel.BOOK, Channel.BOOK_DELTAS}
_TRADES = "dccd inventory --gaps lists it. Of trades, a job in trades_jobs may still fetch it."
_BOOKS = (
    "dccd inventory --gaps lists it. Nobody has past books, so those of less than "
    f"{duration(LEAST_OF_BOOKS)} are not told of."
)


def told_of(series: Series, lost: list[Loss]) -> list[Loss]:
    """The losses that somebody is to hear of: of books the long ones."""
    if series.channel not in BOOKS:
        return lost
    whole = union(Window(start, end) for start, end, _ in lost)
    long = [one for one in whole if one.end - one.start >= LEAST_OF_BOOKS * SECOND]
    return [loss for one in long for loss in clip_losses(lost, one)]


def gap_condition(series: Series, lost: Sequence[Loss]) -> Condition:
    """What a stream missed and nobody has fetched."""
    length = sum(end - start for start, end, _ in lost) / SECOND
    count = "1 gap of" if len(lost) == 1 else f"{len(lost)} gaps,"
    return Condition(
        kind=Kind.GAP,
        subject=str(series),
        group=series.exchange,
        text=f"{count} {duration(length)}{' in all' * (len(lost) > 1)}: {lost[-1].cause}",
        cure=_BOOKS if series.channel in BOOKS else _TRADES,
        path=f"{PAGE}{series}",
        patience=PATIENCE,
    )
