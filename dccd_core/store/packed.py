"""Trades column by column, as Arrow keeps them: there are too many of them for an object each."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Self

import msgspec
import numpy as np

from dccd_core.exchanges.trades import Trade

UNKNOWN = -(2**63)
"""A receipt that is not known."""
_BUY, _SELL = 0, 1
_COLUMNS = [itemgetter(place) for place in range(len(Trade._fields))]


class PackedTrades(msgspec.Struct, array_like=True, tag=1):
    """Some trades: bytes of one column each.

    Times and numbers are little endian and of 64 bits; ids are joined, their lengths in bytes are
    of 32 bits; sides are 0 for buy, 1 for sell.
    """

    time: bytes
    received: bytes
    lengths: bytes
    ids: bytes
    price: bytes
    amount: bytes
    sides: bytes

    @classmethod
    def of(cls, trades: Sequence[Trade]) -> Self:
        """The columns of trades, in their order; there is at least one."""
        # zip(*trades) would make an iterator for each, which wakes the garbage collector
        time, received, ids, price, amount, buy = (list(map(get, trades)) for get in _COLUMNS)
        if None in received:
            received = [UNKNOWN if moment is None else moment for moment in received]
        encoded = [trade_id.encode() for trade_id in ids]
        return cls(
            time=_bytes(time, "<i8"),
            received=_bytes(received, "<i8"),
            lengths=_bytes([len(trade_id) for trade_id in encoded], "<i4"),
            ids=b"".join(encoded),
            price=_bytes(price, "<f8"),
            amount=_bytes(amount, "<f8"),
            sides=bytes([_BUY if taken else _SELL for taken in buy]),
        )

    def __len__(self) -> int:
        return len(self.sides)

    def whole(self) -> bool:
        """Whether all columns are of one length."""
        count = len(self)
        numbers = {len(column) for column in (self.time, self.received, self.price, self.amount)}
        if numbers != {8 * count} or len(self.lengths) != 4 * count:
            return False
        return int(np.frombuffer(self.lengths, "<i4").sum()) == len(self.ids)


def _bytes(values: Sequence[Any], kind: str) -> bytes:
    return np.fromiter(values, kind, len(values)).tobytes()
