"""What every exchange must keep to with its streams, its past trades and its books."""

import json
from collections.abc import Callable
from typing import Any

import live_payloads
import payloads
import pytest
from live_payloads import Asked, Stream, instrument_of, request_of, session_of, size
from payloads import micro

from dccd_core.exchanges import load, load_all
from dccd_core.exchanges.base import Answer, BadAnswer, ExchangeError
from dccd_core.exchanges.live import BookChange, Frame, Inbox, Live
from dccd_core.exchanges.trades import Depth, Trade, TradesHistory
from dccd_core.models import Channel, span_label

EXCHANGES = list(load_all())
LIVE = [name for name in EXCHANGES if isinstance(load(name), Live)]
PAST = [name for name in EXCHANGES if isinstance(load(name), TradesHistory)]
DEPTH = [name for name in EXCHANGES if isinstance(load(name), Depth)]


def files(prefix: str) -> list[tuple[str, str]]:
    return [(name, file) for name in EXCHANGES for file in payloads.names(name, f"{prefix}_*")]


STREAMS, PAGES, BOOKS = files("live"), files("trades"), files("book")


def hear(name: str, payload: Stream, count: int | None = None) -> tuple[Any, Inbox, list[Asked]]:
    """The session and the inbox after the first frames of a payload, all of them if not said."""
    subscriptions = live_payloads.asked(name, payload)
    session, inbox = session_of(name, subscriptions), Inbox()
    numbers = range(len(payload.frames) if count is None else count)
    session.read_all([payload.frame(number) for number in numbers], inbox)
    return session, inbox, subscriptions


def payloads_of(name: str, file: str) -> Any:
    kinds = {"live": live_payloads.stream, "trades": live_payloads.page, "book": live_payloads.book}
    read: Callable[[str, str], Any] = kinds[file.partition("_")[0]]
    return read(name, file)


def outcome(act: Callable[[], object]) -> str:
    """The error's name, or what was read in its place."""
    try:
        return f"accepted as {act()}"
    except ExchangeError as error:
        return type(error).__name__


# --- the class ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIVE)
def test_the_class_says_how_the_exchange_streams(name: str) -> None:
    live = load(name)
    assert isinstance(live, Live)
    assert live.ws_url.startswith("wss://")
    assert not live.ws_url.endswith("/")
    limits = live.live_limits
    assert min(limits.streams, limits.messages, limits.connects) >= 1
    assert min(limits.seconds, limits.connect_seconds) > 0
    assert live.live_spans <= set(live.spans)
    assert isinstance(live, Depth) or not live.book_from_rest
    assert {Channel.TRADES, Channel.BOOK} <= live.channels


@pytest.mark.parametrize("name", LIVE)
def test_every_feed_has_a_payload_and_so_has_a_refusal(name: str) -> None:
    streams = [live_payloads.stream(name, file) for one, file in STREAMS if one == name]
    expected = [payload.expect for payload in streams]
    assert any(one.trades for one in expected)
    assert any(one.books for one in expected)
    assert any(one.candles for one in expected) == bool(load(name).live_spans)  # type: ignore[attr-defined]
    assert any(one.accepted for one in expected)
    assert any(one.refused for one in expected)


@pytest.mark.parametrize("name", PAST)
def test_the_class_says_what_past_trades_there_are(name: str) -> None:
    history = live_payloads.history(name)
    assert history.contiguous in (True, False)
    assert history.reach is None or history.reach > 0
    assert history.trades_page >= 1
    assert history.trades_weight > 0
    assert Channel.TRADES in load(name).channels
    assert any(one == name for one, _ in PAGES)


@pytest.mark.parametrize("name", DEPTH)
def test_the_class_says_which_depths_there_are(name: str) -> None:
    depths = list(live_payloads.depth_of(name).depths)
    assert depths
    assert depths == sorted(set(depths))
    assert depths[0] >= 1
    assert any(one == name for one, _ in BOOKS)


def test_payloads_are_of_exchanges_that_have_the_feature() -> None:
    assert {name for name, _ in STREAMS} <= set(LIVE)
    assert {name for name, _ in PAGES} <= set(PAST)
    assert {name for name, _ in BOOKS} <= set(DEPTH)


@pytest.mark.parametrize(("name", "file"), [*STREAMS, *PAGES, *BOOKS])
def test_a_payload_tells_where_and_when_it_is_from(name: str, file: str) -> None:
    payload = payloads_of(name, file)
    assert payload.source
    assert "2014" < payload.captured < "2100"
    assert micro(payload.time) > 0


# --- streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "file"), STREAMS)
def test_what_is_said_is_as_documented(name: str, file: str) -> None:
    payload, live = live_payloads.stream(name, file), load(name)
    assert isinstance(live, Live)
    subscriptions, session = live_payloads.asked(name, payload), live.session()
    assert {live.live_path(one) for one in subscriptions} == {payload.path}
    opening = [json.loads(message) for message in session.opening()]
    assert opening == [json.loads(bytes(message)) for message in payload.opening]
    sent = [json.loads(message) for message in session.subscribe(subscriptions)]
    if payload.sent is not None:
        assert sent == [json.loads(bytes(message)) for message in payload.sent]
    if payload.ended is not None:
        heard, _, subscriptions = hear(name, payload)
        ended = [json.loads(message) for message in heard.unsubscribe(subscriptions)]
        assert ended == [json.loads(bytes(message)) for message in payload.ended]


@pytest.mark.parametrize(("name", "file"), STREAMS)
def test_rows_are_read_to_the_last_digit(name: str, file: str) -> None:
    payload = live_payloads.stream(name, file)
    expect, (_, inbox, _) = payload.expect, hear(name, payload)
    trades = {market: live_payloads.trade_rows(rows) for market, rows in inbox.trades.items()}
    assert {market: rows for market, rows in trades.items() if rows} == {
        market: live_payloads.expected_trades(rows) for market, rows in expect.trades.items()
    }
    candles = {
        f"{market} {span_label(span)}": live_payloads.candle_rows(rows)
        for (market, span), rows in inbox.candles.items()
        if rows
    }
    assert candles == {
        key: live_payloads.expected_candles(rows) for key, rows in expect.candles.items()
    }
    changes = {
        market: [*map(live_payloads.change_row, rows)] for market, rows in inbox.books.items()
    }
    assert {market: rows for market, rows in changes.items() if rows} == {
        market: [*map(live_payloads.expected_change, rows)] for market, rows in expect.books.items()
    }


@pytest.mark.parametrize(("name", "file"), STREAMS)
def test_what_else_was_heard_is_told(name: str, file: str) -> None:
    payload = live_payloads.stream(name, file)
    expect, (_, inbox, subscriptions) = payload.expect, hear(name, payload)
    assert inbox.accepted == [subscriptions[number] for number in expect.accepted]
    assert [one for one, _ in inbox.refused] == [subscriptions[n] for n, _ in expect.refused]
    assert inbox.bad == [
        (payload.frame(number).payload, reason)
        for number, (_, reason) in zip(expect.bad, inbox.bad, strict=True)
    ]
    assert [market for market, _ in inbox.lost] == [market for market, _ in expect.lost]
    texts = [text for _, text in [*inbox.refused, *inbox.lost]] + inbox.notices
    parts = [text for _, text in [*expect.refused, *expect.lost]] + expect.notices
    assert [part in text for part, text in zip(parts, texts, strict=True)] == [True] * len(parts)
    assert (inbox.reconnect is None) == (expect.reconnect is None)
    assert (expect.reconnect or "") in (inbox.reconnect or "")


@pytest.mark.parametrize(("name", "file"), STREAMS)
def test_a_row_has_the_receipt_of_its_frame(name: str, file: str) -> None:
    payload = live_payloads.stream(name, file)
    session = session_of(name, live_payloads.asked(name, payload))
    for number in range(len(payload.frames)):
        frame, inbox = payload.frame(number), Inbox()
        session.read_all([frame], inbox)
        rows: list[Any] = []
        for table in (inbox.trades, inbox.candles, inbox.books):
            rows += [row for found in table.values() for row in found]  # type: ignore[attr-defined]
        assert {row.received for row in rows} <= {frame.received}
        for row in rows:
            numbers = row.bids + row.asks if isinstance(row, BookChange) else [()]
            assert all(type(one) is tuple for one in numbers)


@pytest.mark.parametrize(("name", "file"), STREAMS)
def test_books_follow_each_other_by_their_numbers(name: str, file: str) -> None:
    payload = live_payloads.stream(name, file)
    broken = [live_payloads.breaks(rows) for rows in hear(name, payload)[1].books.values()]
    assert any(broken) == payload.broken


@pytest.mark.parametrize(("name", "file"), STREAMS)
def test_a_frame_with_a_field_removed_or_of_another_kind_is_bad_and_gives_nothing(
    name: str, file: str
) -> None:
    payload = live_payloads.stream(name, file)
    wrong: dict[str, object] = {}
    for what, number, content in payload.damaged():
        session, inbox, _ = hear(name, payload, number)
        before, bad = size(inbox), len(inbox.bad)
        session.read_all([payload.frame(number, content)], inbox)
        if len(inbox.bad) != bad + 1 or size(inbox) != before:
            wrong[what] = (before, size(inbox), inbox.bad[bad:])
    assert wrong == {}
    found = payload.expect
    assert payload.numbers or not (found.trades or found.books or found.candles)


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"17", b"[]", b"\xff\xfe", b"<html></html>", b'{"status":"ok"}', b"[[1]]"],
)
def test_another_frame_than_documented_is_bad(name: str, content: bytes) -> None:
    file = next(file for one, file in STREAMS if one == name)
    session, inbox, _ = hear(name, live_payloads.stream(name, file))
    before = size(inbox)
    session.read_all([Frame(content, 1)], inbox)
    assert [frame for frame, _ in inbox.bad][-1] == content
    assert size(inbox) == before
    with pytest.raises(BadAnswer):
        session.read(Frame(content, 1), inbox)


# --- past trades and books ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "file"), PAGES)
def test_trades_are_asked_for_and_read_as_documented(name: str, file: str) -> None:
    payload, history = live_payloads.page(name, file), live_payloads.history(name)
    instrument, answer = instrument_of(name, payload.symbol), live_payloads.answer(payload)
    request = request_of(payload.request)
    if payload.since is not None:
        request = history.trades_request(instrument, micro(payload.since))
        assert (request.path, dict(request.params)) == (
            payload.request.path,
            payload.request.params,
        )
        assert request.weight > 0
    load(name).check(answer)
    page = history.trades(answer, instrument, request)
    assert live_payloads.trade_rows(page.trades) == live_payloads.expected_trades(payload.expect)
    assert {trade.received for trade in page.trades} <= {None}
    following = page.next and (page.next.path, dict(page.next.params))
    assert following == (payload.next and (payload.next.path, payload.next.params))


@pytest.mark.parametrize("name", sorted(set(LIVE) & set(PAST)))
def test_a_trade_is_the_same_by_rest_and_in_the_stream(name: str) -> None:
    past: set[tuple[Any, ...]] = set()
    for one, file in PAGES:
        if one == name:
            payload = live_payloads.page(name, file)
            past |= {
                (payload.symbol, *row) for row in live_payloads.expected_trades(payload.expect)
            }
    streamed: set[tuple[Any, ...]] = set()
    for one, file in STREAMS:
        if one == name:
            stream = live_payloads.stream(name, file)
            names = {instrument_of(name, s.symbol).name: s.symbol for s in stream.subscriptions}
            for market, rows in stream.expect.trades.items():
                streamed |= {(names[market], *row) for row in live_payloads.expected_trades(rows)}
    assert past & streamed


@pytest.mark.parametrize(("name", "file"), PAGES)
def test_a_page_with_a_field_removed_or_of_another_kind_raises(name: str, file: str) -> None:
    payload, history = live_payloads.page(name, file), live_payloads.history(name)
    instrument, request = instrument_of(name, payload.symbol), request_of(payload.request)

    def act(body: object) -> list[Trade]:
        answer = live_payloads.answer(payload, body)
        load(name).check(answer)
        return history.trades(answer, instrument, request).trades

    found = {what: outcome(lambda: act(body)) for what, body in live_payloads.damaged(payload)}  # noqa: B023
    assert {what: kind for what, kind in found.items() if kind != "BadAnswer"} == {}
    assert found or not payload.expect


@pytest.mark.parametrize(("name", "file"), BOOKS)
def test_a_book_is_asked_for_and_read_as_documented(name: str, file: str) -> None:
    payload, depth = live_payloads.book(name, file), live_payloads.depth_of(name)
    instrument, answer = instrument_of(name, payload.symbol), live_payloads.answer(payload)
    assert payload.depth in depth.depths
    asked = depth.book_request(instrument, payload.depth)
    assert (asked.path, dict(asked.params)) == (payload.request.path, payload.request.params)
    assert asked.weight > 0
    load(name).check(answer)
    book = depth.book(answer, instrument)
    bids, asks, sequence, time = payload.expect
    assert (book.bids, book.asks, book.sequence) == (bids, asks, sequence)
    assert book.time == (time and micro(time))
    assert book.bids == sorted(book.bids, reverse=True)
    assert book.asks == sorted(book.asks)


@pytest.mark.parametrize(("name", "file"), BOOKS)
def test_a_book_with_a_field_removed_or_of_another_kind_raises(name: str, file: str) -> None:
    payload, depth = live_payloads.book(name, file), live_payloads.depth_of(name)
    instrument = instrument_of(name, payload.symbol)

    def act(body: object) -> object:
        answer = live_payloads.answer(payload, body)
        load(name).check(answer)
        return depth.book(answer, instrument)

    found = {what: outcome(lambda: act(body)) for what, body in live_payloads.damaged(payload)}  # noqa: B023
    assert {what: kind for what, kind in found.items() if kind != "BadAnswer"} == {}
    assert found


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"<!DOCTYPE html><html></html>", b'{"status":"ok"}', b"\xff\xfe"]
)
def test_another_body_than_documented_is_never_an_empty_page_and_no_book(body: bytes) -> None:
    for name, file in PAGES:
        page = live_payloads.page(name, file)
        instrument, request = instrument_of(name, page.symbol), request_of(page.request)
        with pytest.raises(ExchangeError):
            live_payloads.history(name).trades(Answer(200, {}, body, 1), instrument, request)
    for name, file in BOOKS:
        book = live_payloads.book(name, file)
        with pytest.raises(ExchangeError):
            live_payloads.depth_of(name).book(
                Answer(200, {}, body, 1), instrument_of(name, book.symbol)
            )
