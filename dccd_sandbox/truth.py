"""What a perfect collector has: candles, trades and books of a market, in our own units."""

from dataclasses import dataclass

import polars as pl

from dccd_sandbox import spans
from dccd_sandbox.book import Level
from dccd_sandbox.candles import NAMES, Digits, numbers
from dccd_sandbox.market import Market
from dccd_sandbox.tape import aggregated

_TIME = pl.Datetime("us", "UTC")
_CANDLES = {name: pl.Int64 if name in ("time", "trades") else pl.Float64 for name in NAMES}
_TRADES = {
    "time": pl.Int64,
    "trade_id": pl.String,
    "price": pl.Float64,
    "amount": pl.Float64,
    "side": pl.String,
}


@dataclass(frozen=True, slots=True)
class BookTruth:
    """A book after change `sequence` at `time` (ms): price and amount in base units, best first."""

    sequence: int
    time: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]


def candles(market: Market, span: int | str, start: int, stop: int, now: int) -> pl.DataFrame:
    """Closed candles that open in [start, stop) ms; the time in µs UTC, decimals as float64."""
    length = spans.seconds(span) if isinstance(span, str) else span
    rows = market.closed(length, start, stop, now)
    return _timed(pl.DataFrame(numbers(rows, market.digits), schema=_CANDLES))


def trades(market: Market, start: int, stop: int, now: int, aggregate: bool) -> pl.DataFrame:
    """Trades of [start, stop) ms that have happened: time, trade_id, price, amount, side.

    aggregate: the fills of an order as one, with the ids of Binance's aggregate trades.
    """
    found = market.tape.between(start, min(stop, now + 1))
    if aggregate:
        found, _ = aggregated(found)
    digits = market.digits
    columns = [
        found.time.tolist(),
        [str(found.first_id + index) for index in range(len(found))],
        [value / 10**digits.price for value in found.ticks.tolist()],
        [value / 10**digits.amount for value in found.lots.tolist()],
        ["buy" if buy else "sell" for buy in found.buy.tolist()],
    ]
    return _timed(pl.DataFrame(columns, schema=_TRADES))


def book(market: Market, moment: int, depth: int) -> BookTruth:
    """The book at a moment (ms), `depth` levels of each side, 0 for all."""
    found = market.book.at(moment)
    found = found.top(depth) if depth else found
    digits = market.digits
    return BookTruth(
        found.sequence, found.time, _levels(found.bids, digits), _levels(found.asks, digits)
    )


def _levels(levels: list[Level], digits: Digits) -> list[tuple[float, float]]:
    return [(ticks / 10**digits.price, lots / 10**digits.amount) for ticks, lots in levels]


def _timed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns((pl.col("time") * 1_000).cast(_TIME))
