"""cryptofeed 2.4.1: a full book kept from recorded messages, with a callback that does nothing."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from cryptofeed.defines import L2_BOOK
from cryptofeed.exchanges import BinanceFutures
from cryptofeed.symbols import Symbols
from meter import arguments

PAIR = "A-B-PERP"


async def nothing(book: Any, receipt: float) -> None:
    """The callback."""


async def main() -> None:
    """The whole record again and again, each time from its first book, which is not measured."""
    given = arguments()
    record = json.loads(Path(given["record"]).read_text())
    # its symbols come from the exchange; here there is one
    Symbols.set(BinanceFutures.id, {PAIR: record["market"]}, {"instrument_type": {PAIR: "perp"}})
    book_text, found = json.dumps(record["book"]), None

    async def read(*_: Any, **__: Any) -> str:
        return book_text

    cpu, applied = 0.0, 0
    for _ in range(given["times"]):
        feed = BinanceFutures(symbols=[PAIR], channels=[L2_BOOK], callbacks={L2_BOOK: nothing})
        feed._reset()
        feed.http_conn.read = read
        await feed._snapshot(record["market"])
        began = time.process_time()
        for text in record["messages"]:
            await feed.message_handler(text, None, 1.0)
            applied += 1
        cpu += time.process_time() - began
        found = feed._l2_book[PAIR].book
    sides = [[float(price) for price in side] for side in (found.bids, found.asks)]
    print(json.dumps({"cpu": cpu, "rows": applied, "book": sides}))


asyncio.run(main())
