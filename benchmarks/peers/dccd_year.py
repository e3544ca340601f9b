"""dccd 3.8.1: one backfill."""

import asyncio
from pathlib import Path

from dccd381 import backfill, opened
from meter import Meter, arguments


async def main() -> None:
    """Fetch 1m candles from start to end."""
    given = arguments()
    folder = Path(given["folder"])
    with Meter() as meter:
        async with opened(folder, given["url"], given["limiter"]) as client:
            rows = await backfill(client, str(given["start"] * 1_000), given["end"])
    stored = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    meter.report(rows=rows, bytes=stored)


asyncio.run(main())
