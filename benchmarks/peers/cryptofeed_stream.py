"""cryptofeed 2.4.1: a stream of trades into Parquet, 10,000 a row group, as its users write it."""

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import uvloop
from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance
from meter import Meter, arguments

COLUMNS = ("timestamp", "receipt", "id", "price", "amount", "side")


def main() -> None:
    """Record until the rows are there."""
    given = arguments()
    Binance.websocket_endpoints = [WebsocketEndpoint(given["ws"] + "/binance")]
    routes = Routes("/api/v3/exchangeInfo", l2book="/api/v3/depth?symbol={}&limit={}")
    Binance.rest_endpoints = [RestEndpoint(given["url"] + "/binance", routes=routes)]
    rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    count, meter = 0, Meter()
    path = Path(given["folder"]) / "trades.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    writer: Any = None

    def write() -> None:
        nonlocal writer
        table = pa.table(rows)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        for column in rows.values():
            column.clear()

    async def trade(found: Any, receipt: float) -> None:
        nonlocal count
        if not count:
            meter.__enter__()
        row = found.to_dict(numeric_type=float)
        for name in COLUMNS:
            rows[name].append(receipt if name == "receipt" else row[name])
        count += 1
        if len(rows["id"]) >= 10_000:
            write()
        if count >= given["messages"]:
            asyncio.get_running_loop().stop()

    asyncio.set_event_loop(uvloop.new_event_loop())  # its own switch for it fails with uvloop 0.22
    handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": False})
    for number in range(given["connections"]):
        handler.add_feed(
            Binance(symbols=[f"N{number:04}-USDT"], channels=[TRADES], callbacks={TRADES: trade})
        )
    handler.run(install_signal_handlers=False)
    if rows["id"]:
        write()
    writer.close()
    meter.__exit__(None, None, None)
    meter.report(rows=count, bytes=path.stat().st_size)


main()
