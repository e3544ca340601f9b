"""What is special of Kraken's past trades and candles: a cursor of nanoseconds, times as decimal
text, and the candles that Kraken itself has served."""

import json
from pathlib import Path

import numpy as np
import pytest

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.kraken import Kraken
from dccd_core.exchanges.trades import TradesPage
from dccd_core.models import SECOND, Symbol

SHARED = Path(__file__).parents[3] / "shared"
BTC = Instrument(Symbol("BTC", "USD"), "XBTUSD", trading=True)
NS = 1_779_883_200_000_000_000


def since(nanoseconds: int) -> Request:
    params = {"pair": "XBTUSD", "since": str(nanoseconds), "count": "1000"}
    return Request("/0/public/Trades", params)


def page(start: int, times: list[str], last: int) -> TradesPage:
    rows = ",".join(f'["1.0","2.0",{t},"b","l","",{i}]' for i, t in enumerate(times))
    body = f'{{"error":[],"result":{{"XXBTZUSD":[{rows}],"last":"{last}"}}}}'.encode()
    answer = Answer(200, {}, body, 0)
    Kraken().check(answer)
    return Kraken().trades(answer, BTC, since(start))


def test_a_full_page_continues_where_more_trades_of_its_last_time_may_be() -> None:
    times = ["1779883200.5"] * 999 + ["1779883200.9717445"]
    found = page(NS, times, NS + 971_744_512)
    assert found.next == since(NS + 971_744_511)
    assert found.trades[-1].time == NS // 1_000 + 971_744
    assert page(NS, times[1:], NS + 971_744_512).next is None


def test_a_page_of_one_time_goes_on_after_it_and_does_not_stay() -> None:
    found = page(NS, ["1779883200.000000001"] * 1_000, NS + 1)
    assert found.next == since(NS + 1)
    with pytest.raises(BadAnswer, match="ends at"):
        page(NS + 1, ["1779883200.000000001"] * 1_000, NS + 1)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1779883201.9717445", 1_779_883_201_971_744),
        ("1779883201", 1_779_883_201_000_000),
        ("1779883201.0000009", 1_779_883_201_000_000),
        ("1381095255.0506766", 1_381_095_255_050_676),
        ("1779883201.1", 1_779_883_201_100_000),
    ],
)
def test_times_are_read_as_text_and_cut(text: str, time: int) -> None:
    assert page(NS, [text], NS).trades[0].time == time


@pytest.mark.parametrize("text", ["-1.5", "1e9", '"1779883201"', "NaN", "null", "true", "1.5.2"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadAnswer):
        page(NS, [text], NS)


def test_a_time_is_asked_for_in_nanoseconds_and_the_year_dot_as_zero() -> None:
    exchange = Kraken()
    assert exchange.trades_request(BTC, 0) == since(0)
    assert exchange.trades_request(BTC, NS // 1_000) == since(NS - 1)
    assert exchange.trades_request(BTC, 10**15) == since(0)
    assert len(exchange.trades_request(BTC, 10**15 + 1).params["since"]) == 19


@pytest.mark.skipif(not SHARED.exists(), reason="no captures here")
def test_the_recorded_candles_are_read_to_the_last_digit() -> None:
    body = (SHARED / "market_data" / "kraken_ohlc_XXBTZUSD_1m_720rows.json").read_bytes()
    rows = json.loads(body)["result"]["XXBTZUSD"]
    answer = Answer(200, {}, body, 0)
    Kraken().check(answer)
    found = Kraken().candles(answer, BTC, 60)
    assert len(found) == len(rows) == 720
    assert found.time.tolist() == [row[0] * SECOND for row in rows]
    columns = (found.open, found.high, found.low, found.close, found.volume)
    for place, column in zip((1, 2, 3, 4, 6), columns, strict=True):
        assert column.tolist() == [float(row[place]) for row in rows]
    assert found.trades is not None
    assert found.trades.tolist() == [row[7] for row in rows]
    assert np.flatnonzero(found.trades == 0).size == 17
    assert found.quote_volume is None


@pytest.mark.skipif(not SHARED.exists(), reason="no captures here")
def test_every_recorded_market_has_a_name_of_its_own() -> None:
    """The list is from before `status`. Left out are the pairs of the dark pool and no others."""
    lines = (SHARED / "captures" / "kraken.assetpairs.jsonl").read_text().splitlines()
    body = next(json.loads(line)["msg"] for line in lines if json.loads(line)["dir"] == "http")
    recorded = body["result"].values()
    for pair in recorded:
        pair["status"] = "online"
    found = (
        Kraken()
        .instruments(Answer(200, {}, json.dumps(body).encode(), 0), Request("/"))
        .instruments
    )
    lit = {pair["altname"]: pair["wsname"] for pair in recorded if "wsname" in pair}
    assert {one.name for one in found} == set(lit)
    assert len({one.symbol for one in found}) == len(found) == len(lit) > 250
    ours = {"XBT": "BTC", "XDG": "DOGE"}
    for one in found:
        assert Symbol.parse(str(one.symbol)) == Symbol.from_slug(one.symbol.slug) == one.symbol
        base, _, quote = lit[one.name].partition("/")
        wanted = (ours.get(base, base), ours.get(quote, quote))
        assert (one.symbol.base, one.symbol.quote) == wanted


@pytest.mark.skipif(not SHARED.exists(), reason="no captures here")
def test_recorded_trades_and_a_recorded_book_are_read() -> None:
    samples = SHARED / "captures" / "samples"
    body = (samples / "kraken_http_trades.json").read_bytes()
    rows = json.loads(body, parse_float=str)["result"]["XBTUSDT"]
    found = Kraken().trades(Answer(200, {}, body, 0), BTC, since(0))
    assert [trade.trade_id for trade in found.trades] == [str(row[6]) for row in rows]
    assert [trade.buy for trade in found.trades] == [row[3] == "b" for row in rows]
    for trade, row in zip(found.trades, rows, strict=True):
        seconds, _, fraction = str(row[2]).partition(".")
        assert trade.time == int(seconds + f"{fraction:0<6}"[:6])
    assert (found.next is None) == (len(rows) < 1_000)
    book = Kraken().book(
        Answer(200, {}, (samples / "kraken_http_order_book.json").read_bytes(), 0), BTC
    )
    assert book.bids[0][0] < book.asks[0][0]
