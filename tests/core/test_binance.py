"""What is special of Binance spot, beside the contract that every exchange keeps to."""

import json

import pytest
from helpers import at

from dccd_core.exchanges import load, load_all
from dccd_core.exchanges.base import (
    Answer,
    BadAnswer,
    Banned,
    Instrument,
    RateLimited,
    Rejected,
    Request,
    retry_after,
)
from dccd_core.models import SECOND, Symbol, Window

BINANCE = load("binance")
NAMED = Instrument(Symbol("BTC", "USDT"), "BTCUSDT", trading=True)
NOW = at("2026-08-22T12:00:30")
MINUTE = 60 * SECOND


def answer(status: int = 200, body: bytes = b"[]", **headers: str) -> Answer:
    return Answer(status, {k.replace("_", "-"): v for k, v in headers.items()}, body, NOW)


def test_the_folder_is_the_registry() -> None:
    assert list(load_all()) == sorted(load_all())
    assert load_all()["binance"] is BINANCE
    with pytest.raises(KeyError):
        load("mtgox")


def test_the_budget_never_passes_six_thousand_in_any_minute() -> None:
    limits = BINANCE.limits
    assert limits.seconds == 60
    assert limits.weight + limits.burst <= 6_000
    assert (limits.page, limits.page_weight) == (1_000, 2)


def test_a_page_asks_for_as_many_candles_as_the_window_has_from_its_start_on() -> None:
    window = Window(at("2026-01-01"), at("2026-01-01") + 250 * MINUTE)
    request = BINANCE.candles_request(NAMED, 60, window)
    assert request == Request(
        "/api/v3/klines",
        {"symbol": "BTCUSDT", "interval": "1m", "limit": "250", "startTime": "1767225600000"},
        2,
    )
    assert "endTime" not in request.params, "a bounded page cannot show that it contradicts itself"


def test_every_documented_interval_has_its_name() -> None:
    short = ["1s", "1m", "3m", "5m", "15m", "30m"]
    hours = ["1h", "2h", "4h", "6h", "8h", "12h"]
    assert list(BINANCE.spans.values()) == [*short, *hours, "1d", "3d", "1w"]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("0", 0.0),
        ("3000", 0.5),
        ("6000", 1.0),
        ("", None),
        ("many", None),
        ("-1", None),
        ("٣", None),
    ],
)
def test_the_used_weight_is_a_part_of_six_thousand(value: str, part: float | None) -> None:
    assert BINANCE.used(answer(x_mbx_used_weight_1m=value)) == part
    assert BINANCE.used(answer()) is None


@pytest.mark.parametrize(
    ("body", "headers", "wait"),
    [
        (b'{"code":-1003,"msg":"IP banned until 1787400330000. Please"}', {}, 300.0),
        (b'{"code":-1003,"msg":"IP banned until 1787400330000."}', {"retry-after": "120"}, 120.0),
        (b'{"code":-1003,"msg":"Too much"}', {}, None),
        (b"<html>teapot</html>", {"retry-after": "259200"}, 259_200.0),
        (b"", {"retry-after": "soon"}, None),
    ],
)
def test_a_ban_lasts_as_long_as_the_header_or_the_text_says(
    body: bytes, headers: dict[str, str], wait: float | None
) -> None:
    with pytest.raises(Banned, match="has banned this address") as raised:
        BINANCE.check(Answer(418, headers, body, NOW))
    assert raised.value.retry_after == wait


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17.0),
        (" 17 ", 17.0),
        ("0", 0.0),
        ("Sat, 22 Aug 2026 12:01:00 GMT", 30.0),
        ("Sat, 22 Aug 2026 12:01:00 -0000", 30.0),
        ("Sat, 22 Aug 2026 14:01:00 +0200", 30.0),
        ("Sat, 22 Aug 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after(answer(429, retry_after=value)) == seconds
    with pytest.raises(RateLimited):
        BINANCE.check(answer(429, retry_after=value))


def test_what_the_exchange_says_is_in_the_error() -> None:
    said = b'{"code":-1120,"msg":"Invalid interval."}'
    with pytest.raises(Rejected, match=r"Binance: HTTP 400: -1120 Invalid interval\."):
        BINANCE.check(answer(400, said))


def test_a_status_that_is_not_known_yet_is_no_error() -> None:
    market = {"symbol": "XUSDT", "status": "NEW_ONE", "baseAsset": "X", "quoteAsset": "USDT"}
    body = json.dumps({"symbols": [market]}).encode()
    (found,) = BINANCE.instruments(answer(body=body), BINANCE.instruments_requests()[0]).instruments
    assert (found.name, found.trading) == ("XUSDT", False)


def kline(**changed: object) -> bytes:
    names = ["opened", "o", "h", "low", "c", "v", "closed", "q", "n", "t", "tq", "unused"]
    row: list[object] = [1_767_225_600_000, "1", "2", "0.5", "1.5", "9.00000001"]
    row += [1_767_225_659_999, "13.5", 7, "4", "6", "0"]
    for name, value in changed.items():
        row[names.index(name)] = value
    return json.dumps([row]).encode()


def test_every_column_is_in_its_place() -> None:
    found = BINANCE.candles(answer(body=kline()), NAMED, 60)
    assert found.time.tolist() == [at("2026-01-01")]
    columns = (found.open, found.high, found.low, found.close, found.volume)
    assert [column[0] for column in columns] == [1.0, 2.0, 0.5, 1.5, 9.00000001]
    assert found.quote_volume is not None
    assert found.trades is not None
    assert found.taker_buy_volume is not None
    assert found.taker_buy_quote_volume is not None
    assert found.quote_volume[0] == 13.5
    assert (found.trades[0], found.taker_buy_volume[0]) == (7, 4.0)
    assert found.taker_buy_quote_volume[0] == 6.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"closed": 1_767_225_660_000}, "not 60 s long"),
        ({"opened": 1_767_225_600}, "not 60 s long"),
        ({"opened": 2**62, "closed": 2**62}, "no time"),
        ({"opened": 2**64}, "no time"),
        ({"n": 10**30}, "no count|unreadable"),
        ({"n": 1.5}, "no count"),
        ({"q": "Infinity"}, "unreadable"),
        ({"q": "1e999"}, "not finite|out of range"),
        ({"o": "nan"}, "unreadable"),
        ({"o": "1,5"}, "13 numbers in rows of 12"),
        ({"h": True}, "unreadable"),
        ({"opened": "x"}, "unreadable"),
        ({"unused": None}, "unreadable"),
    ],
)
def test_a_field_that_cannot_be_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(BadAnswer, match=message):
        BINANCE.candles(answer(body=kline(**changed)), NAMED, 60)
