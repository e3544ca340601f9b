"""All exchanges at once through the service: what is stored is true, and what is lost is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_lab import LONG, PATIENT, STREAMS, Place, Whole, recording, sandbox
from stream_lab import wait

from dccd_core.models import SECOND, Channel
from dccd_sandbox import Rule, StreamFault

CHECKED = 8


def rule(kind: str, channel: str = "", **more: object) -> tuple[str, str, dict[str, object]]:
    return kind, channel, more


AGAIN = rule("cut", after=3)
"""Ends a connection: what is said on the next one is what the fault is about."""
FAULTS = {
    "cut": [AGAIN],
    "close": [rule("close", after=3)],
    "half a frame": [rule("half", after=3)],
    "accepted but silent": [rule("stall", after=3)],
    "silent trades": [rule("stall", "trades", after=3)],
    "silent book": [rule("stall", "book", after=3)],
    "dead": [rule("stall", after=3, beats=False)],
    "a dropped trade": [rule("drop", "trades", after=3)],
    "a dropped change": [rule("gap", after=3)],
    "a wrong checksum": [rule("checksum", after=3)],
    "duplicates": [rule("duplicate", "trades", after=3), rule("duplicate", "book", after=3)],
    "reordered": [rule("reorder", "trades", after=3), rule("reorder", "book", after=3)],
    "trades repeated": [rule("replay", seconds=60, count=None), AGAIN],
    "429 at the handshake": [AGAIN],
    "refused": [rule("refuse", count=2, contains="rade"), AGAIN],
    "not acknowledged": [rule("no_ack", count=2), AGAIN],
    "short lives": [rule("lifetime", seconds=0.8, count=3), AGAIN],
    "deaf": [rule("deaf"), AGAIN],
    "a flood": [
        rule("duplicate", "trades", after=3, times=3_000),
        rule("duplicate", "book", after=3, times=1_000),
    ],
    "garbage": [rule("garbage", after=3, count=3)],
    "truncated": [rule("truncated", "trades", after=3), rule("truncated", "book", after=3)],
    "huge": [rule("huge", after=3)],
    "fragments": [rule("fragment", after=3, count=20)],
    "delayed": [rule("delay", after=3, seconds=0.5, count=2)],
}
UNNUMBERED_TRADES = {"bitmex", "bybit", "kraken", "kraken_futures"}
"""What such an exchange does not send is not missed: neither ids nor messages are counted."""
UNNUMBERED_BOOKS = {"bitmex", "coinbase"}
QUICK = ("cut",)
"""What is tried in every run; the others take their time, in `make soak`."""


def suffers(name: str, fault: str) -> bool:
    """Whether an exchange's protocol lets a fault be noticed."""
    if fault == "a dropped trade":
        return name not in UNNUMBERED_TRADES
    if fault in ("a dropped change", "reordered"):
        return name not in UNNUMBERED_BOOKS
    return True


def check(place: Place, whole: Whole) -> None:
    """All that is stored of an exchange equals the truth, as far as the ledger says it is whole."""
    place.assert_trades(whole.begin, whole.end)
    place.candles(whole.begin, whole.end)
    rows, late = place.books(whole.begin, whole.end)
    assert rows > 0
    assert late <= rows // 10
    assert place.deltas(whole.begin, whole.end) > CHECKED


@pytest.fixture(scope="module", params=[4, pytest.param(10, marks=pytest.mark.soak)])
def clean(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Whole]:
    """Some minutes of all exchanges without a fault."""
    with (
        sandbox(speed=20) as box,
        recording(box, tmp_path_factory.mktemp("clean"), list(STREAMS), PATIENT) as whole,
    ):
        whole.wait_live()
        whole.run(request.param * 60)
        whole.finish()
        yield whole


@pytest.mark.parametrize("name", STREAMS)
def test_minutes_of_an_exchange_arrive_complete(clean: Whole, name: str) -> None:
    place, minutes = clean.places[name], (clean.end - clean.begin) // (60 * SECOND)
    check(place, clean)
    last = place.last_trade(clean.begin, clean.end)
    stored, truth = place.trades(clean.begin, last)
    assert len(stored) == len(truth) > 100 * minutes
    assert place.lost_seconds(Channel.TRADES, clean.begin, last) == 0
    # where the market stands still in the end, its book may be subscribed anew, and what the
    # exchange gathers for a tenth of a second before it is sent has not come
    last_change = min(last, place.last_change()) - SECOND // 10
    assert place.lost_seconds(Channel.BOOK_DELTAS, clean.begin, last_change) == 0
    assert place.candles(clean.begin, clean.end) >= minutes - 2


@pytest.mark.parametrize(
    "fault",
    [one if one in QUICK else pytest.param(one, marks=pytest.mark.soak) for one in FAULTS],
)
def test_a_fault_of_every_exchange(tmp_path: Path, fault: str) -> None:
    names = [name for name in STREAMS if suffers(name, fault)]
    with sandbox() as box, recording(box, tmp_path, names) as whole:
        whole.wait_live()
        whole.run(10)
        box.set_stream_faults(
            *(
                StreamFault(kind, f"/{name}/", channel, **more)  # type: ignore[arg-type]
                for name in names
                for kind, channel, more in FAULTS[fault]
            )
        )
        if fault.startswith("429"):
            box.set_faults(*(Rule("429", path=f"/{name}/", count=1) for name in names))
        whole.run(30)
        assert sum(box.stats()["streams"]["faults"].values()) > 0
        wait(
            lambda: whole.states() == {"live"},
            lambda: f"not all are live: {whole.problems()}",
            LONG,
        )
        whole.run(15)
        whole.finish()
        for place in whole.places.values():
            check(place, whole)
