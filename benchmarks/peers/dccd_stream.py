"""dccd 3.8.1: a stream of trades into its daily files."""

import asyncio
from pathlib import Path
from typing import Any

from dccd.sources import binance
from dccd381 import opened
from meter import Meter, arguments


async def main() -> None:
    """Record until the rows are there, then stop cleanly."""
    given = arguments()
    folder = Path(given["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    stop, count, meter = asyncio.Event(), 0, Meter()
    original = binance._BinanceTradeWS.__init__
    parse = binance._BinanceTradeWS.stream

    def moved(self: Any, pair: str) -> None:
        original(self, pair)
        self.url = f"{given['ws']}/binance/ws/{pair}@aggTrade"

    async def counted(self: Any) -> Any:
        nonlocal count
        async for row in parse(self):
            if not count:
                meter.__enter__()
            count += 1
            yield row
            if count >= given["messages"]:
                stop.set()

    binance._BinanceTradeWS.__init__ = moved
    binance._BinanceTradeWS.stream = counted
    async with opened(folder, f"{given['url']}/binance", limiter=True) as client:
        await asyncio.gather(
            *(
                client.stream("binance", f"N{number:04}/USDT", "trades", stop_event=stop)
                for number in range(given["connections"])
            )
        )
    meter.__exit__(None, None, None)
    stored = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    meter.report(rows=count, bytes=stored)


asyncio.run(main())
