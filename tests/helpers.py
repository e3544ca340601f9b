"""What many tests need: candles by the number, and a collector against a sandbox."""

import fcntl
import random
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dccd_core.exchanges.base import Answer, Candles, Limits
from dccd_core.exchanges.binance import Binance
from dccd_core.exchanges.live import Frame
from dccd_core.history import Collector, Outcome, Progress
from dccd_core.limits import Limiter
from dccd_core.models import SECOND, Channel, Series, Symbol, Window
from dccd_core.plan import cells
from dccd_core.rest import RestClient, Retries
from dccd_core.store.datastore import DataStore, as_time
from dccd_core.store.schemas import candles_table
from dccd_sandbox import Sandbox
from dccd_streams.transport import Transport

NOW = "2026-06-01T12:34:30Z"
PLENTY = Limits(weight=1e9, seconds=1, burst=1e9, page=1_000)
QUICK = Retries(10, 0.0)
KLINES = "/binance/api/v3/klines"

BTC_1H = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 3_600)
BTC_1M = replace(BTC_1H, span=60)


def at(text: str) -> int:
    """Microseconds of an ISO text, UTC where it names no zone."""
    return as_time(text, 0)


def window(start: str, end: str) -> Window:
    """A window of two ISO texts."""
    return Window(at(start), at(end))


# --- candles without an exchange ---------------------------------------------------------------


def candles(times: Sequence[int], value: Callable[[int], float] = float) -> Candles:
    """Candles of these times; their close is `value` of the time's number in minutes."""
    time = np.array(times, dtype=np.int64)
    close = np.array([value(int(t) // (60 * SECOND)) for t in time], dtype=np.float64)
    return Candles(time, close, close + 1, close - 1, close, np.abs(close))


def table(times: Sequence[int], value: Callable[[int], float] = float) -> pa.Table:
    """The same as a table of the frozen schema."""
    return candles_table(candles(times, value))


# --- a collector against a sandbox -------------------------------------------------------------


class Paged(Binance):
    """Binance with pages of another length, and no regard for the weight that tests use up."""

    def __init__(self, page: int) -> None:
        self.limits = replace(Binance.limits, page=page)  # type: ignore[misc]

    def used(self, answer: Answer) -> float | None:
        return None


@contextmanager
def collecting(
    url: str,
    data: Path,
    *,
    page: int = 1_000,
    retries: Retries = QUICK,
    progress: Callable[[Progress], None] = lambda _: None,
    cancel: Event | None = None,
    timeout: tuple[float, float] = (5.0, 20.0),
) -> Iterator[Collector]:
    """A collector of Binance at this address, which no budget slows."""
    exchange = Paged(page)
    store = DataStore(data)
    limiter = Limiter(store.private / "limits" / "binance", PLENTY)
    with RestClient(exchange, limiter, base_url=url, cancel=cancel, timeout=timeout) as client:
        yield Collector(
            exchange, client, store, retries=lambda _: retries, progress=progress, cancel=cancel
        )


def collect(url: str, data: Path, series: Series, wanted: Window, **options: Any) -> list[Outcome]:
    """One run over the window of one series."""
    with collecting(url, data, **options) as collector:
        return list(collector.collect(cells(series, wanted)))


def page_questions(box: Sandbox) -> list[dict[str, str]]:
    """The page requests that came in, oldest first: not those for one first or last candle."""
    assert box.stats(last=0)["requests"] <= 1_000, "the sandbox remembers a thousand"
    asked = [urlsplit(seen["target"]) for seen in box.stats(last=1_000)["last"]]
    found = [dict(parse_qsl(url.query)) for url in asked if url.path == KLINES]
    return [one for one in found if one.get("startTime", "0") != "0"]


def free_port() -> int:
    """A port for later: none of those that the system gives to who asks for any, of whom there are
    many while tests run beside each other."""
    while True:
        port = random.randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


# --- what readers see --------------------------------------------------------------------------

COLUMNS = [
    *("time", "open", "high", "low", "close", "volume"),
    *("quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume"),
]


def truth(box: Sandbox, series: Series, wanted: Window) -> pl.DataFrame:
    """What a perfect collector has."""
    name = f"{series.symbol.base}{series.symbol.quote}"
    found = box.truth(name, series.span, wanted.start // 1_000, wanted.end // 1_000)
    return found.select(COLUMNS)


def plain(folder: Path) -> pl.DataFrame:
    """`*.parquet` of a folder as DuckDB reads it, without us; in order of time."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(f"SELECT * FROM read_parquet('{folder}/*.parquet') ORDER BY time")  # noqa: S608
        frame = pl.DataFrame(pl.from_arrow(found.to_arrow_table()))
    return frame.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def assert_whole(store: DataStore, series: Series, expected: pl.DataFrame) -> None:
    """A reader of ours and a reader of the plain files see these rows and no other."""
    assert store.load(series).equals(expected)
    assert plain(store.folder(series)).equals(expected)


def assert_sound(data: Path) -> None:
    """Every Parquet file can be read, no series has a row twice, and no lock is held."""
    for folder in {path.parent for path in data.rglob("*.parquet")}:
        tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
        times = np.concatenate([one.column("time").cast(pa.int64()).to_numpy() for one in tables])
        assert len(np.unique(times)) == len(times), f"{folder}: rows are there twice"
    for path in (data / ".dccd").rglob("*.lock"):
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def failed_windows(outcomes: Iterable[Outcome]) -> list[Window]:
    """The windows that outcomes name as failed."""
    return [bad for outcome in outcomes for bad, _ in outcome.failed]


def next_heard(transport: Transport) -> list[Frame]:
    """What comes next over a connection."""
    found: list[Frame] = []

    def take(frames: list[Frame]) -> bool:
        found.extend(frames)
        return not found

    transport.listen(take, 0.1)
    return found
