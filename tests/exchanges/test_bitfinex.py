"""What is special of Bitfinex: the codes of its currencies and pairs."""

import json
from pathlib import Path

import pytest

from dccd_core.exchanges.base import Answer, BadAnswer, Instrument
from dccd_core.exchanges.bitfinex import Bitfinex
from dccd_core.models import Symbol

CAPTURE = Path(__file__).parents[3] / "shared" / "captures" / "bitfinex.conf.jsonl"


def listed(spot: list[str], perpetual: list[str], names: list[list[str]]) -> list[Instrument]:
    exchange = Bitfinex()
    body = json.dumps([spot, perpetual, names]).encode()
    return exchange.instruments(
        Answer(200, {}, body, 0), exchange.instruments_requests()[0]
    ).instruments


@pytest.mark.skipif(not CAPTURE.exists(), reason="the captures are not beside this repository")
def test_the_whole_recorded_list_has_symbols_of_ours() -> None:
    answers = [json.loads(line) for line in CAPTURE.read_text().splitlines()]
    lists = {answer["url"].rsplit(":", 1)[1]: answer["msg"][0] for answer in answers[:3]}
    found = listed(lists["exchange"], lists["future"], [["UST", "USDt"], ["ORS", "ORS Group"]])
    assert len(found) == len(lists["exchange"]) + len(lists["future"]) == 328
    assert len({instrument.symbol for instrument in found}) == 328
    names = {str(instrument.symbol): instrument.name for instrument in found}
    assert names["BTC/USDT"] == "tBTCUST"
    assert names["DUSK/USD"] == "tDUSK:USD"
    assert names["BTC/USDT:PERP"] == "tBTCF0:USTF0"
    assert names["ORS/USD"] == "tORSUSD"
    assert all(Symbol.parse(name) for name in names)


def test_of_two_pairs_with_one_name_the_unmapped_code_is_taken() -> None:
    found = listed(["EDOUSD", "PNTUSD"], ["BTCF0:USTF0"], [["EDO", "PNT"]])
    assert [(str(i.symbol), i.name) for i in found] == [
        ("BTC/UST:PERP", "tBTCF0:USTF0"),
        ("PNT/USD", "tPNTUSD"),
    ]


@pytest.mark.parametrize("pair", ["BTCUSDX", "BTC", ""])
def test_a_pair_of_an_unknown_form_is_not_cut_somewhere(pair: str) -> None:
    with pytest.raises(BadAnswer, match="is not a pair"):
        listed([pair], ["BTCF0:USTF0"], [["UST", "USDt"]])


def test_a_field_that_is_added_at_the_end_of_a_row_is_no_harm() -> None:
    answer = Answer(200, {}, b"[[1787389200000,1.5,2.5,3.5,0.5,7.25,99]]", 0)
    candles = Bitfinex().candles(answer, Instrument(Symbol("BTC", "USD"), "tBTCUSD", True), 60)
    assert candles.close.tolist() == [2.5]
    assert candles.volume.tolist() == [7.25]
