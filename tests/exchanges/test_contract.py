"""What every exchange of the folder must keep to, told by its class and its payloads."""

import importlib
import re
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import payloads
import pytest
from payloads import Market, Payload, Question, micro

import dccd_sandbox.exchanges
from dccd_core.exchanges import base, load, load_all
from dccd_core.exchanges.base import (
    Answer,
    Candles,
    Exchange,
    ExchangeError,
    Instrument,
    Listed,
    RateLimited,
    Request,
)
from dccd_core.models import DAY, SECOND, Channel, Series, Symbol, Window, parse_span, span_label
from dccd_core.pages import EARLIEST, Asked, fetch_page, read_candles

EXCHANGES = list(load_all())
DOCUMENTED = {"UnknownSymbol", "RateLimited", "Unavailable"}


def files(*patterns: str) -> list[tuple[str, str]]:
    """Every (exchange, payload) of which the file's name fits."""
    return [(n, f) for n in EXCHANGES for pattern in patterns for f in payloads.names(n, pattern)]


CANDLES = files("candles_*")
READ = [*CANDLES, *files("last", "empty")]
FIRST = files("first", "first_*")
INSTRUMENTS = files("instruments", "instruments_*")
# the others are read by test_contract_live.py
LIVE = ("live_", "trades_", "book_")
ANSWERS = [(name, file) for name, file in files("*") if not file.startswith(LIVE)]


def code_of(exchange: Exchange) -> ModuleType:
    return importlib.import_module(type(exchange).__module__)


def request_of(payload: Payload | Question) -> Request:
    question = payload.request if isinstance(payload, Payload) else payload
    assert question is not None
    return Request(question.path, question.params)


def same(one: Request, two: Request) -> bool:
    return (one.path, dict(one.params)) == (two.path, dict(two.params))


def listed(name: str) -> list[Instrument]:
    found: list[Instrument] = []
    for _, file in [one for one in INSTRUMENTS if one[0] == name]:
        payload = payloads.payload(name, file)
        found += load(name).instruments(payload.answer(), request_of(payload)).instruments
    return found


def instrument_of(name: str, payload: Payload) -> Instrument:
    return next(found for found in listed(name) if str(found.symbol) == payload.symbol)


def span_of(payload: Payload) -> int:
    assert payload.span is not None
    return parse_span(payload.span)


def series_of(name: str, payload: Payload) -> Series:
    assert payload.symbol is not None
    return Series(name, Channel.OHLC, Symbol.parse(payload.symbol), span_of(payload))


def window_of(payload: Payload) -> Window:
    assert payload.window is not None
    return Window(*map(micro, payload.window))


def read(name: str, payload: Payload, body: object = None) -> Candles:
    return read_answer(name, payload, payload.answer(body))


def read_answer(name: str, payload: Payload, answer: Answer) -> Candles:
    """As the client does: hold the answer against the exchange's errors, then parse it."""
    exchange = load(name)
    exchange.check(answer)
    return exchange.candles(answer, instrument_of(name, payload), span_of(payload))


def read_first(name: str, payload: Payload, body: object = None) -> int | Request | None:
    exchange, answer = load(name), payload.answer(body)
    exchange.check(answer)
    return exchange.first_candle(answer, instrument_of(name, payload), span_of(payload))


def read_instruments(name: str, payload: Payload, body: object = None) -> Listed:
    exchange, answer = load(name), payload.answer(body)
    exchange.check(answer)
    return exchange.instruments(answer, request_of(payload))


def rows(candles: Candles) -> list[list[object]]:
    columns = [getattr(candles, field.name) for field in fields(Candles)]
    lists = [[None] * len(candles) if c is None else c.tolist() for c in columns]
    return [list(row) for row in zip(*lists, strict=True)]


def expected(payload: Payload) -> list[list[object]]:
    found = msgspec.json.decode(payload.expect, type=list[list[object]])
    return [[micro(str(opened)), *rest] for opened, *rest in found]


# --- the class ---------------------------------------------------------------------------------


def test_every_exchange_has_payloads_and_a_sandbox_and_every_folder_an_exchange() -> None:
    folders = {path.name for path in payloads.FOLDER.iterdir() if any(path.glob("*.json"))}
    assert folders == set(EXCHANGES)
    simulated = {path.stem for path in Path(dccd_sandbox.exchanges.__file__).parent.glob("*.py")}
    assert set(EXCHANGES) <= simulated - {"base", "__init__"}


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_class_says_what_the_exchange_is(name: str) -> None:
    exchange = load(name)
    assert code_of(exchange).__name__ == f"dccd_core.exchanges.{name}"
    assert name == name.lower()
    assert exchange.title
    assert exchange.docs.startswith("https://")
    assert "https://" in (code_of(exchange).__doc__ or "")
    assert exchange.rest_url.startswith("https://")
    assert not exchange.rest_url.endswith("/")
    assert Channel.OHLC in exchange.channels
    assert isinstance(exchange.gapless, bool)


@pytest.mark.parametrize("name", EXCHANGES)
def test_spans_are_sorted_unique_and_have_labels_of_ours(name: str) -> None:
    spans = load(name).spans
    assert spans
    assert list(spans) == sorted(spans)
    assert len(set(spans.values())) == len(spans)
    assert all(parse_span(span_label(span)) == span for span in spans)


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_budget_holds_every_request(name: str) -> None:
    exchange = load(name)
    limits = exchange.limits
    instrument = Instrument(Symbol("BTC", "USDT"), "BTCUSDT", trading=True)
    span = next(iter(exchange.spans))
    window = Window(EARLIEST, EARLIEST + limits.page * span * SECOND)
    requests = [
        *exchange.instruments_requests(),
        exchange.candles_request(instrument, span, window),
        exchange.first_candle_request(instrument, span),
        exchange.last_candle_request(instrument, span),
    ]
    assert limits.page >= 1
    for request in requests:
        assert 0 < request.weight <= limits.weight + limits.burst
        assert request.path.startswith("/")
        assert "?" not in request.path
        assert all(isinstance(value, str) for value in request.params.values())
    assert requests[-3].weight == limits.page_weight


# --- instruments -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "file"), INSTRUMENTS)
def test_instruments_are_read_as_expected(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    found = read_instruments(name, payload)
    markets = msgspec.json.decode(payload.expect, type=list[Market])
    assert found.instruments == [
        Instrument(
            Symbol.parse(market.symbol),
            market.name,
            market.trading,
            None if market.listed is None else micro(market.listed),
            market.size,
            market.price_digits,
            market.amount_digits,
            market.inverse,
        )
        for market in markets
    ]
    assert markets
    assert (found.next is None) == (payload.next is None)
    if found.next and payload.next:
        assert same(found.next, request_of(payload.next))


@pytest.mark.parametrize("name", EXCHANGES)
def test_there_is_a_payload_for_every_part_of_the_instrument_list(name: str) -> None:
    parts = [payloads.payload(name, file) for one, file in INSTRUMENTS if one == name]
    asked = [*load(name).instruments_requests(), *(request_of(p.next) for p in parts if p.next)]
    answered = [request_of(part) for part in parts]
    assert asked
    for one in asked:
        assert any(same(one, other) for other in answered), one
    for one in answered:
        assert any(same(one, other) for other in asked), one


@pytest.mark.parametrize("name", EXCHANGES)
def test_symbols_round_trip_and_stand_in_the_requests(name: str) -> None:
    exchange, instruments = load(name), listed(name)
    assert len({instrument.symbol for instrument in instruments}) == len(instruments)
    assert len({instrument.name for instrument in instruments}) == len(instruments)
    span = next(iter(exchange.spans))
    for instrument in instruments:
        assert Symbol.parse(str(instrument.symbol)) == instrument.symbol
        assert Symbol.from_slug(instrument.symbol.slug) == instrument.symbol
        assert instrument.size >= 0
        request = exchange.candles_request(instrument, span, Window(EARLIEST, EARLIEST + SECOND))
        assert instrument.name in f"{request.path} {' '.join(request.params.values())}"


# --- candles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXCHANGES)
def test_there_is_a_payload_for_all_that_is_asked(name: str) -> None:
    assert {"first", "last", "empty"} <= set(payloads.names(name, "*"))
    assert payloads.names(name, "candles_*")
    assert {payloads.payload(name, f).raises for f in payloads.names(name, "error_*")} >= DOCUMENTED


@pytest.mark.parametrize(("name", "file"), ANSWERS)
def test_a_payload_tells_where_and_when_it_is_from(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    assert payload.source.startswith(("https://", "wss://"))
    assert micro(f"{payload.captured}T00:00Z") <= micro(payload.time) + DAY * SECOND
    assert all(header == header.lower() for header in payload.headers)
    assert bool(bytes(payload.body)) != (payload.text is not None)


@pytest.mark.parametrize(("name", "file"), ANSWERS)
def test_the_used_part_of_the_budget_is_read(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    assert load(name).used(payload.answer()) == payload.used


@pytest.mark.parametrize(("name", "file"), READ)
def test_candles_are_read_as_expected(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    assert rows(read(name, payload)) == expected(payload)


@pytest.mark.parametrize(("name", "file"), READ)
def test_candles_are_in_order_on_the_grid_of_a_possible_time_and_finite(
    name: str, file: str
) -> None:
    payload = payloads.payload(name, file)
    candles = read(name, payload)
    series = series_of(name, payload)
    times = candles.time
    assert times.dtype == np.int64
    assert (np.diff(times) > 0).all()
    assert all(series.floor(int(opened)) == opened for opened in times)
    assert all(EARLIEST <= opened < time.time() * SECOND + DAY * SECOND for opened in times)
    for field in fields(Candles):
        column = getattr(candles, field.name)
        assert column is None or (len(column) == len(times) and np.isfinite(column).all())
    opens = () if load(name).opens_at_last_close else (candles.open,)
    for one in (*opens, candles.close):
        assert ((candles.low <= one) & (one <= candles.high)).all()
    assert (candles.volume >= 0).all()


@pytest.mark.parametrize(("name", "file"), READ)
def test_requests_are_built_as_documented(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    exchange, instrument, span = load(name), instrument_of(name, payload), span_of(payload)
    if file == "last":
        request = exchange.last_candle_request(instrument, span)
    else:
        request = exchange.candles_request(instrument, span, window_of(payload))
    assert (request.path, dict(request.params)) == (
        request_of(payload).path,
        request_of(payload).params,
    )


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_first_candle_is_found_step_by_step(name: str) -> None:
    steps = [payloads.payload(name, file) for one, file in FIRST if one == name]
    payload = payloads.payload(name, "first")
    request = load(name).first_candle_request(instrument_of(name, payload), span_of(payload))
    for _ in steps:
        payload = next(step for step in steps if same(request_of(step), request))
        found = read_first(name, payload)
        if not isinstance(found, Request):
            break
        assert payload.next is not None
        assert same(found, request_of(payload.next))
        request = found
    assert payload.first is not None
    assert found == micro(payload.first)
    assert payload is steps[-1]


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_newest_candle_is_one_and_nothing_is_none(name: str) -> None:
    assert len(read(name, payloads.payload(name, "last"))) >= 1
    assert len(read(name, payloads.payload(name, "empty"))) == 0


@pytest.mark.parametrize(("name", "file"), CANDLES)
def test_the_running_candle_is_not_in_a_page_and_the_closed_ones_are(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    exchange, series = load(name), series_of(name, payload)
    instrument = instrument_of(name, payload)
    times = [int(str(row[0])) for row in expected(payload)]
    assert len(times) >= 3
    now = micro(payload.time)
    running = [opened for opened in times if opened + series.span * SECOND > now]

    def page_at(moment: int) -> list[int]:
        def ask(request: Request, parse: Callable[[Answer], Asked]) -> Asked:
            return parse(payload.answer(time=moment))

        window = Window(times[0], times[-1] + series.span * SECOND)
        page = fetch_page(ask, exchange, instrument, series, window)
        found: list[int] = page.candles.time.tolist()
        return found

    assert len(running) <= 1
    assert page_at(now) == times[: len(times) - len(running)]
    assert page_at(times[-1]) == times[:-1]
    assert page_at(times[-1] + series.span * SECOND) == times


# --- what must be refused ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "file"), CANDLES)
def test_every_column_that_is_stored_is_a_required_one(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    candles = read(name, payload)
    stored = sum(getattr(candles, field.name) is not None for field in fields(Candles))
    assert len(payload.required) >= stored
    assert sum(1 for _ in payload.numbers()) >= (stored - 1) * len(candles)


def outcome(act: Callable[[Any], object], argument: object) -> str:
    """The error's name, or what was read in its place."""
    try:
        return f"accepted as {act(argument)}"
    except ExchangeError as error:
        return type(error).__name__


@pytest.mark.parametrize(("name", "file"), [*INSTRUMENTS, *CANDLES, *files("last"), *FIRST])
def test_a_payload_with_a_field_removed_or_of_another_kind_raises(name: str, file: str) -> None:
    payload = payloads.payload(name, file)

    def act(body: object) -> object:
        if (name, file) in INSTRUMENTS:
            return read_instruments(name, payload, body)
        return (
            read_first(name, payload, body) if (name, file) in FIRST else read(name, payload, body)
        )

    found = {what: outcome(act, body) for what, body in payload.damaged()}
    assert {what: kind for what, kind in found.items() if kind != "BadAnswer"} == {}
    assert found


@pytest.mark.parametrize(("name", "file"), CANDLES)
@pytest.mark.parametrize("wrong", ["NaN", "inf", "-Infinity", "", "abc", True])
def test_a_number_that_is_none_raises(name: str, file: str, wrong: object) -> None:
    payload = payloads.payload(name, file)
    exchange, series = load(name), series_of(name, payload)
    instrument = instrument_of(name, payload)
    whole = payload.json()

    def act(body: object) -> object:
        asked = read_candles(exchange, instrument, series, payload.answer(body))
        return rows(asked.candles)

    found = {
        place: outcome(act, payloads.changed(whole, place, wrong)) for place, _ in payload.numbers()
    }
    assert {place: kind for place, kind in found.items() if kind != "BadAnswer"} == {}
    # where all numbers are text, none of them is an integer that could be too large
    assert found or wrong == 10**25


@pytest.mark.parametrize(("name", "file"), CANDLES)
def test_a_whole_number_of_more_than_64_bits_is_no_time_and_no_count(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    exchange, series = load(name), series_of(name, payload)
    instrument = instrument_of(name, payload)
    whole = payload.json()
    times = {
        micro(str(row[0])) for row in msgspec.json.decode(payload.expect, type=list[list[Any]])
    }

    def act(body: object) -> object:
        return rows(read_candles(exchange, instrument, series, payload.answer(body)).candles)

    found = {}
    for place, value in payload.numbers():
        number = float(str(value))
        if isinstance(value, int) or {number * SECOND, number * 1_000} & times:
            huge: object = 10**25 if isinstance(value, int) else str(10**25)
            found[place] = outcome(act, payloads.changed(whole, place, huge))
    assert {place: kind for place, kind in found.items() if kind != "BadAnswer"} == {}


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"<!DOCTYPE html><html></html>", b'{"status":"ok"}', b"\xff\xfe"]
)
def test_another_body_than_documented_is_an_error_and_never_an_empty_page(
    name: str, body: bytes
) -> None:
    payload = payloads.payload(name, "empty")
    answer = payload.answer()
    wrong = Answer(200, answer.headers, body, answer.time)
    with pytest.raises(ExchangeError):
        read_answer(name, payload, wrong)
    with pytest.raises(ExchangeError):
        load(name).instruments(wrong, load(name).instruments_requests()[0])


@pytest.mark.parametrize(("name", "file"), files("error_*"))
def test_an_error_payload_raises_what_it_stands_for(name: str, file: str) -> None:
    payload = payloads.payload(name, file)
    asked = payloads.payload(name, "empty")
    with pytest.raises(ExchangeError) as raised:
        read_answer(name, asked, payload.answer())
    assert type(raised.value) is getattr(base, payload.raises or "")
    wait = raised.value.retry_after if isinstance(raised.value, RateLimited) else None
    assert wait == payload.retry_after
    assert len(str(raised.value)) > 10


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("status", [*range(400, 405), 418, 429, 451, 500, 502, 503, 504, 520])
def test_no_http_error_passes_as_an_answer(name: str, status: int) -> None:
    for body in (b"[]", b"{}", b"<html>error</html>", b""):
        with pytest.raises(ExchangeError):
            load(name).check(Answer(status, {}, body, micro("2026-08-22T00:00Z")))


PAGE = b"""<!DOCTYPE html>\n<html lang="en"><head><style>b {}</style>
  <title>403 Forbidden &amp;\n  blocked</title></head><body><h1>Sorry</h1></body></html>"""


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("status", [400, 403, 429, 502])
def test_a_page_of_html_is_quoted_by_its_title(name: str, status: int) -> None:
    with pytest.raises(ExchangeError) as raised:
        load(name).check(Answer(status, {}, PAGE, micro("2026-08-22T00:00Z")))
    assert "403 Forbidden & blocked" in str(raised.value)
    assert not re.search(r"b'|b\"|[<>\\\n]", str(raised.value))
