"""Published bulk files, tried before REST.

    archive = open_archive(exchange, store.private, base_url=settings.archive_url, proxy=proxy,
                           cancel=cancel)      # None: this exchange publishes none
    with archive:
        for item in archive.fetch(series, instrument, missing):
            match item:
                case Part():     # rows of one period
                    store.merge(series, item.period, item.rows, item.covered, "archive")
                case Refused():  # wrong checksum, damaged, a bomb, rows off the grid, no network
                    log it and note it in the outcome
    what is not covered by the parts is for REST

`missing` are windows to be filled, of one cell or of a whole series; where files are large
(Kraken's hold all of a pair's history) one call for all of a series' cells saves downloads. What
comes back is clipped to them. A part may be one of several of its period; parts come about in order
of time. `fetch` is a generator: files are downloaded ahead by a few threads of the archive's own,
nothing is done before the first `next`, and closing it early is right.

It yields nothing where a series is not published, where files are absent (404: remembered for a
while in `{data}/.dccd/archives`, so that a run does not ask again), or where REST is cheaper (less
than a page is missing). It raises Cancelled once `cancel` is set, and nothing else of the network:
`dccd_core.archives.base.ArchiveError` stays inside, a caller meets it as `Refused`. A host that
does not answer is given up until the archive is closed.

What is covered: of trades the time of a file, but for holes in ids that should have none, and for
ends of it at which it seems to be cut short (see `edges`); of candles only that of which there are
rows, so that REST is asked about holes. Kraken's files leave out intervals without trades, of which
Kraken's own candles are flat: these are put in.

`archive.files(series, instrument, missing)` names what would be asked first, for estimates, without
a request. `archive.requests` and `archive.bytes` count what was sent and received, checksums and
404s too. Several threads may share an archive.
"""

import threading
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from dccd_core.archives.archive import Archive
from dccd_core.archives.base import Source
from dccd_core.exchanges.base import Exchange


@cache
def sources() -> dict[str, Source]:
    """Every source of the folder by its exchange, sorted."""
    found: dict[str, Source] = {}
    for module_info in iter_modules(__path__):
        module = import_module(f"{__name__}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Source) and hasattr(value, "exchange"):
                found[value.exchange] = value()
    return dict(sorted(found.items()))


def open_archive(
    exchange: Exchange,
    private: Path,
    *,
    base_url: str | None = None,
    proxy: str | None = None,
    cancel: threading.Event | None = None,
) -> Archive | None:
    """The archive of an exchange, None if it publishes none. `private` is `{data}/.dccd`.

    Raises ValueError for an unusable `proxy`, OSError where `private` cannot be written.
    """
    source = sources().get(exchange.name)
    if source is None:
        return None
    return Archive(source, exchange, private, base_url=base_url, proxy=proxy, cancel=cancel)
