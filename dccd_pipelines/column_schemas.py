"""The columns of each channel's files, as Dagster's catalog shows them."""

import dagster as dg

from dccd_core.models import Channel

_TIME, _PRICES = "timestamp[us, UTC]", "list<double>"
_CANDLES = [
    dg.TableColumn("time", _TIME, "open time of the candle"),
    *(
        dg.TableColumn(name, "double", "quote per base")
        for name in ("open", "high", "low", "close")
    ),
    dg.TableColumn("volume", "double", "traded, in base"),
    dg.TableColumn("quote_volume", "double", "traded, in quote"),
    dg.TableColumn("trades", "int64", "number of trades"),
    dg.TableColumn("taker_buy_volume", "double", "bought by takers, in base"),
    dg.TableColumn("taker_buy_quote_volume", "double", "bought by takers, in quote"),
]
_LEVELS = [
    dg.TableColumn("bid_price", _PRICES, "quote per base, best first"),
    dg.TableColumn("bid_amount", _PRICES, "in base"),
    dg.TableColumn("ask_price", _PRICES, "quote per base, best first"),
    dg.TableColumn("ask_amount", _PRICES, "in base"),
]
_BOOK_TIMES = [
    dg.TableColumn("time", _TIME, "of the exchange's clock"),
    dg.TableColumn("received", _TIME, "when its newest change came"),
]
COLUMNS = {
    Channel.OHLC: dg.TableSchema(_CANDLES),
    Channel.LIVE_OHLC: dg.TableSchema(
        [*_CANDLES, dg.TableColumn("received", _TIME, "when it was complete here")]
    ),
    Channel.TRADES: dg.TableSchema(
        [
            dg.TableColumn("time", _TIME, "when it was made"),
            dg.TableColumn("received", _TIME, "when it came over a stream, else null"),
            dg.TableColumn("trade_id", "string", "the exchange's own"),
            dg.TableColumn("price", "double", "quote per base"),
            dg.TableColumn("amount", "double", "traded, in base"),
            dg.TableColumn("side", "string", "the taker's: buy or sell"),
        ]
    ),
    Channel.BOOK: dg.TableSchema(
        [
            *_BOOK_TIMES,
            *_LEVELS,
            dg.TableColumn("valid", "bool", "false: out of step with the exchange"),
        ]
    ),
    Channel.BOOK_DELTAS: dg.TableSchema(
        [
            *_BOOK_TIMES,
            dg.TableColumn("sequence", "int64", "the exchange's number after the change, or null"),
            dg.TableColumn("snapshot", "bool", "a whole book from which changes start anew"),
            dg.TableColumn("depth", "int64", "levels a side that are left, or null"),
            *_LEVELS,
        ]
    ),
}
