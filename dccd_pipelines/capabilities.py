"""What each exchange gives, as the tables in docs/exchanges.md. `make docs` writes them."""

from dccd_core.archives import sources
from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import Exchange
from dccd_core.exchanges.live import Live
from dccd_core.exchanges.trades import Depth, TradesHistory
from dccd_core.models import DAY, Channel, Series, Symbol, span_label

HEAD = """\
# Exchanges

Made from the code by `make docs`; a test holds it. What an exchange cannot do is refused by
`dccd validate`, with what it has instead.

## Candles

"""
CANDLES = ("name", "exchange", "candle spans", "candles a request", "requests a minute", "holes")
CANDLES_NOTES = """

- *candle spans*: other spans are built from the largest of these that divides them.
- *requests a minute*: of full pages, after the burst; `exchanges.{name}.requests` takes a part.
- *holes*: "doubted" where the exchange serves every interval, so that a hole is asked about four
  times before it is believed; "ordinary" where intervals without trades are left out.
- Kraken serves its newest 720 candles only; older ones are built from its trades.
- Derivatives are written `BTC/USDT:PERP`, dated ones `BTC/USDT:260925`.

## Trades, books, streams

"""
REST = ("name", "past trades", "trades a request", "ids", "book levels", "published files", "live")
NOTES = """

- *past trades*: how far back the exchange answers; what lies before comes from published files,
  where there are any. *ids*: "contiguous" where a hole in them is a loss, which a check looks for.
- *book levels*: the most of each side that `order_book` can ask for.
- *live*: the channels of `stream_jobs`; candles of an exchange or a span without a feed of their
  own are built from its live trades.
"""


def capabilities() -> str:
    """The whole page as Markdown."""
    known = load_all().values()
    candles = _table(CANDLES, [_candles(one) for one in known])
    return HEAD + candles + CANDLES_NOTES + _table(REST, [_rest(one) for one in known]) + NOTES


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _candles(exchange: Exchange) -> tuple[str, ...]:
    limits = exchange.limits
    rate = limits.weight / limits.page_weight / limits.seconds * 60
    return (
        f"`{exchange.name}`",
        f"[{exchange.title}]({exchange.docs})",
        " ".join(span_label(span) for span in sorted(exchange.spans)),
        f"{limits.page:,}",
        f"{rate:,.0f}",
        "doubted" if exchange.gapless else "ordinary",
    )


def _rest(exchange: Exchange) -> tuple[str, ...]:
    return (
        f"`{exchange.name}`",
        *(_past(exchange) if isinstance(exchange, TradesHistory) else ("none", "", "")),
        _levels(exchange) if isinstance(exchange, Depth) else "none",
        _published(exchange),
        _live(exchange) if isinstance(exchange, Live) else "none",
    )


def _past(history: TradesHistory) -> tuple[str, str, str]:
    reach = history.reach
    far = "all" if reach is None else f"{reach // DAY} days" if reach >= DAY else "the newest only"
    return far, f"{history.trades_page:,}", "contiguous" if history.contiguous else "unordered"


def _published(exchange: Exchange) -> str:
    source, pair = sources().get(exchange.name), Symbol("BTC", "USDT")
    if source is None:
        return "none"
    candles = [Series(exchange.name, Channel.OHLC, pair, span) for span in sorted(exchange.spans)]
    spans = [span_label(one.span) for one in candles if source.offers(one)]
    trades = source.offers(Series(exchange.name, Channel.TRADES, pair))
    return ", ".join(["trades"] * trades + [f"candles ({' '.join(spans)})"] * bool(spans))


def _levels(depth: Depth) -> str:
    most = max(depth.depths)
    return f"{most:,}" if most < 1_000_000 else "all"


def _live(exchange: Exchange) -> str:
    offered = [str(channel) for channel in Channel if channel in exchange.channels]
    spans = sorted(exchange.live_spans) if isinstance(exchange, Live) else []
    feeds = f" ({' '.join(map(span_label, spans))})" if spans else " (from trades)"
    return " ".join(name + feeds * (name == Channel.OHLC) for name in offered)
