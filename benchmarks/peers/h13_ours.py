"""Ours: a stream of trades, from the socket to daily Parquet."""

import time
from dataclasses import replace
from pathlib import Path

from meter import Meter, arguments

from dccd_core.config import Config
from dccd_core.exchanges.binance import Binance
from dccd_core.store.datastore import DataStore
from dccd_streams.manager import StreamManager


import collections as _c
W=_c.Counter(); NC=_c.Counter()
def wrap(cls,name):
    f=getattr(cls,name)
    def g(*a,**k):
        t=time.thread_time()
        try: return f(*a,**k)
        finally:
            W[name]+=time.thread_time()-t; NC[name]+=1
    setattr(cls,name,g)
from dccd_streams.transport import SocketTransport
from dccd_streams.links import Links
from dccd_streams.connection import Connection
from dccd_streams import connection as _cn
from dccd_core.exchanges.binance import BinanceSession
from dccd_streams.trade_feed import TradeFeed
from dccd_core.store.journal import JournalWriter
from dccd_streams.frames import FrameReader
for c,n in ((SocketTransport,'receive'),(Links,'take'),(Links,'check'),(Connection,'_look_after'),(Connection,'_send_due'),(BinanceSession,'read_all'),(JournalWriter,'append_trades'),(_cn,'_nap'),(FrameReader,'messages'),(FrameReader,'fill')): wrap(c,n)
wrap(TradeFeed,'_check_ids')
def main() -> None:
    """Record until the rows are there, then stop, which folds them."""
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
    meter = meters[0]; import resource; R=lambda: resource.getrusage(0); r0=R(); import threading; B={t.native_id:int(open(f'/proc/self/task/{t.native_id}/schedstat').read().split()[0])/1e6 for t in threading.enumerate()}
    while sum(one.rows for one in manager.statuses()) < given["messages"]:
        time.sleep(0.5)  # asking is work too
    r1=R(); import threading, collections
    C=collections.Counter()
    for t in threading.enumerate(): C[t.name.rstrip('0123456789')]+=int(open(f'/proc/self/task/{t.native_id}/schedstat').read().split()[0])/1e6-B.get(t.native_id,0)
    if not manager.stop(60):
        raise RuntimeError("not everything was flushed")
    meter.__exit__(None, None, None)
    r2=R(); import sys as s; s.stderr.write(f"run user {r1.ru_utime-r0.ru_utime:.3f} sys {r1.ru_stime-r0.ru_stime:.3f} vcsw {r1.ru_nvcsw-r0.ru_nvcsw} ivcsw {r1.ru_nivcsw-r0.ru_nivcsw} stop {r2.ru_utime-r1.ru_utime:.3f} {r2.ru_stime-r1.ru_stime:.3f} {C['stream-binance-']} { {k:(round(v*1e3),NC[k]) for k,v in W.items()} }\n")
    store = DataStore(Path(given["folder"]))
    rows = sum(len(store.load(f"binance/trades/{pair.replace('/', '-')}")) for pair in pairs)
    stored = sum(file.stat().st_size for file in Path(given["folder"]).rglob("*.parquet"))
    meter.report(rows=rows, bytes=stored)


main()
