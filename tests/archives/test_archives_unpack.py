"""What packed files may not do: be damaged, be another file, or fill the memory."""

import gzip
import io
import random
import struct
import zipfile
from io import BytesIO

import pyarrow as pa
import pytest
from archives.host import zipped

from dccd_core.archives.base import ArchiveError, ArchiveFile, Layout
from dccd_core.archives.lines import read_lines
from dccd_core.archives.unpack import RATIO_FROM, open_text, verify
from dccd_core.models import Window

ZIP = ArchiveFile("a/b.zip", Window(0, 1), "b.csv")
GZIP = ArchiveFile("a/b.csv.gz", Window(0, 1))
SMALL = ArchiveFile("a/b.zip", Window(0, 1), "b.csv", longest=10)
LAYOUT = Layout(("n", "x"), {"n": pa.int64(), "x": pa.float64()}, None)


def text_of(content: bytes, wanted: ArchiveFile) -> bytes:
    text = open_text(BytesIO(content), len(content), wanted)
    return b"".join(iter(lambda: text.read(70_000), b""))


def zip_of(*names: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name in names:
            archive.writestr(name, "1,2\n")
    return held.getvalue()


def test_what_is_right_is_read() -> None:
    assert text_of(zipped("b.csv", "1,2\n3,4\n"), ZIP) == b"1,2\n3,4\n"
    assert text_of(gzip.compress(b"1,2\n"), GZIP) == b"1,2\n"


def test_a_gzip_of_several_members_is_one_text() -> None:
    assert text_of(gzip.compress(b"1,2\n") + gzip.compress(b"3,4\n"), GZIP) == b"1,2\n3,4\n"


@pytest.mark.parametrize(
    "names", [(), ("c.csv",), ("b.csv", "c.csv"), ("../b.csv",), ("/b.csv",), ("x/b.csv",)]
)
def test_another_file_than_the_one_expected(names: tuple[str, ...]) -> None:
    with pytest.raises(ArchiveError, match="alone is expected"):
        text_of(zip_of(*names), ZIP)


def test_a_way_of_packing_that_is_not_known() -> None:
    with pytest.raises(ArchiveError, match="packed by method 12"):
        text_of(zip_of("b.csv", method=zipfile.ZIP_BZIP2), ZIP)


def test_an_encrypted_file() -> None:
    content = bytearray(zip_of("b.csv"))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        text_of(bytes(content), ZIP)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.99])
@pytest.mark.parametrize("wanted", [ZIP, GZIP])
def test_a_file_that_is_cut_short(place: float, wanted: ArchiveFile) -> None:
    lines = "".join(f"{n},{n * 7919 % 104729}\n" for n in range(5_000))
    whole = zipped("b.csv", lines) if wanted is ZIP else gzip.compress(lines.encode())
    with pytest.raises(ArchiveError, match="damaged"):
        text_of(whole[: int(len(whole) * place)], wanted)


def test_a_flipped_bit_is_found_by_the_packing_itself() -> None:
    lines = "".join(f"{n},{n * 7919 % 104729}\n" for n in range(5_000))
    for whole, wanted in ((zipped("b.csv", lines), ZIP), (gzip.compress(lines.encode()), GZIP)):
        content = bytearray(whole)
        content[len(content) // 2] ^= 1
        with pytest.raises(ArchiveError, match="damaged"):
            verify(open_text(BytesIO(content), len(content), wanted))


def test_garbage_is_damaged() -> None:
    for content in (b"", b"<html>", b"PK\x03\x04" + b"\0" * 100):
        for wanted in (ZIP, GZIP):
            if content or wanted is ZIP:
                with pytest.raises(ArchiveError, match="damaged"):
                    text_of(content, wanted)


def test_a_bomb_is_not_unpacked() -> None:
    zeros = b"0" * (RATIO_FROM + 1)
    for content, wanted in (
        (zipped("b.csv", zeros), ZIP),
        (gzip.compress(zeros), GZIP),
    ):
        with pytest.raises(ArchiveError, match="200 times"):
            text_of(content, wanted)


def test_a_zip_that_lies_about_its_size_gives_no_more_than_it_says() -> None:
    content = bytearray(zipped("b.csv", "1,2\n" * 1_000))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 8)
    with pytest.raises(ArchiveError, match="damaged"):
        text_of(bytes(content), ZIP)


def test_more_than_a_file_may_hold() -> None:
    with pytest.raises(ArchiveError, match="too many"):
        text_of(zipped("b.csv", "1,2\n3,4\n5,6\n"), SMALL)
    with pytest.raises(ArchiveError, match="more than 10 bytes"):
        text_of(gzip.compress(b"1,2\n3,4\n5,6\n"), ArchiveFile("b", Window(0, 1), longest=10))


def spoilt(content: bytes, chance: random.Random) -> bytes:
    found, place = bytearray(content), chance.randrange(len(content))
    match chance.randrange(4):
        case 0:
            found[place] ^= 1 << chance.randrange(8)
        case 1:
            del found[place:]
        case 2:
            found[place:place] = chance.randbytes(chance.randint(1, 20))
        case _:
            del found[place : place + chance.randint(1, 30)]
    return bytes(found)


@pytest.mark.parametrize("wanted", [ZIP, GZIP])
def test_whatever_is_damaged_is_said_so_or_is_unharmed(wanted: ArchiveFile) -> None:
    chance = random.Random(7)
    text = "".join(f"{n},{n * 7919 % 104729}\n" for n in range(300)).encode()
    whole = zipped("b.csv", text) if wanted is ZIP else gzip.compress(text)
    refused = 0
    for _ in range(1_500):
        try:
            assert text_of(spoilt(whole, chance), wanted) == text
        except ArchiveError:
            refused += 1
    assert refused > 1_200


# --- lines --------------------------------------------------------------------------------------


def table_of(content: str | bytes, layout: Layout = LAYOUT) -> list[dict[str, float]]:
    data = content.encode() if isinstance(content, str) else content
    text = open_text(BytesIO(gzip.compress(data)), 10**6, GZIP)
    return [row for table in read_lines(text, layout) for row in table.to_pylist()]


@pytest.mark.parametrize(
    "content", ["1,2.5\n3,4\n", "1,2.5\r\n3,4\r\n", "1,2.5\n3,4", "n,x\n1,2.5\n3,4\n"]
)
def test_lines_with_and_without_a_header(content: str) -> None:
    assert table_of(content) == [{"n": 1, "x": 2.5}, {"n": 3, "x": 4.0}]


def test_the_order_of_a_header_counts() -> None:
    layout = Layout((), LAYOUT.types, True)
    content = "y,x/价格,n/交易id\n9,2.5,1\n"
    assert table_of(content, layout) == [{"n": 1, "x": 2.5}]
    assert table_of(content.encode("gbk"), layout) == [{"n": 1, "x": 2.5}]
    assert table_of(b"\xef\xbb\xbfn,x\n1,2.5\n", layout) == [{"n": 1, "x": 2.5}]


def test_a_header_without_a_needed_column() -> None:
    with pytest.raises(ArchiveError, match="has no x"):
        table_of("n,y\n1,2\n", Layout((), LAYOUT.types, True))


@pytest.mark.parametrize("content", ["", "n,x\n", "n,x"])
def test_no_lines(content: str) -> None:
    assert table_of(content) == []


@pytest.mark.parametrize("content", ["1,2\n3\n", "1,2\n3,x\n", "1,2\n3.5,1\n", "1,2,3\n"])
def test_lines_that_cannot_be_read(content: str) -> None:
    with pytest.raises(ArchiveError, match="cannot be read"):
        table_of(content)


def test_a_field_that_is_empty() -> None:
    with pytest.raises(ArchiveError, match="lines have no x: 1"):
        table_of("1,\n2,3\n")
    blank = Layout(LAYOUT.columns, LAYOUT.types, None, frozenset({"x"}))
    assert table_of("1,\n2,3\n", blank) == [{"n": 1, "x": None}, {"n": 2, "x": 3.0}]


def test_a_long_text_comes_in_blocks() -> None:
    lines = "".join(f"{n},{n}.5\n" for n in range(600_000)).encode()
    text = open_text(BytesIO(gzip.compress(lines, 1)), len(lines), GZIP)
    sizes = [table.num_rows for table in read_lines(text, LAYOUT)]
    assert sum(sizes) == 600_000
    assert len(sizes) > 1


def test_damage_in_the_middle_of_lines_is_told_as_such() -> None:
    lines = "".join(f"{n},{n * 7919 % 104729}\n" for n in range(900_000))
    whole = gzip.compress(lines.encode(), 1)
    text = open_text(BytesIO(whole[:-10]), len(whole), GZIP)
    with pytest.raises(ArchiveError, match="damaged"):
        list(read_lines(text, LAYOUT))
