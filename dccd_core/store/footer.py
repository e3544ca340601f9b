"""The footer that every data file carries under the key `dccd`: what it is, and the ledger."""

from collections.abc import Iterable

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dccd_core.exchanges import load_all
from dccd_core.intervals import clip, subtract, union
from dccd_core.models import Series, Window
from dccd_core.store.schemas import CANDLES, UNITS, Loss, SchemaError, numbers, table_times

VERSION = 1
KEY = b"dccd"


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself.

    `covered` is the ledger: the windows, in microseconds, that the exchange was asked about and
    answered, or that were streamed without a break. What is missing inside them does not exist,
    outside them it is yet to be fetched. `lost` is what a stream missed and why; what is covered
    later is not lost any more. `first` and `last` are times of rows. `insane` counts candles whose
    prices contradict each other, `revised` rows that the exchange has changed since they were
    stored. `base` is, in a tail, the last time of the file that it continues. `closed`: all of a
    period that is over, pressed for keeping.
    """

    version: int = VERSION
    exchange: str
    channel: str
    pair: str
    span: int
    source: str
    units: dict[str, str]
    covered: tuple[tuple[int, int], ...]
    first: int | None
    last: int | None
    insane: int
    revised: int
    base: int | None = None
    closed: bool = False
    lost: tuple[tuple[int, int, str], ...] = ()

    @property
    def windows(self) -> list[Window]:
        """The covered windows."""
        return [Window(*window) for window in self.covered]

    @property
    def losses(self) -> list[Loss]:
        """The lost windows."""
        return [Loss(*loss) for loss in self.lost]

    def encode(self) -> dict[bytes, bytes]:
        """The footer as Parquet key-value metadata."""
        return {KEY: msgspec.json.encode(self)}


_FOOTER = msgspec.json.Decoder(Footer)


def read_footer(metadata: pq.FileMetaData, path: object) -> Footer:
    """The footer of a file; SchemaError if it is not one of ours, or of another version."""
    raw = (metadata.metadata or {}).get(KEY)
    if raw is None:
        raise SchemaError(f"{path} was not written by this program: move it away or migrate it")
    try:
        footer = _FOOTER.decode(raw)
    except msgspec.MsgspecError as error:
        raise SchemaError(f"{path} has a footer of another version: {error}") from error
    if footer.version != VERSION:
        raise SchemaError(f"{path} has schema version {footer.version}, this program {VERSION}")
    return footer


def make_footer(
    series: Series,
    table: pa.Table,
    covered: list[Window],
    source: str,
    revised: int,
    lost: list[Loss],
) -> Footer:
    """The footer for a table that is about to be written."""
    times = table_times(table)
    return Footer(
        exchange=series.exchange,
        channel=str(series.channel),
        pair=str(series.symbol),
        span=series.span,
        source=source,
        units=UNITS[series.channel],
        covered=tuple((window.start, window.end) for window in covered),
        first=int(times[0]) if len(times) else None,
        last=int(times[-1]) if len(times) else None,
        insane=_insane(series, table),
        revised=revised,
        lost=tuple(lost),
    )


def still_lost(losses: list[Loss], covered: list[Window]) -> list[Loss]:
    """Losses without what is covered, sorted, disjoint; of two causes that which says more stays:
    the one that tells why nothing could be fetched continues the other."""
    parts: list[Loss] = []
    known = covered
    for start, end, cause in sorted(losses, key=lambda loss: (-len(loss.cause), loss)):
        parts += [Loss(*window, cause) for window in subtract([Window(start, end)], known)]
        known = [*known, Window(start, end)]
    left: list[Loss] = []
    for start, end, cause in sorted(parts):
        if left and left[-1].end == start and left[-1].cause == cause:
            left[-1] = Loss(left[-1].start, end, cause)
        else:
            left.append(Loss(start, end, cause))
    return left


def ledger(
    footers: Iterable[Footer], covered: Iterable[Window] = (), lost: Iterable[Loss] = ()
) -> tuple[list[Window], list[Loss]]:
    """What files, and others, say together: covered windows, and what is lost all the same."""
    windows, losses = [*covered], [*lost]
    for footer in footers:
        windows += footer.windows
        losses += footer.losses
    covered = union(windows)
    return covered, still_lost(losses, covered)


def clip_losses(losses: Iterable[Loss], bounds: Window) -> list[Loss]:
    """The part of losses inside `bounds`."""
    return [
        Loss(*window, cause)
        for start, end, cause in losses
        for window in clip([Window(start, end)], bounds)
    ]


def _insane(series: Series, table: pa.Table) -> int:
    if series.channel not in CANDLES:
        return 0
    return count_insane(table, with_open=not _opens_at_last_close(series.exchange))


def count_insane(table: pa.Table, *, with_open: bool) -> int:
    """How many candles have a low above, or a high below, another of their prices, or a
    negative volume."""
    o, h, low, c, v = (
        numbers(table.column(name), np.float64)
        for name in ("open", "high", "low", "close", "volume")
    )
    sane = (low <= c) & (c <= h) & (low <= h) & (v >= 0)
    if with_open:
        sane &= (low <= o) & (o <= h)
    return int(np.count_nonzero(~sane))


def _opens_at_last_close(exchange: str) -> bool:
    known = load_all().get(exchange)
    return known is not None and known.opens_at_last_close
