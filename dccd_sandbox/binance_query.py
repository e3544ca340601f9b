"""Parameters as Binance's spot and derivatives APIs check them, and their error bodies.

https://github.com/binance/binance-spot-api-docs/blob/master/errors.md; what the pattern of a legal
symbol is, and that duplicates are -1101, is from general knowledge.
"""

import json
import re

from dccd_sandbox.http import Request

_INTEGER = "^[0-9]{1,20}$"
_SYMBOL = r"^[\w\-._&&[^a-z]]{1,50}$"
_TIME_ZONE = re.compile(r"([+-]?)(1[0-4]|0?[0-9])(?::([0-5][0-9]))?")


class Refused(Exception):
    """HTTP 400 with an error body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def parameters(request: Request, known: tuple[str, ...], wanted: tuple[str, ...]) -> dict[str, str]:
    """The query as a dict; `wanted` must be there, only `known` may be. Raises Refused."""
    sent = dict(request.query)
    for name in wanted:
        if name not in sent:
            raise Refused(
                -1102,
                f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.",
            )
    for name, value in sent.items():
        if name in known and not value:
            raise Refused(-1105, f"Parameter '{name}' was empty.")
    read = sum(name in known for name in sent)
    if len(request.query) > len(sent):
        raise Refused(-1101, "Duplicate values for a parameter detected.")
    if read < len(sent):
        raise Refused(
            -1104,
            f"Not all sent parameters were read; read '{read}' parameter(s) "
            f"but was sent '{len(sent)}'.",
        )
    return sent


def integer(sent: dict[str, str], name: str) -> int | None:
    """A parameter as a number, None where it was not sent. Raises Refused."""
    text = sent.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,20}", text):
        raise illegal(name, _INTEGER)
    return int(text)


def symbol(text: str) -> str:
    """A text that could be a symbol. Raises Refused."""
    if not re.fullmatch(r"[\w\-.]{1,50}", text) or re.search("[a-z]", text):
        raise illegal("symbol", _SYMBOL)
    return text


def illegal(name: str, legal: str) -> Refused:
    return Refused(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )


def time_zone(text: str) -> int:
    """Milliseconds of a zone from -12:00 to +14:00, like "5" or "-1:30". Raises Refused."""
    match = _TIME_ZONE.fullmatch(text)
    minutes = int(match[2]) * 60 + int(match[3] or 0) if match else 10**6
    minutes = -minutes if match and match[1] == "-" else minutes
    if not -12 * 60 <= minutes <= 14 * 60:
        raise Refused(-1130, "Data sent for parameter 'timeZone' is not valid.")
    return minutes * 60_000


def symbol_list(text: str) -> list[str]:
    """Symbols of a JSON list. Raises Refused."""
    try:
        symbols = json.loads(text)
    except json.JSONDecodeError:
        symbols = None
    if not isinstance(symbols, list) or not all(isinstance(item, str) for item in symbols):
        raise illegal("symbols", r'^\["[\w\-._&&[^a-z]]{1,50}"(,"[\w\-._&&[^a-z]]{1,50}")*\]$')
    return symbols
