"""The published files of one exchange: which are wanted, fetched, checked and read."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self

from dccd_core.archives.base import ArchiveError, ArchiveFile, Part, Refused, Source
from dccd_core.archives.choice import choose, worth_it
from dccd_core.archives.download import Download, Host, HostDown
from dccd_core.archives.edges import Seam, seam_of
from dccd_core.archives.lines import read_lines
from dccd_core.archives.memory import LATE, Absent, lacking
from dccd_core.archives.parts import Parts, joined
from dccd_core.archives.ranges import RangedZips, key
from dccd_core.archives.unpack import Text, open_cutout, open_text, verify
from dccd_core.exchanges.base import Exchange, Instrument
from dccd_core.intervals import clip, subtract, union
from dccd_core.limits import Cancelled
from dccd_core.models import DAY, SECOND, Channel, Series, Window
from dccd_core.quotes import quoted

# Few enough to be polite, enough to hide a round trip; so many files wait on disk at most.
THREADS = 3
YEAR = 365 * DAY * SECOND
_CHECKSUM = re.compile(r"([0-9a-f]{64}) [ *]?(\S+)")

Fetched = tuple[Download, Text]


class Stop(threading.Event):
    """Set by itself or by the caller's own event."""

    def __init__(self, outer: threading.Event | None) -> None:
        super().__init__()
        self._outer = outer

    def is_set(self) -> bool:
        """Whether either is set."""
        return super().is_set() or (self._outer is not None and self._outer.is_set())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for either, looking ten times a second."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (end is None or time.monotonic() < end):
            super().wait(0.1 if end is None else max(0.0, min(0.1, end - time.monotonic())))
        return self.is_set()


class Archive:
    """See `dccd_core.archives`. Any number of threads may fetch."""

    def __init__(
        self,
        source: Source,
        exchange: Exchange,
        private: Path,
        *,
        base_url: str | None = None,
        proxy: str | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        self._source, self._exchange = source, exchange
        self._stop = Stop(cancel)
        url = base_url or source.url
        self._host = Host(url, private, proxy=proxy, threads=THREADS, cancel=self._stop)
        folder = private / "archives"
        self._absent = Absent(folder / f"{exchange.name}.json")
        self._zips = RangedZips(self._host, folder / exchange.name, self._absent)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"archive-{exchange.name}")
        self._tried: set[tuple[Series, str]] = set()
        self._down = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is under way; remember what was absent."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._host.close()
        self._absent.save(_now())

    @property
    def requests(self) -> int:
        """Requests sent, those for checksums and for absent files too."""
        return self._host.requests

    @property
    def bytes(self) -> int:
        """Bytes received."""
        return self._host.bytes

    def offers(self, series: Series) -> bool:
        """Whether there are files of such a series."""
        return self._source.offers(series)

    def renumbers(self, series: Series) -> bool:
        """Whether its trades have other ids than the exchange gives them elsewhere."""
        return self._source.renumbers(series)

    def files(
        self, series: Series, instrument: Instrument, missing: Sequence[Window]
    ) -> list[ArchiveFile]:
        """The files that would be asked for first, in order of time."""
        now = _now()
        windows = clip(missing, Window(_beginning(self._source, instrument), now))
        if self._down or not windows or not self._source.offers(series):
            return []
        worth = worth_it(self._exchange, series, scarce=self._source.scarce)
        offers = {
            file.path: file
            for window in windows
            for file in self._source.files(series, instrument, window, now)
        }
        # where a month that is long past was not published, its days were not either
        gone = [file.window for file in offers.values() if self._is_gone(file, now)]
        left = [
            file
            for file in offers.values()
            if not self._is_past(series, file, windows, now)
            and not any(w.start <= file.window.start and file.window.end <= w.end for w in gone)
        ]
        return choose(left, windows, worth)

    def fetch(
        self, series: Series, instrument: Instrument, missing: Sequence[Window]
    ) -> Iterator[Part | Refused]:
        """The rows of the missing windows that are published; see `dccd_core.archives`."""
        return joined(self._items(series, instrument, missing), series)

    def _items(
        self, series: Series, instrument: Instrument, missing: Sequence[Window]
    ) -> Iterator[Part | Refused]:
        left = union(missing)
        while chosen := self.files(series, instrument, left):
            seam, read = seam_of(self._exchange, series, _now()), list[ArchiveFile]()
            for file, get in self._ahead(series, chosen):
                wanted = clip(left, file.window)
                try:
                    for part in self._parts(series, instrument, file, wanted, get, seam):
                        left = subtract(left, part.covered)
                        yield part
                    read.append(file)
                except ArchiveError as error:
                    down = isinstance(error, HostDown)
                    if not (down and self._down):
                        yield Refused(file.path, file.window, str(error))
                    self._down = self._down or down
                except Cancelled:
                    yield from seam.settle() if seam else ()  # these were read to their end
                    raise
            for part in seam.settle() if seam else ():
                left = subtract(left, part.covered)
                yield part
            self._remember(series, read, left)

    def _remember(self, series: Series, read: Sequence[ArchiveFile], left: list[Window]) -> None:
        """Which trades these files do not have: another run need not read them again for that."""
        if series.channel is Channel.TRADES:
            for file in read:
                if part := clip(left, file.window):
                    self._absent.add(lacking(file.path, part), file.window, _now())

    def _is_past(self, series: Series, file: ArchiveFile, windows: list[Window], now: int) -> bool:
        """Whether a file was tried already, or is known not to be there or to lack just this."""
        return (
            (series, file.path) in self._tried
            or self._absent.known(file.path, now)
            or self._absent.known(lacking(file.path, clip(windows, file.window)), now)
            or (file.ranged and self._absent.known(key(file), now))
        )

    def _is_gone(self, file: ArchiveFile, now: int) -> bool:
        old = file.window.end < now - LATE
        return old and not file.ranged and self._absent.known(file.path, now)

    def _ahead(
        self, series: Series, chosen: list[ArchiveFile]
    ) -> Iterator[tuple[ArchiveFile, Callable[[], Fetched | None]]]:
        """The files in order, the next ones being downloaded meanwhile."""
        waiting = deque(chosen)
        running: deque[tuple[ArchiveFile, Future[Fetched | None]]] = deque()
        try:
            while waiting or running:
                while waiting and len(running) < THREADS:
                    file = waiting.popleft()
                    running.append((file, self._pool.submit(self._get, file)))
                file, future = running.popleft()
                self._tried.add((series, file.path))
                yield file, partial(_result, future)
        finally:
            for _, future in running:
                future.cancel()
                future.add_done_callback(_drop)

    def _get(self, file: ArchiveFile) -> Fetched | None:
        """A file, downloaded and verified; None if it is not there."""
        if self._stop.is_set():
            raise Cancelled("cancelled")
        if self._down:
            raise HostDown("the host was given up")
        now = _now()
        if file.ranged:
            cut = self._zips.cut(file, now)
            return cut and (cut[0], open_cutout(cut[0].file, cut[1], file))
        download = self._host.download(file.path, file.longest)
        if download is None:
            self._absent.add(file.path, file.window, now)
            return None
        try:
            self._verify(file, download)
            return download, open_text(download.file, download.size, file)
        except BaseException:
            download.file.close()
            raise

    def _verify(self, file: ArchiveFile, download: Download) -> None:
        """ArchiveError if these are not the bytes that were published.

        S3 gives the MD5 of what it holds as ETag, with the file itself; the published sha256 costs
        a request more, and hundreds of them were out of date (binance-public-data issues 241, 249,
        405). Without either, the packing's own checksum is what there is.
        """
        if not file.checksum:
            verify(open_text(download.file, download.size, file))
            return
        if download.etag == download.md5:
            return
        text = self._host.small(file.checksum)
        if text is None:
            raise ArchiveError("it has no published checksum")
        found = _CHECKSUM.match(text.decode("latin-1").lower())
        name = file.path.rpartition("/")[2].lower()
        if not found or found[2] != name:
            raise ArchiveError(f"its published checksum is none: {quoted(text)}")
        if found[1] != download.sha256:
            raise ArchiveError(f"its sha256 is {download.sha256}, published is {found[1]}")

    def _parts(
        self,
        series: Series,
        instrument: Instrument,
        file: ArchiveFile,
        wanted: list[Window],
        get: Callable[[], Fetched | None],
        seam: Seam | None,
    ) -> Iterator[Part]:
        fetched = get()
        if fetched is None:
            return
        download, text = fetched
        trades = series.channel is Channel.TRADES
        exchange = self._exchange
        parts = Parts(
            series,
            file,
            wanted,
            seam=seam,
            fill_empty=not trades and self._source.omits_empty and exchange.fills_empty,
        )
        with download.file:
            for lines in read_lines(text, self._source.layout(series)):
                if self._stop.is_set():
                    raise Cancelled("cancelled")
                if trades and (times := self._source.times(lines)) is not None:
                    parts.see(times)
                yield from parts.add(self._source.rows(lines, series, instrument, file))
            yield from parts.finish()


def _result(future: "Future[Fetched | None]") -> Fetched | None:
    try:
        return future.result()
    except CancelledError as error:  # the archive was closed by another thread
        raise Cancelled("cancelled") from error


def _drop(future: "Future[Fetched | None]") -> None:
    """Close the file of a download that nobody waits for any more."""
    if not future.cancelled() and future.exception() is None and (found := future.result()):
        found[0].file.close()


def _beginning(source: Source, instrument: Instrument) -> int:
    """Before when nothing is asked for: a market may have traded well before it was listed."""
    listed = instrument.listed
    return source.since if listed is None else max(source.since, listed - YEAR)


def _now() -> int:
    return time.time_ns() // 1_000
