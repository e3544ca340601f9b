"""The order book of this moment, asked for by REST."""

import time

from dccd_core.collection import open_client
from dccd_core.config import Config
from dccd_core.exchanges import load_all
from dccd_core.exchanges.trades import Book, Depth
from dccd_core.instruments import Instruments
from dccd_core.models import Symbol
from dccd_core.rest import Retries
from dccd_core.store.datastore import DataStore


def order_book(config: Config, exchange: str, pair: str, depth: int = 100) -> Book:
    """The best `depth` levels of each side: (price, amount in base units), best first.

    The exchange sends fewer where it has fewer. The request budget is shared with everything else
    that asks this exchange. Raises ValueError for an unknown exchange, a malformed pair or a depth
    below 1, and ExchangeError (UnknownSymbol, Blocked, …) if the book cannot be had.
    """
    known = load_all()
    if exchange not in known:
        raise ValueError(f"{exchange!r} is no exchange; there are: {', '.join(known)}")
    found = known[exchange]
    if not isinstance(found, Depth):
        raise ValueError(f"{found.title} serves no order book")
    if depth < 1:
        raise ValueError(f"depth {depth} must be 1 or more")
    symbol = Symbol.parse(pair)
    store = DataStore(config.settings.data_path)
    listed = store.private / "instruments" / f"{found.name}.json"
    with open_client(found, config.exchange_settings(exchange), store, None) as client:
        instrument = Instruments(found, client, listed).find(symbol, time.time_ns() // 1_000)
        enough = next((one for one in found.depths if one >= depth), found.depths[-1])
        request = found.book_request(instrument, enough)
        book = client.call(
            request, lambda answer: found.book(answer, instrument), retries=Retries()
        )
    return Book(book.bids[:depth], book.asks[:depth], book.sequence, book.time)
