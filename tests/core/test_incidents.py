"""Incidents: each is told once, reminded of, and over once; a restart changes nothing of it."""

from pathlib import Path

import msgspec
import pytest

from dccd_core.incidents import REMIND, Condition, Kind, Register, State, step
from dccd_core.messages import digest, message, without_queries

UI = "http://127.0.0.1:3000"


def stale(pair: str, group: str = "binance", patience: float = 0.0) -> Condition:
    return Condition(
        kind=Kind.STALE,
        subject=f"binance/ohlc/1h/{pair}",
        group=group,
        text="The newest data is 3 h old",
        cure="Look at it.",
        path=f"/assets/binance/ohlc/1h/{pair}",
        patience=patience,
    )


BTC, ETH = stale("BTC-USDT"), stale("ETH-USDT")
KINDS = {Kind.STALE, Kind.JOB}


def told(state: State, *conditions: Condition, now: float, **options: object) -> list[str]:
    changes = step(state, conditions, KINDS, now, **options)  # type: ignore[arg-type]
    return [f"{one.what} {len(one.incidents)}" for one in changes]


def test_it_opens_once_and_closes_once() -> None:
    state = State()
    assert told(state, BTC, now=0.0) == ["opened 1"]
    assert told(state, BTC, now=30.0) == []
    assert told(state, now=60.0) == ["closed 1"]
    assert told(state, now=90.0) == []
    assert told(state, BTC, now=120.0) == ["opened 1"]


def test_a_reminder_comes_each_day() -> None:
    state = State()
    told(state, BTC, now=0.0)
    assert told(state, BTC, now=REMIND - 1) == []
    assert told(state, BTC, now=REMIND) == ["remind 1"]
    assert told(state, BTC, now=REMIND + 30) == []
    assert told(state, BTC, now=2 * REMIND) == ["remind 1"]


def test_what_opens_together_is_one_message() -> None:
    state = State()
    many = [stale(f"P{n:03}-USDT") for n in range(300)]
    other = stale("X-USD", group="kraken")
    [first, second] = step(state, [*many, other], KINDS, 0.0)
    assert (len(first.incidents), len(second.incidents)) == (300, 1)
    text = message(first, UI, 0.0)
    assert text.startswith(":red_circle: *300 × stale* of binance\n• <")
    assert "and 290 more" in text
    assert len(text) < 4_000, "Slack cuts longer ones"
    assert told(state, now=60.0) == ["closed 300", "closed 1"]


def test_without_a_group_each_is_told_alone() -> None:
    state = State()
    assert told(state, stale("A-B", group=""), stale("C-D", group=""), now=0.0) == [
        "opened 1",
        "opened 1",
    ]


def test_patience_waits_and_forgets_what_ends_before() -> None:
    state, slow = State(), stale("BTC-USDT", patience=100.0)
    assert told(state, slow, now=0.0) == []
    assert told(state, slow, now=99.0) == []
    assert told(state, now=100.0) == []
    assert told(state, slow, now=150.0) == []
    assert told(state, slow, now=250.0) == ["opened 1"]
    assert next(iter(state.open.values())).opened == 150.0, "it began when it was seen first"


def test_what_comes_and_goes_is_one_incident() -> None:
    state, stream = State(), Condition(kind=Kind.JOB, subject="s", text="silent", calm=120.0)
    assert told(state, stream, now=0.0) == ["opened 1"]
    assert told(state, now=30.0) == []
    assert told(state, now=120.0) == []
    assert told(state, stream, now=149.0) == []
    assert told(state, now=180.0) == []
    [closed] = step(state, [], KINDS, 300.0)
    assert message(closed, UI, 300.0).endswith("is over after 3 min"), "it ended when it ended"


def test_what_comes_and_goes_becomes_an_incident_all_the_same() -> None:
    state = State()
    stream = Condition(kind=Kind.JOB, subject="s", text="silent", patience=120.0, calm=60.0)
    for now in (0.0, 60.0):
        assert told(state, stream, now=now) == []
        assert told(state, now=now + 30) == []
    assert told(state, stream, now=120.0) == ["opened 1"]
    other = State()
    assert told(other, stream, now=0.0) == []
    assert told(other, now=60.0) == []
    assert told(other, stream, now=121.0) == [], "it was well for a minute"


def test_an_observer_closes_only_its_own_kinds() -> None:
    state = State()
    step(state, [BTC], {Kind.STALE}, 0.0)
    assert step(state, [], {Kind.PROGRAM}, 30.0) == []
    assert state.open.keys() == {BTC.key}
    slow = stale("ETH-USDT", patience=60.0)
    step(state, [BTC, slow], {Kind.STALE}, 30.0)
    step(state, [], {Kind.PROGRAM}, 60.0)
    [change] = step(state, [BTC, slow], {Kind.STALE}, 90.0)
    assert change.what == "opened"


def test_what_is_unknown_stays_as_it_is() -> None:
    state = State()
    told(state, BTC, now=0.0)
    assert told(state, now=30.0, unknown=[BTC.key]) == []
    assert told(state, now=60.0) == ["closed 1"]


def test_a_restart_repeats_nothing_and_forgets_nothing(tmp_path: Path) -> None:
    first = Register(tmp_path)
    state = first.read()
    told(state, BTC, stale("ETH-USDT", patience=100.0), now=0.0)
    state.pending.append("waits")
    first.write(state)
    again = Register(tmp_path).read()
    assert again.pending == ["waits"]
    assert told(again, BTC, ETH, now=50.0) == ["opened 1"], "the second has patience no more"
    assert told(again, now=60.0) == ["closed 2"]


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    register = Register(tmp_path)
    register.write(State(low_disk=True))
    [path] = (tmp_path / ".dccd").glob("incidents.json")
    path.write_bytes(b"{torn")
    assert register.read() == State()
    assert [one.read_bytes() for one in path.parent.glob("_incidents*")] == [b"{torn"]


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    register, state = Register(tmp_path), State()
    told(state, BTC, ETH, now=5.0)
    register.write(state)
    before = (tmp_path / ".dccd" / "incidents.json").stat().st_ino
    same = register.read()
    assert msgspec.json.encode(same) == msgspec.json.encode(state)
    register.write(same)
    assert (tmp_path / ".dccd" / "incidents.json").stat().st_ino == before, "not written again"


def test_messages_as_slack_shows_them() -> None:
    state = State()
    [opened] = step(state, [BTC], KINDS, 0.0)
    assert message(opened, UI, 0.0) == (
        ":red_circle: *stale: <http://127.0.0.1:3000/assets/binance/ohlc/1h/BTC-USDT"
        "|binance/ohlc/1h/BTC-USDT>*\nThe newest data is 3 h old\nLook at it."
    )
    [remind] = step(state, [BTC], KINDS, REMIND)
    assert "for 1 d now" in message(remind, UI, REMIND)
    ended = {BTC.key: "the newest data is 5 s old"}
    [closed] = step(state, [], KINDS, REMIND + 7_800, ended=ended)
    text = message(closed, UI, REMIND + 7_800)
    assert text.startswith(":large_green_circle: *stale: <")
    assert text.endswith("* is over after 1 d 2 h: the newest data is 5 s old")


@pytest.mark.parametrize("bad", ["<!channel>", "<https://evil|click>", "a & b <b>"])
def test_what_an_exchange_says_cannot_mention_anybody(bad: str) -> None:
    state = State()
    condition = Condition(kind=Kind.JOB, subject="job", text=bad)
    [opened] = step(state, [condition], KINDS, 0.0)
    assert bad not in message(opened, UI, 0.0)
    assert "<" not in message(opened, UI, 0.0)


def test_an_error_is_shown_without_the_question() -> None:
    found = "2026: https://api.bybit.com/v5/market/kline?symbol=N&limit=1000: no connection: no?: x"
    assert (
        without_queries(found)
        == "2026: https://api.bybit.com/v5/market/kline: no connection: no?: x"
    )


def test_the_digest_says_whether_all_is_well() -> None:
    state = State()
    figures = [("series", "3"), ("rows", "1,000")]
    assert digest(figures, []) == ":white_check_mark: *dccd: All is well*\n3 series, 1,000 rows"
    told(state, BTC, now=0.0)
    assert "1 incident is open*" in digest(figures, list(state.open.values()))
