"""Live series as Dagster knows them: assets that it does not run, told of from what is stored."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg
import msgspec

from dccd_core.config import Config
from dccd_core.exchanges import load
from dccd_core.live_days import Day, Memory, count_up, news, streams_of
from dccd_core.live_series import live_series, trades_behind
from dccd_core.models import Channel, Series, moment, span_label
from dccd_core.store.datastore import DataStore
from dccd_core.stream_status import read_statuses
from dccd_pipelines.column_schemas import COLUMNS
from dccd_pipelines.keys import asset_key
from dccd_pipelines.partitions import DAY_FORMAT

# More than a sensor can write in a minute would be a failure that comes again each time.
MOST_EVENTS = 300
WHAT = {
    Channel.TRADES: "live trades",
    Channel.BOOK: "order books",
    Channel.BOOK_DELTAS: "order book changes",
    Channel.LIVE_OHLC: "live candles",
}
_Memories = dict[str, Memory]


def unknown_live(config: Config) -> list[Series]:
    """The live series that no historical job names: they are assets of the streams alone."""
    return [series for series in live_series(config) if series not in config.jobs]


def live_days(config: Config) -> dg.TimeWindowPartitionsDefinition:
    """UTC days from the oldest one that is stored, today included."""
    store, today = DataStore(config.settings.data_path), datetime.now(UTC).strftime(DAY_FORMAT)
    stored = [store.existing_periods(series)[:1] for series in live_series(config)]
    return dg.TimeWindowPartitionsDefinition(
        start=min([today, *(day for first in stored for day in first)]),
        fmt=DAY_FORMAT,
        cron_schedule="0 0 * * *",
        timezone="UTC",
        end_offset=1,
    )


def live_spec(
    series: Series, partitions: dg.TimeWindowPartitionsDefinition, known: Collection[Series]
) -> dg.AssetSpec:
    """The asset of one live series. Candles that are built from trades come from these."""
    exchange, label = load(series.exchange), span_label(series.span) if series.span else None
    source = trades_behind(series)
    what = f"{label} {WHAT[series.channel]}" if label else WHAT[series.channel]
    origin = ", built from its trades" if source else ""
    return dg.AssetSpec(
        asset_key(series),
        deps=[asset_key(source)] if source in known and source else [],
        description=f"{series.symbol} {what} of {exchange.title}{origin}",
        partitions_def=partitions,
        group_name=f"{series.exchange}/{'_'.join(series.key[1:-1])}",
        kinds={"parquet"},
        tags={
            "exchange": series.exchange,
            "channel": str(series.channel),
            **({"span": label} if label else {}),
            "pair": series.symbol.slug,
            "live": "true",
        },
        metadata={
            "folder": dg.MetadataValue.path(str(series.path)),
            "protocol": dg.MetadataValue.url(exchange.docs),
            "dagster/column_schema": COLUMNS[series.channel],
        },
    )


def tell_days(
    config: Config, cursor: str | None, now: float
) -> tuple[list[dg.AssetMaterialization], str]:
    """The events that are due, and the new cursor: what was told of each series and day."""
    memories = _memories(cursor)
    series = live_series(config)
    store = DataStore(config.settings.data_path)
    streams = streams_of(read_statuses(config.settings.data_path))
    today = datetime.fromtimestamp(now, UTC).strftime(DAY_FORMAT)
    events: list[dg.AssetMaterialization] = []
    for one in series:
        memory = memories.setdefault(str(one), Memory())
        if str(one) in streams:
            count_up(memory, *streams[str(one)], today)
        events += _told(news(store, one, memory, now), MOST_EVENTS - len(events))
    kept: Mapping[str, Memory] = {str(one): memories[str(one)] for one in series}
    return events, msgspec.json.encode(kept).decode()


def _memories(cursor: str | None) -> _Memories:
    """A cursor of another version is begun anew: then days are told of once more."""
    try:
        return msgspec.json.decode(cursor or "{}", type=_Memories)
    except msgspec.MsgspecError:
        return {}


def _told(days: Iterator[Day], most: int) -> Iterator[dg.AssetMaterialization]:
    """What is asked for is noted as told, so nothing more is asked for than can be told."""
    for _ in range(most):
        day = next(days, None)
        if day is None:
            return
        yield dg.AssetMaterialization(
            asset_key(day.series), partition=day.day, metadata=_metadata(day)
        )


def _metadata(day: Day) -> dict[str, dg.MetadataValue]:
    """Short, as it stays for ever: of events below 2 kB SQLite has two in a page, and a page each
    of longer ones. The file is the asset's folder and the partition."""
    found: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(day.rows),
        "bytes": dg.MetadataValue.int(day.bytes),
        "gaps": dg.MetadataValue.int(day.gaps),
        "reconnects": dg.MetadataValue.int(day.reconnects),
        "healed_rows": dg.MetadataValue.int(day.healed),
    }
    if day.lost:
        found["lost_windows"] = dg.MetadataValue.int(day.lost)
    if day.final:
        found["day_closed"] = dg.MetadataValue.bool(True)
    if day.first is not None and day.last is not None:
        found["first"] = dg.MetadataValue.timestamp(moment(day.first))
        found["last"] = dg.MetadataValue.timestamp(moment(day.last))
    return found
