"""The types of config.yml's fields: each reads a person's text and says what would be right."""

import math
import re
from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo
from pydantic_core import PydanticCustomError

from dccd_core.config_text import Document
from dccd_core.cron import check_cron
from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import Exchange
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.lineage import source_span
from dccd_core.models import Channel, Symbol, parse_span, span_label
from dccd_core.moments import parse_moment

REFUSED = "config"  # the type of the errors that carry their own sentence

# Only used to guess where BTCUSDT is cut for a "did you mean"; longer ones first.
_QUOTES = ("FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD", "EUR", "GBP", "JPY", "BTC", "ETH")
_SPAN = re.compile(r"\s*(\d+)\s*(?!M$|mo)([smhdw])[a-z]*\s*", re.IGNORECASE)


def refuse(why: str, guess: str = "") -> PydanticCustomError:
    """An error with its own sentence. The value must not be in `why`: it may be a secret."""
    return PydanticCustomError(REFUSED, "{why}{guess}", {"why": why, "guess": guess})


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`; did you mean X?` with the choice nearest to a word, or nothing."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def folder(text: str, base: Path | None) -> Path:
    """An absolute folder; `~` is the home, a relative one is below `base`, else where we are."""
    path = Path(text).expanduser()
    return (base / path if base else path).absolute()


def _folder(value: object, info: ValidationInfo) -> Path:
    document = info.context
    base = document.path.parent if isinstance(document, Document) and document.path else None
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise ValueError("not a folder")
    try:
        return folder(str(value), base)
    except RuntimeError as error:  # ~name of a user that does not exist
        raise ValueError("no such home") from error


def _exchange(value: object) -> str:
    known = load_all()
    if not isinstance(value, str) or value not in known:
        guess = did_you_mean(value, known) if isinstance(value, str) else ""
        raise refuse(f"no such exchange; there are: {', '.join(known)}", guess)
    return value


def _trades_exchange(value: object) -> str:
    name = _exchange(value)
    exchange = load_all()[name]
    if not isinstance(exchange, TradesHistory):
        live = Channel.TRADES in exchange.channels
        instead = "; record them live: stream_jobs with channels: [trades]" if live else ""
        raise refuse(f"{exchange.title} serves no past trades{instead}")
    return name


def _exchange_of(info: ValidationInfo) -> Exchange | None:
    """The exchange that was read before this field, None if it was refused."""
    return load_all().get(info.data.get("exchange", ""))


def _pair(value: object) -> str:
    try:
        return str(Symbol.parse(value if isinstance(value, str) else ""))
    except ValueError as error:
        guess = _pair_guess(value) if isinstance(value, str) else ""
        raise refuse("write BASE/QUOTE in upper case, as BTC/USDT", guess) from error


def _pair_guess(text: str) -> str:
    parts = re.split(r"[-_/:\s]+", text.strip().upper())
    if len(parts) == 1:
        quote = next((quote for quote in _QUOTES if parts[0].endswith(quote)), "")
        parts = [parts[0].removesuffix(quote), quote]
    try:
        symbol = Symbol.parse("/".join(parts[:2]) + "".join(f":{part}" for part in parts[2:]))
    except ValueError:
        return ""
    return f"; did you mean {symbol}?"


def _span(value: object, info: ValidationInfo) -> int:
    exchange = _exchange_of(info)
    try:
        seconds = parse_span(value if isinstance(value, int | str) else "")
    except ValueError as error:
        guess = _label_guess(str(value), exchange)
        raise refuse("write seconds (3600) or a label (1m, 1h, 1d, 1w)", guess) from error
    if exchange and seconds not in exchange.spans and not source_span(exchange.spans, seconds):
        near = min(exchange.spans, key=lambda span: abs(math.log(span) - math.log(seconds)))
        labels = ", ".join(map(span_label, exchange.spans))
        why = f"{exchange.name} has no such span, nor one to build it from; it has {labels}"
        raise refuse(why, f"; did you mean {span_label(near)}?")
    return seconds


def _label_guess(text: str, exchange: Exchange | None) -> str:
    found = _SPAN.fullmatch(text)
    label = f"{found[1]}{found[2].lower()}" if found else ""
    try:
        seconds = parse_span(label)
    except ValueError:
        return ""
    fits = (
        exchange is None
        or seconds in exchange.spans
        or source_span(exchange.spans, seconds) is not None
    )
    return f"; did you mean {span_label(seconds)}?" if fits else ""


def _channel(value: object, info: ValidationInfo) -> Channel:
    exchange = _exchange_of(info)
    # people write ohlc: that a stream's candles have a folder of their own is our affair
    offered = sorted((exchange.channels if exchange else set(Channel)) - {Channel.LIVE_OHLC})
    try:
        channel = Channel(value)  # type: ignore[arg-type]  # anything else is a ValueError too
    except ValueError as error:
        guess = did_you_mean(value, offered) if isinstance(value, str) else ""
        why = f"no such channel; without a key there are: {', '.join(offered)}"
        raise refuse(why, guess) from error
    if channel not in offered:
        name, listed = exchange.name if exchange else "it", ", ".join(offered) or "none"
        raise refuse(f"{name} does not offer it without a key; it has: {listed}")
    return channel


def _not_empty(value: object) -> object:
    """Pydantic's own length counts only the items that were right."""
    if value in ([], ()):
        raise ValueError("empty")
    return value


def _number(value: object) -> object:
    """YAML's true would be read as 1."""
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


def _moment(value: object) -> str:
    """Kept as text: which moment it is depends on settings.timezone."""
    text = value.isoformat() if isinstance(value, date) else str(value)
    parse_moment(text, ZoneInfo("UTC"))
    return text


def _schedule(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    if value != "off":
        try:
            check_cron(value)
        except ValueError as error:
            raise refuse(str(error)) from error
    return value


def _url(*schemes: str) -> AfterValidator:
    def check(value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        parts = urlsplit(text)
        bad_port = parts.port == 0  # .port raises ValueError if it is not a number
        if parts.scheme not in schemes or not parts.hostname or bad_port or not text.isprintable():
            raise ValueError("not such a URL")
        if parts.username is not None and not isinstance(value, SecretStr):
            # it would not be used, and addresses are shown in logs
            raise refuse("leave out the user and password: no exchange asks for them")
        return value

    return AfterValidator(check)


T = TypeVar("T")

NoneIsEmpty = Annotated[T, BeforeValidator(lambda value: {} if value is None else value)]
Folder = Annotated[Path, BeforeValidator(_folder)]
ExchangeName = Annotated[str, BeforeValidator(_exchange)]
TradesExchangeName = Annotated[str, BeforeValidator(_trades_exchange)]
Pairs = Annotated[tuple[Annotated[str, BeforeValidator(_pair)], ...], BeforeValidator(_not_empty)]
Span = Annotated[int, BeforeValidator(_span)]
Channels = Annotated[
    tuple[Annotated[Channel, BeforeValidator(_channel)], ...], BeforeValidator(_not_empty)
]
Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number)]
Moment = Annotated[str, BeforeValidator(_moment)]
Schedule = Annotated[str, BeforeValidator(_schedule)]
HttpUrl = Annotated[str, _url("http", "https")]
SocketUrl = Annotated[str, _url("ws", "wss")]
SecretUrl = Annotated[SecretStr, _url("http", "https")]
