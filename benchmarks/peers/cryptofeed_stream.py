"""cryptofeed 2.4.1: a stream of trades into Parquet, 10,000 a row group, as its users write it."""

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import uvloop
from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint, WSAsyncConn
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance
from meter import Meter, arguments

COLUMNS = ("timestamp", "receipt", "id", "price", "amount", "side")


class Recorder:
    """The callback, and the file that it fills."""

    def __init__(self, path: Path, wanted: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.count, self.meter = 0, Meter()
        self._path, self._wanted = path, wanted
        self._rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self._writer: Any = None

    async def trade(self, found: Any, receipt: float) -> None:
        """One trade."""
        if not self.count:
            self.meter.__enter__()
        row = found.to_dict(numeric_type=float)
        row["receipt"] = receipt
        for name in COLUMNS:
            self._rows[name].append(row[name])
        self.count += 1
        if len(self._rows["id"]) >= 10_000:
            self._write()
        if self.count >= self._wanted:
            asyncio.get_running_loop().stop()

    def _write(self) -> None:
        table = pa.table(self._rows)
        self._writer = self._writer or pq.ParquetWriter(
            self._path, table.schema, compression="zstd"
        )
        self._writer.write_table(table)
        for column in self._rows.values():
            column.clear()

    def close(self) -> None:
        """Write the rest."""
        if self._rows["id"]:
            self._write()
        self._writer.close()
        self.meter.__exit__(None, None, None)


def allow_plain_addresses() -> None:
    """It takes wss:// only; the server of this benchmark has no certificate."""
    original = WSAsyncConn.__init__

    def connect(self: Any, address: str, *more: Any, **named: Any) -> None:
        original(self, address.replace("ws://", "wss://"), *more, **named)
        self.address = address

    WSAsyncConn.__init__ = connect


def main() -> None:
    """Record until the rows are there."""
    given = arguments()
    allow_plain_addresses()
    Binance.websocket_endpoints = [WebsocketEndpoint(given["ws"] + "/binance")]
    routes = Routes("/api/v3/exchangeInfo", l2book="/api/v3/depth?symbol={}&limit={}")
    Binance.rest_endpoints = [RestEndpoint(given["url"] + "/binance", routes=routes)]
    path = Path(given["folder"]) / "trades.parquet"
    recorder = Recorder(path, given["messages"])
    asyncio.set_event_loop(uvloop.new_event_loop())  # its own switch for it fails with uvloop 0.22
    handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": False})
    for number in range(given["connections"]):
        symbols, callbacks = [f"N{number:04}-USDT"], {TRADES: recorder.trade}
        handler.add_feed(Binance(symbols=symbols, channels=[TRADES], callbacks=callbacks))
    handler.run(install_signal_handlers=False)
    recorder.close()
    rows = pq.read_metadata(path).num_rows
    recorder.meter.report(rows=rows, bytes=path.stat().st_size)


main()
