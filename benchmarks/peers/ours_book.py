"""Ours: a full book kept from recorded messages, decoded one by one."""

import json
import time
from pathlib import Path

from meter import arguments

from dccd_core.exchanges.binance_usdm import BinanceUsdm
from dccd_core.exchanges.live import Frame, Inbox
from dccd_core.exchanges.trades import Book
from dccd_streams.book import OrderBook


def main() -> None:
    """The whole record again and again, each time from its first book, which is not measured."""
    given = arguments()
    record = json.loads(Path(given["record"]).read_text())
    bids, asks = (
        [(float(price), float(amount)) for price, amount in record["book"][side]]
        for side in ("bids", "asks")
    )
    first = Book(bids, asks, record["book"]["lastUpdateId"], None)
    frames = [Frame(text.encode(), 1_000_000 + n) for n, text in enumerate(record["messages"])]
    cpu, applied = 0.0, 0
    for _ in range(given["times"]):
        session, book = BinanceUsdm().session(), OrderBook(from_rest=True)
        book.start(first, 1)
        began = time.process_time()
        for frame in frames:
            inbox = Inbox()
            session.read_all([frame], inbox)
            for change in inbox.books[record["market"]]:
                applied += len(book.apply(change))
        cpu += time.process_time() - began
    found = [[price for price, _ in side] for side in book.levels()]
    print(json.dumps({"cpu": cpu, "rows": applied, "book": found}))


main()
