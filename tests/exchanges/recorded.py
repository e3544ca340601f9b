"""Recorded traffic of ../shared/captures, and a book kept by nothing but dictionaries."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dccd_core.exchanges.live import BookChange, Frame, Inbox, Session

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
needs_captures = pytest.mark.skipif(not CAPTURES.exists(), reason="needs ../shared/captures")


def lines(file: str) -> list[dict[str, Any]]:
    """The entries of a capture."""
    return [json.loads(line) for line in (CAPTURES / file).read_text().splitlines()]


def frames(file: str, wanted: Callable[[dict[str, Any]], bool]) -> list[Frame]:
    """What came in, without the feeds that we do not ask for."""
    found = [line for line in lines(file) if line["dir"] == "in" and wanted(line["msg"])]
    return [Frame(json.dumps(one["msg"]).encode(), int(one["t"] * 1_000_000)) for one in found]


def heard(session: Session, *contents: object) -> Inbox:
    """What a session makes of these JSON contents, a second apart."""
    inbox = Inbox()
    texts = [json.dumps(content).encode() for content in contents]
    session.read_all([Frame(text, n * 1_000_000) for n, text in enumerate(texts)], inbox)
    return inbox


def kept(changes: Sequence[BookChange]) -> tuple[dict[float, float], dict[float, float]]:
    """Bids and asks after all changes, the first of which must be whole. Each one must follow the
    one before it by their numbers, and leave a book that is not crossed."""
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    number = None
    assert changes[0].snapshot
    for change in changes:
        if change.snapshot:
            bids, asks = dict(change.bids), dict(change.asks)
        else:
            assert change.previous == number
            bids |= change.bids
            asks |= change.asks
        number = change.last
        bids = {price: amount for price, amount in bids.items() if amount}
        asks = {price: amount for price, amount in asks.items() if amount}
        assert not bids or not asks or max(bids) < min(asks)
    return bids, asks
