"""What messages quote of answers that nobody expected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dccd_core.quotes import LONGEST, quoted


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "nothing"),
        (b" \n\t ", "nothing"),
        (b"upstream  connect\r\nerror ", "upstream connect error"),
        (b'{"code":-1,"msg":"a"}', '{"code":-1,"msg":"a"}'),
        ("zu großer Preis".encode(), "zu großer Preis"),
        (b"bad \xff byte", "bad \N{REPLACEMENT CHARACTER} byte"),
        (b"\x1b[31mred\x1b[0m", "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}[0m"),
        (b"x" * 80, "x" * 80),
        (b"x" * 81, "x" * 79 + "…"),
        (b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title>", "502 Bad Gateway"),
        (b"\n<HTML><TITLE lang=en>\nA &lt;b&gt;\n</TITLE>", "A <b>"),
        (b"<html><title> </title><body><p>Down<br>for now</body>", "Down for now"),
        (b"<html><script>var a = '<b>'</script><!-- c --><h1>Hi</h1></html>", "Hi"),
        (b"<html><body></body></html>", "nothing"),
        (b"1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
    ],
)
def test_it_is_one_line_of_plain_text(body: bytes, text: str) -> None:
    assert quoted(body) == text


@given(st.binary() | st.text().map(str.encode) | st.text().map(lambda t: f"<html>{t}".encode()))
def test_whatever_the_body_it_is_short_and_printable(body: bytes) -> None:
    text = quoted(body)
    assert 0 < len(text) <= LONGEST
    assert text.isprintable()


def test_a_long_page_without_an_end_is_no_work() -> None:
    for part in (b"<title>", b"<script>", b"<!--", b"<", b"\n "):
        assert len(quoted(b"<html>" + part * 2_000_000)) <= LONGEST
