"""dccd 3.8.1 with another base URL, another end of history and, if wanted, no limiter.

Its Python API is used, which keeps no record of runs: its cheapest way.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dccd
from dccd.application import operations
from dccd.sources import binance
from dccd.transport.ratelimit import shared_limiter


@asynccontextmanager
async def opened(folder: Path, url: str, limiter: bool) -> AsyncIterator[dccd.Client]:
    """A client that stores below `folder`."""
    binance._BASE_REST = f"{url}/api/v3"
    if not limiter:
        shared_limiter()._rates["binance"] = 1e9
    config = folder / "config.yml"
    config.write_text(f"settings: {{data_path: {folder / 'data'}}}\n")
    async with dccd.Client(str(config)) as client:
        yield client


async def backfill(client: dccd.Client, start: str, end: int) -> int:
    """1m candles of BTC/USDT up to `end` (µs, exclusive); rows written."""
    # It always fetches up to now, with an inclusive end.
    operations.ns_now = lambda: end * 1_000 - 1
    done = await client.backfill("binance", "BTC/USDT", "ohlc", span=60, start=start)
    if "error" in done:
        raise RuntimeError(done["error"])
    return int(done["rows_written"])
