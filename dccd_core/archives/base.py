"""What a published archive is made of: the files that a source names, and what is read from them.

A source is pure, as an exchange file is: it names files and says how their columns are read. Only
`download` asks the network.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dccd_core.exchanges.base import Instrument
from dccd_core.models import Series, Window


class ArchiveError(Exception):
    """A published file cannot be used; the message is one plain sentence about it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one period of a series, and what they settle of it: ready for `DataStore.merge`.

    `rows` has the frozen schema of the series' channel, in order. `covered` lies inside the
    period; times in it without a row are an answer (nothing was traded), times outside are still
    missing. `file` is where it comes from, of several the last.
    """

    period: str
    rows: pa.Table
    covered: list[Window]
    file: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that could have filled `window` but cannot be used; `reason` is one sentence, which
    does not name the file again."""

    file: str
    window: Window
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How the text of a file is read.

    `columns` are all names in the order of the file, `types` those that are used, with what they
    are read as. `header`: True if the first line names the columns: its own order then counts, and
    it must have those that are used; False if there is none; None if both occur: a first line that
    begins with a letter is then passed over. `blank` are those that may be empty, `later` those
    that the headers of older files do not have.
    """

    columns: Sequence[str]
    types: Mapping[str, pa.DataType]
    header: bool | None
    blank: frozenset[str] = frozenset()
    later: Mapping[str, pa.DataType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file that a source may have published, below the source's URL.

    `window` is the time of which it holds every row. `member` is the name of the one file inside a
    zip, "" for gzip. `checksum` is the path of its sha256. `longest` bounds the unpacked size in
    bytes. `ranged`: the zip holds many files, of which one is taken out by HTTP ranges; `parts` is
    then the ending of the pieces in which it lies, as ".part{:02}", or "" where it is whole.
    """

    path: str
    window: Window
    member: str = ""
    checksum: str = ""
    longest: int = 2**36
    ranged: bool = False
    parts: str = ""


class Source(ABC):
    """The published files of one exchange.

    `since`: nothing is published of what was before, in microseconds. `scarce`: REST does not have
    it, so that a file is worth it for a single row. `omits_empty`: candles without trades are left
    out of the files; where the exchange itself has flat ones (`fills_empty`), they are put in.
    """

    exchange: ClassVar[str]
    url: ClassVar[str]
    since: ClassVar[int]
    scarce: ClassVar[bool] = False
    omits_empty: ClassVar[bool] = False

    @abstractmethod
    def offers(self, series: Series) -> bool:
        """Whether there are files of such a series."""

    def renumbers(self, series: Series) -> bool:
        """Whether the trades of the files have other ids than the exchange gives them elsewhere:
        a number after the file's day, as 2025-05-19/17."""
        return False

    @abstractmethod
    def files(
        self, series: Series, instrument: Instrument, window: Window, now: int
    ) -> Iterable[ArchiveFile]:
        """The files that may hold a part of a window and may be published by now, the largest
        first where they overlap."""

    @abstractmethod
    def layout(self, series: Series) -> Layout:
        """How the files of a series are read."""

    def times(self, lines: pa.Table) -> NDArray[np.int64] | None:
        """When the trades of all lines were made, where a file holds those of other markets as
        well: they tell whether it is whole."""
        return None

    @abstractmethod
    def rows(
        self, lines: pa.Table, series: Series, instrument: Instrument, file: ArchiveFile
    ) -> pa.Table:
        """Some lines of a file as rows of the frozen schema; ArchiveError if they cannot be it."""
