"""Each fault of an exchange or a network, and what is stored in spite of it."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_exchange import LIMITS, Fake, FakeSession, NoHistory
from fake_server import Market
from stream_lab import PATIENT, STEADY, Lab, lab, wait

from dccd_core.config import Config
from dccd_core.exchanges.live import Frame, Inbox, Session
from dccd_core.exchanges.trades import Book
from dccd_core.models import Channel, Series, Symbol, Window
from dccd_core.store.books import rebuild, replay
from dccd_core.store.datastore import DataStore
from dccd_core.store.gaps import GapKind
from dccd_core.store.journal import JournalWriter
from dccd_core.store.schemas import BookRow
from dccd_streams import book, venue

BTC, ETH = "BTC-USD", "ETH-USD"


def once(
    channel: str, fault: Callable[[list[str]], list[str]]
) -> Callable[[str, list[str]], list[str]]:
    """Change what is sent on a topic, the first time that it is."""
    done = []

    def edit(topic: str, texts: list[str]) -> list[str]:
        if topic != f"{channel}:{BTC}" or done:
            return texts
        done.append(topic)
        return fault(texts)

    return edit


def trade_for(found: Lab, times: int, count: int = 9) -> None:
    """Trades on all markets, for a while."""
    for _ in range(times):
        for name in found.server.markets:
            found.server.trade(name, count)
        time.sleep(0.01)


def change_for(found: Lab, seconds: float) -> None:
    """Books change, for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name in found.server.markets:
            found.server.change(name, 2)
        time.sleep(0.01)


def kinds(found: Lab, key: str) -> list[tuple[GapKind, str | None]]:
    """The gaps of a series but the last microsecond, in which more may come."""
    gaps = found.store.gaps(key)
    return [(g.kind, g.cause) for g in gaps if g.window.end - g.window.start > 1]


def lost(found: Lab, key: str) -> str:
    """The cause of the one loss of a series."""
    causes: list[str | None] = []

    def told() -> bool:
        causes[:] = [cause for kind, cause in kinds(found, key) if kind is GapKind.LOST]
        return bool(causes)

    wait(told, "no loss is told")
    [cause] = causes
    assert cause is not None
    return cause


# --- trades ------------------------------------------------------------------------------------


def test_trades_arrive_complete(tmp_path: Path) -> None:
    day = datetime.now(UTC).date()
    with lab(tmp_path, "trades", **STEADY) as found:
        found.wait_live()
        trade_for(found, 30)
        for name in (BTC, ETH):
            found.wait_trades(name)
            found.assert_trades(name)
        assert found.status()["gaps"] == 0
        if datetime.now(UTC).date() == day:
            assert found.status()["rows_today"] == len(found.rows("trades"))
        assert found.server.open == 1, "one connection carries both"


@pytest.mark.parametrize("how", ["cut", "close"])
def test_trades_of_a_disconnect_are_fetched(tmp_path: Path, how: str) -> None:
    with lab(tmp_path, "trades", **STEADY) as found:
        found.wait_live()
        trade_for(found, 5)
        getattr(found.server, how)()
        trade_for(found, 5)  # nobody listens, or somebody does already
        wait(lambda: found.server.subscribed(f"trades:{BTC}"))
        trade_for(found, 5)
        for name in (BTC, ETH):
            found.wait_trades(name)
            found.assert_trades(name)
        wait(lambda: kinds(found, f"fake/trades/{BTC}") == [], "the ledger has a gap")
        assert found.status()["reconnects"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda texts: texts[:1] + texts[2:], id="dropped"),
        pytest.param(lambda texts: texts[:2] + texts[1:], id="duplicate"),
        pytest.param(lambda texts: texts[::-1], id="reordered"),
        pytest.param(lambda texts: [texts[0], "not json", *texts[1:]], id="garbage"),
        pytest.param(lambda texts: [texts[0], texts[1][:20], *texts[2:]], id="truncated"),
        pytest.param(lambda texts: [*texts, '{"k": "zebra"}'], id="of no known kind"),
    ],
)
def test_messages_that_went_wrong(tmp_path: Path, fault: Callable[[list[str]], list[str]]) -> None:
    with lab(tmp_path, "trades") as found:
        found.wait_live()
        trade_for(found, 3)
        found.server.edit = once("trades", fault)
        trade_for(found, 3)
        for name in (BTC, ETH):
            found.wait_trades(name)
            found.assert_trades(name)
        wait(lambda: kinds(found, f"fake/trades/{BTC}") == [], "the ledger has a gap")
        assert found.server.open == 1, "the connection did not end for it"


def test_many_unreadable_messages_make_a_new_connection(tmp_path: Path) -> None:
    with lab(tmp_path, "trades") as found:
        found.wait_live()
        trade_for(found, 3)
        for _ in range(6):
            found.server.say("{")
        wait(lambda: len(found.server.connects) == 2)
        trade_for(found, 3)
        found.wait_trades()
        found.assert_trades()


def test_without_past_trades_the_loss_is_told_with_its_cause(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", exchange=NoHistory()) as found:
        found.wait_live()
        trade_for(found, 3)
        found.server.cut()
        wait(lambda: len(found.server.connects) == 2)
        found.wait_live()
        trade_for(found, 3)
        cause = lost(found, f"nohistory/trades/{BTC}")
        assert cause == "the server cut the connection; No history serves no past trades"
        assert found.status()["lost"] == 1


def test_rest_that_refuses_for_long_makes_a_loss(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", heal_most=0.1) as found:
        found.wait_live()
        trade_for(found, 3)
        found.server.rest_down = 403
        found.server.cut()
        trade_for(found, 3)
        wait(lambda: len(found.server.connects) == 2)
        found.wait_live()
        trade_for(found, 3)
        wait(lambda: found.status()["lost"], "it is not given up")
        cause = "the server cut the connection; blocked"
        wait(lambda: cause in str(lost(found, f"fake/trades/{BTC}")), "the cause is not told")


def test_what_a_stopped_service_missed_is_fetched_at_the_next_start(tmp_path: Path) -> None:
    with lab(tmp_path, "trades") as found:
        found.wait_live()
        trade_for(found, 3)
        found.wait_trades()
        assert found.manager.stop()
        trade_for(found, 3)
        found.manager.start()
        found.wait_live()
        trade_for(found, 3)
        for name in (BTC, ETH):
            found.wait_trades(name)
            found.assert_trades(name)
        wait(lambda: kinds(found, f"fake/trades/{BTC}") == [], "the ledger has a gap")


# --- silence -----------------------------------------------------------------------------------


def test_a_stall_is_noticed_though_heartbeats_arrive(tmp_path: Path) -> None:
    with lab(tmp_path, "trades") as found:
        found.wait_live()
        trade_for(found, 20)
        found.server.mute = {f"trades:{BTC}", f"trades:{ETH}"}
        trade_for(found, 3)
        wait(lambda: found.status()["state"] == "silent", "the silence was not noticed")
        # where trades go on: one market may have been subscribed anew before the other is silent
        wait(lambda: trade_for(found, 1) or len(found.server.connects) > 1, "no new connection")
        found.server.mute = set()
        wait(lambda: trade_for(found, 3) or found.status()["state"] == "live")
        for name in (BTC, ETH):
            found.wait_trades(name)
            found.assert_trades(name)


def test_one_silent_market_is_subscribed_anew_and_the_others_go_on(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", settle=1.0) as found:
        found.wait_live()
        trade_for(found, 20)
        found.server.mute = {f"trades:{BTC}"}
        wait(
            lambda: (
                trade_for(found, 1)
                or any(said["op"] == "unsubscribe" for _, said in found.server.said)
            ),
            "it was not subscribed anew",
        )
        found.server.mute = set()
        wait(lambda: trade_for(found, 3) or found.status()["state"] == "live")
        for name in (BTC, ETH):
            found.wait_trades(name)
            found.assert_trades(name)
        assert found.status(ETH)["reconnects"] == found.status(ETH)["gaps"] == 0


def test_a_quiet_market_is_no_alarm(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", quiet_least=0.1, settle=5.0) as found:
        found.wait_live()
        trade_for(found, 5)
        asked = len(found.server.asked)
        wait(lambda: len(found.server.asked) > asked + 3, "nobody asked whether it is quiet")
        assert found.status()["state"] == "live"
        assert len(found.server.connects) == 1
        assert not any(said["op"] == "unsubscribe" for _, said in found.server.said)


# --- subscriptions -----------------------------------------------------------------------------


def test_a_refused_market_is_put_aside_and_tried_again(tmp_path: Path) -> None:
    with lab(tmp_path, quarantine=1.0) as found:
        found.server.refuse = {f"trades:{BTC}": "no such market"}
        job = {"exchange": "fake", "pairs": ["BTC/USD", "ETH/USD"], "channels": ["trades"]}
        config = found.manager.config.model_validate(
            found.manager.config.model_dump(mode="json", exclude_none=True) | {"stream_jobs": [job]}
        )
        found.manager.reload(config)
        wait(lambda: found.status()["state"] == "put_aside", "it is not put aside")
        assert found.status()["problem"] == "the exchange refused it: no such market"
        wait(lambda: found.status(ETH)["state"] == "live", "the other one does not go on")
        trade_for(found, 3)
        found.wait_trades(ETH)
        found.server.refuse = {}
        found.wait_live()
        trade_for(found, 3)
        found.wait_trades(BTC)
        assert len(found.server.connects) == 1


def test_what_is_not_acknowledged_is_asked_again_and_then_put_aside(tmp_path: Path) -> None:
    with lab(tmp_path) as found:
        found.server.unacknowledged = found.server.mute = {f"trades:{BTC}"}
        config = config_with(found, "trades")
        found.manager.reload(config)
        wait(lambda: found.status()["state"] == "put_aside", "it is not put aside")
        assert found.status()["problem"] == "3 subscriptions were not acknowledged"
        asked = [said for _, said in found.server.said if f"trades:{BTC}" in said.get("args", [])]
        assert len([said for said in asked if said["op"] == "subscribe"]) == 3
        assert found.status(ETH)["state"] == "live"


def test_an_unknown_pair_is_told_with_what_is_near(tmp_path: Path) -> None:
    with lab(tmp_path) as found:
        job = {"exchange": "fake", "pairs": ["BTC/USDD"], "channels": ["trades"]}
        config = found.manager.config.model_validate(
            found.manager.config.model_dump(mode="json", exclude_none=True) | {"stream_jobs": [job]}
        )
        found.manager.reload(config)
        wait(lambda: found.status("BTC-USDD")["state"] == "put_aside")
        problem = found.status("BTC-USDD")["problem"]
        assert problem == "BTC/USDD: Fake has no such pair; did you mean BTC/USD?"


def config_with(found: Lab, *channels: str) -> Config:
    """The lab's configuration with these channels of all markets."""
    pairs = [name.replace("-", "/") for name in found.server.markets]
    job = {"exchange": found.name, "pairs": pairs, "channels": list(channels)}
    before = found.manager.config
    values = before.model_dump(mode="json", exclude_none=True) | {"stream_jobs": [job]}
    return before.model_validate(values)


# --- connections -------------------------------------------------------------------------------


def test_a_server_that_always_closes_is_not_stormed(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", backoff_first=0.1, backoff_most=1.0) as found:
        made = found.server.connects
        wait(lambda: found.server.close() or len(made) > 4, "it does not come again")
        # half of the doubled wait at least, whatever a slow machine adds to it
        for (before, after), least in zip(pairwise(made[:5]), (0.1, 0.2, 0.4, 0.5), strict=True):
            assert after - before >= least


def test_a_refused_handshake_is_tried_again_later(tmp_path: Path) -> None:
    with lab(tmp_path) as found:
        found.server.handshake = 503
        found.manager.reload(config_with(found, "trades"))
        wait(lambda: found.status()["problem"], "no problem is told")
        assert found.status()["problem"] == "the server refused the connection with HTTP 503"
        found.server.handshake = None
        found.wait_live()
        assert found.status()["problem"] is None


class Unnumbered(Fake):
    """Ids tell nothing of what is missing, and a message is taken each second."""

    name = "unnumbered"
    contiguous = False
    live_limits = replace(LIMITS, messages=1, seconds=1.0)


def test_what_an_ended_subscription_still_sends_begins_no_new_one(tmp_path: Path) -> None:
    """That it is ended, and that a new one is wanted, waits for its turn to be sent."""
    with lab(tmp_path, "trades", exchange=Unnumbered(), acknowledge=3.0) as found:
        server, manager = found.server, found.manager
        found.wait_live()
        trade_for(found, 50, 1)
        [key] = [key for key in manager.running_keys() if "BTC" in key]
        manager.stop_one(key)
        manager.start_one(manager.config.stream_jobs[0], "BTC/USD", ["trades"])

        def asked() -> int:
            topics = [said["args"] for _, said in server.said if said["op"] == "subscribe"]
            return sum(f"trades:{BTC}" in names for names in topics)

        end = time.monotonic() + PATIENT
        while asked() < 2:
            trade_for(found, 1, 1)
            assert time.monotonic() < end
        trade_for(found, 50, 1)
        trades = [(number, moment) for number, moment, *_ in server.markets[BTC].trades]
        covered = list[Window]()

        def told_to_the_end() -> bool:
            covered[:] = found.store.covered(f"unnumbered/trades/{BTC}")
            return max((w.end for w in covered), default=0) >= trades[-1][1]

        wait(told_to_the_end, "the ledger does not go on")
        stored = set(found.rows("trades")["trade_id"].cast(int))
        missing = {number for number, _ in trades} - stored
        told = {n for n, moment in trades if any(w.start <= moment < w.end for w in covered)}
        assert missing & told == set()


@pytest.mark.parametrize("why", ["lifetime", "goodbye"])
def test_a_planned_change_of_connections_loses_and_doubles_nothing(
    tmp_path: Path, why: str
) -> None:
    exchange = Fake()
    if why == "lifetime":
        limits = exchange.live_limits
        exchange.live_limits = type(limits)(  # type: ignore[misc]
            limits.streams, limits.messages, limits.seconds, limits.connects, 1, lifetime=1.5
        )
    # what the old connection has read late must have come when it ends
    with lab(tmp_path, "trades", "book", exchange=exchange, settle=0.5, **STEADY) as found:
        found.wait_live()
        trade_for(found, 3)
        if why == "goodbye":
            found.server.say('{"k": "bye"}')
        wait(
            lambda: (
                trade_for(found, 1) or change_for(found, 0.01) or len(found.server.connects) > 1
            ),
            "no second connection",
        )
        wait(
            lambda: trade_for(found, 1) or change_for(found, 0.01) or found.server.open == 1,
            "the first connection does not end",
        )
        change_for(found, 1.1)
        for name in (BTC, ETH):
            found.wait_trades(name)
            found.assert_trades(name)
            found.assert_books(name)
        assert found.status()["reconnects"] == found.status()["gaps"] == 0
        assert found.rows("book")["valid"].all()


def test_what_an_old_connection_delivers_late_is_kept(tmp_path: Path) -> None:
    """Without ids that follow each other nobody would miss it."""
    exchange = Fake()
    exchange.contiguous = False
    with lab(tmp_path, "trades", markets=(BTC,), exchange=exchange, settle=1.5) as found:
        found.wait_live()
        old, put = next(iter(found.server.topics)), found.server._put

        def late(connection: Any, text: str) -> None:
            if connection is old and '"k": "t"' in text:
                threading.Timer(0.5, put, (connection, text)).start()
            else:
                put(connection, text)

        found.server._put = late  # type: ignore[method-assign]
        for turn in range(60):
            found.server.trade(BTC, 3)
            if turn == 30:
                found.server.say('{"k": "bye"}')
            time.sleep(0.02)
        wait(lambda: found.server.open == 1, "the old connection stays")
        assert found.status()["reconnects"] == 0
        found.wait_trades()
        found.assert_trades()


def test_a_connection_carries_no_more_than_the_exchange_allows(tmp_path: Path) -> None:
    exchange = Fake()
    limits = exchange.live_limits
    exchange.live_limits = type(limits)(2, limits.messages, limits.seconds, limits.connects, 1)  # type: ignore[misc]
    markets = tuple(f"M{i}-USD" for i in range(5))
    with lab(tmp_path, "trades", exchange=exchange, markets=markets) as found:
        found.wait_live()
        assert found.server.open == 3
        assert max(map(len, found.server.topics.values())) == 2


# --- books -------------------------------------------------------------------------------------


def from_rest() -> Fake:
    """The variant whose changes come without a first book."""
    exchange = Fake()
    exchange.book_from_rest, exchange.checksum_depth = True, 0  # type: ignore[misc]
    return exchange


class Shallow(Fake):
    """Books come from REST only, and have 60 levels at most."""

    book_from_rest, checksum_depth, depths = True, 0, (10, 20, 60)

    def session(self) -> Session:
        return ShallowSession()


class ShallowSession(FakeSession):
    def read(self, frame: Frame, inbox: Inbox) -> None:
        if b'"snapshot": true' not in frame.payload:
            super().read(frame, inbox)


def strip(topic: str, texts: list[str]) -> list[str]:
    """Books from REST have no snapshots and no checksums."""
    said = [json.loads(text) for text in texts]
    return [json.dumps(one | {"sum": None}) for one in said if not one.get("snapshot")]


def wrong_sum(texts: list[str]) -> list[str]:
    return [json.dumps(json.loads(texts[0]) | {"sum": 1}), *texts[1:]]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        pytest.param(lambda texts: texts[1:], "changes are missing", id="gap"),
        pytest.param(wrong_sum, "checksum", id="checksum"),
        pytest.param(lambda texts: texts[::-1], "changes are missing", id="reordered"),
    ],
)
def test_a_broken_book_is_never_stored_and_begins_anew(
    tmp_path: Path, fault: Callable[[list[str]], list[str]], cause: str
) -> None:
    with lab(tmp_path, "book", "book_deltas", **STEADY) as found:
        found.wait_live()
        change_for(found, 1.2)
        found.server.edit = once("book", fault)
        change_for(found, 1.5)
        found.wait_live()
        change_for(found, 0.3)
        for name in (BTC, ETH):
            found.assert_books(name)
        for channel in ("book", "book_deltas"):
            assert cause in lost(found, f"fake/{channel}/{BTC}")
        assert (found.status()["lost"], found.status(ETH)["lost"]) == (1, 0)
        # rows come before the mark that covers them
        wait(lambda: kinds(found, f"fake/book/{ETH}") == [], "the other book is not whole")
        assert len(found.rows("book").filter("valid", "valid")) >= 1
        assert (~found.rows("book")["valid"]).sum() == 1, "one row tells of the break"


def test_a_book_that_a_kill_left_is_known_no_longer_than_its_last_row(tmp_path: Path) -> None:
    store, last = DataStore(tmp_path), time.time_ns() // 1_000 - 60_000_000
    series = Series("fake", Channel.BOOK, Symbol("BTC", "USD"))
    journal = JournalWriter(store.journal)
    journal.append_books(series, [BookRow(last, last, [(1.0, 1.0)], [(2.0, 1.0)], True)])
    journal.close()
    with lab(tmp_path, "book", markets=(BTC,), **STEADY) as found:
        found.wait_live()
        for _ in range(2):  # a service that stops says so itself
            change_for(found, 1.2)
            wait(lambda: len(found.rows("book").filter("valid")) > 1)
            assert found.manager.stop()
            found.manager.start()
            found.wait_live()
        rows = store.load(series)
    times, valid = rows["time"].to_physical().to_list(), rows["valid"].to_list()
    assert (times[:2], valid[:3]) == ([last, last + 1], [True, False, True])
    ends = [time for time, known in zip(times, valid, strict=True) if not known]
    assert len(ends) == 3


@pytest.mark.parametrize("how", ["unreadable", "never"])
def test_a_book_whose_beginning_did_not_come_is_asked_for_again(tmp_path: Path, how: str) -> None:
    """Though its changes go on, and those of another market."""
    with lab(tmp_path, "book") as found:
        found.wait_live()
        market = found.server.markets[BTC]
        whole, asked = market.whole, list[int]()

        def once_bad() -> dict[str, Any]:
            asked.append(1)
            if len(asked) > 1:
                return whole()
            return {"k": "b", "s": BTC} if how == "unreadable" else {"k": "hb"}

        market.whole = once_bad  # type: ignore[method-assign]
        found.server.cut()
        wait(lambda: asked, "it was not subscribed anew")
        end = time.monotonic() + PATIENT
        while found.status()["state"] != "live" or len(asked) < 2:
            assert time.monotonic() < end, found.status()
            change_for(found, 0.1)
        wait(lambda: change_for(found, 0.1) or len(found.rows("book").filter("valid")))
        found.assert_books()


def test_a_duplicated_change_does_no_harm(tmp_path: Path) -> None:
    with lab(tmp_path, "book", **STEADY) as found:
        found.wait_live()
        found.server.edit = lambda _, texts: [texts[0], *texts]
        change_for(found, 1.5)
        found.assert_books()
        assert found.rows("book")["valid"].all()


def test_a_book_that_begins_from_rest(tmp_path: Path) -> None:
    with lab(tmp_path, "book", "book_deltas", exchange=from_rest()) as found:
        found.server.edit = strip
        change_for(found, 0.5)
        found.wait_live()
        change_for(found, 1.2)
        found.assert_books()
        found.server.edit = once("book", lambda texts: strip("", texts)[1:])
        change_for(found, 0.1)
        found.server.edit = strip
        change_for(found, 1.5)
        found.wait_live()
        found.assert_books()
        wait(lambda: kinds(found, f"fake/book/{BTC}"), "no gap is told")


def test_a_market_that_leaves_the_levels_that_were_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those behind them were there all the time, and no change tells of them."""
    for module in (book, venue):
        monkeypatch.setattr(module, "FETCHED", 60)
    with lab(tmp_path, "book", markets=(BTC,), exchange=Shallow()) as found:
        ask, market = found.server._ask, found.server.markets[BTC]

        def shallow(path: str, query: dict[str, str]) -> Any:
            whole, most = ask(path, query), int(query["depth"] or 0)
            if path == "/book":
                whole |= {side: whole[side][:most] for side in ("bids", "asks")}
            return whole

        monkeypatch.setattr(found.server, "_ask", shallow)
        for price in range(1, 150):
            market.bids[98.0 - price / 2], market.asks[102.0 + price / 2] = 1.0, 1.0
        found.server.cut()
        wait(lambda: len(found.server.connects) > 1)
        found.server.edit = strip
        wait(lambda: found.server.change(BTC) or found.status()["state"] == "live")
        end = time.monotonic() + 4.5
        while time.monotonic() < end:
            with found.server.lock:
                found.server._send(f"book:{BTC}", [without_best(market)])
            time.sleep(0.1)
        found.assert_books(least=2)
        wait(lambda: found.server.change(BTC) or found.status()["gaps"] > 0, "nothing was left")


def without_best(market: Market) -> dict[str, Any]:
    """The best levels go."""
    message = market.change()
    sides: list[tuple[str, dict[float, float], int]] = [
        ("bids", market.bids, -1),
        ("asks", market.asks, 1),
    ]
    for name, levels, sign in sides:
        for price in sorted(levels, reverse=sign < 0)[:3]:
            del levels[price]
            message[name].append((price, 0.0))
    market.states[-1] = (message["time"], *market.levels())
    return message


def test_changes_rebuild_the_book_at_any_moment(tmp_path: Path) -> None:
    # on a busy machine it must not be subscribed anew: what is in one whole book is not seen
    with lab(tmp_path, "book_deltas", markets=(BTC,), **STEADY) as found:
        found.wait_live()
        change_for(found, 0.5)
        market = found.server.markets[BTC]
        key = f"fake/book_deltas/{BTC}"
        last = market.states[-1]

        def newest() -> Book:
            return rebuild(found.store, key, found.rows("book_deltas")["received"].max())

        wait(lambda: newest().time == last[0], "not all changes are stored")
        assert (newest().bids, newest().asks) == last[1:]
        seen = [
            (book.bids, book.asks) for _, one in replay(found.store, key) for book in [one.book()]
        ]
        truth = [state[1:] for state in market.states]
        assert len(seen) > 10
        assert seen == truth[-len(seen) :]


# --- candles -----------------------------------------------------------------------------------


def test_candles_of_the_exchange_and_those_that_closed_meanwhile(tmp_path: Path) -> None:
    minute = 60_000_000
    first = time.time_ns() // 1_000 // minute * minute - 10 * minute
    with lab(tmp_path, "ohlc", step=60, markets=(BTC,)) as found:
        found.wait_live()
        for index in range(3):
            found.server.candle(BTC, first + index * minute)
        wait(lambda: len(found.rows("live_ohlc/1m")) == 3)
        found.server.cut()
        wait(lambda: len(found.server.connects) == 2)
        found.wait_live()
        found.server.candle(BTC, first + 6 * minute)
        wait(lambda: len(found.rows("live_ohlc/1m")) == 7, "what was missed is not fetched")
        rows = found.rows("live_ohlc/1m")
        assert rows["time"].to_physical().to_list() == [first + i * minute for i in range(7)]
        assert kinds(found, f"fake/live_ohlc/1m/{BTC}") == []


def test_candles_built_from_trades_are_whole_ones(tmp_path: Path) -> None:
    with lab(tmp_path, "trades", "ohlc", step=1, markets=(BTC,)) as found:
        found.wait_live()
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            trade_for(found, 1, 4)
        found.wait_trades()
        wait(lambda: len(found.rows("live_ohlc/1s")) >= 2, "no candle")
        trades = found.rows("trades")
        candles = found.rows("live_ohlc/1s")
        for row in candles.iter_rows(named=True):
            inside = trades.filter(trades["time"].dt.truncate("1s") == row["time"])
            assert row["trades"] == len(inside)
            assert (row["open"], row["close"]) == (inside["price"][0], inside["price"][-1])
            assert (row["high"], row["low"]) == (inside["price"].max(), inside["price"].min())
            assert row["volume"] == pytest.approx(inside["amount"].sum(), rel=1e-12)
