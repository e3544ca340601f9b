"""ccxt: fetch_ohlcv page after page, as its manual shows, and polars for the file."""

from pathlib import Path

import ccxt
import polars as pl
from meter import Meter, arguments

COLUMNS = ["time", "open", "high", "low", "close", "volume"]


def main() -> None:
    """Fetch up to `pages` pages of 1m candles."""
    given = arguments()
    exchange = ccxt.binance({"enableRateLimit": given["limiter"]})
    exchange.urls["api"]["public"] = f"{given['url']}/api/v3"
    exchange.options["fetchMarkets"] = {"types": ["spot"]}
    since, end = given["start"] // 1_000, given["end"] // 1_000
    path = Path(given["folder"]) / "year.parquet"
    pages, rows = 0, []
    with Meter() as meter:
        exchange.load_markets()
        while since < end and pages < given["pages"]:
            limit = min(1_000, (end - since) // 60_000)
            page = exchange.fetch_ohlcv("BTC/USDT", "1m", since=since, limit=limit)
            rows += page
            since = page[-1][0] + 60_000
            pages += 1
        frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
        frame = frame.with_columns(pl.col("time").cast(pl.Datetime("ms")).cast(pl.Datetime("us")))
        frame.write_parquet(path)
    meter.report(rows=len(rows), pages=pages, bytes=path.stat().st_size)


main()
