"""What is special of Binance's past trades: pages by id, from another host than candles."""

import json
from pathlib import Path

import pytest

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument, Request
from dccd_core.exchanges.binance import TRADES_URL, Binance
from dccd_core.exchanges.trades import TradesPage
from dccd_core.limits import Limiter
from dccd_core.models import SECOND, Symbol
from dccd_core.rest import RestClient, Retries
from dccd_sandbox import Sandbox, Settings

CAPTURE = Path(__file__).parents[3] / "shared" / "captures" / "binance_spot.exchangeInfo.jsonl"
BTC = Instrument(Symbol("BTC", "USDT"), "BTCUSDT", trading=True)


def past(first: int) -> Request:
    params = {"symbol": "BTCUSDT", "limit": "1000", "fromId": str(first)}
    return Request("/api/v3/historicalTrades", params, 25, TRADES_URL)


def read(request: Request, ids: list[int]) -> TradesPage:
    body = [
        {"id": i, "price": "1", "qty": "2", "quoteQty": "2", "time": 1_787_400_000_000}
        | {"isBuyerMaker": True, "isBestMatch": True}
        for i in ids
    ]
    return Binance().trades(Answer(200, {}, json.dumps(body).encode(), 0), BTC, request)


def test_a_full_page_of_one_millisecond_continues_after_its_last_id() -> None:
    page = read(past(5_000), list(range(5_000, 6_000)))
    assert page.next == past(6_000)
    assert [trade.trade_id for trade in page.trades] == [str(i) for i in range(5_000, 6_000)]
    assert {trade.time for trade in page.trades} == {1_787_400_000 * SECOND}
    assert read(past(6_000), [6_000]).next is None
    assert read(past(6_000), []) == TradesPage([], None)


@pytest.mark.parametrize("ids", [[4_999], [5_001, 5_000], [5_001, 5_001], [3_000, 5_000]])
def test_trades_of_another_question_or_out_of_order_are_refused(ids: list[int]) -> None:
    with pytest.raises(BadAnswer, match="in order"):
        read(past(5_000), ids)


def test_only_raw_trades_come_from_the_other_host() -> None:
    exchange = Binance()
    assert exchange.trades_request(BTC, 0).base is None
    assert exchange.trades_request(BTC, -5).params["startTime"] == "0"
    assert past(1).base == "https://api.binance.com"
    assert read(past(1), list(range(1, 1_001))).next == past(1_001)


def test_an_aggregate_more_than_asked_is_refused() -> None:
    rows = b'[{"a":1,"f":1},{"a":2,"f":2}]'
    with pytest.raises(BadAnswer, match="answers with 2"):
        Binance().trades(Answer(200, {}, rows, 0), BTC, Binance().trades_request(BTC, 0))


@pytest.mark.parametrize(
    ("depth", "weight"), [(5, 5), (100, 5), (500, 25), (1_000, 50), (5_000, 250)]
)
def test_a_book_costs_what_its_depth_costs(depth: int, weight: int) -> None:
    assert Binance().book_request(BTC, depth).weight == weight


def test_the_other_host_is_asked_unless_the_config_names_one(tmp_path: Path) -> None:
    class Elsewhere(Binance):
        rest_url = "http://127.0.0.1:9"

    limiter = Limiter(tmp_path / "limits", Binance.limits)

    def ask(client: RestClient, base: str) -> int:
        with client:
            request = Request("/api/v3/ping", base=base)
            return client.call(request, lambda answer: answer.status, retries=Retries(1))

    with Sandbox(Settings()) as box:
        assert ask(RestClient(Elsewhere(), limiter), box.binance_url) == 200
        configured = RestClient(Elsewhere(), limiter, base_url=box.binance_url)
        assert ask(configured, "http://127.0.0.1:9") == 200


@pytest.mark.skipif(not CAPTURE.exists(), reason="needs ../shared/captures")
def test_every_recorded_market_has_a_name_of_its_own() -> None:
    info = json.loads(CAPTURE.read_text().splitlines()[0])["msg"]
    answer = Answer(200, {}, json.dumps(info).encode(), 0)
    found = Binance().instruments(answer, Request("/")).instruments
    assert len({one.symbol for one in found}) == len(found) == len(info["symbols"]) == 150
    for one, market in zip(found, info["symbols"], strict=True):
        assert Symbol.parse(str(one.symbol)) == Symbol.from_slug(one.symbol.slug) == one.symbol
        assert one.name == market["symbol"]
        assert (one.symbol.base, one.symbol.quote) == (market["baseAsset"], market["quoteAsset"])
        assert one.trading is (market["status"] == "TRADING")
