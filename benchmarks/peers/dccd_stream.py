"""dccd 3.8.1: a stream of trades into its daily files."""

import asyncio
from pathlib import Path
from typing import Any

import polars as pl
from dccd.sources import binance
from dccd381 import opened
from meter import Meter, arguments


async def main() -> None:
    """Record until the rows are there, then let each stream end, which writes its rest.

    Its `stop_event` is looked at when a trade comes, which is then left out: on a market that is
    quiet it does not stop. So each stream ends by itself, after its part.
    """
    given = arguments()
    folder, part = Path(given["folder"]), given["messages"] // given["connections"]
    folder.mkdir(parents=True, exist_ok=True)
    meter, original = Meter(), binance._BinanceTradeWS.__init__
    parse = binance._BinanceTradeWS.stream
    begun = False

    def moved(self: Any, pair: str) -> None:
        original(self, pair)
        self.url = f"{given['ws']}/binance/ws/{pair}@aggTrade"

    async def counted(self: Any) -> Any:
        nonlocal begun
        count = 0
        async for row in parse(self):
            if not begun:
                begun = True
                meter.__enter__()
            yield row
            count += 1
            if count == part:
                return

    binance._BinanceTradeWS.__init__ = moved
    binance._BinanceTradeWS.stream = counted
    async with opened(folder, f"{given['url']}/binance", limiter=True) as client:
        await asyncio.gather(
            *(
                client.stream("binance", f"N{number:04}/USDT", "trades")
                for number in range(given["connections"])
            )
        )
    meter.__exit__(None, None, None)
    files = list(folder.rglob("*.parquet"))
    rows = sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file in files)
    meter.report(rows=rows, bytes=sum(file.stat().st_size for file in files))


asyncio.run(main())
