"""What a sandbox is made of: settings, and the markets that its words describe."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dccd_sandbox import spans
from dccd_sandbox.clock import epoch_ms
from dccd_sandbox.files import FileMarket
from dccd_sandbox.market import Market
from dccd_sandbox.raised import RaisedMarket
from dccd_sandbox.synthetic import Nature, SyntheticMarket

DEFAULT_SYMBOLS = (
    "BTCUSDT:BTC:USDT:2019-01-01",
    "ETHUSDT:ETH:USDT:2019-01-01",
    "SOLUSDT:SOL:USDT:2020-08-11T06:00",
    "ADABTC:ADA:BTC:2020-03-15",
    "DOGEUSDT:DOGE:USDT:2021-07-05T12:30",
)
# Digits of price and amount add up to 8 at most: more are not printed of a quote volume.
_NATURES = {
    "BTC": Nature(price=30_000, amount=0.05, price_digits=2, amount_digits=5),
    "ETH": Nature(price=2_000, amount=0.8, price_digits=2, amount_digits=4),
    "SOL": Nature(price=100, amount=9, price_digits=2, amount_digits=3),
    "DOGE": Nature(price=0.1, amount=4_000, price_digits=5, amount_digits=0),
    "ADABTC": Nature(price=0.00002, amount=900, price_digits=8, amount_digits=0),
}
_ANY = Nature(price=20, amount=30, price_digits=4, amount_digits=2)
MANY_LISTED = "2023-01-01"
MOST_TRADES = 6_000
"""A minute: a day of a market is made as a whole, and takes 25 bytes a trade."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A sandbox, in the words of its command line.

    symbols are SYMBOL:BASE:QUOTE:LISTED (ISO, UTC), candles SYMBOL:BASE:QUOTE:SPAN:PATH; `many`
    adds numbered pairs N0000USDT …, listed 2023-01-01; latency is in seconds; weight_limit is what
    may be used in a minute, 0 for no limit; `now` sets the clock, `frozen` stops it.
    """

    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    candles: tuple[str, ...] = ()
    many: int = 0
    latency: float = 0.0
    seed: int = 1
    weight_limit: int = 6_000
    now: str | datetime | None = None
    frozen: bool = False
    speed: float = 1.0
    rate: float = 5.0


def markets(settings: Settings) -> dict[str, Market]:
    """Every market by its symbol. Raises ValueError naming the words that make no market."""
    if not 0 < settings.rate <= MOST_TRADES:
        raise ValueError(f"rate {settings.rate}: want trades a minute, at most {MOST_TRADES}")
    found: dict[str, Market] = {}
    for market in _each(settings):
        if market.symbol in found:
            raise ValueError(f"symbol {market.symbol} is given twice")
        found[market.symbol] = market
    return found


def _each(settings: Settings) -> Iterator[Market]:
    for text in settings.symbols:
        symbol, base, quote, listed = _words(text, "SYMBOL:BASE:QUOTE:LISTED")
        nature = _NATURES.get(symbol) or _NATURES.get(base, _ANY)
        nature = replace(nature, rate=settings.rate)
        yield SyntheticMarket((symbol, base, quote), _listing(listed, text), nature, settings.seed)
    for text in settings.candles:
        symbol, base, quote, span, path = _words(text, "SYMBOL:BASE:QUOTE:SPAN:PATH")
        yield FileMarket((symbol, base, quote), spans.seconds(span), Path(path))
    if settings.many:
        pair = ("N", "N", "USDT")
        nature = replace(_ANY, rate=settings.rate)
        model = SyntheticMarket(pair, epoch_ms(MANY_LISTED), nature, settings.seed)
        for n in range(settings.many):
            yield RaisedMarket((f"N{n:04}USDT", f"N{n:04}", "USDT"), model, n)


def _words(text: str, form: str) -> list[str]:
    words = text.split(":", form.count(":"))
    if len(words) != form.count(":") + 1 or not all(words):
        raise ValueError(f"{text!r}: want {form}")
    return words


def _listing(listed: str, text: str) -> int:
    try:
        return epoch_ms(listed)
    except ValueError:
        raise ValueError(f"{text!r}: {listed!r} is no ISO date such as 2019-01-01") from None
