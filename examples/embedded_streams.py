"""The stream service inside a program of your own."""

import signal
import threading

from dccd_core.config import load_config
from dccd_streams.manager import StreamManager

end = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: end.set())

manager = StreamManager(load_config())
manager.start()
while not end.wait(1.0):
    if manager.failed:
        break
failed = manager.failed
flushed = manager.stop()
raise SystemExit(0 if flushed and not failed else 1)
