"""Ours: a stream of trades, from the socket to daily Parquet."""

import time
from dataclasses import replace
from pathlib import Path

from meter import Meter, arguments

from dccd_core.config import Config
from dccd_core.exchanges.binance import Binance
from dccd_core.models import Series
from dccd_core.store.datastore import DataStore
from dccd_streams.manager import StreamManager


def main() -> None:
    """Record until the rows are there, then stop, which folds them; midnight comes afterwards."""
    given = arguments()
    pairs = [f"N{number:04}/USDT" for number in range(given["connections"])]
    # one connection for each pair
    Binance.live_limits = replace(Binance.live_limits, streams=1)
    config = Config.model_validate(
        {
            "settings": {"data_path": given["folder"]},
            "stream_jobs": [{"exchange": "binance", "pairs": pairs, "channels": ["trades"]}],
            "exchanges": {
                "binance": {
                    "rest_url": f"{given['url']}/binance",
                    "ws_url": given["ws"] + "/binance",
                }
            },
        }
    )
    manager = StreamManager(config)
    manager.start()
    while not all(one.state == "live" for one in manager.statuses()):
        time.sleep(0.01)
    # the server prepares its messages first; rows are seen a tick after the socket was read
    meters: list[Meter] = []
    while not any(one.rows for one in manager.statuses()):
        meters = [*meters[-3:], Meter()]
        meters[-1].__enter__()
        time.sleep(0.1)
    meter = meters[0]
    while sum(one.rows for one in manager.statuses()) < given["messages"]:
        time.sleep(0.5)  # asking is work too
    if not manager.stop(60):
        raise RuntimeError("not everything was flushed")
    meter.__exit__(None, None, None)
    store = DataStore(Path(given["folder"]))
    series = [Series.parse(f"binance/trades/{pair.replace('/', '-')}") for pair in pairs]
    with Meter() as midnight:
        for one in series:
            for day in store.existing_periods(one):
                store.close_period(one, day)
    rows = sum(len(store.load(one)) for one in series)
    stored = sum(file.stat().st_size for file in Path(given["folder"]).rglob("*.parquet"))
    meter.report(rows=rows, bytes=stored, closing=midnight.cpu)


main()
