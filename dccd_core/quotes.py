"""What a message quotes of an answer that nobody expected: plain text, one short line of it."""

import re
from html import unescape

LONGEST = 80
_READ = 20_000  # of a page: its title stands at the beginning
_HTML = re.compile(r"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(script|style)\b.*?(</\1\s*>|\Z)|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>?")


def quoted(body: bytes) -> str:
    """At most 80 characters on one line: of HTML its title, or else its words; "nothing"."""
    text = body[:_READ].decode("utf-8", "replace")
    if _HTML.match(text):
        title = _TITLE.search(text)
        words = unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text)))
        text = (unescape(title[1]).strip() if title else "") or words
    # what a terminal would obey is shown as what it is not: a letter
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in _line(text))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _line(text: str) -> str:
    return " ".join(text.split()) or "nothing"
