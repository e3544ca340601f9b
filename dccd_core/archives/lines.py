"""The lines of a file as Arrow tables, some megabytes at a time."""

from collections.abc import Iterator

import pyarrow as pa
from pyarrow import csv

from dccd_core.archives.base import ArchiveError, Layout
from dccd_core.archives.unpack import Text
from dccd_core.quotes import quoted

BLOCK = 2**22
_BOM = b"\xef\xbb\xbf"


def read_lines(text: Text, layout: Layout) -> Iterator[pa.Table]:
    """The used columns of all lines, by blocks; ArchiveError where they are not as expected."""
    first = text.line().removeprefix(_BOM)
    if not first:
        return
    names = list(layout.columns)
    if layout.header:
        names = [name.partition("/")[0].strip() for name in first.decode("latin-1").split(",")]
    elif layout.header is False or not first[:1].isalpha():
        text.put_back(first)
    if absent := [name for name in layout.types if name not in names]:
        raise ArchiveError(f"its header has no {', '.join(absent)}: it begins with {quoted(first)}")
    used = {**layout.types, **layout.later}
    types = {name: kind for name, kind in used.items() if name in names}
    try:
        reader = csv.open_csv(
            text,
            csv.ReadOptions(column_names=names, block_size=BLOCK, use_threads=False),
            csv.ParseOptions(quote_char=False),
            csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=[""],
                true_values=["True", "true"],
                false_values=["False", "false"],
            ),
        )
        for batch in reader:
            yield _filled(pa.Table.from_batches([batch]), layout)
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise ArchiveError(f"a line that cannot be read: {error}") from error


def _filled(lines: pa.Table, layout: Layout) -> pa.Table:
    """Lines of which no field is empty that must not be."""
    for name in lines.column_names:
        empty = lines.column(name).null_count
        if empty and name not in layout.blank:
            raise ArchiveError(f"lines have no {name}: {empty}")
    return lines
