"""dccd 3.8.1: one new candle after the other, onto rows that are stored."""

import asyncio
from pathlib import Path

from dccd381 import backfill, opened
from meter import Meter, arguments

MINUTE = 60_000_000


async def main() -> None:
    """Store `rows` candles if there are none yet, then add `updates`, each a backfill.

    The client stays open, which saves it a TLS context each time.
    """
    given = arguments()
    folder, end = Path(given["folder"]), given["start"] + given["rows"] * MINUTE
    if not any(folder.rglob("*.parquet")):
        async with opened(folder, given["url"], limiter=False) as client:
            await backfill(client, str(given["start"] * 1_000), end)
    meters = []
    async with opened(folder, given["url"], limiter=False) as client:
        for _ in range(given["updates"]):
            end += MINUTE
            with Meter() as meter:
                rows = await backfill(client, "last", end)
            if rows < 1:
                raise RuntimeError("no new candle came")
            meters.append(meter)
    meter.report(each=[(m.cpu, m.written, m.to_disk) for m in meters])


asyncio.run(main())
