"""How the rows of a channel are told apart, ordered and put together.

Candles are told apart by their time, trades by their id, books and their changes by time and
receipt. A row that is known stays as it is, unless it is another one now: then its values are
replaced and counted. Of two receipts of one row the earlier stays.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dccd_core.models import SECOND, Channel
from dccd_core.store.schemas import SCHEMAS, array, bits, integers, numbers, table_times

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]

# One exchange may tell a trade's time in milliseconds in one place, in microseconds in another.
_MARGIN = {Channel.TRADES: SECOND}
_TIMES = ("time", "received")
_VALUES = {
    Channel.OHLC: SCHEMAS[Channel.OHLC].names[1:],
    Channel.LIVE_OHLC: SCHEMAS[Channel.OHLC].names[1:],
    Channel.TRADES: ["price", "amount", "side"],
    Channel.BOOK: [],
    Channel.BOOK_DELTAS: [],
}
"""The columns that make a known row another one."""


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """Two tables as one: how many rows are new, how many were replaced, and if anything is."""

    table: pa.Table
    added: int
    revised: int
    changed: bool


@dataclass(frozen=True, slots=True, eq=False)
class News:
    """What of a table is not stored yet, and whether all of it comes after what is stored."""

    table: pa.Table
    later: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Versions:
    """Rows grouped by what they are: the first and the last position of each, and the positions
    of all later ones with that of the one before."""

    first: Integers
    last: Integers
    later: Integers
    before: Integers
    group: Integers


def margin(channel: Channel) -> int:
    """How far apart, in microseconds, two times of one row may be."""
    return _MARGIN.get(channel, 0)


def arrange(channel: Channel, rows: pa.Table) -> pa.Table:
    """The rows by time, each once.

    ValueError if candles of REST are not in strictly ascending order, which no answer's are.
    """
    if channel is Channel.OHLC:
        if rows.num_rows > 1 and not (np.diff(table_times(rows)) > 0).all():
            raise ValueError("times are not strictly ascending")
        return rows
    return combine(channel, rows.slice(0, 0), rows).table


def alone(new: pa.Table) -> Combined:
    """Arranged rows with nothing to combine them with."""
    return Combined(new, new.num_rows, 0, changed=new.num_rows > 0)


def combine(channel: Channel, old: pa.Table, new: pa.Table) -> Combined:
    """Two tables as one, sorted; `old` is sorted and has each row once, `new` comes later.

    Only the rows of `old` that lie in the times of `new` are looked at.
    """
    if not new.num_rows:
        return Combined(old, 0, 0, changed=False)
    before, after = table_times(old), table_times(new)
    reach = margin(channel)
    start = int(np.searchsorted(before, after.min() - reach, side="left"))
    end = int(np.searchsorted(before, after.max() + reach, side="right"))
    found = _merge(channel, old.slice(start, end - start), new)
    parts = [old.slice(0, start), found.table, old.slice(end)]
    return Combined(pa.concat_tables(parts), found.added, found.revised, found.changed)


def compared(channel: Channel) -> list[str]:
    """The columns that `news` looks at, in the order of the schema."""
    looked = {"time", "received", "trade_id", *_VALUES[channel]}
    return [name for name in SCHEMAS[channel].names if name in looked]


def news(channel: Channel, old: pa.Table, new: pa.Table) -> News:
    """The rows of `new` that `old` does not hold just so; of `old`, `compared` is enough.

    Both as for `combine`; `old` reaches as far as `new` does.
    """
    both = pa.concat_tables([old, new.select(old.column_names)])
    versions = _versions(channel, both)
    brings = _another(channel, both, versions)
    if "received" in both.column_names:
        brings |= _sooner(both, versions)
    known = np.zeros(both.num_rows, np.bool_)
    known[versions.later] = ~brings
    keep = ~known[old.num_rows :]
    fresh = new if keep.all() else new.filter(_mask(keep))
    ends = [old.slice(max(0, old.num_rows - 1)), fresh.select(old.column_names).slice(0, 1)]
    later = not brings.any() and bool((np.diff(_order(channel, pa.concat_tables(ends))) > 0).all())
    return News(fresh, later)


def _merge(channel: Channel, old: pa.Table, new: pa.Table) -> Combined:
    both = pa.concat_tables([old, new])
    versions = _versions(channel, both)
    added = len(versions.first) - old.num_rows
    revised = 0
    changed = added > 0
    if len(versions.later):
        revised = int(np.count_nonzero(_another(channel, both, versions)))
        changed |= revised > 0
        table = both.take(array(versions.first))
        if revised:
            latest = both.take(array(versions.last))
            for name in _VALUES[channel]:
                table = _replace(table, name, latest.column(name))
        if "received" in both.column_names:
            received = _earliest(both, versions)
            changed |= not received.equals(table.column("received"))
            table = _replace(table, "received", received)
        both = table
    order = _order(channel, both)
    sorted_already = bool((np.diff(order) > 0).all())
    return Combined(both if sorted_already else both.take(array(order)), added, revised, changed)


def _replace(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), column)


def _versions(channel: Channel, rows: pa.Table) -> _Versions:
    """Which rows are one and the same."""
    keys = _keys(channel, rows)
    if len(keys) == 1 and (np.diff(keys[0]) > 0).all():
        every, none = np.arange(rows.num_rows), np.empty(0, np.int64)
        return _Versions(every, every, none, none, none)
    order = np.lexsort(keys[::-1])  # stable: versions of one row stay in their order
    starts = np.ones(len(order), np.bool_)
    if len(order):
        starts[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    ends = np.roll(starts, -1)
    group = np.cumsum(starts) - 1
    place = np.flatnonzero(~starts)
    first = order[starts]
    # groups are numbered by where their first row stands, so that the order of arrival is kept
    rank = np.argsort(first, kind="stable")
    number = np.empty_like(rank)
    number[rank] = np.arange(len(rank))
    return _Versions(
        first=first[rank],
        last=order[ends][rank],
        later=order[place],
        before=order[place - 1],
        group=number[group[place]],
    )


def _keys(channel: Channel, rows: pa.Table) -> list[Integers]:
    """Columns of integers which are equal where rows are the same."""
    if channel is Channel.TRADES:
        ids = rows.column("trade_id")
        numbers = id_numbers(ids)
        return [_codes(ids) if numbers is None else numbers]
    if channel in (Channel.BOOK, Channel.BOOK_DELTAS):
        return [integers(rows.column(name)) for name in _TIMES]
    return [table_times(rows)]


def _codes(ids: pa.ChunkedArray) -> Integers:
    """An integer for each text."""
    return integers(pa.chunked_array([ids.combine_chunks().dictionary_encode().indices]))


def _order(channel: Channel, rows: pa.Table) -> Integers:
    """By time; inside one time by number where ids are numbers, by receipt where changes are
    applied in its order, else as the rows came."""
    times = table_times(rows)
    if channel is Channel.TRADES and (numbers := id_numbers(rows.column("trade_id"))) is not None:
        return np.lexsort([numbers, times])
    if channel is Channel.BOOK_DELTAS:
        return np.lexsort([integers(rows.column("received")), times])
    return np.argsort(times, kind="stable")


def id_numbers(ids: pa.ChunkedArray) -> Integers | None:
    """Trade ids as numbers, None if one of them is none, or written in another way, as 007."""
    try:
        numbers = ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    plain = pc.all(pc.equal(numbers.cast(pa.string()), ids)).as_py()
    return integers(numbers) if plain is not False else None


def _another(channel: Channel, rows: pa.Table, versions: _Versions) -> Mask:
    """Which later versions differ from the one before in a value."""
    another = np.zeros(len(versions.later), np.bool_)
    later, before = array(versions.later), array(versions.before)
    for name in _VALUES[channel] if len(another) else ():
        column = rows.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        another |= _differs(column.take(later), column.take(before))
    return another


def _differs(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Mask:
    """Where two columns of equal length differ; null equals null."""
    one_is_null = pc.xor(pc.is_null(left), pc.is_null(right))
    unequal = pc.coalesce(pc.not_equal(left, right), one_is_null)
    return numbers(unequal.cast(pa.uint8()), np.uint8).astype(np.bool_)


_NEVER = np.iinfo(np.int64).max
# pc.fill_null would import pandas
_NEVER_RECEIVED = array(np.array([_NEVER]))[0]


def _receipts(rows: pa.Table) -> Integers:
    return integers(pc.coalesce(rows.column("received").cast(pa.int64()), _NEVER_RECEIVED))


def _sooner(rows: pa.Table, versions: _Versions) -> Mask:
    """Which later versions came before the one before them, or are the first with a receipt."""
    received = _receipts(rows)
    return received[versions.later] < received[versions.before]


def _earliest(rows: pa.Table, versions: _Versions) -> pa.ChunkedArray:
    received = _receipts(rows)
    least = received[versions.first].copy()
    np.minimum.at(least, versions.group, received[versions.later])
    column = rows.column("received")
    return pa.chunked_array([array(least, column.type, least == _NEVER)])


def _mask(values: Mask) -> pa.Array:
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits(values)])
